//! A batch that owns everything in it, so that it can be kept, sent again, generated and shrunk.

use std::time::Duration;

use whizbang_storage::{
    Answer, Append, DeadReason, Delivery, Epoch, Expected, Join, KnownType, Limit, Membership, OnDead,
    Operation, ParkedKey, Partition, Projection, Read, Release, Revision, Running, Sender, Settle, Settled,
    StartAt, StoreError, SubscriptionId, SubscriptionSpec, Unit, WorkBatch, WorkStore,
};

use crate::Message;

/// A [`WorkBatch`] that owns what it is made of.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `WorkBatch`")]
pub struct OwnedBatch {
    pub from: Sender,
    pub membership: Option<OwnedMembership>,
    pub units: Vec<OwnedUnit>,
    pub settled: Vec<Settled>,
    pub appends: Vec<Message>,
    pub arrivals: Option<usize>,
    pub operations: Vec<OwnedOperation>,
    pub due: Option<Limit>,
    pub reads: Vec<Read>,
    pub housekeeping: Option<usize>,
}

/// A [`Membership`] that owns what it is made of.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of `Membership`")]
pub enum OwnedMembership {
    Join { group: Option<String>, subscriptions: Vec<OwnedSubscription>, types: Vec<(String, u16)> },
    Heartbeat,
    Release(Vec<(Partition, Epoch, Vec<Running>)>),
    Leave(Vec<Running>),
}

/// A [`SubscriptionSpec`] that owns its name.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `SubscriptionSpec`")]
pub struct OwnedSubscription {
    pub name: String,
    pub start: StartAt,
    pub on_dead: OnDead,
    pub attempts_max: u32,
}

impl OwnedSubscription {
    fn spec(&self) -> SubscriptionSpec<'_> {
        SubscriptionSpec {
            name: &self.name,
            start: self.start,
            on_dead: self.on_dead,
            attempts_max: self.attempts_max,
        }
    }
}

impl From<&SubscriptionSpec<'_>> for OwnedSubscription {
    fn from(spec: &SubscriptionSpec<'_>) -> Self {
        Self {
            name: spec.name.to_owned(),
            start: spec.start,
            on_dead: spec.on_dead,
            attempts_max: spec.attempts_max,
        }
    }
}

/// A [`Unit`] that owns what it is made of.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `Unit`")]
pub struct OwnedUnit {
    pub delivery: Option<Delivery>,
    pub settle: OwnedSettle,
    pub emits: Vec<Message>,
    pub expects: Vec<Expected>,
    pub projections: Vec<OwnedProjection>,
}

/// A [`Settle`] that owns its error text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are those of `Settle`")]
pub enum OwnedSettle {
    Done,
    Retry { after: Duration, error: String },
    Dead { reason: DeadReason, error: String },
    Exhausted { error: String },
    Detach,
    Defer,
    Unroutable,
    Release,
}

impl OwnedSettle {
    /// What the contract takes.
    pub fn settle(&self) -> Settle<'_> {
        match self {
            Self::Done => Settle::Done,
            Self::Retry { after, error } => Settle::Retry { after: *after, error },
            Self::Dead { reason, error } => Settle::Dead { reason: *reason, error },
            Self::Exhausted { error } => Settle::Exhausted { error },
            Self::Detach => Settle::Detach,
            Self::Defer => Settle::Defer,
            Self::Unroutable => Settle::Unroutable,
            Self::Release => Settle::Release,
        }
    }
}

impl From<Settle<'_>> for OwnedSettle {
    fn from(settle: Settle<'_>) -> Self {
        match settle {
            Settle::Done => Self::Done,
            Settle::Retry { after, error } => Self::Retry { after, error: error.to_owned() },
            Settle::Dead { reason, error } => Self::Dead { reason, error: error.to_owned() },
            Settle::Exhausted { error } => Self::Exhausted { error: error.to_owned() },
            Settle::Detach => Self::Detach,
            Settle::Defer => Self::Defer,
            Settle::Unroutable => Self::Unroutable,
            Settle::Release => Self::Release,
        }
    }
}

/// A [`Projection`] that owns what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Projection`")]
pub struct OwnedProjection {
    pub perspective: String,
    pub key: Vec<u8>,
    pub based_on: Option<Revision>,
    pub state: Option<Vec<u8>>,
}

/// An [`Operation`] that owns what it is made of.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of `Operation`")]
pub enum OwnedOperation {
    Requeue(ParkedKey),
    Discard(ParkedKey),
    Pause(SubscriptionId),
    Resume(SubscriptionId),
    Register { group: String, subscription: OwnedSubscription },
    Drop(SubscriptionId),
}

impl OwnedBatch {
    /// A batch that carries nothing.
    pub fn empty(from: Sender) -> Self {
        Self::from(&WorkBatch::empty(from))
    }

