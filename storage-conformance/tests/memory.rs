//! `MemoryStore` passes the suite.

use std::sync::Arc;

use whizbang_storage::{MemoryDatabase, MemoryStore, Service, TestClock};
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

whizbang_storage_conformance::conformance! {
    fixture: Memory,
    user_transactions: no,
    damage: no,
    counts_writes: no,
    busy: no,
    disk_full: no,
    schema: no,
    connection: no,
    notifications: yes,
}
