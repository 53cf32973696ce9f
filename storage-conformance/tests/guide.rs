//! What the guide says of the steps is so: after each, the cases that it lists can pass, and the others cannot.
//!
//! The store after a step is `MemoryStore` behind a wrapper that refuses whatever comes with a later step.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use whizbang_storage::{
    Answer, MemoryStore, NotApplied, Service, Settle, StoreError, TestClock, Unit, WorkBatch, WorkStore,
};
use whizbang_storage_conformance::{Between, Fixture, Memory, OpenError, Wrapped};

const GUIDE: &str = include_str!("../../docs/write-a-backend.md");

/// How many steps the guide has that turn cases green.
const STEPS: u8 = 5;

thread_local! {
    // Each test has a thread, and its stores are opened on it.
    static STEP: Cell<u8> = const { Cell::new(STEPS) };
}

/// Lets through what is done up to a step.
struct UpTo(u8);

impl UpTo {
    fn knows(&self, batch: &WorkBatch<'_>) -> bool {
        let is_done = |unit: &Unit<'_>| matches!(unit.settle, Settle::Done);
        let needed = [
            (2, !batch.appends.is_empty() || batch.arrivals.is_some() || !batch.reads.is_empty()),
            (3, !batch.units.is_empty() || !batch.settled.is_empty()),
            (4, batch.due.is_some() || !batch.units.iter().all(is_done)),
            (5, !batch.operations.is_empty() || batch.housekeeping.is_some()),
        ];
        needed.iter().all(|(step, is_needed)| !is_needed || *step <= self.0)
    }
}

impl Between<MemoryStore> for UpTo {
    async fn process(
        &mut self,
        store: &mut MemoryStore,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        if !self.knows(batch) {
            return Err(NotApplied::Failed("that comes with a later step".into()).into());
        }
        store.process_work_batch(batch, answer).await
    }
}

struct Stepwise(Memory);

impl Fixture for Stepwise {
    type Store = Wrapped<MemoryStore, UpTo>;

    async fn fresh(clock: TestClock) -> Self {
        Self(Memory::fresh(clock).await)
    }

    async fn open(&self, service: Service) -> Result<Self::Store, OpenError> {
        Ok(Wrapped { store: self.0.open(service).await?, between: UpTo(STEP.get()) })
    }

    async fn crash(&mut self, stores: Vec<Self::Store>) {
        drop(stores);
    }
}

/// Every case: its name, the ability it needs, and how it is run.
type Cases = &'static [(&'static str, &'static str, fn())];
const CASES: Cases = whizbang_storage_conformance::__all_cases!(@functions Stepwise);

#[test]
fn the_guide_says_which_cases_can_be_green_after_which_step() {
    let appendix = GUIDE.split("## Which cases, when").nth(1).expect("the guide has its appendix");
    let said: BTreeMap<&str, u8> = appendix
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(step, case)| Some((case, step.parse().ok()?)))
        .collect();
    // The panics are what is wanted here; they need not be printed.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut found: BTreeMap<&str, u8> = BTreeMap::new();
    let core = CASES.iter().filter(|(_, ability, _)| *ability == "core");
    for (name, _, case) in core {
        let passes = |step: &u8| {
            STEP.set(*step);
            catch_unwind(AssertUnwindSafe(case)).is_ok()
        };
        found.insert(name, (1..=STEPS).find(passes).unwrap_or(u8::MAX));
    }
    std::panic::set_hook(loud);
    let list: String = found.iter().map(|(case, step)| format!("{step} {case}\n")).collect();
    assert!(said == found, "the appendix should read\n{list}");
    let (core, with_a_journal) = (found.len(), found.len() + 2);
    assert!(GUIDE.contains(&format!("of the {core} that need no ability")), "there are {core}");
    // A journal has hints and is durable: one case each.
    assert!(GUIDE.contains(&format!("All {with_a_journal} cases that apply")), "there are {with_a_journal}");
    for step in 1..=STEPS {
        let count = found.values().filter(|first| **first <= step).count();
        let row = format!("| {count} |");
        let line = GUIDE.lines().find(|line| line.starts_with(&format!("| {step} ")));
        assert!(line.is_some_and(|line| line.contains(&row)), "after step {step} it is {count}");
    }
}
