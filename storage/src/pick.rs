//! Which of the due work goes out when not all of it may.

use std::collections::HashMap;

use crate::{Limit, Partition, Position, SubscriptionId, Timestamp};

/// Work that may run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<K> {
    /// When it was due; the far past for suspects.
    pub due_at: Timestamp,
    /// Its partition.
    pub partition: Partition,
    /// Its position.
    pub position: Position,
    /// Its subscription.
    pub subscription: SubscriptionId,
    /// Its payload and metadata bytes.
    pub bytes: usize,
    /// Whatever the backend finds it by.
    pub key: K,
}

/// Picks as many candidates as both limits allow, in the order in which they are handed out.
///
/// Within a partition the order is (due time, position, subscription); the partitions take turns: the first of each
/// by the same order (then by partition), then the second of each, and so on, so that a full partition holds up no other.
pub fn pick<K>(mut candidates: Vec<Candidate<K>>, limit: Limit) -> Vec<Candidate<K>> {
    candidates.sort_by_key(|c| (c.due_at, c.position, c.subscription, c.partition));
    let mut turns: HashMap<Partition, usize> = HashMap::new();
    let mut ranked: Vec<(usize, Candidate<K>)> = candidates
        .into_iter()
        .map(|candidate| {
            let turn = turns.entry(candidate.partition).or_default();
            *turn += 1;
            (*turn, candidate)
        })
        .collect();
    ranked.sort_by_key(|(turn, _)| *turn);
    let mut measure = Measure::new(limit);
    ranked
        .into_iter()
        .map(|(_, candidate)| candidate)
        .take_while(|candidate| measure.admits(candidate.bytes))
        .collect()
}

/// Counts messages and bytes against a [`Limit`]: both bounds hold, but a single message may exceed the bytes alone.
///
/// ```
/// # use whizbang_storage::{Limit, pick::Measure};
/// let mut measure = Measure::new(Limit { messages: 2, bytes: 100 });
/// assert!(measure.admits(150), "alone");
/// assert!(!measure.admits(1));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    left: Limit,
    first: bool,
}

impl Measure {
    /// Nothing was admitted yet.
    pub const fn new(limit: Limit) -> Self {
        Self { left: limit, first: true }
    }

    /// Whether as many messages were admitted as are allowed.
    pub const fn is_full(&self) -> bool {
        self.left.messages == 0
    }

    /// Whether one more message of so many bytes fits, which is then counted.
    pub const fn admits(&mut self, bytes: usize) -> bool {
        if self.left.messages == 0 || bytes > self.left.bytes && !self.first {
            return false;
        }
        self.first = false;
        self.left.messages -= 1;
        self.left.bytes = self.left.bytes.saturating_sub(bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_take_turns_and_both_limits_hold() {
        let candidate = |due: i64, partition: u32, position: u64, bytes: usize| Candidate {
            due_at: Timestamp::from_micros(due),
            partition: Partition(partition),
            position: Position(position),
            subscription: SubscriptionId(1),
            bytes,
            key: (),
        };
        let all = vec![
            candidate(1, 0, 1, 10),
            candidate(1, 0, 2, 10),
            candidate(0, 0, 3, 10),
            candidate(9, 7, 1, 10),
            candidate(9, 5, 1, 10),
        ];
        let order = |messages, bytes| -> Vec<(u32, u64)> {
            let picked = pick(all.clone(), Limit { messages, bytes });
            picked.iter().map(|c| (c.partition.0, c.position.0)).collect()
        };
        assert_eq!(order(9, 99), [(0, 3), (5, 1), (7, 1), (0, 1), (0, 2)]);
        assert_eq!(order(2, 99), [(0, 3), (5, 1)]);
        assert_eq!(order(9, 25), [(0, 3), (5, 1)]);
        assert_eq!(order(9, 5), [(0, 3)], "a single one may exceed the bytes");
        assert_eq!(order(0, 99), []);
    }
}
