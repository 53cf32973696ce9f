//! Where a subscription stands in a partition: what is settled, what was handed out, what is suspect.

use crate::Position;

/// The place of one subscription in one partition.
///
/// Everything up to [`low`](Self::low) is settled; above it lie settled ranges, in order, neither touching nor
/// overlapping. It is a plain value without a store, so that every backend merges ranges in the same way.
///
/// ```
/// # use whizbang_storage::{Position, cursor::Cursor};
/// let mut cursor = Cursor::at(Position(0));
/// cursor.give(Position(5));
/// assert_eq!(cursor.settle(Position(3), Position(4)), 2);
/// assert_eq!((cursor.low(), cursor.above()), (Position(0), &[(Position(3), Position(4))][..]));
/// cursor.settle(Position(1), Position(2));
/// assert_eq!((cursor.low(), cursor.above()), (Position(4), &[][..]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    low: Position,
    given: Position,
    suspects_to: Position,
    above: Vec<(Position, Position)>,
}

impl Cursor {
    /// A cursor that has settled everything up to `low` and was given nothing behind it.
    pub const fn at(low: Position) -> Self {
        Self { low, given: low, suspects_to: Position::START, above: Vec::new() }
    }

    /// Everything up to here is settled.
    pub const fn low(&self) -> Position {
        self.low
    }

    /// The highest position that was handed out.
    pub const fn given(&self) -> Position {
        self.given
    }

    /// What is unsettled up to here was handed out by an owner that died. At or below `low`: there is no suspect.
    pub const fn suspects_to(&self) -> Position {
        self.suspects_to
    }

    /// The settled ranges above `low`: first and last position of each, in order.
    pub fn above(&self) -> &[(Position, Position)] {
        &self.above
    }

    /// Whether a position is settled.
    pub fn is_settled(&self, position: Position) -> bool {
        self.covers(position, position)
    }

    /// Whether every position from `first` to `last` is settled.
    pub fn covers(&self, first: Position, last: Position) -> bool {
        if last <= self.low {
            return true;
        }
        let first = first.max(self.low.next());
        let index = self.above.partition_point(|range| range.1 < first);
        self.above.get(index).is_some_and(|range| range.0 <= first && last <= range.1)
    }

    /// Whether a position was handed out by an owner that died, and is not settled since.
    pub fn is_suspect(&self, position: Position) -> bool {
        position <= self.suspects_to && !self.is_settled(position)
    }

    /// Whether there may be suspects: positions that exist are suspect if they are unsettled up to `suspects_to`.
    pub fn has_suspects(&self) -> bool {
        self.low < self.suspects_to
    }

    /// Marks the positions from `first` to `last` as settled and moves `low` over everything that follows it. Returns how
    /// many were not settled before.
    pub fn settle(&mut self, first: Position, last: Position) -> u64 {
        if last <= self.low || last < first {
            return 0;
        }
        let first = first.max(self.low.next());
        if self.above.is_empty() && first == self.low.next() {
            let newly = last.0 - self.low.0;
            self.low = last;
            self.given = self.given.max(self.low);
            return newly;
        }
        // The ranges from `start` to `end` overlap or touch the new one and become one with it.
        let start = self.above.partition_point(|range| range.1.next() < first);
        let end = self.above.partition_point(|range| range.0.0 <= last.0.saturating_add(1));
        let mut merged = (first, last);
        let mut known = 0;
        for range in &self.above[start..end] {
            let (from, to) = (range.0.max(first), range.1.min(last));
            known += (to.0 + 1).saturating_sub(from.0);
            merged = (merged.0.min(range.0), merged.1.max(range.1));
        }
        self.above.splice(start..end, [merged]);
        if self.above[0].0 == self.low.next() {
            self.low = self.above.remove(0).1;
            self.given = self.given.max(self.low);
        }
        last.0 - first.0 + 1 - known
    }

    /// Notes that everything up to `through` was handed out; says whether that was news.
    pub fn give(&mut self, through: Position) -> bool {
        let moved = through > self.given;
        self.given = self.given.max(through);
        moved
    }

    /// The last position that may be handed out where the log ends at `head`.
    pub fn window_end(&self, window: u32, head: Position) -> Position {
        head.min(Position(self.low.0.saturating_add(u64::from(window))))
    }

    /// The owner died: what it was given and did not settle is suspect.
    pub fn owner_died(&mut self) {
        if self.given > self.low {
            self.suspects_to = self.suspects_to.max(self.given);
        }
    }

    /// The owner gave the partition back: what it was given and did not settle is unread again. Suspects stay suspects.
    pub fn owner_left(&mut self) {
        self.given = self.low.max(self.suspects_to);
    }

    /// Where a new owner starts to read.
    pub const fn read_from(&self) -> Position {
        self.given
    }

