//! What happened, as seen from outside the store: what was acknowledged, which handlers ran, who died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use whizbang::MessageId;

/// Everybody's notes on one run; clones are the same journal.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Notes>>);

/// The notes.
#[derive(Default)]
pub(crate) struct Notes {
    /// By offer.
    pub(crate) fates: Vec<Fate>,
    pub(crate) handled: BTreeMap<(Flow, MessageId), Runs>,
    /// The newest run of each lane: its number and its process.
    pub(crate) newest: BTreeMap<(Flow, Lane), (u64, usize)>,
    runs: u64,
    /// Instances that died with what they had in hand: crashed, evicted, or left while something ran.
    pub(crate) deaths: u32,
    pub(crate) evictions: u32,
    /// Producers that have begun and not ended.
    pub(crate) producing: usize,
    /// By engine: messages that it has accepted and nobody waits for.
    pub(crate) accepted: Vec<(usize, usize)>,
    /// Offers that were dead and were asked for again: there is no order between them and others.
    pub(crate) requeued: BTreeSet<usize>,
    /// Lanes in which such an offer was handled once more, and which may be worked off by two processes.
    pub(crate) replayed: BTreeSet<(Flow, Lane)>,
    /// When an offer was scheduled, and before when it must not be handled.
    pub(crate) due: BTreeMap<usize, (Instant, Instant)>,
    /// When the store's clock was set forward last.
    pub(crate) set_forward: Option<Instant>,
    /// What somebody wanted to discard of what the strict subscription had rejected, and whether the store has said it did.
    pub(crate) discarded: BTreeMap<MessageId, (u64, bool)>,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    pub(crate) violations: Vec<String>,
    /// What is told to whoever reads the run; none when nobody does.
    pub(crate) lines: Option<Vec<String>>,
    began: Option<Instant>,
}

/// The subscriptions of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Flow {
    Commands,
    Totals,
    Strict,
}

/// What is handled in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    Stream(u64),
    Alone(usize),
}

/// What became of an offer, as far as its producer knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was never sent.
    #[default]
    Kept,
    /// It was sent, and nobody said what became of it.
    Unknown,
    /// It is durable.
    Stored,
    /// Another one had its key.
    Duplicate,
    /// It does not exist.
    Refused,
}

/// How often a message was given to its handler, and what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Runs {
    pub(crate) begun: u32,
    /// Returned an error, or panicked.
    pub(crate) failed: u32,
    pub(crate) succeeded: u32,
    /// Of the failures, those that the message's plan asked for.
    pub(crate) planned: u32,
}

impl Runs {
    /// Runs that were cancelled, or went down with their process.
    pub(crate) fn cut_off(&self) -> u32 {
        self.begun - self.failed - self.succeeded
    }
}

impl Journal {
    pub(crate) fn new(offers: usize, is_verbose: bool) -> Self {
        let journal = Self::default();
        journal.with(|notes| {
            notes.fates = vec![Fate::Kept; offers];
            notes.began = Some(Instant::now());
            notes.lines = is_verbose.then(Vec::new);
        });
        journal
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Notes) -> T) -> T {
        f(&mut self.0.lock())
    }

    /// Something that must never happen has happened.
    pub(crate) fn violation(&self, what: String) {
        self.line(|| format!("VIOLATION {what}"));
        self.with(|notes| notes.violations.push(what));
    }

    pub(crate) fn has_violations(&self) -> bool {
        self.with(|notes| !notes.violations.is_empty())
    }

    pub(crate) fn fate(&self, offer: usize, fate: Fate) {
        self.line(|| format!("offer {offer}: {fate:?}"));
        self.with(|notes| notes.fates[offer] = fate);
    }

    /// How much of a stream somebody wanted to discard, and how much the store has said it did.
    pub(crate) fn discarded_of(&self, stream: u64) -> (u64, u64) {
        self.with(|notes| {
            let of = notes.discarded.values().filter(|(of, _)| *of == stream);
            of.fold((0, 0), |(wanted, done), (_, is_done)| (wanted + 1, done + u64::from(*is_done)))
        })
    }

    /// A line for whoever reads the run.
    pub(crate) fn line(&self, text: impl FnOnce() -> String) {
        if self.with(|notes| notes.lines.is_none()) {
            return;
        }
        let text = text();
        self.with(|notes| {
            let after = notes.began.map_or(Duration::ZERO, |began| began.elapsed());
            notes.lines.get_or_insert_default().push(format!("{:>12} µs  {text}", after.as_micros()));
        });
    }

    /// A handler begins; returns the number of its run.
    pub(crate) fn begins(
        &self,
        process: usize,
        (flow, lane): (Flow, Lane),
        message: MessageId,
        attempt: u32,
    ) -> u64 {
        self.with(|notes| {
            let runs = notes.handled.entry((flow, message)).or_default();
            // After so many conflicts in a row the engine gives a message a pause, as if it had failed.
            let conflicts = runs.succeeded / 16;
            let counted_max = 1 + runs.failed + runs.cut_off() + conflicts + notes.deaths;
            let counted_twice = attempt > counted_max;
            runs.begun += 1;
            if counted_twice {
                let runs = *runs;
                notes.violations.push(format!(
                    "attempts are counted twice: {flow:?} {lane:?} is handed out with attempt {attempt} after {runs:?} and {} deaths",
                    notes.deaths
                ));
            }
            notes.runs += 1;
            notes.newest.insert((flow, lane), (notes.runs, process));
            notes.runs
        })
    }
}
