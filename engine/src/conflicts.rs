//! Which units were sent before their worker knew that their lane had been set back.

use std::collections::HashMap;

use crate::lanes::LaneKey;
use crate::settle::UnitHead;

/// The pump's side of the generations in [`lanes`](crate::lanes): what was sent under an older one is dropped.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    /// By worker: how many set-backs it has been told.
    told: Vec<u32>,
    /// Lanes that were set back, with their worker, and its count from which on they are sound again.
    broken: HashMap<LaneKey, (u32, u32)>,
}

impl Conflicts {
    /// Whether this unit was sent before its lane was set back.
    ///
    /// Asking changes nothing: a batch that was too large is built a second time.
    pub(crate) fn is_stale(&self, head: &UnitHead) -> bool {
        !self.broken.is_empty()
            && self.broken.get(&head.lane()).is_some_and(|(worker, sound_from)| {
                // The worker's ring keeps order: what is sent under this count or a later one is sound.
                *worker == head.worker && *sound_from > head.generation
            })
    }

    /// This unit was in a batch that was answered: what its worker had been told by then is not asked about any more.
    pub(crate) fn answered(&mut self, head: &UnitHead) {
        if !self.broken.is_empty() {
            self.broken
                .retain(|_, (worker, sound_from)| *worker != head.worker || *sound_from > head.generation);
        }
    }

    /// A unit was not applied: its lane is set back, and its worker will be told.
    pub(crate) fn set_back(&mut self, head: &UnitHead) {
        let worker = head.worker as usize;
        if self.told.len() <= worker {
            self.told.resize(worker + 1, 0);
        }
        self.told[worker] += 1;
        self.broken.insert(head.lane(), (head.worker, self.told[worker]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settle::How;
    use whizbang_storage::{Delivery, Epoch, Partition, Position, StreamId, SubscriptionId};

    fn head(worker: u32, stream: &str, generation: u32) -> UnitHead {
        let delivery = Delivery {
            subscription: SubscriptionId(1),
            partition: Partition(0),
            position: Position(1),
            lane: StreamId::from_key(stream),
            epoch: Epoch(1),
            attempt: 1,
        };
        UnitHead { worker, flow: 0, generation, incarnation: 0, delivery, parked: false, how: How::Done }
    }

    #[test]
    fn what_was_sent_before_the_worker_knew_is_stale() {
        let mut conflicts = Conflicts::default();
        assert!(!conflicts.is_stale(&head(0, "a", 0)));
        conflicts.set_back(&head(0, "a", 0));
        assert!(conflicts.is_stale(&head(0, "a", 0)));
        assert!(!conflicts.is_stale(&head(0, "b", 0)), "another lane");
        assert!(!conflicts.is_stale(&head(1, "b", 9)), "another worker's count says nothing");
        assert!(conflicts.is_stale(&head(0, "a", 0)));
        assert!(!conflicts.is_stale(&head(0, "a", 1)), "sent after the worker set the lane back");
        assert!(conflicts.is_stale(&head(0, "a", 0)), "a batch that is built again holds the same");
        conflicts.answered(&head(0, "a", 1));
        assert!(conflicts.broken.is_empty(), "nobody will ask about it any more");
    }

    #[test]
    fn two_lanes_of_one_worker_are_sound_again_each_in_its_turn() {
        let mut conflicts = Conflicts::default();
        conflicts.set_back(&head(0, "a", 0));
        conflicts.set_back(&head(0, "b", 0));
        assert!(!conflicts.is_stale(&head(0, "a", 1)));
        assert!(conflicts.is_stale(&head(0, "b", 1)), "its own set-back is the second");
        assert!(!conflicts.is_stale(&head(0, "b", 2)));
    }
}
