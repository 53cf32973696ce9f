//! Rows, their contestants, and how these take turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;
use whizbang_benches::figures::Figures;

use crate::print;

/// Calls in one sample of a thing that takes nanoseconds.
pub(crate) const CALLS: usize = 4_096;

/// What a contestant is to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// What the row is about.
    Ours,
    /// What it cannot be cheaper than, or the least that somebody would write by hand.
    Floor,
    /// What others do for the same end.
    Rival,
}
pub(crate) use Role::{Floor, Ours, Rival};

/// What the first of ours must reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Must {
    /// A median of at most so many nanoseconds.
    Median(f64),
    /// And a 99th percentile of at most so many.
    MedianAndP99(f64, f64),
    /// A median of at most so many nanoseconds more than that of the row's first floor.
    OverFloor(f64),
}

/// A row that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) must: Option<Must>,
    pub(crate) contestants: Vec<Finished>,
}

/// A contestant after the row.
#[derive(Debug, Serialize)]
pub(crate) struct Finished {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// Nanoseconds per operation.
    pub(crate) figures: Figures,
    /// Per operation, in the thread that does it.
    pub(crate) allocations: Option<f64>,
}

/// Everything that is measured, in order.
pub(crate) struct Table {
    only: Vec<String>,
    turns: usize,
    is_list: bool,
    measured: Vec<Measured>,
}

impl Table {
    pub(crate) fn new(only: Vec<String>, turns: usize, is_list: bool) -> Self {
        Self { only, turns, is_list, measured: Vec::new() }
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
        let measured = Measured { name, title, must, contestants: row.measure() };
        print::row(&measured);
        self.measured.push(measured);
    }

    pub(crate) fn into_measured(self) -> Vec<Measured> {
        self.measured
    }
}

/// A row that is being put together.
pub(crate) struct Row<'r> {
    contestants: Vec<Contestant<'r>>,
    turns: usize,
}

struct Contestant<'r> {
    role: Role,
    name: String,
    turn: Box<dyn FnMut(&mut Taken) + 'r>,
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

    fn measure(mut self) -> Vec<Finished> {
        // Caches, branch predictors and buffers get used to it first; then allocations are counted.
        for contestant in &mut self.contestants {
            (contestant.turn)(&mut contestant.taken);
            contestant.taken = Taken { counted: Some(Counted::default()), ..Taken::default() };
            (contestant.turn)(&mut contestant.taken);
            contestant.taken.samples.clear();
            contestant.taken.is_counting = false;
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
            let allocations = taken.counted.and_then(Counted::per_operation);
            Some(Finished { role, name, figures: Figures::of(taken.samples)?, allocations })
        });
        finished.collect()
    }
}

/// The samples of one contestant.
pub(crate) struct Taken {
    samples: Vec<f64>,
    counted: Option<Counted>,
    is_counting: bool,
}

impl Default for Taken {
    fn default() -> Self {
        Self { samples: Vec::new(), counted: None, is_counting: true }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    operations: usize,
    allocations: u64,
}

impl Counted {
    fn per_operation(self) -> Option<f64> {
        (self.operations > 0).then(|| self.allocations as f64 / self.operations as f64)
    }
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
        if let (true, Some(counted)) = (self.is_counting, &mut self.counted) {
            let mut is_whole = false;
            let info = allocation_counter::measure(|| is_whole = run());
            if is_whole {
                counted.operations += operations;
                counted.allocations += info.count_total;
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
        let counted = self.counted.map(|_| Counted::default());
        Taken { samples: Vec::new(), counted, is_counting: self.is_counting }
    }

    /// Takes over what another thread has sampled.
    pub(crate) fn join(&mut self, other: Taken) {
        self.samples.extend(other.samples);
        if let (true, Some(all), Some(more)) = (self.is_counting, &mut self.counted, other.counted) {
            all.operations += more.operations;
            all.allocations += more.allocations;
        }
    }
}
