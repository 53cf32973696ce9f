//! The service that is simulated: commands whose handlers do what the seed says, and a perspective that counts events.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use whizbang::{
    Command, Context, EmitOptions, Event, Failure, OnDead, Projection, Receptor, StreamKey, Version,
    dispatcher,
};
use whizbang_storage::{MemoryReader, Page, StoreReader};

use crate::journal::{Flow, Journal, Lane};
use crate::scheduler::give_way;
use crate::shape::{ATTEMPTS_MAX, LOOSE_ATTEMPTS_MAX, Manner, Offer, Shape};
use crate::watch::Watch;

/// A message of a stream.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "simulation.work", version = 1)]
pub(crate) struct Work {
    #[stream]
    pub(crate) stream: u64,
    pub(crate) number: usize,
    pub(crate) padding: String,
}

/// As [`Work`], and engines of the old version do not know it.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "simulation.novel", version = 1)]
pub(crate) struct Novel {
    #[stream]
    pub(crate) stream: u64,
    pub(crate) number: usize,
    pub(crate) padding: String,
}

/// A message of no stream.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "simulation.loose", version = 1)]
pub(crate) struct Loose {
    pub(crate) number: usize,
    pub(crate) padding: String,
}

/// A command that is invoked where it is made.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "simulation.direct", version = 1)]
pub(crate) struct Direct {
    #[stream]
    pub(crate) stream: u64,
    pub(crate) number: usize,
}

/// What a handled message leaves behind, once.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[message(name = "simulation.noted", version = 1)]
pub(crate) struct Noted {
    #[stream]
    pub(crate) stream: u64,
    pub(crate) number: usize,
    pub(crate) padding: String,
    /// The version of the stream that it was to follow, where that was asked for.
    pub(crate) follows: Option<u64>,
}

/// What the perspective knows of a stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) count: u64,
    pub(crate) version: u64,
    /// The first event that did not follow the one before it.
    pub(crate) broken: Option<String>,
}

impl Projection for Totals {
    const NAME: &'static str = "totals";
}

/// What the strict subscription has counted of a stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StrictTotals {
    pub(crate) count: u64,
    pub(crate) version: u64,
    /// The first event that came although one before it was neither handled nor discarded.
    pub(crate) broken: Option<String>,
}

impl Projection for StrictTotals {
    const NAME: &'static str = "strict totals";
}

/// Counts the messages of many streams that were handled with it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) count: u64,
}

impl Projection for Counter {
    const NAME: &'static str = "counters";
}

/// The stream in which the event of a message stands.
pub(crate) fn stream_of(number: usize, offer: &Offer) -> u64 {
    match offer.stream {
        // There is no order between what is invoked and what is stored.
        Some(stream) if offer.is_invoked => 20_000 + stream,
        Some(stream) => stream,
        None => 10_000 + number as u64,
    }
}

/// Handles everything in one process.
#[derive(Clone)]
pub(crate) struct Hand {
    pub(crate) process: usize,
    pub(crate) shape: Arc<Shape>,
    pub(crate) journal: Journal,
    pub(crate) watch: Watch,
    pub(crate) reader: MemoryReader,
}

/// The hand of the strict subscription.
#[derive(Clone)]
pub(crate) struct StrictHand(Hand);

/// The service in one version, which may know [`Novel`].
macro_rules! version {
    ($name:ident $(, $novel:ident)?) => {
        dispatcher! {
            pub(crate) struct $name { hand: Hand, strict: StrictHand }
            command Work => hand with {
                deadline: Duration::from_millis(400),
                retry_first: Duration::from_millis(20),
                retry_max: Duration::from_millis(150),
                attempts_max: ATTEMPTS_MAX,
            };
            $(command $novel => hand with {
                deadline: Duration::from_millis(400),
                retry_first: Duration::from_millis(20),
                retry_max: Duration::from_millis(150),
                attempts_max: ATTEMPTS_MAX,
            };)?
            command Loose => hand with {
                deadline: Duration::from_millis(400),
                retry_first: Duration::from_millis(20),
                retry_max: Duration::from_millis(150),
                attempts_max: LOOSE_ATTEMPTS_MAX,
            };
            command Direct => hand with { attempts_max: ATTEMPTS_MAX };
            subscription "totals" {
                event Noted => hand with {
                    retry_first: Duration::from_millis(10),
                    retry_max: Duration::from_millis(50),
                    attempts_max: 1_000,
                };
            }
            subscription "strict" with { on_dead: OnDead::Halt } {
                event Noted => strict with {
                    retry_first: Duration::from_millis(10),
                    retry_max: Duration::from_millis(50),
                    attempts_max: 1_000,
                };
            }
        }

        impl $name {
            /// The dispatcher of one process.
            pub(crate) fn of(hand: Hand) -> Self {
                Self { strict: StrictHand(hand.clone()), hand }
            }

            /// The process that it is the dispatcher of.
            pub(crate) fn process(&self) -> usize {
                self.hand.process
            }
        }
    };
}

