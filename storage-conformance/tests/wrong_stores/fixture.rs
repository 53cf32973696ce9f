//! A database in memory with every ability, so that every case can be asked of a wrong store.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::num::NonZeroU128;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whizbang_storage::{
    Answer, Append, AppendAnswer, InstanceId, Join, Membership, MemoryDatabase, MemoryStore, Partition,
    Position, Sender, Service, SystemClock, TestClock, WorkBatch, WorkStore,
};
use whizbang_storage_conformance::{
    Conflict, Fixture, OpenError, OpenTransaction, OwnedBatch, SchemaAge, TransactionEnd, Wrapped,
};

use crate::store::Wrongly;
use crate::{WRONG, Wrong};

/// What a database may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Held,
    Full,
    /// The next answer is lost.
    Cut,
    /// The next transaction fails once, which the store makes good by itself.
    Conflict,
    /// Somebody has a transaction open.
    Open,
}

/// The trouble that all stores of a database are in, and what they have written.
#[derive(Default)]
pub(crate) struct Troubles(Mutex<State>);

#[derive(Default)]
struct State {
    trouble: Option<Trouble>,
    rows: u64,
    damaged: Vec<(Partition, Position)>,
}

impl Troubles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The trouble this call is in; what happens once is over then.
    pub(crate) fn take(&self) -> Option<Trouble> {
        let mut state = self.state();
        match state.trouble {
            Some(Trouble::Cut | Trouble::Conflict) => state.trouble.take(),
            lasting => lasting,
        }
    }

    pub(crate) fn writes(&self, rows: u64) {
        self.state().rows += rows;
    }

    pub(crate) fn damaged(&self) -> Vec<(Partition, Position)> {
        self.state().damaged.clone()
    }
}

/// A database, and the stores that are open.
pub(crate) struct WrongFixture {
    clock: TestClock,
    database: RefCell<MemoryDatabase>,
    troubles: Arc<Troubles>,
    open: Cell<usize>,
    schema: Cell<u32>,
    enqueued: Cell<u128>,
}

const SCHEMA: u32 = 2;

fn database(clock: &TestClock) -> MemoryDatabase {
    match WRONG.get() {
        Wrong::EvictsByAnotherClock => MemoryDatabase::with_clock(Arc::new(SystemClock)),
        _ => MemoryDatabase::with_clock(Arc::new(clock.clone())),
    }
}

impl WrongFixture {
    fn until_dropped(&self, trouble: Trouble) -> Box<dyn Any> {
        struct Ends(Arc<Troubles>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.state().trouble = None;
            }
        }
        self.troubles.state().trouble = Some(trouble);
        Box::new(Ends(Arc::clone(&self.troubles)))
    }

    /// A publisher of its own, as a user's transaction is one.
    fn publisher(&self, service: &Service) -> (MemoryStore, Sender) {
        self.enqueued.set(self.enqueued.get() + 1);
        let instance = InstanceId::from_bits(NonZeroU128::new(self.enqueued.get() << 100).expect("not 0"));
        let store = self.database.borrow().open(service.clone()).expect("it is open already");
        (store, Sender { instance, start_token: 1, number: 1 })
    }
}

async fn publish(store: &mut MemoryStore, from: Sender, mut batch: OwnedBatch) -> Answer {
    let join = Membership::Join(Join { group: None, subscriptions: &[], types: &[] });
    let mut answer = Answer::default();
    let joins = WorkBatch { membership: Some(join), ..WorkBatch::empty(from) };
    store.process_work_batch(&joins, &mut answer).await.expect("it joins");
    batch.from.number = 2;
    batch.send_to(store, &mut answer).await.expect("it is written");
    answer
}

impl Fixture for WrongFixture {
    type Store = Wrapped<MemoryStore, Wrongly>;

    async fn fresh(clock: TestClock) -> Self {
        Self {
            database: RefCell::new(database(&clock)),
            clock,
            troubles: Arc::default(),
            open: Cell::new(0),
            schema: Cell::new(SCHEMA),
            enqueued: Cell::new(0),
        }
    }

    async fn open(&self, mut service: Service) -> Result<Self::Store, OpenError> {
        if self.schema.get() != SCHEMA && WRONG.get() != Wrong::OpensAnySchema {
            return Err(format!("the schema is {}, {SCHEMA} is known", self.schema.get()).into());
        }
        match WRONG.get() {
            Wrong::IgnoresTheWindow => service.window = u32::MAX,
            Wrong::SharesItsKeys => service.name = "the only one".to_owned(),
            Wrong::HasNoLimits => {
                (service.limits.batch_messages_max, service.limits.batch_bytes_max) =
                    (usize::MAX, usize::MAX);
            }
            Wrong::EvictsASecondTooEarly => service.time_to_live -= Duration::from_secs(1),
            _ => {}
        }
        let store = self.database.borrow().open(service)?;
        self.open.set(self.open.get() + 1);
        let between = Wrongly::new(WRONG.get(), Arc::clone(&self.troubles), self.clock.clone());
        Ok(Wrapped { store, between })
    }

    async fn crash(&mut self, stores: Vec<Self::Store>) {
        self.open.set(self.open.get() - stores.len());
        drop(stores);
        if self.open.get() == 0 && WRONG.get() == Wrong::ForgetsAtTheEnd {
            self.database.replace(database(&self.clock));
        }
    }

    async fn enqueue(
        &self,
        service: &Service,
        messages: &[Append<'_>],
        end: TransactionEnd,
    ) -> Vec<AppendAnswer> {
        let wrong = WRONG.get();
        if end == TransactionEnd::Rollback && wrong != Wrong::CommitsAtARollback {
            return vec![AppendAnswer::Arrived; messages.len()];
        }
        let mut messages = messages.to_vec();
        match wrong {
            Wrong::ReversesTransactions => messages.reverse(),
            Wrong::ForgetsBehindAUsedKey => messages.truncate(1),
            _ => {}
        }
        let (mut store, from) = self.publisher(service);
        let batch = OwnedBatch::from(&WorkBatch { appends: &messages, ..WorkBatch::empty(from) });
        publish(&mut store, from, batch).await.appends
    }

    async fn leave_open(&self, service: &Service, messages: &[Append<'_>]) -> OpenTransaction {
        let (mut store, from) = self.publisher(service);
        let batch = OwnedBatch::from(&WorkBatch { appends: messages, ..WorkBatch::empty(from) });
        let open = self.until_dropped(Trouble::Open);
        let commit = async move {
            drop(open);
            publish(&mut store, from, batch).await;
        };
        OpenTransaction { is_the_only_writer: false, commit: Box::new(|| Box::pin(commit)) }
    }

    async fn damage(&self, _: &Service, partition: Partition, position: Position) {
        self.troubles.state().damaged.push((partition, position));
    }

    async fn rows_written(&self) -> u64 {
        self.troubles.state().rows
    }

    async fn hold(&self) -> Box<dyn Any> {
        self.until_dropped(Trouble::Held)
    }

    async fn fill_disk(&self) -> Box<dyn Any> {
        self.until_dropped(Trouble::Full)
    }

    async fn set_schema(&self, age: SchemaAge) {
        self.schema.set(match age {
            SchemaAge::Newer => SCHEMA + 1,
            SchemaAge::Older => SCHEMA - 1,
        });
    }

    async fn cut_connections(&self) {
        self.troubles.state().trouble = Some(Trouble::Cut);
    }

    async fn provoke(&self, _: Conflict) {
        self.troubles.state().trouble = Some(Trouble::Conflict);
    }

    async fn was_provoked(&self) -> bool {
        self.troubles.state().trouble.is_none()
    }
}
