//! An instance at a store, and the messages it sends.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file takes what it needs")]

use std::future::Future;
use std::num::NonZeroU128;
use std::path::Path;
use std::sync::Arc;

use whizbang_storage::*;
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

pub const ALL: Limit = Limit { messages: 1_000, bytes: 1 << 30 };

pub fn service() -> Service {
    Service { partitions: 4, ..Service::named("test") }
}

pub fn open(path: &Path, clock: &TestClock) -> SqliteStore {
    let options =
        SqliteOptions { service: service(), clock: Arc::new(clock.clone()), ..SqliteOptions::default() };
    options.open(path).expect("the file can be opened")
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers always starts").block_on(future)
}

pub fn id(number: u128) -> MessageId {
    MessageId::from_bits(NonZeroU128::new(number).expect("tests count from 1"))
}

pub fn instance_id(number: u128) -> InstanceId {
    InstanceId::from_bits(NonZeroU128::new(number).expect("tests count from 1"))
}

pub fn command(number: u128, stream: &str) -> Append<'static> {
    Append {
        id: id(number),
        stream: Some(StreamId::from_key(stream)),
        kind: MessageKind::Command,
        type_name: "test.command",
        type_version: 1,
        content_type: ContentType::JSON,
        payload: b"payload",
        correlation: id(number).into(),
        causation: None,
        metadata: b"",
        dedup: None,
        due_in: None,
        hand_out: HandOut::Later,
    }
}

pub fn unit(delivery: Delivery, settle: Settle<'_>) -> Unit<'_> {
    Unit { delivery: Some(delivery), settle, emits: &[], expects: &[], projections: &[] }
}

pub fn delivery(handed: &Handed<'_>) -> Delivery {
    Delivery {
        subscription: handed.subscription,
        partition: handed.partition,
        position: handed.position,
        lane: handed.lane_id(),
        epoch: handed.epoch,
        attempt: handed.attempt,
    }
}

/// Where a batch is put together; what it borrows is leaked, which is little in a test.
pub struct Desk {
    from: Sender,
}

impl Desk {
    pub fn empty(&self) -> WorkBatch<'static> {
        WorkBatch::empty(self.from)
    }

    pub fn keep_all(&self, appends: impl IntoIterator<Item = Append<'static>>) -> &'static [Append<'static>] {
        appends.into_iter().collect::<Vec<_>>().leak()
    }

    pub fn keep_units(&self, units: Vec<Unit<'static>>) -> &'static [Unit<'static>] {
        units.leak()
    }

    pub fn keep_settled(&self, settled: Vec<Settled>) -> &'static [Settled] {
        settled.leak()
    }
}

pub struct Instance {
    pub store: SqliteStore,
    pub id: InstanceId,
    pub number: u64,
    pub told: MembershipAnswer,
    pub subscriptions: Vec<SubscriptionId>,
}

impl Instance {
    pub fn join(store: SqliteStore, number: u128, group: &str, subscriptions: &[&str]) -> Self {
        let mut instance = Self {
            store,
            id: instance_id(number),
            number: 0,
            told: MembershipAnswer::default(),
            subscriptions: Vec::new(),
        };
        let specs: Vec<_> = subscriptions
            .iter()
            .map(|name| SubscriptionSpec {
                name,
                start: StartAt::First,
                on_dead: OnDead::Skip,
                attempts_max: 3,
            })
            .collect();
        let batch = WorkBatch {
            membership: Some(Membership::Join(Join {
                group: Some(group),
                subscriptions: &specs,
                types: &[],
            })),
            ..WorkBatch::empty(instance.next())
        };
        let answer = instance.process(&batch).expect("a join is applied");
        instance.subscriptions = answer.membership.expect("a join is answered").subscriptions;
        instance
    }

    pub fn next(&mut self) -> Sender {
        Sender { instance: self.id, start_token: 7, number: self.number + 1 }
    }

    pub fn process(&mut self, batch: &WorkBatch<'_>) -> Result<Answer, StoreError> {
        let mut answer = Answer::default();
        block_on(self.store.process_work_batch(batch, &mut answer))?;
        self.number = batch.from.number;
        if let Some(told) = &answer.membership {
            self.told = told.clone();
        }
        Ok(answer)
    }

    pub fn try_send(
        &mut self,
        build: impl FnOnce(&Desk) -> WorkBatch<'static>,
    ) -> Result<Answer, StoreError> {
        let desk = Desk { from: self.next() };
        self.process(&build(&desk))
    }

    pub fn send(&mut self, build: impl FnOnce(&Desk) -> WorkBatch<'static>) -> Answer {
        self.try_send(build).expect("the batch is applied")
    }

    pub fn told(&self) -> &MembershipAnswer {
        &self.told
    }

    pub fn heartbeat(&mut self) {
        self.send(|batch| WorkBatch { membership: Some(Membership::Heartbeat), ..batch.empty() });
    }

    pub fn epoch(&self, partition: Partition) -> Epoch {
        let owned = self.told.owned.iter().find(|owned| owned.partition == partition);
        owned.expect("the partition is owned").epoch
    }

    pub fn settled(&self, partition: Partition, first: u64, last: u64) -> Settled {
        Settled {
            subscription: self.subscriptions[0],
            partition,
            epoch: self.epoch(partition),
            first: Position(first),
            last: Position(last),
        }
    }

    pub fn read(&mut self, partition: Partition, after: u64) -> Answer {
        let read = Read {
            subscription: self.subscriptions[0],
            partition,
            epoch: self.epoch(partition),
            after: Position(after),
            limit: ALL,
        };
        self.send(|batch| WorkBatch { reads: vec![read].leak(), ..batch.empty() })
    }

    pub fn due(&mut self) -> Answer {
        self.send(|batch| WorkBatch { due: Some(ALL), ..batch.empty() })
    }
}
