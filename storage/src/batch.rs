//! One work batch: everything an instance has to say at one moment, borrowed from whoever built it.

use std::time::Duration;

use crate::digest::Digest;

use crate::{
    CorrelationId, Epoch, InstanceId, MessageId, Partition, Position, Revision, StreamId, SubscriptionId,
    Version,
};

/// Everything that is waiting at one moment, made durable by one call.
///
/// The parts are applied in the order of the fields, with evictions and new partitions after `operations`, and the whole
/// commits together. See [`WorkStore`](crate::WorkStore) for the rules.
#[derive(Debug, Clone, Copy)]
pub struct WorkBatch<'a> {
    /// Who sends it, and under which number.
    pub from: Sender,
    /// Joining, the heartbeat, giving back, leaving. Every batch counts as a heartbeat; one with a `membership` is also
    /// answered with what the instance owns, and looks for silent instances and free partitions.
    pub membership: Option<Membership<'a>>,
    /// Handler results that carry something or are anything but a plain `Done`, and groups that must go in whole.
    pub units: &'a [Unit<'a>],
    /// Ranges of plainly finished positions.
    pub settled: &'a [Settled],
    /// Single messages from producers.
    pub appends: &'a [Append<'a>],
    /// Move at most so many arrivals of owned partitions, whose time has come, into the log. A store may move fewer at a time, but
    /// not none: there may be more as long as something was moved.
    pub arrivals: Option<usize>,
    /// What an operator asked for.
    pub operations: &'a [Operation<'a>],
    /// Hand out parked and suspect work of owned partitions (and unroutable work that this instance knows) that may run now.
    pub due: Option<Limit>,
    /// What to read next.
    pub reads: &'a [Read],
    /// Remove at most so many rows that nobody needs any more.
    pub housekeeping: Option<usize>,
}

impl WorkBatch<'_> {
    /// A batch that carries nothing: it counts as a number and as a heartbeat.
    pub const fn empty(from: Sender) -> Self {
        Self {
            from,
            membership: None,
            units: &[],
            settled: &[],
            appends: &[],
            arrivals: None,
            operations: &[],
            due: None,
            reads: &[],
            housekeeping: None,
        }
    }

    /// Messages this batch writes: appends and emits.
    pub fn messages(&self) -> usize {
        self.appends.len() + self.units.iter().map(|unit| unit.emits.len()).sum::<usize>()
    }

    /// Payload, metadata and state bytes this batch writes.
    pub fn bytes(&self) -> usize {
        let unit = |unit: &Unit<'_>| -> usize {
            unit.emits.iter().map(Append::bytes).sum::<usize>()
                + unit.projections.iter().filter_map(|p| p.state).map(<[u8]>::len).sum::<usize>()
        };
        self.appends.iter().map(Append::bytes).sum::<usize>() + self.units.iter().map(unit).sum::<usize>()
    }

    /// A hash of the written part (everything but reads, due and the limits), by which a store tells a repeat from
    /// another batch under the same number. Only compared within one process, so it may change between versions.
    pub fn digest(&self) -> u64 {
        Digest::of(self)
    }
}

/// Who sends a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The sending instance.
    pub instance: InstanceId,
    /// Drawn at random when the process starts: tells two processes apart that were given one instance id.
    pub start_token: u64,
    /// 1 for the instance's first batch, one more for each that was answered.
    pub number: u64,
}

/// What an instance says about itself.
#[derive(Debug, Clone, Copy)]
pub enum Membership<'a> {
    /// The instance is new. Only an instance's first batch may say so, and it must.
    Join(Join<'a>),
    /// It is alive, and wants to know what it owns.
    Heartbeat,
    /// It gives these partitions back.
    Release(&'a [Release<'a>]),
    /// It gives everything back and is gone: after this batch its id is as good as evicted.
    Leave {
        /// What was still running, and so counts an attempt.
        running: &'a [Running],
    },
}

/// How an instance joins.
#[derive(Debug, Clone, Copy)]
pub struct Join<'a> {
    /// The group whose work it shares; none: it only publishes and owns nothing.
    pub group: Option<&'a str>,
    /// The group's subscriptions as this instance knows them; unknown ones are registered.
    pub subscriptions: &'a [SubscriptionSpec<'a>],
    /// The message types it can handle. What is not listed it is never handed as unroutable work.
    pub types: &'a [KnownType<'a>],
}

/// A message type an instance can handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownType<'a> {
    /// The wire name.
    pub name: &'a str,
    /// The newest version it understands; older ones too.
    pub version_max: u16,
}

