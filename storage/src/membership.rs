//! Who is alive, who is evicted, and how many partitions fall to whom: arithmetic that every backend shares.

use std::time::Duration;

use crate::{InstanceId, Timestamp};

/// What a living instance of a group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The instance.
    pub instance: InstanceId,
    /// Partitions it owns in the group.
    pub held: u32,
}

/// Whether an instance whose last batch was at `last_seen` may be evicted at `now`: its age has reached the time to live.
///
/// ```
/// # use std::time::Duration;
/// # use whizbang_storage::{Timestamp, membership::expired};
/// let (seen, ttl) = (Timestamp::from_micros(0), Duration::from_secs(10));
/// assert!(!expired(seen, Timestamp::from_micros(9_999_999), ttl));
/// assert!(expired(seen, Timestamp::from_micros(10_000_000), ttl));
/// // A clock that jumped back evicts nobody.
/// assert!(!expired(seen, Timestamp::from_micros(-5_000_000), ttl));
/// ```
pub fn expired(last_seen: Timestamp, now: Timestamp, time_to_live: Duration) -> bool {
    now.since(last_seen) >= time_to_live
}

/// Until when nobody is evicted, as seen by a batch at `now`; to be stored with the service by that batch.
///
/// When no batch of any instance was committed for half the time to live, the silence was everybody's (the store was away,
/// the clock jumped), so all get one time to live from now. `last_commit` and `until` are what the batch before left.
/// Nobody is evicted while `now` is before the returned instant.
pub fn truce(
    last_commit: Option<Timestamp>,
    until: Option<Timestamp>,
    now: Timestamp,
    time_to_live: Duration,
) -> Option<Timestamp> {
    let silence = last_commit.map_or(Duration::ZERO, |last| now.since(last));
    let longest = now.after(time_to_live);
    if silence >= time_to_live / 2 {
        return Some(longest);
    }
    // Over when it has passed; never longer than a time to live, also after the clock jumped back.
    until.filter(|until| now < *until).map(|until| until.min(longest))
}

/// How many of `free` partitions the sender takes.
///
/// They are dealt one by one to the living instance that holds the fewest, to the sender first among equals. What falls to
/// others waits for them. Zero when the sender is not among the `living`.
///
/// ```
/// # use whizbang_storage::{InstanceId, membership::{Holding, takes}};
/// # let id = |n: u128| InstanceId::from_bits(core::num::NonZeroU128::new(n).unwrap());
/// let living = [Holding { instance: id(1), held: 11 }, Holding { instance: id(2), held: 10 }];
/// assert_eq!(takes(id(1), 11, &living), 5);
/// assert_eq!(takes(id(2), 11, &living), 6);
/// ```
pub fn takes(sender: InstanceId, free: u32, living: &[Holding]) -> u32 {
    let mut held: Vec<u32> = living.iter().map(|holding| holding.held).collect();
    let Some(own) = living.iter().position(|holding| holding.instance == sender) else {
        return 0;
    };
    for _ in 0..free {
        let least = held.iter().copied().min().unwrap_or(0);
        let falls_to =
            if held[own] == least { own } else { held.iter().position(|held| *held == least).unwrap_or(own) };
        held[falls_to] += 1;
    }
    held[own] - living[own].held
}

