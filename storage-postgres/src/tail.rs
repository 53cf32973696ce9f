//! Messages of a partition that are kept in memory: all that exist in a range of positions.

use std::collections::VecDeque;
use std::sync::Arc;

use whizbang_storage::record::{Record, fallback_id};
use whizbang_storage::{Position, Version};

/// What lies between `after` and `through`: whatever is not in it does not exist.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    after: Position,
    through: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    /// Its version in its stream, if it is an event of one.
    pub(crate) version: Option<Version>,
    pub(crate) bytes: Slice,
}

/// A part of a buffer that many messages share.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    buffer: Arc<[u8]>,
    start: u32,
    end: u32,
}

impl Slice {
    pub(crate) fn new(buffer: &Arc<[u8]>, start: usize, end: usize) -> Self {
        // A batch has at most 4 GiB, and a row 1 GiB.
        Self { buffer: Arc::clone(buffer), start: start as u32, end: end as u32 }
    }

    pub(crate) fn whole(bytes: &[u8]) -> Self {
        Self { buffer: bytes.into(), start: 0, end: bytes.len() as u32 }
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }
}

impl Entry {
    pub(crate) fn record(&self) -> Record<'_> {
        Record::read(self.bytes.get(), fallback_id(self.position.0 as i64))
    }
}

impl Tail {
    /// Nothing is kept, and what is added next begins behind `after`.
    pub(crate) fn behind(after: Position) -> Self {
        Self { after, through: after, ..Self::default() }
    }

    /// Behind which position everything is here.
    pub(crate) fn begin(&self) -> Position {
        self.after
    }

    /// The last position that was looked at.
    pub(crate) fn through(&self) -> Position {
        self.through
    }

    /// Whether everything behind `after` up to `last` is here.
    pub(crate) fn covers(&self, after: Position, last: Position) -> bool {
        after >= last || (self.after <= after && last <= self.through)
    }

    /// Up to where everything behind a position is here, if anything is.
    pub(crate) fn reaches(&self, position: Position) -> Option<Position> {
        (self.after <= position && position < self.through).then_some(self.through)
    }

    /// The messages behind a position, in order.
    pub(crate) fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.entries.partition_point(|entry| entry.position <= position)..)
    }

    pub(crate) fn get(&self, position: Position) -> Option<&Entry> {
        let index = self.entries.partition_point(|entry| entry.position < position);
        self.entries.get(index).filter(|entry| entry.position == position)
    }

    /// Adds the message that follows all others.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.through = entry.position;
        self.bytes += entry.bytes.get().len();
        self.entries.push_back(entry);
    }

    /// There is nothing more up to here.
    pub(crate) fn extend_to(&mut self, through: Position) {
        self.through = self.through.max(through);
    }

    /// Takes what was pushed behind `head` back.
    pub(crate) fn cut_back(&mut self, head: Position) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.position > head) {
            self.bytes -= entry.bytes.get().len();
        }
        self.through = self.through.min(head);
        self.after = self.after.min(self.through);
    }

    /// Lets go of what is not needed up to `settled`, and of the oldest above `bytes_max`.
    pub(crate) fn release(&mut self, settled: Position, bytes_max: usize) {
        let is_over = |bytes: usize, entry: &Entry| entry.position <= settled || bytes > bytes_max;
        let mut bytes = self.bytes;
        while let Some(entry) = self.entries.pop_front_if(|entry| is_over(bytes, entry)) {
            bytes -= entry.bytes.get().len();
            self.after = entry.position;
        }
        self.bytes = bytes;
        self.after = self.after.max(settled.min(self.through));
    }
}

/// Appends a message to a block of the log: how far behind the one before it, how long it is, and its record.
pub(crate) fn push_to_block(block: &mut Vec<u8>, behind: u64, record: &[u8]) {
    push_number(block, behind);
    push_number(block, record.len() as u64);
    block.extend_from_slice(record);
}

/// The messages of a block that ends with position `last`: position, start and end of each record. `None` where the block
/// cannot be read further.
pub(crate) fn read_block(block: &[u8], last: Position) -> Option<Vec<(Position, usize, usize)>> {
    let mut found = Vec::new();
    let (mut at, mut ahead) = (0, 0u64);
    while at < block.len() {
        let behind = pull_number(block, &mut at)?;
        let length = usize::try_from(pull_number(block, &mut at)?).ok()?;
        let end = at.checked_add(length).filter(|end| *end <= block.len())?;
        ahead = ahead.checked_add(behind)?;
        found.push((Position(ahead), at, end));
        at = end;
    }
    // Positions are differences until the last one is known.
    let first = last.0.checked_sub(ahead)?;
    found.iter_mut().for_each(|(position, ..)| position.0 += first);
    Some(found)
}

pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn pull_number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(position: u64) -> Entry {
        Entry { position: Position(position), version: None, bytes: Slice::whole(&[7; 10]) }
    }

    #[test]
    fn a_block_is_read_as_it_was_written() {
        let mut block = Vec::new();
        for (behind, length) in [(0, 3), (1, 200), (5, 0)] {
            push_to_block(&mut block, behind, &vec![9; length]);
        }
        let read = read_block(&block, Position(20)).unwrap();
        let places: Vec<_> = read.iter().map(|(position, start, end)| (position.0, end - start)).collect();
        assert_eq!(places, [(14, 3), (15, 200), (20, 0)]);
        assert_eq!(read_block(&block[..block.len() - 1], Position(20)), None);
        assert_eq!(read_block(&block, Position(5)), None, "before the first position");
    }

    #[test]
    fn a_tail_says_what_it_covers() {
        let mut tail = Tail::behind(Position(10));
        for position in [11, 12, 15] {
            tail.push(entry(position));
        }
        tail.extend_to(Position(16));
        assert!(tail.covers(Position(10), Position(16)) && !tail.covers(Position(9), Position(11)));
        assert!(!tail.covers(Position(10), Position(17)) && tail.covers(Position(30), Position(30)));
        let behind: Vec<u64> = tail.after(Position(11)).map(|entry| entry.position.0).collect();
        assert_eq!(behind, [12, 15]);
        assert!(tail.get(Position(15)).is_some() && tail.get(Position(14)).is_none());
        tail.cut_back(Position(12));
        assert!(!tail.covers(Position(10), Position(13)) && tail.covers(Position(10), Position(12)));
        tail.release(Position(11), usize::MAX);
        assert!(tail.covers(Position(11), Position(12)) && !tail.covers(Position(10), Position(12)));
        tail.push(entry(13));
        tail.release(Position(0), 10);
        assert!(tail.covers(Position(12), Position(13)) && !tail.covers(Position(11), Position(13)));
    }
}
