//! Where a record lies, for as long as anybody asks.

/// A place in one ring of a set: everything before it has been answered, or not.
///
/// Positions only grow, also when a ring passes from one publisher to the next, so a ticket never comes to mean
/// another record. It is only meaningful to the set of rings that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    pub(crate) ring: u32,
    pub(crate) position: u64,
}

impl Ticket {
    /// The index of the ring within its set.
    pub fn ring(self) -> usize {
        self.ring as usize
    }

    /// The position behind the record, in bytes since the ring was made.
    pub fn position(self) -> u64 {
        self.position
    }
}