/// A named reader of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionSpec<'a> {
    /// The name, unique within the group.
    pub name: &'a str,
    /// Where it starts when it is registered for the first time.
    pub start: StartAt,
    /// What a dead message means for the rest of its stream.
    pub on_dead: OnDead,
    /// Failed attempts and crashes, each counted by itself, after which a message is dead. At least 1; default 10.
    pub attempts_max: u32,
}

/// Where a new subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the first message that is still kept.
    First,
    /// Behind the last one there is.
    End,
}

/// What a dead message means for the rest of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDead {
    /// The stream goes on without it.
    Skip,
    /// The stream waits, for this subscription, until the message is requeued or discarded.
    Halt,
}

/// A partition an instance gives back.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// The partition.
    pub partition: Partition,
    /// The epoch under which it was owned.
    pub epoch: Epoch,
    /// What was still running: parked, due at once, and counted as an attempt. Everything else that was handed out and
    /// not settled is as if it had not been handed out.
    pub running: &'a [Running],
}

/// A delivery that was still running when its partition was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The partition.
    pub partition: Partition,
    /// The message's position.
    pub position: Position,
}

/// One atomic group: a delivery is settled, and everything its handler produced is there. Or none of it.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// What is settled; none for a group that a producer sends whole.
    pub delivery: Option<Delivery>,
    /// How it is settled. Without a delivery: `Done`.
    pub settle: Settle<'a>,
    /// Messages to append. Only `Done` carries any.
    pub emits: &'a [Append<'a>],
    /// Versions that streams must be at before anything of this unit is written. Only with `Done`.
    pub expects: &'a [Expected],
    /// Projections to write or delete. Only with `Done`.
    pub projections: &'a [Projection<'a>],
}

/// Which hand-out a unit answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// The subscription it was handed out for.
    pub subscription: SubscriptionId,
    /// The partition.
    pub partition: Partition,
    /// The position in the partition's log.
    pub position: Position,
    /// The stream, or the stream of one of a message without.
    pub lane: StreamId,
    /// The epoch as it was handed out with.
    pub epoch: Epoch,
    /// The attempt as it was handed out with; another one is `Fenced`.
    pub attempt: u32,
}

/// How a delivery ends, or does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle<'a> {
    /// It was handled.
    Done,
    /// It failed: parked until `after` has passed, attempts + 1; dead (`AttemptsExhausted`) at the subscription's cap.
    Retry {
        /// Counted from the store's clock.
        after: Duration,
        /// What went wrong; cut to `error_bytes_max`.
        error: &'a str,
    },
    /// It is a dead letter at once. An attempt is counted if one was begun ([`DeadReason::ends_an_attempt`]).
    Dead {
        /// Why.
        reason: DeadReason,
        /// What went wrong; cut to `error_bytes_max`.
        error: &'a str,
    },
    /// It was not begun, because it had all its attempts before: a dead letter (`AttemptsExhausted`), without another attempt.
    Exhausted {
        /// What went wrong; cut to `error_bytes_max`.
        error: &'a str,
    },
    /// It runs long: parked as running and named, so that the log flows on; its end is settled later as any parked work.
    Detach,
    /// It was not run, because earlier work of its stream is parked: parked behind it, without an attempt.
    Defer,
    /// Its type is not known here: parked as unroutable, without an attempt, for an instance that knows it.
    Unroutable,
    /// It was handed out and not run: as if it had not been handed out. Parked work only.
    Release,
}

/// Why a message is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum DeadReason {
    /// The handler said so.
    Rejected = 1,
    /// The payload could not be decoded.
    Undecodable = 2,
    /// It failed, or killed its process, as often as its subscription allows.
    AttemptsExhausted = 3,
    /// No instance that knows its type came in time.
    Unroutable = 4,
    /// The stored row could not be read back.
    Damaged = 5,
}

impl DeadReason {
    /// Whether whoever settles a delivery as [`Settle::Dead`] for this reason had begun it: then the attempt counts. What could
    /// not be decoded or read back was never begun.
    pub const fn ends_an_attempt(self) -> bool {
        matches!(self, Self::Rejected | Self::AttemptsExhausted)
    }

    /// The reason that a stored number stands for.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Rejected,
            2 => Self::Undecodable,
            3 => Self::AttemptsExhausted,
            4 => Self::Unroutable,
            5 => Self::Damaged,
            _ => return None,
        })
    }
}