version!(App, Novel);
version!(OldApp);

impl Receptor<Work> for Hand {
    async fn receive(&self, work: Work, cx: Context<'_>) -> Result<(), Failure> {
        self.handle(work.number, cx).await
    }
}

impl Receptor<Novel> for Hand {
    async fn receive(&self, novel: Novel, cx: Context<'_>) -> Result<(), Failure> {
        self.handle(novel.number, cx).await
    }
}

impl Receptor<Loose> for Hand {
    async fn receive(&self, loose: Loose, cx: Context<'_>) -> Result<(), Failure> {
        self.handle(loose.number, cx).await
    }
}

impl Receptor<Direct> for Hand {
    async fn receive(&self, direct: Direct, mut cx: Context<'_>) -> Result<(), Failure> {
        let plan = &self.shape.offers[direct.number].plan;
        for &millis in &plan.sleeps {
            sleep(Duration::from_millis(millis)).await;
        }
        if let Some(counter) = plan.counter {
            let key = format!("counter {counter}");
            let mut state: Counter = cx.load_key(&key).await?.unwrap_or_default();
            state.count += 1;
            cx.save_key(&key, &state)?;
        }
        let Direct { stream, number } = direct;
        let follows = self.follow_up(plan.expects, stream, &mut cx).await?;
        cx.publish(&Noted { stream, number, padding: "d".repeat(plan.bytes), follows })?;
        Ok(())
    }
}

impl Receptor<Noted> for Hand {
    async fn receive(&self, noted: Noted, mut cx: Context<'_>) -> Result<(), Failure> {
        let run = self.begin(Flow::Totals, Lane::Stream(noted.stream), &cx);
        let result = self.count(&noted, &mut cx, &run).await;
        run.end(result)
    }
}

impl Receptor<Noted> for StrictHand {
    async fn receive(&self, noted: Noted, mut cx: Context<'_>) -> Result<(), Failure> {
        let run = self.0.begin(Flow::Strict, Lane::Stream(noted.stream), &cx);
        let result = self.count(&noted, &mut cx, &run).await;
        run.end(result)
    }
}

impl StrictHand {
    /// Counts an event, unless it is rejected; nothing before it may be missing but what was discarded.
    async fn count(&self, noted: &Noted, cx: &mut Context<'_>, run: &Run<'_>) -> Result<(), Failure> {
        if self.0.shape.offers[noted.number].plan.event_dies && !cx.is_replay() {
            return Err(Failure::dead("planned"));
        }
        let version = cx.version().map_or(0, |version| version.0);
        let mut totals: StrictTotals = cx.load().await?.unwrap_or_default();
        run.goes_on();
        let (discarded, _) = self.0.journal.discarded_of(noted.stream);
        if version <= totals.version || version - totals.count - 1 > discarded {
            let StrictTotals { count, version: before, .. } = totals;
            let text =
                format!("event {version} came after {before}, {count} handled and {discarded} discarded");
            totals.broken.get_or_insert(text);
        }
        totals.version = version;
        totals.count += 1;
        cx.save(&totals)?;
        Ok(())
    }
}

impl Hand {
    /// Does with a command what its plan says.
    async fn handle(&self, number: usize, mut cx: Context<'_>) -> Result<(), Failure> {
        let lane = self.shape.offers[number].stream.map_or(Lane::Alone(number), Lane::Stream);
        let run = self.begin(Flow::Commands, lane, &cx);
        let attempt = cx.attempt();
        if attempt > self.shape.offers[number].attempts_max() {
            self.journal.violation(format!("offer {number} is begun for the {attempt}th time"));
        }
        let (due, set_forward) =
            self.journal.with(|notes| (notes.due.get(&number).copied(), notes.set_forward));
        // By the store's clock, which may have been set forward meanwhile.
        if due.is_some_and(|(sent, due)| Instant::now() < due && set_forward.is_none_or(|at| at < sent)) {
            self.journal.violation(format!("offer {number} was handled before its time"));
        }
        let result = self.follow_plan(number, &mut cx, &run).await;
        run.end(result)
    }

