//! What is on the screen meanwhile.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use whizbang_cluster_example::instances::Said;

use crate::team::Member;

/// What is on the screen while they work: a line each and one for all; where there is no screen, a line a second.
pub(crate) struct Board {
    lines: MultiProgress,
    pub(crate) all: ProgressBar,
    is_screen: bool,
    begun: Instant,
    /// When it was drawn last, and what was counted then, per sender.
    drawn: Option<(Instant, Vec<(u64, Said)>)>,
}

impl Board {
    pub(crate) fn new(messages: u64) -> Self {
        let lines = MultiProgress::new();
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} durable  {msg}");
        let all = lines.add(ProgressBar::new(messages).with_style(style.expect("the template is right")));
        Self { lines, all, is_screen: io::stderr().is_terminal(), begun: Instant::now(), drawn: None }
    }

    pub(crate) fn line(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg}").expect("the template is right");
        self.lines.insert_before(&self.all, ProgressBar::new_spinner().with_style(style))
    }

    pub(crate) fn show(&mut self, members: &[Member], dead: &[Member]) {
        let every = Duration::from_millis(if self.is_screen { 200 } else { 1_000 });
        if self.drawn.as_ref().is_some_and(|(at, _)| at.elapsed() < every) {
            return;
        }
        let everybody = members.iter().chain(dead).map(|member| &member.instance);
        let now: Vec<(u64, Said)> = everybody.map(|instance| (instance.sender, instance.said())).collect();
        let (before_at, before) = self.drawn.take().unwrap_or((self.begun, Vec::new()));
        let seconds = before_at.elapsed().as_secs_f64();
        let said_before =
            |sender: u64| before.iter().find(|(each, _)| *each == sender).map(|(_, said)| *said);
        let mut text = String::new();
        for (member, (sender, said)) in members.iter().zip(&now) {
            let before = said_before(*sender).unwrap_or_default();
            let rate = |of: fn(&Said) -> u64| (of(said) - of(&before)) as f64 / seconds;
            let (durable, handled) = (rate(|said| said.sender.acknowledged), rate(|said| said.handled));
            let line = format!(
                "instance {sender}  {:>2} partitions  {durable:>7.0} durable/s  {handled:>7.0} handled/s",
                said.partitions
            );
            text = text + "\n    " + &line;
            member.bar.set_message(line);
        }
        let sum = |of: fn(&Said) -> u64| now.iter().map(|(_, said)| of(said)).sum::<u64>();
        let (durable, handled) = (sum(|said| said.sender.acknowledged), sum(|said| said.handled));
        self.all.set_position(durable);
        self.all.set_message(format!("{handled} handled"));
        if !self.is_screen {
            self.tell(&format!("{durable} durable, {handled} handled{text}"));
        }
        self.drawn = Some((Instant::now(), now));
    }

    pub(crate) fn tell(&self, what: &str) {
        let text = format!("{:>6.2} s  {what}", self.begun.elapsed().as_secs_f64());
        self.lines.suspend(|| println!("{text}"));
    }
}
