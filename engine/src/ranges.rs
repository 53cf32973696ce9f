//! Positions that are plainly done, gathered into ranges until the next exchange carries them.

use whizbang_storage::Position;

/// Ranges of positions, mostly growing at the end.
///
/// Handlers finish nearly in order, so pushing compares with the last range first; what comes out of order makes a range
/// of its own, and [`drain`](Self::drain) sorts and joins.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    // First and last position of each, both inside.
    ranges: Vec<(Position, Position)>,
    // Whether they are sorted with gaps between them, as pushing at the end leaves them.
    tidy: bool,
}

impl Ranges {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Adds the positions from `first` to `last`, both inside; nothing when `last` stands before `first`.
    pub(crate) fn push(&mut self, first: Position, last: Position) {
        if last < first {
            return;
        }
        match self.ranges.last_mut() {
            Some((_, end)) if end.next() == first => *end = last,
            Some((_, end)) => {
                self.tidy &= *end < first;
                self.ranges.push((first, last));
            }
            None => {
                self.tidy = true;
                self.ranges.push((first, last));
            }
        }
    }

    /// Hands over the ranges, sorted and joined, and is empty.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Position, Position)) {
        if !self.tidy {
            self.ranges.sort_unstable();
        }
        let mut ranges = self.ranges.drain(..);
        let Some(mut open) = ranges.next() else { return };
        for (first, last) in ranges {
            if first <= open.1.next() {
                open.1 = open.1.max(last);
            } else {
                take(open.0, open.1);
                open = (first, last);
            }
        }
        take(open.0, open.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(pushes: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut ranges = Ranges::default();
        pushes.iter().for_each(|&(first, last)| ranges.push(Position(first), Position(last)));
        let mut out = Vec::new();
        ranges.drain(|first, last| out.push((first.0, last.0)));
        assert!(ranges.is_empty());
        out
    }

    #[test]
    fn a_run_in_order_is_one_range() {
        assert_eq!(joined(&[(1, 1), (2, 2), (3, 7), (8, 8)]), [(1, 8)]);
    }

    #[test]
    fn gaps_stay_and_disorder_is_sorted() {
        assert_eq!(joined(&[(5, 6), (1, 2), (9, 9), (3, 3)]), [(1, 3), (5, 6), (9, 9)]);
        assert_eq!(joined(&[(4, 3)]), []);
    }

    proptest! {
        #[test]
        fn the_ranges_hold_exactly_what_was_pushed(pushes in prop::collection::vec((1u64..40, 0u64..5), 0..30)) {
            let pushes: Vec<_> = pushes.into_iter().map(|(first, more)| (first, first + more)).collect();
            let mut expected: Vec<u64> = pushes.iter().flat_map(|&(first, last)| first..=last).collect();
            expected.sort_unstable();
            expected.dedup();
            let out = joined(&pushes);
            let got: Vec<u64> = out.iter().flat_map(|&(first, last)| first..=last).collect();
            prop_assert_eq!(got, expected);
            prop_assert!(out.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