/// How many partitions the sender is asked to give back, where the group has `partitions` of which `free` have no owner.
///
/// Instances below ⌊partitions / living⌋ lack so many in sum; less what is free already, that many are asked for, one by one,
/// of the instance that holds the most (the smaller id first among equals), and of none below that share.
///
/// ```
/// # use whizbang_storage::{InstanceId, membership::{Holding, gives_back}};
/// # let id = |n: u128| InstanceId::from_bits(core::num::NonZeroU128::new(n).unwrap());
/// let living = [Holding { instance: id(1), held: 128 }, Holding { instance: id(2), held: 0 }];
/// assert_eq!(gives_back(id(1), 128, 0, &living), 64);
/// assert_eq!(gives_back(id(2), 128, 0, &living), 0);
/// ```
pub fn gives_back(sender: InstanceId, partitions: u32, free: u32, living: &[Holding]) -> u32 {
    let Some(own) = living.iter().position(|holding| holding.instance == sender) else {
        return 0;
    };
    let share = partitions / living.len() as u32;
    let missing: u32 = living.iter().map(|holding| share.saturating_sub(holding.held)).sum();
    let mut held: Vec<u32> = living.iter().map(|holding| holding.held).collect();
    for _ in 0..missing.saturating_sub(free) {
        let most = (0..living.len())
            .filter(|index| held[*index] > share)
            .max_by(|a, b| held[*a].cmp(&held[*b]).then(living[*b].instance.cmp(&living[*a].instance)));
        match most {
            Some(index) => held[index] -= 1,
            None => break,
        }
    }
    living[own].held - held[own]
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU128;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> InstanceId {
        InstanceId::from_bits(NonZeroU128::new(u128::from(number) + 1).expect("one more than a number"))
    }

    fn living(held: &[u32]) -> Vec<Holding> {
        let holding = |(index, held): (usize, &u32)| Holding { instance: id(index as u32), held: *held };
        held.iter().enumerate().map(holding).collect()
    }

    #[test]
    fn free_partitions_fall_to_who_holds_fewest() {
        // (held by instance 0, 1, …; free; taken by whoever asks first, each for itself)
        let cases: &[(&[u32], u32, &[u32])] = &[
            (&[0], 128, &[128]),
            (&[0, 0], 128, &[64, 64]),
            (&[0, 0, 0], 128, &[43, 43, 43]),
            (&[64, 0], 64, &[0, 64]),
            (&[11, 10], 11, &[5, 6]),
            (&[3, 3], 1, &[1, 1]),
            (&[5, 3, 3], 1, &[0, 1, 1]),
            (&[5, 5], 0, &[0, 0]),
        ];
        for (held, free, taken) in cases {
            let living = living(held);
            let got: Vec<u32> = (0..held.len()).map(|n| takes(id(n as u32), *free, &living)).collect();
            assert_eq!(got, *taken, "{held:?} and {free} free");
        }
        assert_eq!(takes(id(9), 4, &living(&[0])), 0);
        assert_eq!(takes(id(9), 4, &[]), 0);
    }

    #[test]
    fn the_most_loaded_give_back_what_is_missing_in_sum() {
        // (held, free, partitions, asked of each)
        let cases: &[(&[u32], u32, u32, &[u32])] = &[
            (&[128], 0, 128, &[0]),
            (&[128, 0], 0, 128, &[64, 0]),
            (&[64, 64, 0], 0, 128, &[21, 21, 0]),
            (&[65, 63, 0], 0, 128, &[22, 20, 0]),
            (&[64, 0], 64, 128, &[0, 0]),
            (&[96, 0], 32, 128, &[32, 0]),
            (&[43, 43, 42], 0, 128, &[0, 0, 0]),
            (&[1, 1, 0], 0, 2, &[0, 0, 0]),
        ];
        for (held, free, partitions, asked) in cases {
            let living = living(held);
            let ask = |n: usize| gives_back(id(n as u32), *partitions, *free, &living);
            let got: Vec<u32> = (0..held.len()).map(ask).collect();
            assert_eq!(got, *asked, "{held:?} and {free} free");
        }
        assert_eq!(gives_back(id(9), 4, 4, &[]), 0);
    }

    #[test]
    fn a_silence_of_all_is_a_truce_of_one_time_to_live() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let ttl = Duration::from_secs(10);
        // (last commit, truce so far, now, truce now)
        let cases = [
            (None, None, 100, None),
            (Some(96), None, 100, None),
            (Some(95), None, 100, Some(110)),
            (Some(99), Some(105), 100, Some(105)),
            (Some(99), Some(100), 100, None),
            (Some(90), Some(105), 100, Some(110)),
            // The clock jumped back by an hour: the truce is cut to one time to live.
            (Some(3_700), Some(3_705), 100, Some(110)),
        ];
        for (last, until, now, expected) in cases {
            assert_eq!(truce(last.map(at), until.map(at), at(now), ttl), expected.map(at), "at {now}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_held_everything_has_an_owner_in_the_end_and_nobody_has_too_much(
            partitions in 1u32..200,
            shares in prop::collection::vec(0u32..50, 1..12),
        ) {
            // Deal the partitions out as the shares say, the rest is free.
            let mut held = Vec::new();
            let mut free = partitions;
            for share in shares {
                let some = share.min(free);
                held.push(some);
                free -= some;
            }
            let n = held.len() as u32;
            let mut rounds = 0;
            loop {
                let mut changed = false;
                for own in 0..held.len() {
                    let takes = takes(id(own as u32), free, &living(&held));
                    held[own] += takes;
                    free -= takes;
                    let gives = gives_back(id(own as u32), partitions, free, &living(&held));
                    prop_assert!(held[own] - gives >= (partitions / n).min(held[own]));
                    held[own] -= gives;
                    free += gives;
                    changed |= takes + gives > 0;
                }
                rounds += 1;
                prop_assert!(rounds < 6, "no rest after {rounds} rounds: {held:?}, {free} free");
                if !changed {
                    break;
                }
            }
            prop_assert_eq!(free, 0);
            let least = *held.iter().min().unwrap();
            for held in &held {
                prop_assert!(least >= partitions / n || *held <= partitions / n + 1);
            }
        }
    }
}
