//! What a batch is answered with: one entry per item, by its place in the request.

use std::ops::Range;
use std::time::Duration;

use crate::{Epoch, MessageId, Page, Partition, Position, StreamId, SubscriptionId, Version};

/// The answer to one [`WorkBatch`](crate::WorkBatch). Kept by the caller and filled by the store, so that nothing is
/// allocated once its vectors have grown.
#[derive(Debug, Default)]
pub struct Answer {
    /// This is the kept answer to a repeated batch of an instance that has been evicted since: what was written is
    /// written, there is no work in it, and no other batch will be taken.
    pub evicted: bool,
    /// One entry per unit.
    pub units: Vec<UnitAnswer>,
    /// One entry per emit of the applied units, in order; [`UnitAnswer::Applied`] says which are a unit's own.
    pub emits: Vec<AppendAnswer>,
    /// One entry per settled range.
    pub settled: Vec<SettledAnswer>,
    /// One entry per append.
    pub appends: Vec<AppendAnswer>,
    /// One entry per operation.
    pub operations: Vec<OperationAnswer>,
    /// Partitions into which this call moved arrivals, with their heads after it.
    pub moved: Vec<(Partition, Position)>,
    /// One entry per read.
    pub reads: Vec<ReadAnswer>,
    /// Which messages of `page` are parked or suspect work that may run now.
    pub due: Range<usize>,
    /// The messages handed out: those of the reads, then those that are due.
    pub page: Page,
    /// What the instance owns now. Only when the batch had a `membership`.
    pub membership: Option<MembershipAnswer>,
    /// Rows that `housekeeping` removed. As many as it was allowed: there may be more.
    pub removed: usize,
}

impl Clone for Answer {
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        copy.clone_from(self);
        copy
    }

    // Kept answers are copied with every batch: the memory is used again.
    fn clone_from(&mut self, source: &Self) {
        self.evicted = source.evicted;
        self.units.clone_from(&source.units);
        self.emits.clone_from(&source.emits);
        self.settled.clone_from(&source.settled);
        self.appends.clone_from(&source.appends);
        self.operations.clone_from(&source.operations);
        self.moved.clone_from(&source.moved);
        self.reads.clone_from(&source.reads);
        self.due = source.due.clone();
        self.page.clone_from(&source.page);
        self.membership.clone_from(&source.membership);
        self.removed = source.removed;
    }
}

impl Answer {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.evicted = false;
        self.units.clear();
        self.emits.clear();
        self.settled.clear();
        self.appends.clear();
        self.operations.clear();
        self.moved.clear();
        self.reads.clear();
        self.due = 0..0;
        self.page.clear();
        self.membership = None;
        self.removed = 0;
    }

    /// Turns a kept answer into that of an evicted instance: what was written stays, work and partitions go.
    pub fn without_work(&mut self) {
        self.evicted = true;
        self.reads.clear();
        self.due = 0..0;
        self.page.clear();
        self.membership = None;
    }
}

/// What became of an append or an emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendAnswer {
    /// It is in the log.
    Stored {
        /// Where.
        position: Position,
        /// Its version in its stream, if it is an event of one.
        version: Option<Version>,
        /// It is marked as handed out, as was asked: the sender runs it, and no read returns it.
        handed_out: bool,
    },
    /// It is durable, on its way into the log: scheduled, or for a partition the sender does not own.
    Arrived,
    /// Its key was seen before; nothing was written for it.
    Duplicate {
        /// The message that had the key first.
        first: MessageId,
        /// Whether the two payloads are the same.
        body: SameBody,
    },
    /// It was not stored; the rest of the batch is not concerned.
    Refused(Refusal),
}

/// Whether a duplicate says the same as the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameBody {
    /// The payloads are the same.
    Same,
    /// The payloads differ: two messages were given one key.
    Different,
}

