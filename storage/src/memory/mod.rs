//! The contract's plainest implementation: everything in memory, one lock per service.
//!
//! In the order of a batch: [`data`] holds what is stored, `call` applies a batch to it step by step (`members`, `settling`,
//! `appending`, `handing`, `trimming`), and `reader` answers questions. What a partition holds is the [`log`], its arrivals,
//! and per subscription a cursor and the [`parked`] messages. `keeper` writes batches into a journal, `snapshot` everything.
#![expect(clippy::disallowed_types, reason = "a counter that orders nothing")]

mod appending;
mod call;
mod data;
mod handing;
mod hash;
mod keeper;
mod log;
mod members;
mod message;
mod parked;
mod reader;
mod settling;
mod snapshot;
mod trimming;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use call::accept;
use data::Data;
use keeper::Keeper;
pub use reader::MemoryReader;

use crate::refuse::LastAnswer;
use crate::turn::{Turn, turn};
use crate::{
    Abilities, Answer, Clock, Hint, NotApplied, Service, ServiceError, StoreError, SystemClock, WorkBatch,
    WorkStore,
};

/// A store that forgets everything with its process, unless a [journal](crate::journal) keeps it. For tests, for caches of work
/// that may be lost, and to be compared with: its code is the shortest way to say what the contract means.
///
/// ```
/// # use whizbang_storage::{MemoryStore, Service, WorkStore};
/// let store = MemoryStore::new(Service::named("shop"))?;
/// assert_eq!(store.service().partitions, 128);
/// # Ok::<(), whizbang_storage::ServiceError>(())
/// ```
pub struct MemoryStore {
    database: MemoryDatabase,
    service: Service,
    shared: Arc<Shared>,
    last: LastAnswer,
    handle: u64,
}

/// What several [`MemoryStore`]s share, as several processes share a database: instances of one service, or services that
/// never see each other. Clones are the same database.
///
/// ```
/// # use whizbang_storage::{MemoryDatabase, Service};
/// let database = MemoryDatabase::new();
/// let first = database.open(Service::named("shop"))?;
/// let second = database.open(Service::named("shop"))?;
/// let other = Service { partitions: 64, ..Service::named("shop") };
/// assert!(database.open(other).is_err(), "the service has 128 partitions");
/// # Ok::<(), whizbang_storage::ServiceError>(())
/// ```
#[derive(Clone)]
pub struct MemoryDatabase {
    clock: Arc<dyn Clock>,
    services: Arc<Mutex<HashMap<String, Arc<Shared>>>>,
    keeper: Option<Arc<Mutex<Keeper>>>,
}

/// One service's data, and whom to tell when there is something for others.
struct Shared {
    data: Mutex<Data>,
    hints: Mutex<Vec<(u64, Hint)>>,
    handles: AtomicU64,
}

impl Shared {
    fn new(data: Data) -> Self {
        Self { data: Mutex::new(data), hints: Mutex::default(), handles: AtomicU64::new(0) }
    }
}

impl MemoryDatabase {
    /// An empty database on the system's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty database on a clock of your own.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { clock, services: Arc::default(), keeper: None }
    }

    /// Opens a service, which is set up when nobody opened it before.
    ///
    /// # Errors
    /// [`ServiceError`] when the service cannot be used, or was set up with other partitions or another time to live, or when
    /// the journal of a [recovered](Self::recover) database could not keep it.
    pub fn open(&self, service: Service) -> Result<MemoryStore, ServiceError> {
        service.validate()?;
        let mut services = lock(&self.services);
        let shared = match services.get(&service.name) {
            Some(shared) => Arc::clone(shared),
            None => {
                if let Some(keeper) = &self.keeper {
                    lock(keeper).found(&service)?;
                }
                let shared = Arc::new(Shared::new(Data::new(&service)));
                services.insert(service.name.clone(), Arc::clone(&shared));
                shared
            }
        };
        drop(services);
        let data = lock(&shared.data);
        service.agrees_with(data.partition_count(), data.time_to_live)?;
        drop(data);
        // Relaxed: only the uniqueness of the number matters.
        let handle = shared.handles.fetch_add(1, Ordering::Relaxed);
        Ok(MemoryStore { database: self.clone(), service, shared, last: LastAnswer::default(), handle })
    }
}

impl Default for MemoryDatabase {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// A store with a database of its own, on the system's clock.
    ///
    /// # Errors
    /// [`ServiceError`] when the service cannot be used.
    pub fn new(service: Service) -> Result<Self, ServiceError> {
        MemoryDatabase::new().open(service)
    }

    /// A store with a database of its own, on a clock of your own.
    ///
    /// # Errors
    /// [`ServiceError`] when the service cannot be used.
    pub fn with_clock(service: Service, clock: Arc<dyn Clock>) -> Result<Self, ServiceError> {
        MemoryDatabase::with_clock(clock).open(service)
    }

    /// The database this store works on, from which others can be opened.
    pub fn database(&self) -> MemoryDatabase {
        self.database.clone()
    }

    fn apply(&mut self, batch: &WorkBatch<'_>, answer: &mut Answer) -> Result<(), StoreError> {
        let digest = batch.digest();
        let mut data = self.shared.data.lock().map_err(|_| poisoned())?;
        let kept = self.last.of(batch.from).filter(|(of, _)| *of == digest);
        match turn(data.known(batch.from.instance), batch, digest, kept.is_some())? {
            repeat @ (Turn::Repeat | Turn::RepeatEvicted) => {
                if let Some((_, last)) = kept {
                    answer.clone_from(last);
                }
                if repeat == Turn::RepeatEvicted {
                    answer.without_work();
                }
                return Ok(());
            }
            Turn::Join | Turn::Next => {}
        }
        accept(batch, &self.service.limits)?;
        let mut keeper = self.database.keeper.as_ref().map(|keeper| lock(keeper));
        let now = self.database.clock.now();
        if let Some(keeper) = &mut keeper {
            keeper.keep(&self.service, now, digest, batch)?;
        }
        drop(keeper);
        let news = data.apply(batch, digest, &self.service, now, answer);
        drop(data);
        self.last.keep(batch.from, digest, answer);
        self.database.snapshot_when_due();
        if news {
            self.tell_others();
        }
        Ok(())
    }

    fn tell_others(&self) {
        // Called without any lock, so that a hint may do what it likes.
        let hints: Vec<Hint> = lock(&self.shared.hints)
            .iter()
            .filter(|(handle, _)| *handle != self.handle)
            .map(|(_, hint)| Arc::clone(hint))
            .collect();
        hints.iter().for_each(|hint| hint());
    }
}

impl WorkStore for MemoryStore {
    type Reader = MemoryReader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        answer.clear();
        self.apply(batch, answer)
    }

    fn reader(&self) -> MemoryReader {
        MemoryReader::new(Arc::clone(&self.shared))
    }

    fn service(&self) -> &Service {
        &self.service
    }

    fn abilities(&self) -> Abilities {
        let durable = self.database.keeper.is_some();
        Abilities { notifications: true, durable, ..Abilities::default() }
    }

    fn on_hint(&mut self, hint: Hint) {
        let mut hints = lock(&self.shared.hints);
        hints.retain(|(handle, _)| *handle != self.handle);
        hints.push((self.handle, hint));
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        lock(&self.shared.hints).retain(|(handle, _)| *handle != self.handle);
    }
}

/// For locks under which nothing can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn poisoned() -> StoreError {
    StoreError::NotApplied(NotApplied::Failed(
        "a batch panicked before; its half of the data cannot be trusted".into(),
    ))
}
