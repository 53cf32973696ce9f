//! Which of the due work goes out when not all of it may.

use std::collections::{BTreeMap, HashMap};

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

/// So many suspects of a partition come together while no death has found any of them running.
pub const SUSPECTS_MAX: usize = 64;

/// Besides its first, so many messages of a lane come together.
pub const RUN_MAX: usize = 1_024;

/// With whom a suspect may run: the more deaths have found it running, the fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Company {
    /// With others of its partition: at most [`SUSPECTS_MAX`].
    Others,
    /// As the only suspect of its partition.
    OtherPartitions,
    /// As the only suspect of its instance.
    Nobody,
}

impl Company {
    /// By the crashes of a message, and the most that its subscription allows.
    ///
    /// An innocent message counts a crash with others of its partition and one with those of other partitions at the most;
    /// where so few are allowed that this could be its death, it is alone from the start.
    pub const fn of(crashes: u32, attempts_max: u32) -> Self {
        match crashes {
            0 if attempts_max > 3 => Self::Others,
            1 if attempts_max > 3 => Self::OtherPartitions,
            _ => Self::Nobody,
        }
    }
}

/// Chooses those suspects that may be handed out now, from all that an instance has.
///
/// `found` has the suspects and orphaned messages that nothing of their lanes stands before; of a partition at least the
/// first of each company, by (position, subscription). `running` are the suspects that the instance has in hand and that are
/// not detached. The answer is for [`pick`].
pub fn suspects<K>(
    found: impl IntoIterator<Item = (Company, Candidate<K>)>,
    running: &[(Partition, Company)],
) -> Vec<Candidate<K>> {
    if running.iter().any(|(_, company)| *company == Company::Nobody) {
        return Vec::new();
    }
    let mut partitions: BTreeMap<Partition, Vec<(Company, Candidate<K>)>> = BTreeMap::new();
    for (company, candidate) in found {
        partitions.entry(candidate.partition).or_default().push((company, candidate));
    }
    let mut chosen = Vec::new();
    let mut nobody: Option<Candidate<K>> = None;
    for (partition, mut found) in partitions {
        found.sort_by_key(|(company, candidate)| (*company, candidate.position, candidate.subscription));
        let runs = running.iter().any(|(one, _)| *one == partition);
        let count_max = match found[0].0 {
            _ if runs => 0,
            Company::Others => SUSPECTS_MAX,
            Company::OtherPartitions => 1,
            Company::Nobody => {
                let first = found.swap_remove(0).1;
                let key = |one: &Candidate<K>| (one.position, one.subscription, one.partition);
                nobody = nobody.into_iter().chain([first]).min_by_key(key);
                continue;
            }
        };
        let company = found[0].0;
        let same = found.into_iter().take_while(|(other, _)| *other == company);
        chosen.extend(same.take(count_max).map(|(_, candidate)| candidate));
    }
    if chosen.is_empty() && running.is_empty() {
        chosen.extend(nobody);
    }
    chosen
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

    #[test]
    fn a_suspect_is_the_more_alone_the_more_deaths_it_was_there() {
        use Company::{Nobody, OtherPartitions, Others};
        let suspect = |company, partition: u32, position: u64| {
            let candidate = Candidate {
                due_at: Timestamp::from_micros(0),
                partition: Partition(partition),
                position: Position(position),
                subscription: SubscriptionId(1),
                bytes: 1,
                key: (),
            };
            (company, candidate)
        };
        type Places = [(Company, u32, u64)];
        let chosen = |found: &Places, running: &[(u32, Company)]| -> Vec<(u32, u64)> {
            let found =
                found.iter().map(|(company, partition, position)| suspect(*company, *partition, *position));
            let running: Vec<_> = running.iter().map(|(at, company)| (Partition(*at), *company)).collect();
            suspects(found, &running).iter().map(|c| (c.partition.0, c.position.0)).collect()
        };
        let mixed = [
            (Nobody, 0, 1),
            (Others, 0, 3),
            (Others, 0, 2),
            (OtherPartitions, 1, 4),
            (OtherPartitions, 1, 5),
        ];
        assert_eq!(chosen(&mixed, &[]), [(0, 2), (0, 3), (1, 4)]);
        assert_eq!(chosen(&mixed, &[(0, Others)]), [(1, 4)]);
        assert_eq!(chosen(&mixed, &[(7, Nobody)]), []);
        let dangerous = [(Nobody, 5, 2), (Nobody, 3, 2), (Nobody, 0, 9)];
        assert_eq!(chosen(&dangerous, &[]), [(3, 2)]);
        assert_eq!(chosen(&dangerous, &[(7, Others)]), []);
        assert_eq!(chosen(&[(Nobody, 5, 2), (Others, 0, 9)], &[(0, Others)]), [], "the other comes first");
        let many: Vec<_> = (1..=100).map(|position| (Others, 0, position)).collect();
        assert_eq!(chosen(&many, &[]).len(), SUSPECTS_MAX);
    }

    #[test]
    fn where_few_crashes_are_allowed_a_suspect_is_alone_from_the_start() {
        assert_eq!(Company::of(0, 10), Company::Others);
        assert_eq!(Company::of(1, 10), Company::OtherPartitions);
        assert_eq!(Company::of(2, 10), Company::Nobody);
        assert_eq!(Company::of(0, 3), Company::Nobody);
    }
}
