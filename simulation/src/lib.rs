//! The whole engine, several times, over a store that fails, on one thread: one seed is one run.
#![forbid(unsafe_code)]

mod app;
mod journal;
pub mod planted;
mod scheduler;
mod script;
mod shape;
mod station;
mod verdict;
mod watch;

use std::sync::Arc;

use whizbang_storage::{Clock, MemoryDatabase, Timestamp, WorkStore};

use journal::Journal;
use planted::Defect;
use scheduler::{Scheduler, Stuck};
pub use shape::Scale;
use shape::Shape;
use watch::Watch;

/// What one seed led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What must never happen, and did. Empty: the run is as it should be.
    pub violations: Vec<String>,
    /// Tells one interleaving from another: the same seed has the same.
    pub trace: u64,
    /// How often a task was polled.
    pub steps: u64,
    /// Messages that were acknowledged.
    pub stored: usize,
    /// Messages that were handled.
    pub handled: usize,
    /// Instances that died with what they had.
    pub deaths: u32,
    /// Of them, those that were taken for dead by the others.
    pub evictions: u32,
    /// What happened, line by line, where that was asked for.
    pub lines: Vec<String>,
}

/// How seeds are run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setting {
    /// How much a run may contain.
    pub scale: Scale,
    /// A defect that the engine or the store has.
    pub planted: Option<Defect>,
    /// Whether [`Report::lines`] is filled.
    pub is_verbose: bool,
}

/// Polls after which a run is taken for one that never ends; ordinary ones need a few thousand.
const STEPS_MAX: u64 = 400_000;

/// Runs a seed from beginning to end.
///
/// # Panics
/// When no runtime can be built.
pub fn simulate(seed: u64, setting: Setting) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and sockets");
    whizbang::simulation::begin(setting.planted.map(|defect| defect.name));
    fastrand::seed(seed);
    let report = runtime.block_on(one_run(seed, setting));
    drop(runtime);
    whizbang::simulation::end();
    report
}

async fn one_run(seed: u64, setting: Setting) -> Report {
    let shape = Arc::new(Shape::draw(seed, setting.scale, setting.planted));
    let journal = Journal::new(shape.offers.len(), setting.is_verbose);
    journal.line(|| format!("{shape:#?}"));
    let watch = Watch::new(journal.clone(), shape.service.time_to_live);
    let clock = RunClock { began: tokio::time::Instant::now() };
    let database = MemoryDatabase::with_clock(Arc::new(clock));
    let scheduler = Scheduler::new(seed, shape.habits);
    let run = script::Run::new(
        scheduler.clone(),
        Arc::clone(&shape),
        journal.clone(),
        watch.clone(),
        database.clone(),
        seed,
    );
    match scheduler.run(run.script(), STEPS_MAX).await {
        Ok(()) => {}
        Err(Stuck::Steps(steps)) => journal.violation(format!("no end after {steps} steps")),
        Err(Stuck::Panicked { task, text }) => journal.violation(format!("a {task} panicked: {text}")),
    }
    let reader = database.open(shape.service.clone()).expect("it was opened like this before").reader();
    if !journal.has_violations() {
        verdict::judge(&shape, &journal, &reader).await;
    }
    scheduler.mark(watch.calls());
    journal.with(|notes| Report {
        seed,
        violations: std::mem::take(&mut notes.violations),
        trace: scheduler.trace(),
        steps: scheduler.steps(),
        stored: notes.fates.iter().filter(|fate| **fate == journal::Fate::Stored).count(),
        handled: notes.handled.values().map(|runs| runs.succeeded as usize).sum(),
        deaths: notes.deaths,
        evictions: notes.evictions,
        lines: notes.lines.take().unwrap_or_default(),
    })
}

/// The store's clock: that of the run.
struct RunClock {
    began: tokio::time::Instant,
}

impl Clock for RunClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).after(self.began.elapsed())
    }
}
