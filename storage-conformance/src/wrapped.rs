//! A store with something in front of it.

use whizbang_storage::{Abilities, Answer, Hint, Service, StoreError, WorkBatch, WorkStore};

/// What stands between a caller and a store: it may change what is asked, look at what is answered, or not ask at all.
///
/// ```
/// use whizbang_storage::{Answer, MemoryStore, StoreError, WorkBatch, WorkStore};
/// use whizbang_storage_conformance::{Between, Wrapped};
///
/// /// Counts the calls.
/// struct Counts(u64);
///
/// impl<S: WorkStore> Between<S> for Counts {
///     async fn process(&mut self, store: &mut S, batch: &WorkBatch<'_>, answer: &mut Answer) -> Result<(), StoreError> {
///         self.0 += 1;
///         store.process_work_batch(batch, answer).await
///     }
/// }
///
/// let store = Wrapped { store: MemoryStore::new(Default::default())?, between: Counts(0) };
/// assert_eq!(store.between.0, 0);
/// # Ok::<(), whizbang_storage::ServiceError>(())
/// ```
#[expect(async_fn_in_trait, reason = "the future need not be Send, as that of a store")]
pub trait Between<S: WorkStore>: Send + 'static {
    /// Answers a batch, with the store's help or without.
    ///
    /// # Errors
    /// As [`WorkStore::process_work_batch`].
    async fn process(
        &mut self,
        store: &mut S,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError>;
}

/// A store behind something that stands [`Between`]: a store like any other.
#[derive(Debug)]
pub struct Wrapped<S, B> {
    /// The store.
    pub store: S,
    /// What stands in front of it.
    pub between: B,
}

impl<S: WorkStore, B: Between<S>> WorkStore for Wrapped<S, B> {
    type Reader = S::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        self.between.process(&mut self.store, batch, answer).await
    }

    fn reader(&self) -> S::Reader {
        self.store.reader()
    }

    fn service(&self) -> &Service {
        self.store.service()
    }

    fn abilities(&self) -> Abilities {
        self.store.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        self.store.on_hint(hint);
    }
}
