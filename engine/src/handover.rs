//! Giving partitions back: first nothing new begins there, then what runs may finish, then the store is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use whizbang_storage::{Epoch, Partition, Running};

use crate::host::is_planted;

/// Partitions on their way back to the group.
#[derive(Debug, Default)]
pub(crate) struct HandOver {
    leaving: BTreeMap<Partition, Leaving>,
}

#[derive(Debug)]
struct Leaving {
    epoch: Epoch,
    deadline: Instant,
    abandoned: bool,
    /// Since when nothing runs there.
    quiet: Option<Instant>,
    running: Vec<Running>,
}

/// A partition that is quiet waits so long for others that are to go as well: where instances share a database, each release
/// holds all of them up for a moment.
const LINGERS: Duration = Duration::from_millis(20);

impl HandOver {
    pub(crate) fn begin(&mut self, partition: Partition, epoch: Epoch, now: Instant, within: Duration) {
        let quiet = is_planted("releases-at-once").then_some(now);
        let leaving = Leaving { epoch, deadline: now + within, abandoned: false, quiet, running: Vec::new() };
        self.leaving.entry(partition).or_insert(leaving);
    }

    pub(crate) fn clear(&mut self) {
        self.leaving.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.leaving.len()
    }

    /// The worker says that a message was still running when it was cancelled.
    pub(crate) fn still_running(&mut self, running: Running) {
        if let Some(leaving) = self.leaving.get_mut(&running.partition) {
            leaving.running.push(running);
        }
    }

    /// The worker says that nothing runs there any more.
    pub(crate) fn quiet(&mut self, partition: Partition, now: Instant) {
        if let Some(leaving) = self.leaving.get_mut(&partition) {
            leaving.quiet.get_or_insert(now);
        }
    }

    /// Partitions whose time is up: what runs there has to be cancelled. Each is named once.
    pub(crate) fn overdue(&mut self, now: Instant, mut abandon: impl FnMut(Partition)) {
        for (partition, leaving) in &mut self.leaving {
            if leaving.quiet.is_none() && !leaving.abandoned && leaving.deadline <= now {
                leaving.abandoned = true;
                abandon(*partition);
            }
        }
    }

    /// The next instant at which a time is up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let next = |leaving: &Leaving| match leaving.quiet {
            Some(since) => Some(since + LINGERS),
            None => (!leaving.abandoned).then_some(leaving.deadline),
        };
        self.leaving.values().filter_map(next).min()
    }

    /// Whether what is ready should be released now: all of it is, or some has waited for the others.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let oldest = self.leaving.values().filter_map(|leaving| leaving.quiet).min();
        oldest.is_some_and(|since| {
            now >= since + LINGERS || self.leaving.values().all(|leaving| leaving.quiet.is_some())
        })
    }

    /// What can be released now.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (Partition, Epoch, &[Running])> {
        let quiet = self.leaving.iter().filter(|(_, leaving)| leaving.quiet.is_some());
        quiet.map(|(partition, leaving)| (*partition, leaving.epoch, leaving.running.as_slice()))
    }

    /// A partition is somebody else's now, or was released.
    pub(crate) fn gone(&mut self, partition: Partition) {
        self.leaving.remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whizbang_storage::{Position, SubscriptionId};

    #[test]
    fn a_partition_is_released_when_it_is_quiet_with_what_was_cancelled() {
        let (now, mut over) = (Instant::now(), HandOver::default());
        let partition = Partition(3);
        over.begin(partition, Epoch(1), now, Duration::from_secs(30));
        assert!(!over.is_due(now));
        over.overdue(now + Duration::from_secs(29), |_| panic!("there is time"));
        let mut abandoned = Vec::new();
        over.overdue(now + Duration::from_secs(30), |partition| abandoned.push(partition));
        over.overdue(now + Duration::from_secs(31), |_| panic!("once is enough"));
        assert_eq!(abandoned, [partition]);
        let running = Running { subscription: SubscriptionId(1), partition, position: Position(9) };
        over.still_running(running);
        over.quiet(partition, now);
        assert!(over.is_due(now));
        assert_eq!(over.ready().collect::<Vec<_>>(), [(partition, Epoch(1), &[running][..])]);
        over.gone(partition);
        assert_eq!((over.len(), over.next_deadline()), (0, None));
    }

    #[test]
    fn a_partition_that_is_ready_waits_a_little_for_the_others() {
        let (now, mut over) = (Instant::now(), HandOver::default());
        for partition in [1, 2] {
            over.begin(Partition(partition), Epoch(1), now, Duration::from_secs(30));
        }
        over.quiet(Partition(1), now);
        assert!(!over.is_due(now), "the other may be ready soon");
        assert_eq!(over.next_deadline(), Some(now + LINGERS));
        assert!(over.is_due(now + LINGERS), "it does not wait for ever");
        over.quiet(Partition(2), now);
        assert!(over.is_due(now), "all of them are ready");
        assert_eq!(over.ready().count(), 2);
    }
}
