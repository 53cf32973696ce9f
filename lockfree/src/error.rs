//! What a caller can be told instead of yes, one type per thing that can be asked.

use crate::ticket::Ticket;
use std::fmt;

/// Why nothing was pushed. Nothing has happened, and the caller still has what it wanted to push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// No room now. Wait for some with `room`, or drop the message.
    Full,
    /// The rings were closed, or their consumer is gone; no later push will succeed.
    Closed,
    /// Larger than any ring of this set takes, however empty.
    TooLarge {
        /// The largest payload that is taken.
        bytes_max: usize,
    },
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full => f.write_str("the ring is full: wait for room, or make it larger"),
            PushError::Closed => f.write_str("the ring is closed and takes no more messages"),
            PushError::TooLarge { bytes_max } => {
                write!(f, "the message is larger than the {bytes_max} bytes that a ring of this size takes")
            }
        }
    }
}

impl std::error::Error for PushError {}

/// A plain message that was not taken, given back with the reason.
// Laid out by hand. In the result of a push a ticket lies over this; if it lay over the message, the compiler would cut every message
// in two where the ticket's fields end, and copy the pieces with loads that span two stores and wait for both to leave
// the processor: a push then takes twice as long.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Rejected<M> {
    /// Why it was not taken.
    pub reason: PushError,
    apart: u64,
    /// What the caller wanted to push.
    pub message: M,
}

impl<M> Rejected<M> {
    const MESSAGE_IS_APART: () = assert!(
        std::mem::offset_of!(Rejected<M>, message) >= size_of::<u64>() + size_of::<Ticket>()
            && size_of::<Result<Ticket, Rejected<M>>>() == size_of::<Rejected<M>>()
    );

    pub(crate) fn new(message: M, reason: PushError) -> Self {
        const { Self::MESSAGE_IS_APART };
        Rejected { reason, apart: 0, message }
    }
}

impl<M> fmt::Debug for Rejected<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Rejected<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<M> std::error::Error for Rejected<M> {}

/// All rings for exclusive publishers are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRing {
    /// How many there are.
    pub publishers_max: usize,
}

impl fmt::Display for NoRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.publishers_max {
            0 => f.write_str("there are no publisher rings: `publishers_max` is 0"),
            max => {
                write!(f, "all {max} publisher rings are in use: end a publisher, or raise `publishers_max`")
            }
        }
    }
}

impl std::error::Error for NoRing {}

/// The consumer went away without answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerGone;

impl fmt::Display for ConsumerGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the consumer of the ring is gone and left this message unanswered")
    }
}

impl std::error::Error for ConsumerGone {}

/// The bytes encoded into a claim are more than were claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimExceeded {
    /// What was claimed.
    pub bytes_max: usize,
}

impl fmt::Display for ClaimExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more bytes were written than the {} that were claimed", self.bytes_max)
    }
}

impl std::error::Error for ClaimExceeded {}

/// A set of rings that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `ring_bytes` is no power of two, is too small for two records, or is larger than 2 GiB.
    RingBytes {
        /// What was asked for.
        asked: usize,
        /// The least that works with this header.
        bytes_min: usize,
    },
    /// Not one stripe: a push that owns no ring would have nowhere to go.
    NoStripes,
    /// More rings than a ticket can name.
    TooManyRings {
        /// What was asked for.
        asked: usize,
    },
    /// The system has no memory, or no address space, for so many rings of this size. What was reserved is free again.
    NoMemory {
        /// How many rings were asked for.
        rings: usize,
        /// Bytes of each.
        ring_bytes: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::RingBytes { asked, bytes_min } => write!(
                f,
                "ring_bytes is {asked}: it must be a power of two of at least {bytes_min} and at most {}",
                crate::rings::RING_BYTES_MAX
            ),
            ConfigError::NoStripes => f.write_str("no stripes: give the rings at least one"),
            ConfigError::TooManyRings { asked } => {
                write!(f, "{asked} rings: at most {} can be told apart", crate::rings::RINGS_MAX)
            }
            ConfigError::NoMemory { rings, ring_bytes } => write!(
                f,
                "no memory for {rings} rings of {ring_bytes} bytes: make them smaller, or fewer seats, stripes or publishers"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