/// Why a store did not take an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The payload is larger than the service allows.
    #[error("the payload has {bytes} bytes, {max} are allowed")]
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The metadata are larger than the service allows.
    #[error("the metadata have {bytes} bytes, {max} are allowed")]
    MetadataTooLarge {
        /// Their size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A type, subscription, group or perspective name is empty, too long, or holds a NUL character.
    #[error("the {what} name has {bytes} bytes or a NUL character: 1 to {max} bytes without NUL are allowed")]
    Name {
        /// Whose name.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A deduplication or projection key is empty or too long.
    #[error("the key has {bytes} bytes, 1 to {max} are allowed")]
    Key {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A projection's state is larger than the service allows.
    #[error("the projection's state has {bytes} bytes, {max} are allowed")]
    StateTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A unit that is not `Done` carries messages, expectations or projections.
    #[error("only a unit that is done may carry anything")]
    NotDone,
}

/// What became of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitAnswer {
    /// All of it was written.
    Applied {
        /// Its emits' entries in [`Answer::emits`].
        emits: Range<usize>,
    },
    /// The sender does not own the partition under this epoch, or another attempt runs: nothing was written.
    Fenced,
    /// A stream was not at the expected version: nothing was written.
    StreamConflict {
        /// The stream.
        stream: StreamId,
        /// Where it is.
        actual: Version,
    },
    /// A projection was not at the revision it was computed from: nothing was written.
    ProjectionConflict {
        /// Which one of the unit's projections.
        index: usize,
    },
    /// An earlier unit of the same subscription and lane in this batch was not applied, so this one was not tried.
    Skipped,
    /// The delivery is settled already: nothing was written.
    AlreadySettled,
    /// No such message was ever handed out: nothing was written.
    Unknown,
    /// Something in it cannot be stored: nothing was written.
    Refused(Refusal),
}

/// What became of a settled range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettledAnswer {
    /// The cursor holds all of it now.
    Applied,
    /// All of it was settled already.
    AlreadySettled,
    /// The sender does not own the partition under this epoch: nothing was written.
    Fenced,
    /// It reaches behind what was handed out, or its subscription is not there: nothing was written.
    Unknown,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationAnswer {
    /// It was carried out.
    Done,
    /// A subscription was registered, or was there already, under this number.
    Registered(SubscriptionId),
    /// There is no such dead letter or subscription (any more).
    Gone,
    /// It was not carried out.
    Refused(Refusal),
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAnswer {
    /// These messages.
    Messages {
        /// Their places in [`Answer::page`].
        messages: Range<usize>,
        /// How far the read looked: everything up to here that is not in the page is settled or gone. Where to go on.
        through: Position,
    },
    /// The sender does not own the partition under this epoch.
    Fenced,
    /// The subscription is paused or not there.
    Paused,
}

/// What an instance is told about itself and its group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipAnswer {
    /// The numbers of the subscriptions named at the join, in the same order. Only when joining.
    pub subscriptions: Vec<SubscriptionId>,
    /// Every partition the instance owns now, ascending.
    pub owned: Vec<Owned>,
    /// How many of them it should give back, because others hold less than their share.
    pub give_back: usize,
    /// Arrivals of owned partitions that may be moved now.
    pub arrivals_waiting: usize,
    /// In how long the next scheduled arrival or parked message of an owned partition may move or run; zero: now.
    pub next_due: Option<Duration>,
    /// Living instances of the group.
    pub alive: usize,
}

/// A partition an instance owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The partition.
    pub partition: Partition,
    /// The epoch under which it is owned.
    pub epoch: Epoch,
    /// The last position there is.
    pub head: Position,
    /// One cursor for each of the group's subscriptions.
    pub cursors: Vec<CursorAt>,
}

/// Where a subscription stands in an owned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorAt {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// Everything up to here is settled.
    pub low: Position,
    /// Where a new owner starts to read: behind what its predecessor was given if that one died (suspects come as due
    /// work), at `low` if it left in peace.
    pub read_from: Position,
}
