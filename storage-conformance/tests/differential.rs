//! The generator reaches what it should, and finds what differs.

use whizbang_storage::{MemoryStore, Service, TestClock};
use whizbang_storage_conformance::differential::{self, Plan};
use whizbang_storage_conformance::{Fixture, Memory, OpenError};

/// Memory with a window that is one too small.
struct Narrow(Memory);

impl Fixture for Narrow {
    type Store = MemoryStore;

    async fn fresh(clock: TestClock) -> Self {
        Self(Memory::fresh(clock).await)
    }

    async fn open(&self, service: Service) -> Result<MemoryStore, OpenError> {
        let window = service.window - 1;
        self.0.open(Service { window, ..service }).await
    }

    async fn crash(&mut self, stores: Vec<MemoryStore>) {
        self.0.crash(stores).await;
    }
}

#[test]
fn the_generator_reaches_every_kind_of_answer() {
    let plan = Plan::from_environment();
    let reached = differential::run::<Memory, Memory>(plan);
    println!("{reached:#?}");
    for name in [
        "unit applied",
        "unit fenced",
        "stream conflict",
        "projection conflict",
        "unit skipped",
        "unit already settled",
        "unit unknown",
        "range applied",
        "range already settled",
        "range fenced",
        "range unknown",
        "handed out now",
        "stored",
        "arrived",
        "duplicate",
        "append refused",
        "read",
        "read fenced",
        "read paused",
        "from the log",
        "parked and due",
        "suspect",
        "replay",
        "behind a parked one",
        "operation done",
        "operation gone",
        "registered",
        "moved",
        "removed",
        "repeat of an evicted one",
        "asked to give back",
        "taken over",
        "evicted",
        "different batch",
        "out of sequence",
        "instance taken",
        "not joined",
        "not applied",
        "waiting",
        "not waiting",
        "dead",
        "dead letters",
        "projections",
        "histories",
        "parked",
        "unroutable",
    ] {
        assert!(reached.get(name).is_some_and(|count| *count > 0), "never reached: {name}");
    }
}

#[test]
fn a_difference_is_found_and_shrunk() {
    let plan = Plan { seed: 1, sequences: 256, steps: 50 };
    let found = differential::find::<Memory, Narrow>(plan).expect_err("the windows differ");
    // A join, so many appends that the window matters, and a read: a dozen steps at most.
    assert!(found.steps.len() <= 14, "{found}");
    assert!(found.to_string().contains("WHIZBANG_DIFFERENTIAL_SEED="), "{found}");
}
