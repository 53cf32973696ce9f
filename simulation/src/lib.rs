//! The whole engine, several times, over a store that fails, on one thread: one seed is one run.
//!
//! ```sh
//! cargo run --profile simulation -p whizbang-simulation -- --seeds 2000 --seconds 60
//! ```
//!
//! # How it works
//!
//! What runs is the engine itself: its pump, workers, lanes and rings, taken as futures by its hidden `simulation` module
//! instead of being started on threads. The `Scheduler` polls one of those that can run, chosen by the seed, on a paused
//! tokio runtime whose clock only moves when nothing can run. Ids, jitter and the order of maps come from the seed, too; so a
//! seed is one interleaving, exactly, and [`Report::trace`] says whether two runs were the same.
//!
//! A seed stands for a `Shape`: a service and options (few partitions, small windows, batches and rings among them), messages
//! with a plan for their handlers (sleep, fail, panic, overrun their deadline, send more, meet others at a shared counter,
//! expect a stream where they saw it, be rejected by a subscription that halts), producers (single sends, publishers, groups,
//! keys, schedules), engines of an older version that lacks a message type, and mishaps (crashes, pauses beyond the time to
//! live, leaves, joins, a paused subscription, dead letters requeued and discarded, the store's clock set an hour forward or
//! five seconds back). Every process reaches the one `MemoryDatabase` through a `Station`: latency, a
//! [`Faulty`](whizbang_storage_conformance::Faulty) that fails before the call, refuses batches, loses answers, delays and
//! repeats old batches, and a reading side that fails at times. A crash drops a process's futures where they stand.
//!
//! Then it is calm. Everything must come to rest within a minute of the run's clock, and this must hold:
//!
//! | while it runs | |
//! |---|---|
//! | one owner per partition, epochs only grow, nobody is evicted within its time to live | `watch` |
//! | one handler of a stream at a time, except by who was taken for dead and does not know | `app` |
//! | an attempt is counted for a failure, a cancellation or a death, and once | `journal` |
//! | nothing scheduled is handled before its time, by the store's clock | `app` |
//! | what is read and settled is read and settled by the partition's owner, under its epoch | `watch` |
//! | what an engine has in flight, and what its workers hold for it, stays within its options, after every single poll | `script` |
//! | a subscription that halts at a dead event passes it only when it is requeued or discarded | `app` |
//!
//! | when it is over | |
//! |---|---|
//! | producers have their answers, nothing is unsettled, parked or arriving, engines and workers hold nothing | `script` |
//! | nobody has less than its share of the partitions; an idle group makes no call but heartbeats and evicts nobody | `script` |
//! | who was told to stop has ended, tasks and all | `script` |
//! | what was acknowledged is handled once or dead for a reason; what was refused does not exist; a group is whole; of a key there is one | `verdict` |
//! | what is of a type that some instances lack is handled all the same | `verdict` |
//! | an event that was to follow a version of its stream follows it | `verdict` |
//! | streams and their projections are in order and complete; shared counters lost no update | `verdict` |
//!
//! # A seed that fails
//!
//! The program prints the command that runs it again, with `--trace` line by line: every exchange, hand-out and fate. Try it
//! with fewer `--messages` and `--mishaps`, or with `--no-faults`: each draws another run, and a shorter one often fails, too.
//! A seed's run changes when the engine or the drawing does, so keep the defect as a test of its own.
//!
//! # Planting a defect
//!
//! To see that the simulation would find it: `--plant NAME`, or `--planted` for all of [`planted::DEFECTS`]. One of the engine is a
//! line `if !host::is_planted("name")` at the place that would be wrong, which is nothing at all without the feature
//! `simulation`; one of the store changes a batch or an answer in [`planted`]. Either has a line in its list.
//!
//! # What it does not see
//!
//! Threads: what the rings, the doorbell and the horizon do between two cores is the model checker's (`loom-tests`). Other
//! stores than the one in memory: they are compared with it (`storage-conformance`). A group that has no engine at all for
//! long, several groups, and what expires in days (retention of keys and events, the death of what nobody knows) are not drawn.
//! An event that was to follow a version is not judged where it became an arrival: its version is only given when it is moved.
#![forbid(unsafe_code)]

mod app;
mod clock;
mod journal;
mod node;
pub mod planted;
mod scheduler;
mod script;
mod shape;
mod station;
mod verdict;
mod watch;

use std::sync::Arc;

use whizbang_storage::{MemoryDatabase, WorkStore};

use clock::RunClock;
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

/// Polls after which a run is taken for one that never ends; ordinary ones need a few hundred to a few thousand.
const STEPS_MAX: u64 = 200_000;

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
    let clock = RunClock::new(setting.planted);
    let database = MemoryDatabase::with_clock(Arc::new(clock.clone()));
    let scheduler = Scheduler::new(seed, shape.habits);
    let run = script::Run::new(
        scheduler.clone(),
        Arc::clone(&shape),
        journal.clone(),
        watch.clone(),
        database.clone(),
        clock,
        seed,
    );
    let auditor = run.clone();
    match scheduler.run(run.script(), STEPS_MAX, || auditor.look_at_memory()).await {
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
