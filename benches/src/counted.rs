//! A store whose calls are counted and timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use whizbang_storage::{Abilities, Answer, Hint, Service, StoreError, WorkBatch, WorkStore};

/// What was called so far.
#[derive(Debug, Default)]
pub struct Calls {
    count: AtomicU64,
    nanos: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Called {
    /// How many calls.
    pub count: u64,
    /// Time in them.
    pub nanos: u64,
}

impl Calls {
    /// Reads both counts.
    pub fn now(&self) -> Called {
        Called { count: self.count.load(Ordering::Relaxed), nanos: self.nanos.load(Ordering::Relaxed) }
    }
}

impl Called {
    /// What came on top since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, nanos: self.nanos - before.nanos }
    }
}

/// Does what the store in it does, and counts.
pub struct Counted<S> {
    inner: S,
    calls: Arc<Calls>,
}

impl<S> Counted<S> {
    /// Counts the calls of `inner`.
    pub fn new(inner: S, calls: Arc<Calls>) -> Self {
        Self { inner, calls }
    }
}

impl<S: WorkStore> WorkStore for Counted<S> {
    type Reader = S::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let answered = self.inner.process_work_batch(batch, answer).await;
        self.calls.count.fetch_add(1, Ordering::Relaxed);
        self.calls.nanos.fetch_add(elapsed_nanos(begun), Ordering::Relaxed);
        answered
    }

    fn reader(&self) -> S::Reader {
        self.inner.reader()
    }

    fn service(&self) -> &Service {
        self.inner.service()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        self.inner.on_hint(hint);
    }
}

fn elapsed_nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