/// A range of positions that are plainly done, holes included: a position that does not exist counts as settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The partition.
    pub partition: Partition,
    /// The epoch under which it is owned.
    pub epoch: Epoch,
    /// The first position of the range.
    pub first: Position,
    /// The last position of the range, itself included; not below `first`.
    pub last: Position,
}

/// A message to append.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// The message's id.
    pub id: MessageId,
    /// Its stream; none: a stream of one, in the partition of the id.
    pub stream: Option<StreamId>,
    /// Command or event.
    pub kind: MessageKind,
    /// The wire name of its type.
    pub type_name: &'a str,
    /// The version of its type.
    pub type_version: u16,
    /// How the payload is encoded. Opaque to the store.
    pub content_type: ContentType,
    /// The payload. Opaque to the store.
    pub payload: &'a [u8],
    /// The conversation.
    pub correlation: CorrelationId,
    /// The message whose handler emitted this one.
    pub causation: Option<MessageId>,
    /// Headers and trace context, encoded. Opaque to the store.
    pub metadata: &'a [u8],
    /// The second message of the service with this key within the retention is a `Duplicate`.
    pub dedup: Option<&'a [u8]>,
    /// Wait so long, from the store's clock, before it goes into the log.
    pub due_in: Option<Duration>,
    /// Whether the sender wants it handed out by this very call.
    pub hand_out: HandOut,
}

impl Append<'_> {
    /// Payload and metadata bytes.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.metadata.len()
    }

    /// What orders it: its stream, or the stream of one that its id names.
    pub fn lane(&self) -> StreamId {
        self.stream.unwrap_or_else(|| self.id.into())
    }
}

/// Command or event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// Asks one receptor to do something; gone when it is handled.
    Command = 1,
    /// Says that something happened; has a version in its stream and is kept as the retention says.
    Event = 2,
}

impl MessageKind {
    /// The kind that a stored number stands for.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Command),
            2 => Some(Self::Event),
            _ => None,
        }
    }
}

/// How a payload is encoded: a number that only the writer and the reader of the payload understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentType(pub u8);

impl ContentType {
    /// JSON, UTF-8.
    pub const JSON: Self = Self(1);
    /// postcard.
    pub const POSTCARD: Self = Self(2);
}

/// Whether the sender, which still holds the message in memory, wants to handle it without reading it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOut {
    /// It will be read.
    Later,
    /// Mark it as handed out to every subscription of the sender's group, if it is the next unread one of each.
    Now,
}

/// A version that a stream must be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The stream.
    pub stream: StreamId,
    /// Its version, before this unit; 0: it must be empty.
    pub version: Version,
}

/// A projection to write or delete.
#[derive(Debug, Clone, Copy)]
pub struct Projection<'a> {
    /// The perspective it belongs to.
    pub perspective: &'a str,
    /// Its key.
    pub key: &'a [u8],
    /// The revision it was computed from, which a unit sent before this one may be about to write; none: it must not exist. Another
    /// one is a `ProjectionConflict`.
    pub based_on: Option<Revision>,
    /// The new state; none: delete it.
    pub state: Option<&'a [u8]>,
}

/// How much to hand out at most: both bounds hold, but a single message may exceed the bytes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Messages.
    pub messages: usize,
    /// Payload and metadata bytes.
    pub bytes: usize,
}

/// Where to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// For which subscription.
    pub subscription: SubscriptionId,
    /// Which owned partition.
    pub partition: Partition,
    /// The epoch under which it is owned.
    pub epoch: Epoch,
    /// Messages behind this position.
    pub after: Position,
    /// How much.
    pub limit: Limit,
}

/// What an operator asks for. Any instance of the service may send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Give a dead letter to its subscription once more: due now, attempts 0, marked as replay.
    Requeue(ParkedKey),
    /// Forget a dead letter.
    Discard(ParkedKey),
    /// Hand out nothing of this subscription, and park nothing, until it is resumed.
    Pause(SubscriptionId),
    /// End a pause.
    Resume(SubscriptionId),
    /// Register a subscription of a group.
    Register {
        /// The group.
        group: &'a str,
        /// The subscription.
        subscription: SubscriptionSpec<'a>,
    },
    /// Remove a subscription with its cursors and parked work; trimming no longer waits for it.
    Drop(SubscriptionId),
}

/// Names a parked message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParkedKey {
    /// The subscription it is parked for.
    pub subscription: SubscriptionId,
    /// The partition.
    pub partition: Partition,
    /// The position.
    pub position: Position,
}
