//! The fixture of whatever keeps a database in a journal.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use whizbang_storage::journal::Journal;
use whizbang_storage::{MemoryDatabase, MemoryStore, Service, TestClock};

use crate::{Fixture, OpenError};

/// Where one test's journal lies: a scratch directory, a table with a name of its own.
///
/// ```
/// use whizbang_storage::journal::{Journal, JournalError, Replay};
/// use whizbang_storage::StoreError;
/// use whizbang_storage_conformance::{JournalFixture, JournalPlace, OpenError};
///
/// # struct Mine;
/// # impl Journal for Mine {
/// #     fn replay(&mut self, _: &mut Replay<'_>) -> Result<(), JournalError> { Ok(()) }
/// #     fn append(&mut self, _: u64, _: &[u8]) -> Result<(), StoreError> { Ok(()) }
/// #     fn replace(&mut self, _: u64, _: &[u8]) -> Result<(), JournalError> { Ok(()) }
/// # }
/// struct Scratch; // a temporary directory
///
/// impl JournalPlace for Scratch {
///     type Journal = Mine;
///
///     fn fresh() -> Self {
///         Scratch
///     }
///
///     fn open(&self) -> Result<Mine, OpenError> {
///         Ok(Mine)
///     }
/// }
///
/// // What `conformance!` and `differential::run` take.
/// type OnMine = JournalFixture<Scratch>;
/// ```
pub trait JournalPlace: 'static {
    /// The journal.
    type Journal: Journal;

    /// An empty place that no other test sees.
    fn fresh() -> Self;

    /// Opens the journal, as a process does at its start.
    ///
    /// # Errors
    /// Whatever the backend says when it refuses.
    fn open(&self) -> Result<Self::Journal, OpenError>;
}

/// A database in a journal. The processes of a case share it, as the threads of one process do; when the last is killed, the next
/// one that is opened recovers it from the journal.
pub struct JournalFixture<P: JournalPlace> {
    clock: TestClock,
    place: P,
    database: RefCell<Option<MemoryDatabase>>,
    open: Cell<usize>,
}

impl<P: JournalPlace> JournalFixture<P> {
    /// Where the journal lies.
    pub fn place(&self) -> &P {
        &self.place
    }
}

impl<P: JournalPlace> Fixture for JournalFixture<P> {
    type Store = MemoryStore;

    async fn fresh(clock: TestClock) -> Self {
        Self { clock, place: P::fresh(), database: RefCell::default(), open: Cell::default() }
    }

    async fn open(&self, service: Service) -> Result<MemoryStore, OpenError> {
        let mut database = self.database.borrow_mut();
        let database = match &mut *database {
            Some(database) => database,
            none => {
                let recovered = MemoryDatabase::recover(self.place.open()?, Arc::new(self.clock.clone()))?;
                // So little that most cases come to snapshots.
                none.insert(recovered.snapshot_after(1_000))
            }
        };
        let store = database.open(service)?;
        self.open.set(self.open.get() + 1);
        Ok(store)
    }

    async fn crash(&mut self, stores: Vec<MemoryStore>) {
        self.open.set(self.open.get() - stores.len());
        drop(stores);
        if self.open.get() == 0 {
            *self.database.get_mut() = None;
        }
    }
}
