//! One generated sequence of operations against two stores: every answer, and what is stored after every step, must be the
//! same.
//!
//! ```
//! use whizbang_storage_conformance::differential::{self, Plan};
//! use whizbang_storage_conformance::Memory;
//!
//! // A backend compares itself with the plainest implementation.
//! differential::run::<Memory, Memory>(Plan { sequences: 4, ..Plan::from_environment() });
//! ```

mod build;
mod compare;
mod generate;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

pub use generate::{Part, Step};

use self::generate::generate;
use self::world::Pair;
use crate::Fixture;

/// How much is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The first sequence's seed; the next has the next number.
    pub seed: u64,
    /// Sequences, each against fresh databases.
    pub sequences: u64,
    /// Steps in each.
    pub steps: usize,
}

impl Plan {
    /// 256 sequences of 50 steps with a fixed seed, unless the environment says otherwise: `WHIZBANG_DIFFERENTIAL_SEED` (a number, or
    /// `random`), `WHIZBANG_DIFFERENTIAL_SEQUENCES`, `WHIZBANG_DIFFERENTIAL_STEPS`.
    ///
    /// # Panics
    /// When one of them is set to something else, or a count to 0: a run that compares nothing would look like a good one.
    pub fn from_environment() -> Self {
        let read = |name: &str, default: u64| match std::env::var(name) {
            Err(_) => default,
            Ok(text) if text == "random" => fastrand::u64(..),
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        };
        let count = |name: &str, default: u64| {
            let count = read(name, default);
            assert!(count > 0, "{name}=0 would compare nothing");
            count
        };
        Self {
            seed: read("WHIZBANG_DIFFERENTIAL_SEED", 1),
            sequences: count("WHIZBANG_DIFFERENTIAL_SEQUENCES", 256),
            steps: usize::try_from(count("WHIZBANG_DIFFERENTIAL_STEPS", 50)).unwrap_or(usize::MAX),
        }
    }
}

/// How often what was answered by both, by the name of the answer. A generator that reaches nothing proves nothing.
pub type Reached = BTreeMap<&'static str, u64>;

/// Where two stores differ, shrunk to the steps that are needed.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The seed of the sequence.
    pub seed: u64,
    /// How many steps it had.
    pub steps_before: usize,
    /// The steps that still make the difference; the last one shows it.
    pub steps: Vec<Step>,
    /// What the last step was answered by the first store.
    pub first: String,
    /// What the last step was answered by the second store.
    pub second: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "two stores differ; seed {} after shrinking:", self.seed)?;
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {n:>3} {step:?}")?;
        }
        writeln!(f, "first:  {}", self.first)?;
        writeln!(f, "second: {}", self.second)?;
        write!(
            f,
            "again: WHIZBANG_DIFFERENTIAL_SEED={} WHIZBANG_DIFFERENTIAL_SEQUENCES=1 WHIZBANG_DIFFERENTIAL_STEPS={} \
             cargo test --test differential",
            self.seed, self.steps_before
        )
    }
}

/// Compares two backends; what was reached.
///
/// # Panics
/// When they differ, with the shrunk steps and the seed.
pub fn run<A: Fixture, B: Fixture>(plan: Plan) -> Reached {
    println!("differential: {plan:?}");
    match find::<A, B>(plan) {
        Ok(reached) => reached,
        Err(difference) => panic!("{difference}"),
    }
}

/// Compares two backends; as many sequences at a time as the machine has cores.
///
/// # Errors
/// The first [`Difference`], shrunk.
pub fn find<A: Fixture, B: Fixture>(plan: Plan) -> Result<Reached, Box<Difference>> {
    let sequences = usize::try_from(plan.sequences).unwrap_or(usize::MAX);
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(sequences);
    let shares: Vec<_> = thread::scope(|scope| {
        let share = |first| (plan.seed..).take(sequences).skip(first).step_by(threads);
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || find_among::<A, B>(share(first), plan.steps)))
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut reached = Reached::new();
    let mut differences = Vec::new();
    for share in shares {
        match share {
            Ok(share) => {
                share.into_iter().for_each(|(name, count)| *reached.entry(name).or_default() += count)
            }
            Err(difference) => differences.push(difference),
        }
    }
    differences.into_iter().min_by_key(|difference| difference.seed).map_or(Ok(reached), Err)
}

fn find_among<A: Fixture, B: Fixture>(
    seeds: impl Iterator<Item = u64>,
    steps: usize,
) -> Result<Reached, Box<Difference>> {
    let mut reached = Reached::new();
    for seed in seeds {
        let steps = generate(seed, steps);
        if let Err(found) = play::<A, B>(seed, &steps, &mut reached) {
            return Err(Box::new(shrink::<A, B>(seed, steps, found)));
        }
    }
    Ok(reached)
}

/// At which step, and how, they differ.
type Found = (usize, String, String);

fn play<A: Fixture, B: Fixture>(seed: u64, steps: &[Step], reached: &mut Reached) -> Result<(), Found> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a test can have a runtime")
        .block_on(async {
            let mut pair = Pair::<A, B>::new(seed).await;
            for (n, step) in steps.iter().enumerate() {
                if let Err((first, second)) = pair.step(step, reached).await {
                    return Err((n, first, second));
                }
            }
            Ok(())
        })
}

/// Leaves steps, then parts of steps, out as long as a difference stays.
fn shrink<A: Fixture, B: Fixture>(seed: u64, mut steps: Vec<Step>, mut found: Found) -> Difference {
    let steps_before = steps.len();
    steps.truncate(found.0 + 1);
    let mut chunk = steps.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + chunk).min(steps.len()));
            match play::<A, B>(seed, &fewer, &mut Reached::new()) {
                Err(again) => {
                    fewer.truncate(again.0 + 1);
                    (steps, found, shorter) = (fewer, again, true);
                }
                Ok(()) => at += chunk,
            }
        }
        if !shorter {
            chunk /= 2;
        }
    }
    for at in (0..steps.len()).rev() {
        let mut part = 0;
        while let Some(fewer) = steps.get(at).and_then(|step| step.without_part(part)) {
            let mut all = steps.clone();
            all[at] = fewer;
            match play::<A, B>(seed, &all, &mut Reached::new()) {
                Err(again) => {
                    all.truncate(again.0 + 1);
                    (steps, found) = (all, again);
                }
                Ok(()) => part += 1,
            }
        }
    }
    Difference { seed, steps_before, steps, first: found.1, second: found.2 }
}
