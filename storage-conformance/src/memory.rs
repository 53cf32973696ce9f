//! The fixture of `MemoryStore`: the shortest there is.

use std::sync::Arc;

use whizbang_storage::{MemoryDatabase, MemoryStore, Service, TestClock};

use crate::{Fixture, OpenError};

/// `MemoryStore`'s fixture: what a [differential run](crate::differential) compares with, and a template.
pub struct Memory(MemoryDatabase);

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