    async fn follow_plan(&self, number: usize, cx: &mut Context<'_>, run: &Run<'_>) -> Result<(), Failure> {
        let offer = &self.shape.offers[number];
        let plan = &offer.plan;
        if plan.dies {
            return Err(Failure::dead("planned"));
        }
        for &millis in &plan.sleeps {
            sleep(Duration::from_millis(millis)).await;
            run.goes_on();
        }
        if run.may_fail(plan.fails) {
            match plan.manner {
                Manner::Error => return Err(Failure::msg("planned")),
                Manner::RetryIn(millis) => return Err(Failure::retry_in(Duration::from_millis(millis))),
                Manner::Panic => panic!("planned"),
                Manner::Overrun => sleep(Duration::from_secs(3_600)).await,
            }
        }
        if let Some(counter) = plan.counter {
            let key = format!("counter {counter}");
            let mut state: Counter = cx.load_key(&key).await?.unwrap_or_default();
            run.goes_on();
            state.count += 1;
            cx.save_key(&key, &state)?;
        }
        if let Some((child, due_in)) = plan.sends {
            let of = &self.shape.offers[child];
            let (stream, number) = (of.stream.unwrap_or_default(), child);
            let padding = "c".repeat(of.plan.bytes);
            let options = EmitOptions { due_in: due_in.map(Duration::from_millis), ..EmitOptions::default() };
            if of.is_novel {
                cx.send_with(&Novel { stream, number, padding }, options)?;
            } else {
                cx.send_with(&Work { stream, number, padding }, options)?;
            }
        }
        let stream = stream_of(number, offer);
        let follows = self.follow_up(plan.expects, stream, cx).await?;
        run.goes_on();
        cx.publish(&Noted { stream, number, padding: "n".repeat(plan.bytes), follows })?;
        Ok(())
    }

    /// Lets the unit depend on the stream being where it is now, where that is planned.
    async fn follow_up(
        &self,
        expects: bool,
        stream: u64,
        cx: &mut Context<'_>,
    ) -> Result<Option<u64>, Failure> {
        if !expects {
            return Ok(None);
        }
        let id = stream.stream_id();
        let mut page = Page::default();
        self.reader.history(id, Version(0), usize::MAX, &mut page).await?;
        let version = page.iter().last().and_then(|event| event.version).unwrap_or_default();
        give_way().await;
        cx.expect_version(id, version)?;
        Ok(Some(version.0))
    }

    /// Counts an event, and looks whether it follows the one before it.
    async fn count(&self, noted: &Noted, cx: &mut Context<'_>, run: &Run<'_>) -> Result<(), Failure> {
        let version = cx.version().map_or(0, |version| version.0);
        let mut totals: Totals = cx.load().await?.unwrap_or_default();
        run.goes_on();
        if run.may_fail(self.shape.offers[noted.number].plan.event_fails) {
            return Err(Failure::msg("planned"));
        }
        if totals.version + 1 != version {
            let text = format!("event {version} was counted after {}", totals.version);
            totals.broken.get_or_insert(text);
        }
        totals.version = version;
        totals.count += 1;
        cx.save(&totals)?;
        Ok(())
    }

    fn begin(&self, flow: Flow, lane: Lane, cx: &Context<'_>) -> Run<'_> {
        let message = cx.message_id().expect("an engine's handler has a message");
        let attempt = cx.attempt();
        if cx.is_replay() && self.shape.has_old_ones {
            // Of a lane with unknown messages, one may run elsewhere while an earlier one is asked for again.
            self.journal.with(|notes| notes.replayed.insert((flow, lane)));
        }
        let number = self.journal.begins(self.process, (flow, lane), message, attempt);
        self.journal
            .line(|| format!("process {}: {flow:?} {lane:?} {message} attempt {attempt}", self.process));
        Run { hand: self, flow, lane, message, number, has_ended: false }
    }
}

/// One run of a handler. Dropped before it has ended, it was cut off.
struct Run<'h> {
    hand: &'h Hand,
    flow: Flow,
    lane: Lane,
    message: whizbang::MessageId,
    number: u64,
    has_ended: bool,
}

impl Run<'_> {
    /// Whether a failure is planned, and was not had yet.
    fn may_fail(&self, planned: u32) -> bool {
        self.hand.journal.with(|notes| {
            let runs = notes.handled.entry((self.flow, self.message)).or_default();
            let may = runs.planned < planned;
            runs.planned += u32::from(may);
            may
        })
    }

    /// It has waited, and goes on: nothing of its lane may have begun meanwhile, unless one of the two processes was taken for
    /// dead and does not know yet.
    fn goes_on(&self) {
        let Self { hand, flow, lane, number, .. } = self;
        let newest = hand.journal.with(|notes| {
            let is_replayed = notes.replayed.contains(&(*flow, *lane));
            notes.newest.get(&(*flow, *lane)).copied().filter(|_| !is_replayed)
        });
        let is_excused = |process| hand.watch.was_evicted(process);
        if newest.is_some_and(|(run, by)| run != *number && !is_excused(by) && !is_excused(hand.process)) {
            hand.journal.violation(format!("two handlers of {flow:?} {lane:?} run at once"));
        }
    }

    fn end(mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        self.has_ended = true;
        self.note(|runs| match &result {
            Ok(()) => runs.succeeded += 1,
            Err(_) => runs.failed += 1,
        });
        result
    }

    fn note(&self, f: impl FnOnce(&mut crate::journal::Runs)) {
        self.hand.journal.with(|notes| f(notes.handled.entry((self.flow, self.message)).or_default()));
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.has_ended && std::thread::panicking() {
            self.note(|runs| runs.failed += 1);
        }
    }
}