    /// Lends the batch to a store.
    ///
    /// # Errors
    /// What the store says.
    pub async fn send_to<S: WorkStore>(&self, store: &mut S, answer: &mut Answer) -> Result<(), StoreError> {
        let emits: Vec<Vec<Append<'_>>> =
            self.units.iter().map(|unit| unit.emits.iter().map(Message::append).collect()).collect();
        let projections: Vec<Vec<Projection<'_>>> = self
            .units
            .iter()
            .map(|unit| unit.projections.iter().map(OwnedProjection::lend).collect())
            .collect();
        let units: Vec<Unit<'_>> = self
            .units
            .iter()
            .zip(emits.iter().zip(&projections))
            .map(|(unit, (emits, projections))| Unit {
                delivery: unit.delivery,
                settle: unit.settle.settle(),
                emits,
                expects: &unit.expects,
                projections,
            })
            .collect();
        let appends: Vec<Append<'_>> = self.appends.iter().map(Message::append).collect();
        let operations: Vec<Operation<'_>> = self.operations.iter().map(OwnedOperation::lend).collect();
        let (mut specs, mut types, mut releases) = (Vec::new(), Vec::new(), Vec::new());
        let membership = self.membership.as_ref().map(|said| match said {
            OwnedMembership::Heartbeat => Membership::Heartbeat,
            OwnedMembership::Leave(running) => Membership::Leave { running },
            OwnedMembership::Release(given) => {
                releases.extend(given.iter().map(|(partition, epoch, running)| Release {
                    partition: *partition,
                    epoch: *epoch,
                    running,
                }));
                Membership::Release(&releases)
            }
            OwnedMembership::Join { group, subscriptions, types: known } => {
                specs.extend(subscriptions.iter().map(OwnedSubscription::spec));
                types.extend(
                    known.iter().map(|(name, version_max)| KnownType { name, version_max: *version_max }),
                );
                Membership::Join(Join { group: group.as_deref(), subscriptions: &specs, types: &types })
            }
        });
        let batch = WorkBatch {
            from: self.from,
            membership,
            units: &units,
            settled: &self.settled,
            appends: &appends,
            arrivals: self.arrivals,
            operations: &operations,
            due: self.due,
            reads: &self.reads,
            housekeeping: self.housekeeping,
        };
        store.process_work_batch(&batch, answer).await
    }
}

impl From<&WorkBatch<'_>> for OwnedBatch {
    fn from(batch: &WorkBatch<'_>) -> Self {
        Self {
            from: batch.from,
            membership: batch.membership.as_ref().map(OwnedMembership::from),
            units: batch.units.iter().map(OwnedUnit::from).collect(),
            settled: batch.settled.to_vec(),
            appends: batch.appends.iter().map(Message::from).collect(),
            arrivals: batch.arrivals,
            operations: batch.operations.iter().map(OwnedOperation::from).collect(),
            due: batch.due,
            reads: batch.reads.to_vec(),
            housekeeping: batch.housekeeping,
        }
    }
}

impl From<&Membership<'_>> for OwnedMembership {
    fn from(said: &Membership<'_>) -> Self {
        match said {
            Membership::Heartbeat => Self::Heartbeat,
            Membership::Leave { running } => Self::Leave(running.to_vec()),
            Membership::Release(releases) => Self::Release(
                releases
                    .iter()
                    .map(|release| (release.partition, release.epoch, release.running.to_vec()))
                    .collect(),
            ),
            Membership::Join(join) => Self::Join {
                group: join.group.map(str::to_owned),
                subscriptions: join.subscriptions.iter().map(OwnedSubscription::from).collect(),
                types: join.types.iter().map(|known| (known.name.to_owned(), known.version_max)).collect(),
            },
        }
    }
}

impl From<&Unit<'_>> for OwnedUnit {
    fn from(unit: &Unit<'_>) -> Self {
        Self {
            delivery: unit.delivery,
            settle: unit.settle.into(),
            emits: unit.emits.iter().map(Message::from).collect(),
            expects: unit.expects.to_vec(),
            projections: unit
                .projections
                .iter()
                .map(|projection| OwnedProjection {
                    perspective: projection.perspective.to_owned(),
                    key: projection.key.to_vec(),
                    based_on: projection.based_on,
                    state: projection.state.map(<[u8]>::to_vec),
                })
                .collect(),
        }
    }
}

impl From<&Append<'_>> for Message {
    fn from(append: &Append<'_>) -> Self {
        Self {
            id: append.id,
            stream: append.stream,
            kind: append.kind,
            type_name: append.type_name.to_owned(),
            type_version: append.type_version,
            content_type: append.content_type,
            payload: append.payload.to_vec(),
            metadata: append.metadata.to_vec(),
            correlation: append.correlation,
            causation: append.causation,
            dedup: append.dedup.map(<[u8]>::to_vec),
            due_in: append.due_in,
            hand_out: append.hand_out,
        }
    }
}

impl OwnedProjection {
    fn lend(&self) -> Projection<'_> {
        Projection {
            perspective: &self.perspective,
            key: &self.key,
            based_on: self.based_on,
            state: self.state.as_deref(),
        }
    }
}

impl OwnedOperation {
    fn lend(&self) -> Operation<'_> {
        match self {
            Self::Requeue(key) => Operation::Requeue(*key),
            Self::Discard(key) => Operation::Discard(*key),
            Self::Pause(id) => Operation::Pause(*id),
            Self::Resume(id) => Operation::Resume(*id),
            Self::Drop(id) => Operation::Drop(*id),
            Self::Register { group, subscription } => {
                Operation::Register { group, subscription: subscription.spec() }
            }
        }
    }
}

impl From<&Operation<'_>> for OwnedOperation {
    fn from(operation: &Operation<'_>) -> Self {
        match operation {
            Operation::Requeue(key) => Self::Requeue(*key),
            Operation::Discard(key) => Self::Discard(*key),
            Operation::Pause(id) => Self::Pause(*id),
            Operation::Resume(id) => Self::Resume(*id),
            Operation::Drop(id) => Self::Drop(*id),
            Operation::Register { group, subscription } => {
                Self::Register { group: (*group).to_owned(), subscription: subscription.into() }
            }
        }
    }
}
