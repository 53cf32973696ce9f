//! What a backend brings to be tested.

use std::any::Any;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;

use whizbang_storage::{Append, AppendAnswer, Partition, Position, Service, TestClock, WorkStore};

/// One test's database, and the ways to get at it.
///
/// Only the first three methods are needed. The others belong to abilities: whoever declares one as `yes` in
/// [`conformance!`](crate::conformance) overrides its method; the default fails and says so.
///
/// ```
/// use whizbang_storage::{MemoryDatabase, MemoryStore, Service, TestClock};
/// use whizbang_storage_conformance::{Fixture, OpenError};
///
/// struct Memory(MemoryDatabase);
///
/// impl Fixture for Memory {
///     type Store = MemoryStore;
///
///     async fn fresh(clock: TestClock) -> Self {
///         Memory(MemoryDatabase::with_clock(std::sync::Arc::new(clock)))
///     }
///
///     async fn open(&self, service: Service) -> Result<MemoryStore, OpenError> {
///         Ok(self.0.open(service)?)
///     }
///
///     async fn crash(&mut self, stores: Vec<MemoryStore>) {
///         drop(stores);
///     }
/// }
/// ```
#[expect(async_fn_in_trait, reason = "cases run on a runtime of one thread")]
pub trait Fixture: Sized + 'static {
    /// The store.
    type Store: WorkStore;

    /// An empty database that no other test sees; every instant in it comes from `clock`.
    async fn fresh(clock: TestClock) -> Self;

    /// Opens the service, as a process does at its start. Several stores are open at once, of one service and of several.
    ///
    /// # Errors
    /// Whatever the backend says when it refuses.
    async fn open(&self, service: Service) -> Result<Self::Store, OpenError>;

    /// The processes that hold these stores are killed. What they were answered must be there when the database is opened
    /// again, and nothing half done.
    async fn crash(&mut self, stores: Vec<Self::Store>);

    /// Ability `user_transactions`: enqueues the messages in one transaction of the user's own, and ends it.
    async fn enqueue(
        &self,
        service: &Service,
        messages: &[Append<'_>],
        end: TransactionEnd,
    ) -> Vec<AppendAnswer> {
        let _ = (service, messages, end);
        missing("user_transactions", "enqueue")
    }

    /// Ability `user_transactions`: enqueues the messages in a transaction of the user's own, and leaves it open.
    async fn leave_open(&self, service: &Service, messages: &[Append<'_>]) -> OpenTransaction {
        let _ = (service, messages);
        missing("user_transactions", "leave_open")
    }

    /// Ability `damage`: makes the stored row of a message unreadable.
    async fn damage(&self, service: &Service, partition: Partition, position: Position) {
        let _ = (service, partition, position);
        missing("damage", "damage")
    }

    /// Ability `counts_writes`: rows written since the database was made, but for the bookkeeping of batches (the instance's
    /// own row, the service's).
    async fn rows_written(&self) -> u64 {
        missing("counts_writes", "rows_written")
    }

    /// Ability `busy`: another process holds the database until the guard is dropped; calls give up waiting after at most a
    /// second.
    async fn hold(&self) -> Box<dyn Any> {
        missing("busy", "hold")
    }

    /// Ability `disk_full`: there is no room for anything more until the guard is dropped.
    async fn fill_disk(&self) -> Box<dyn Any> {
        missing("disk_full", "fill_disk")
    }

    /// Ability `schema`: pretends that another version of the code wrote the schema.
    async fn set_schema(&self, age: SchemaAge) {
        let _ = age;
        missing("schema", "set_schema")
    }

    /// Ability `connection`: cuts all connections of open stores.
    async fn cut_connections(&self) {
        missing("connection", "cut_connections")
    }

    /// Ability `conflicts`: lets the database fail the next batch's transaction once with this, before it is committed.
    async fn provoke(&self, conflict: Conflict) {
        let _ = conflict;
        missing("conflicts", "provoke")
    }

    /// Ability `conflicts`: whether what was provoked last has come to pass.
    async fn was_provoked(&self) -> bool {
        missing("conflicts", "was_provoked")
    }
}

/// A user's transaction that has not ended yet.
pub struct OpenTransaction {
    /// Whether the backend has one writer at a time, so that everybody else's batches are answered
    /// [`Busy`](whizbang_storage::NotApplied::Busy) until it ends.
    pub is_the_only_writer: bool,
    /// Commits it.
    pub commit: Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>,
}

/// What a database reports when transactions get into each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// They waited for each other.
    Deadlock,
    /// They cannot have happened one after the other.
    Serialisation,
}

/// Why a store could not be opened.
pub type OpenError = Box<dyn Error + Send + Sync>;

/// How a user's own transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// What it wrote is there.
    Commit,
    /// Nothing of it is there.
    Rollback,
}

/// Which version of the code a schema is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaAge {
    /// One that cannot be known yet.
    Newer,
    /// One from before the first that is supported.
    Older,
}

fn missing(ability: &str, method: &str) -> ! {
    panic!("`{ability}: yes` is declared, but the fixture does not override `{method}`")
}
