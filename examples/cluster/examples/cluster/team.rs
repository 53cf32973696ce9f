//! Who starts, kills and watches the processes.

use std::io::{self, Write};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use whizbang_cluster_example::audit::{Findings, Sender};
use whizbang_cluster_example::instances::{Instance, Order, Said};
use whizbang_examples::table::Table;
use whizbang_postgres_cluster::Cluster;

use crate::board::Board;
use crate::books::{audit, everything_handled};
use crate::{Failed, PARTITIONS, Place, Run};

pub(crate) async fn run(run: Run) -> Result<bool, Failed> {
    let mut place = run.place.clone();
    let private = match &place.url {
        Some(_) => None,
        None => Some(Cluster::start(whizbang_postgres_cluster::Options::default())?),
    };
    if let Some(cluster) = &private {
        println!("a private PostgreSQL server at {}", cluster.tcp_url());
        place.url = Some(cluster.url());
    }
    let reader = place.reader().await?;
    let mut team = Team::new(place.clone(), run.messages);
    let each = run.messages.div_ceil(run.instances);
    let mut left = run.messages;
    while left > 0 && team.members.len() < run.instances as usize {
        team.start(each.min(left))?;
        left -= each.min(left);
    }
    let kills = !run.no_kill && team.members.len() > 1;
    let begun = Instant::now();
    let mut takeover = None;
    if kills {
        team.watch(|team| team.sum(|said| said.sender.acknowledged) >= run.messages / 2).await?;
        let (killed, at) = team.kill_one()?;
        team.watch(|team| team.partitions() == PARTITIONS as usize).await?;
        takeover = Some(at.elapsed());
        team.tell(&format!(
            "the others have its partitions, {:.2} s after the kill",
            at.elapsed().as_secs_f64()
        ));
        let part = killed.part - killed.instance.said().sender.acknowledged;
        team.dead.push(killed);
        team.start(part)?;
    }
    team.watch(|team| team.members.iter().all(|member| member.instance.said().sent)).await?;
    let dead = tokio::select! {
        dead = everything_handled(&reader, Duration::MAX) => dead?,
        ended = team.watch(|_| false) => return Err(ended.err().unwrap_or_else(|| "it ended early".into())),
    };
    let took = begun.elapsed();
    team.leave().await?;

    let found = audit(&reader, &place, &team.senders()).await?;
    report_all(&team, &found, took, takeover)?;
    if dead > 0 {
        println!("{dead} messages failed for good");
    }
    Ok(found.is_clean() && dead == 0)
}

/// The processes.
struct Team {
    place: Place,
    members: Vec<Member>,
    /// Those that were killed.
    dead: Vec<Member>,
    board: Board,
}

pub(crate) struct Member {
    pub(crate) instance: Instance,
    /// Messages it was to send.
    part: u64,
    pub(crate) bar: ProgressBar,
}

impl Team {
    fn new(place: Place, messages: u64) -> Self {
        Self { place, members: Vec::new(), dead: Vec::new(), board: Board::new(messages) }
    }

    /// Starts one that sends so many messages.
    fn start(&mut self, messages: u64) -> Result<(), Failed> {
        let sender = (self.members.len() + self.dead.len()) as u64 + 1;
        let Place { url, schema, streams, time_to_live } = &self.place;
        let mut program = Process::new(std::env::current_exe()?);
        program.arg("instance").args(["--url", url.as_deref().unwrap_or_default(), "--schema", schema]);
        let numbers = [("--streams", *streams), ("--time-to-live", *time_to_live), ("--sender", sender)];
        for (name, value) in numbers.into_iter().chain([("--messages", messages)]) {
            program.arg(name).arg(value.to_string());
        }
        let instance = Instance::start(program, sender)?;
        self.tell(&format!("instance {sender} was started: process {}", instance.process()));
        let bar = self.board.line();
        self.members.push(Member { instance, part: messages, bar });
        Ok(())
    }

    /// Kills the one that has most to lose.
    fn kill_one(&mut self) -> Result<(Member, Instant), Failed> {
        let partitions = |member: &Member| member.instance.said().partitions;
        let most = (0..self.members.len()).max_by_key(|index| partitions(&self.members[*index]));
        let mut killed = self.members.remove(most.ok_or("there is nobody to kill")?);
        let at = Instant::now();
        let said = killed.instance.kill()?;
        killed.bar.finish_and_clear();
        let sender = killed.instance.sender;
        self.tell(&format!("instance {sender} was killed; it had {} partitions", said.partitions));
        Ok((killed, at))
    }

    /// Shows how they are until something has come to pass.
    async fn watch(&mut self, until: impl Fn(&Self) -> bool) -> Result<(), Failed> {
        while !until(self) {
            if let Some(end) = self.members.iter().find_map(|member| member.instance.end()) {
                return Err(format!("by itself: {end}").into());
            }
            self.board.show(&self.members, &self.dead);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Lets all of them leave in order.
    async fn leave(&mut self) -> Result<(), Failed> {
        self.members.iter_mut().for_each(|member| member.instance.tell(Order::Leave));
        let left = |team: &Self| team.members.iter().all(|member| member.instance.said().left);
        while !left(self) {
            if let Some(ended) = self.members.iter().find(|member| {
                let instance = &member.instance;
                instance.has_ended() && !instance.said().left
            }) {
                return Err(format!("not in order: {}", ended.instance.end().unwrap_or_default()).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.members.iter().for_each(|member| member.bar.finish_and_clear());
        self.board.all.finish_and_clear();
        Ok(())
    }

    fn everybody(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.dead)
    }

    fn sum(&self, of: impl Fn(&Said) -> u64) -> u64 {
        self.everybody().map(|member| of(&member.instance.said())).sum()
    }

    /// Partitions of those that live.
    fn partitions(&self) -> usize {
        self.members.iter().map(|member| member.instance.said().partitions).sum()
    }

    fn senders(&self) -> Vec<(u64, Sender)> {
        self.everybody().map(|member| (member.instance.sender, member.instance.said().sender)).collect()
    }

    fn tell(&self, what: &str) {
        self.board.tell(what);
    }
}

fn report_all(team: &Team, found: &Findings, took: Duration, takeover: Option<Duration>) -> io::Result<()> {
    let mut table = Table::new(["instance", "durable", "handled", "evicted", "end"]);
    let mut everybody: Vec<&Member> = team.everybody().collect();
    everybody.sort_by_key(|member| member.instance.sender);
    for member in everybody {
        let Said { handled, evictions, sender, left, .. } = member.instance.said();
        let numbers = [member.instance.sender, sender.acknowledged, handled, evictions];
        let [instance, durable, handled, evictions] = numbers.map(|number| number.to_string());
        let end = if left { "left" } else { "was killed" }.to_owned();
        table.row([instance, durable, handled, evictions, end]);
    }
    let seconds = took.as_secs_f64();
    let mut out = io::stdout().lock();
    writeln!(out, "\n{table}")?;
    let rate = found.effects as f64 / seconds;
    writeln!(
        out,
        "{} messages were sent, handled and tallied in {seconds:.2} s, {rate:.0} a second",
        found.effects
    )?;
    if let Some(takeover) = takeover {
        let ttl = team.place.time_to_live as f64 / 1_000.0;
        let takeover = takeover.as_secs_f64();
        writeln!(
            out,
            "the partitions of the killed one were taken over after {takeover:.2} s (time to live {ttl:.2} s)"
        )?;
    }
    writeln!(out, "audit: {found}")
}
