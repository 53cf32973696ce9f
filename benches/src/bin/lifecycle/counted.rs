//! A store whose calls are counted and timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use whizbang_storage::{Abilities, Answer, Hint, Service, StoreError, WorkBatch, WorkStore};

use crate::nanos_since;

/// What was called so far.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    count: AtomicU64,
    nanos: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Called {
    pub(crate) count: u64,
    pub(crate) nanos: u64,
}

impl Calls {
    pub(crate) fn now(&self) -> Called {
        Called { count: self.count.load(Ordering::Relaxed), nanos: self.nanos.load(Ordering::Relaxed) }
    }
}

impl Called {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, nanos: self.nanos - before.nanos }
    }
}

pub(crate) struct Counted<S> {
    inner: S,
    calls: Arc<Calls>,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, calls: Arc<Calls>) -> Self {
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
        self.calls.nanos.fetch_add(nanos_since(begun), Ordering::Relaxed);
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
