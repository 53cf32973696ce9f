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
    quiet: bool,
    running: Vec<Running>,
}

impl HandOver {
    pub(crate) fn begin(&mut self, partition: Partition, epoch: Epoch, now: Instant, within: Duration) {
        let quiet = is_planted("releases-at-once");
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
    pub(crate) fn quiet(&mut self, partition: Partition) {
        if let Some(leaving) = self.leaving.get_mut(&partition) {
            leaving.quiet = true;
        }
    }

    /// Partitions whose time is up: what runs there has to be cancelled. Each is named once.
    pub(crate) fn overdue(&mut self, now: Instant, mut abandon: impl FnMut(Partition)) {
        for (partition, leaving) in &mut self.leaving {
            if !leaving.quiet && !leaving.abandoned && leaving.deadline <= now {
                leaving.abandoned = true;
                abandon(*partition);
            }
        }
    }

    /// The next instant at which a time is up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.leaving.values().filter(|leaving| !leaving.quiet && !leaving.abandoned);
        waiting.map(|leaving| leaving.deadline).min()
    }

    pub(crate) fn any_ready(&self) -> bool {
        self.leaving.values().any(|leaving| leaving.quiet)
    }

    /// What can be released now.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (Partition, Epoch, &[Running])> {
        let quiet = self.leaving.iter().filter(|(_, leaving)| leaving.quiet);
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
        assert!(!over.any_ready());
        over.overdue(now + Duration::from_secs(29), |_| panic!("there is time"));
        let mut abandoned = Vec::new();
        over.overdue(now + Duration::from_secs(30), |partition| abandoned.push(partition));
        over.overdue(now + Duration::from_secs(31), |_| panic!("once is enough"));
        assert_eq!(abandoned, [partition]);
        let running = Running { subscription: SubscriptionId(1), partition, position: Position(9) };
        over.still_running(running);
        over.quiet(partition);
        assert!(over.any_ready());
        assert_eq!(over.ready().collect::<Vec<_>>(), [(partition, Epoch(1), &[running][..])]);
        over.gone(partition);
        assert_eq!((over.len(), over.next_deadline()), (0, None));
    }
}
