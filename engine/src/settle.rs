//! The second ring: what handlers have finished, on its way to the pump.

use std::time::Duration;

use whizbang_lockfree::{NoSink, Publisher, PushError};
use whizbang_storage::{DeadReason, Delivery, Epoch, Handed, Partition, Position, Running, Settle};

use crate::host::is_planted;
use crate::lanes::LaneKey;

/// One record of a settle ring. What a handler produced, or its error text, is the record's payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Settlement {
    /// It was handled, and nothing came of it: may be joined with its neighbours into a range.
    Done { flow: u32, partition: Partition, epoch: Epoch, position: Position },
    /// It is settled by itself, and its worker is told what the store said.
    Unit(UnitHead),
    /// Still running in a partition that is to be given back; it is cancelled. `is_first`: what stands before it in its lane is
    /// settled, so it can be parked, and the attempt counts.
    StillRunning { running: Running, is_first: bool },
    /// Nothing runs or waits for an answer there any more.
    Quiet { scope: Scope },
}

/// A part of a worker's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    All,
    One(Partition),
}

impl Scope {
    pub(crate) fn holds(self, partition: Partition) -> bool {
        self == Self::All || self == Self::One(partition)
    }
}

/// What a unit's record says besides its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitHead {
    pub(crate) worker: u32,
    pub(crate) flow: u32,
    /// The worker's count of conflicts when it was sent: what was sent before its lane was set back is dropped.
    pub(crate) generation: u32,
    /// The pump's count of instances it has been: what an evicted one still had to say is dropped.
    pub(crate) incarnation: u32,
    pub(crate) delivery: Delivery,
    /// It was handed out as parked work: others may wait behind it.
    pub(crate) parked: bool,
    pub(crate) how: How,
}

impl UnitHead {
    pub(crate) fn lane(&self) -> LaneKey {
        LaneKey { flow: self.flow, lane: self.delivery.lane }
    }
}

/// [`Settle`] without its text, which travels as payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Done,
    Retry { after: Duration },
    Dead { reason: DeadReason },
    Exhausted,
    Detach,
    Defer,
    Release,
    Unroutable,
}

impl How {
    pub(crate) fn with_text(self, error: &str) -> Settle<'_> {
        match self {
            Self::Done => Settle::Done,
            Self::Retry { after } => Settle::Retry { after, error },
            Self::Dead { reason } => Settle::Dead { reason, error },
            Self::Exhausted => Settle::Exhausted { error },
            Self::Detach => Settle::Detach,
            Self::Defer => Settle::Defer,
            Self::Release => Settle::Release,
            Self::Unroutable => Settle::Unroutable,
        }
    }

    /// Whether what follows in its lane has to wait for the store's word.
    pub(crate) fn parks(self) -> bool {
        let is_dead = matches!(self, Self::Dead { .. } | Self::Exhausted);
        self != Self::Done && !(is_dead && is_planted("runs-past-the-dead"))
    }

    /// The word under which it is counted.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Dead { .. } | Self::Exhausted => "dead",
            Self::Detach => "detach",
            Self::Defer => "defer",
            Self::Release => "release",
            Self::Unroutable => "unroutable",
        }
    }
}

/// What a hand-out is settled as.
pub(crate) fn delivery(handed: &Handed<'_>) -> Delivery {
    Delivery {
        subscription: handed.subscription,
        partition: handed.partition,
        position: handed.position,
        lane: handed.lane_id(),
        epoch: handed.epoch,
        attempt: handed.attempt,
    }
}

/// A worker's own settle ring.
pub(crate) struct SettleRing(Publisher<Settlement, NoSink>);

/// A settlement that its ring can never take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// It is larger than half the ring.
    TooLarge { bytes_max: usize },
    /// The pump is gone.
    Closed,
}

impl SettleRing {
    pub(crate) fn new(ring: Publisher<Settlement, NoSink>) -> Self {
        Self(ring)
    }

    /// Puts a settlement into the ring, waiting for room if there is none.
    pub(crate) async fn send(&mut self, settlement: Settlement, payload: &[u8]) -> Result<(), NotSent> {
        loop {
            match self.0.try_push(settlement, payload) {
                Ok(_) => return Ok(()),
                Err(PushError::Full) => self.0.room().await,
                Err(PushError::Closed) => return Err(NotSent::Closed),
                Err(PushError::TooLarge { bytes_max }) => return Err(NotSent::TooLarge { bytes_max }),
            }
        }
    }
}
