//! Rows, their contestants, and how these take turns.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use whizbang_benches::figures::Figures;
pub(crate) use whizbang_benches::table::Must;
pub(crate) use whizbang_benches::table::Role::{self, Floor, Ours, Rival};
use whizbang_benches::table::{Contestant as Finished, Row as Measured};

use crate::print;

/// Calls in one sample of a thing that takes nanoseconds.
pub(crate) const CALLS: usize = 4_096;

/// Runs something, and says how often it allocated in this thread.
pub(crate) type Counter = fn(&mut dyn FnMut()) -> u64;

/// Allocations per operation, by row and contestant.
pub(crate) type Counts = BTreeMap<String, BTreeMap<String, f64>>;

/// Everything that is measured, in order.
pub(crate) struct Table {
    only: Vec<String>,
    turns: usize,
    is_list: bool,
    counter: Option<Counter>,
    counts: Counts,
    /// Rows with a must of which the first of ours allocates: none of them may.
    allocating: Vec<&'static str>,
    measured: Vec<Measured>,
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Measured>,
    pub(crate) counts: Counts,
    pub(crate) allocating: Vec<&'static str>,
}

impl Table {
    pub(crate) fn new(
        only: Vec<String>,
        turns: usize,
        is_list: bool,
        counter: Option<Counter>,
        counts: Counts,
    ) -> Self {
        Self { only, turns, is_list, counter, counts, allocating: Vec::new(), measured: Vec::new() }
    }

    /// Measures a row, if it was asked for. `fill` names its contestants; it is only called when they are needed.
    pub(crate) fn row<'r>(
        &mut self,
        name: &'static str,
        title: impl Into<String>,
        must: Option<Must>,
        fill: impl FnOnce(&mut Row<'r>),
    ) {
        let title = title.into();
        if !self.only.is_empty() && !self.only.iter().any(|part| name.contains(part.as_str())) {
            return;
        }
        if self.is_list {
            println!("{name:<28} {title}");
            return;
        }
        let mut row = Row { contestants: Vec::new(), turns: self.turns };
        fill(&mut row);
        if let Some(counter) = self.counter {
            let first = row.contestants.iter().find(|one| one.role == Ours).map(|one| one.name.clone());
            let counts = row.count(counter);
            let count = first.and_then(|first| counts.get(&first).copied());
            if must.is_some() && count.is_some_and(|count| count > 0.0) {
                self.allocating.push(name);
            }
            self.counts.insert(name.to_owned(), counts);
            return;
        }
        let contestants = row.measure(self.counts.get(name));
        let measured = Measured { name: name.to_owned(), title, must, contestants };
        print::row(&measured);
        self.measured.push(measured);
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome { rows: self.measured, counts: self.counts, allocating: self.allocating }
    }
}

/// A row that is being put together.
pub(crate) struct Row<'r> {
    contestants: Vec<Contestant<'r>>,
    turns: usize,
}

type Turn<'r> = Box<dyn FnMut(&mut Taken) + 'r>;

struct Contestant<'r> {
    role: Role,
    name: String,
    turn: Turn<'r>,
    taken: Taken,
}

impl<'r> Row<'r> {
    /// Adds something that is called over and over.
    pub(crate) fn call<T>(&mut self, role: Role, name: &str, mut call: impl FnMut() -> T + 'r) {
        self.turn(role, name, move |taken| {
            taken.take(CALLS, || {
                for _ in 0..CALLS {
                    black_box(call());
                }
            });
        });
    }

    /// Adds something that takes its samples itself.
    pub(crate) fn turn(&mut self, role: Role, name: &str, turn: impl FnMut(&mut Taken) + 'r) {
        let (turn, taken) = (Box::new(turn), Taken::default());
        self.contestants.push(Contestant { role, name: name.to_owned(), turn, taken });
    }

    /// Fewer turns, for what takes long.
    pub(crate) fn turns_at_most(&mut self, turns: usize) {
        self.turns = self.turns.min(turns);
    }

    /// Allocations per operation of all contestants, once their buffers have grown.
    fn count(mut self, counter: Counter) -> BTreeMap<String, f64> {
        let counted = self.contestants.iter_mut().filter_map(|Contestant { name, turn, taken, .. }| {
            turn(taken);
            taken.counted = Some(Counted { counter, operations: 0, allocations: 0 });
            turn(taken);
            let Counted { operations, allocations, .. } = taken.counted?;
            (operations > 0).then(|| (name.clone(), allocations as f64 / operations as f64))
        });
        counted.collect()
    }

    fn measure(mut self, counts: Option<&BTreeMap<String, f64>>) -> Vec<Finished> {
        // Caches, branch predictors and buffers get used to it first.
        for Contestant { turn, taken, .. } in &mut self.contestants {
            turn(taken);
            taken.samples.clear();
        }
        for turn in 0..self.turns {
            let all = self.contestants.len();
            for index in 0..all {
                let index = if turn % 2 == 0 { index } else { all - 1 - index };
                let Contestant { turn, taken, .. } = &mut self.contestants[index];
                turn(taken);
            }
        }
        let finished = self.contestants.into_iter().filter_map(|Contestant { role, name, taken, .. }| {
            let allocations = counts.and_then(|counts| counts.get(&name).copied());
            Some(Finished { role, name, figures: Figures::of(taken.samples)?, allocations })
        });
        finished.collect()
    }
}

/// The samples of one contestant.
#[derive(Default)]
pub(crate) struct Taken {
    samples: Vec<f64>,
    /// In place of times, while allocations are counted.
    counted: Option<Counted>,
}

#[derive(Clone, Copy)]
struct Counted {
    counter: Counter,
    operations: usize,
    allocations: u64,
}

impl Taken {
    /// A sample: so many operations, one after the other.
    pub(crate) fn take(&mut self, operations: usize, run: impl FnOnce()) {
        self.take_if(operations, || {
            run();
            true
        });
    }

    /// A sample that is thrown away when `run` says that something else came in between.
    pub(crate) fn take_if(&mut self, operations: usize, run: impl FnOnce() -> bool) {
        if let Some(counted) = &mut self.counted {
            let (mut run, mut is_whole) = (Some(run), false);
            let allocations = (counted.counter)(&mut || is_whole = run.take().is_some_and(|run| run()));
            if is_whole {
                counted.operations += operations;
                counted.allocations += allocations;
            }
            return;
        }
        let begun = Instant::now();
        if run() {
            self.push(begun.elapsed(), operations);
        }
    }

    /// A sample that somebody else timed.
    pub(crate) fn push(&mut self, took: Duration, operations: usize) {
        self.samples.push(took.as_nanos() as f64 / operations as f64);
    }

    /// A sample in nanoseconds.
    pub(crate) fn push_nanos(&mut self, nanos: f64) {
        self.samples.push(nanos);
    }

    /// A place for the samples of another thread, in the same state.
    pub(crate) fn beside(&self) -> Taken {
        let counted = self.counted.map(|counted| Counted { operations: 0, allocations: 0, ..counted });
        Taken { samples: Vec::new(), counted }
    }

    /// Takes over what another thread has sampled.
    pub(crate) fn join(&mut self, other: Taken) {
        self.samples.extend(other.samples);
        if let (Some(all), Some(more)) = (&mut self.counted, other.counted) {
            all.operations += more.operations;
            all.allocations += more.allocations;
        }
    }
}
