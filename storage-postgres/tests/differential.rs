//! Whatever is done to `MemoryStore` and to `PostgresStore`, both answer and hold the same.

mod fixture;

use std::sync::Arc;

use whizbang_storage::{MemoryDatabase, MemoryStore, Service, TestClock};
use whizbang_storage_conformance::differential::{self, Plan};
use whizbang_storage_conformance::{Fixture, OpenError};

struct Memory(MemoryDatabase);

impl Fixture for Memory {
    type Store = MemoryStore;

    async fn fresh(clock: TestClock) -> Self {
        Self(MemoryDatabase::with_clock(Arc::new(clock)))
    }

    async fn open(&self, service: Service) -> Result<MemoryStore, OpenError> {
        Ok(self.0.open(service)?)
    }

    async fn crash(&mut self, stores: Vec<MemoryStore>) {
        drop(stores);
    }
}

#[test]
fn memory_and_a_server_do_the_same() {
    let plan = Plan::from_environment();
    // A schema is made for each.
    let fewer = Plan { sequences: plan.sequences.div_ceil(8), ..plan };
    println!("{:?}", differential::run::<Memory, fixture::OnServer>(fewer));
}
