//! A store that remembers every call.

use std::sync::{Arc, Mutex, PoisonError};

use whizbang_storage::{Abilities, Answer, Hint, Service, StoreError, WorkBatch, WorkStore};

use crate::OwnedBatch;

/// Wraps a store and logs its calls, for assertions about who asked what.
///
/// ```
/// # use whizbang_storage::*;
/// # use whizbang_storage_conformance::*;
/// let store = Recorded::new(MemoryStore::new(Service::default())?);
/// let calls = store.calls();
/// assert!(calls.take().is_empty());
/// # Ok::<(), ServiceError>(())
/// ```
pub struct Recorded<S> {
    inner: S,
    calls: Calls,
}

/// The calls so far. Clones belong to the same store.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What was asked.
    pub batch: OwnedBatch,
    /// What was answered, or the text of the error.
    pub outcome: Result<Answer, String>,
}

impl<S> Recorded<S> {
    /// Starts to record.
    pub fn new(inner: S) -> Self {
        Self { inner, calls: Calls::default() }
    }

    /// The calls, also while somebody else owns the store.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

impl Calls {
    /// The calls since this was asked last, in order.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many calls have been recorded and not taken.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<S: WorkStore> WorkStore for Recorded<S> {
    type Reader = S::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let done = self.inner.process_work_batch(batch, answer).await;
        let outcome = match &done {
            Ok(()) => Ok(answer.clone()),
            Err(error) => Err(error.to_string()),
        };
        let call = Call { batch: OwnedBatch::from(batch), outcome };
        self.calls.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        done
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