    /// Appends the cursor to `out`, in a compact form that [`from_bytes`](Self::from_bytes) reads.
    ///
    /// Every number is a variable-length difference to the one before it: a cursor with nothing above `low` has three to
    /// thirty bytes. The form is part of what backends store: it never changes.
    pub fn to_bytes(&self, out: &mut Vec<u8>) {
        push(out, self.low.0);
        push(out, self.given.0.saturating_sub(self.low.0));
        push(out, self.suspects_to.0.saturating_sub(self.low.0));
        let mut last = self.low.0;
        for range in &self.above {
            push(out, range.0.0 - last);
            push(out, range.1.0 - range.0.0);
            last = range.1.0;
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let low = pull(&mut bytes)?;
        let given = low.checked_add(pull(&mut bytes)?)?;
        let suspects_to = low.checked_add(pull(&mut bytes)?)?;
        let mut above = Vec::new();
        let mut last = low;
        while !bytes.is_empty() {
            let gap = pull(&mut bytes)?;
            // A gap of 1 would touch what lies before it and should have been merged.
            let first = last.checked_add(gap).filter(|_| gap > 1)?;
            last = first.checked_add(pull(&mut bytes)?)?;
            above.push((Position(first), Position(last)));
        }
        Some(Self {
            low: Position(low),
            given: Position(given),
            suspects_to: Position(if suspects_to == low { 0 } else { suspects_to }),
            above,
        })
    }
}

fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn p(position: u64) -> Position {
        Position(position)
    }

    #[test]
    fn ranges_that_touch_become_one_and_low_moves_over_them() {
        // (ranges settled one after the other, low, above)
        type Case = (&'static [(u64, u64)], u64, &'static [(u64, u64)]);
        let cases: &[Case] = &[
            (&[], 0, &[]),
            (&[(1, 1)], 1, &[]),
            (&[(2, 2)], 0, &[(2, 2)]),
            (&[(2, 2), (1, 1)], 2, &[]),
            (&[(5, 6), (2, 3)], 0, &[(2, 3), (5, 6)]),
            (&[(5, 6), (2, 3), (4, 4)], 0, &[(2, 6)]),
            (&[(5, 6), (2, 3), (1, 4)], 6, &[]),
            (&[(5, 6), (1, 9)], 9, &[]),
            (&[(5, 6), (8, 9), (3, 7)], 0, &[(3, 9)]),
            (&[(1, 4), (2, 3)], 4, &[]),
            (&[(4, 3)], 0, &[]),
        ];
        for (ranges, low, above) in cases {
            let mut cursor = Cursor::at(p(0));
            for range in *ranges {
                cursor.settle(p(range.0), p(range.1));
            }
            let expected: Vec<_> = above.iter().map(|range| (p(range.0), p(range.1))).collect();
            assert_eq!((cursor.low(), cursor.above()), (p(*low), &expected[..]), "{ranges:?}");
        }
    }

    #[test]
    fn what_a_dead_owner_was_given_is_suspect_and_what_a_leaving_one_was_given_is_unread() {
        let mut cursor = Cursor::at(p(0));
        cursor.give(p(6));
        cursor.settle(p(2), p(3));
        let mut left = cursor.clone();
        left.owner_left();
        assert_eq!((left.read_from(), left.has_suspects()), (p(0), false));
        cursor.owner_died();
        assert_eq!((cursor.read_from(), cursor.suspects_to()), (p(6), p(6)));
        assert!(cursor.is_suspect(p(1)) && !cursor.is_suspect(p(2)) && !cursor.is_suspect(p(7)));
        // Its successor reads on and leaves in peace: the suspects stay suspects.
        cursor.give(p(9));
        cursor.owner_left();
        assert_eq!(cursor.read_from(), p(6));
    }

    #[test]
    fn bytes_that_are_no_cursor_are_none() {
        for bytes in [&[][..], &[0x80], &[1, 0], &[1, 0, 0, 1, 0], &[1, 0, 0, 2], &[0xFF; 11]] {
            assert_eq!(Cursor::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_the_set_of_what_was_settled(
            ranges in prop::collection::vec((1u64..60, 0u64..12), 0..40),
            given in 0u64..80,
            dies in any::<bool>(),
        ) {
            let mut cursor = Cursor::at(p(0));
            let mut model = BTreeSet::new();
            cursor.give(p(given));
            for (first, more) in ranges {
                let newly = (first..=first + more).filter(|at| model.insert(*at)).count();
                let covered = cursor.covers(p(first), p(first + more));
                prop_assert_eq!(covered, newly == 0);
                prop_assert_eq!(cursor.settle(p(first), p(first + more)), newly as u64);
            }
            if dies {
                cursor.owner_died();
            }
            for at in 1..=80 {
                prop_assert_eq!(cursor.is_settled(p(at)), model.contains(&at));
            }
            let low = (1..).take_while(|at| model.contains(at)).last().unwrap_or(0);
            prop_assert_eq!(cursor.low(), p(low));
            let mut bytes = Vec::new();
            let mut low_given = cursor.clone();
            low_given.give(cursor.low());
            low_given.to_bytes(&mut bytes);
            prop_assert_eq!(Cursor::from_bytes(&bytes).map(|read| (read.low(), read.given(), read.above().to_vec(), read.has_suspects())),
                Some((low_given.low(), low_given.given(), low_given.above().to_vec(), low_given.has_suspects())));
        }

        #[test]
        fn reading_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Cursor::from_bytes(&bytes);
        }
    }

    #[test]
    fn what_is_settled_counts_as_given_so_that_a_stored_cursor_comes_back_the_same() {
        let mut cursor = Cursor::at(Position(0));
        cursor.settle(Position(2), Position(3));
        cursor.settle(Position(1), Position(1));
        assert_eq!((cursor.low(), cursor.given()), (Position(3), Position(3)));
        let mut bytes = Vec::new();
        cursor.to_bytes(&mut bytes);
        assert_eq!(Cursor::from_bytes(&bytes), Some(cursor));
    }
}
