//! What one exchange gives back to the workers: answers to their units, then messages to handle.

use std::collections::VecDeque;
use std::sync::Arc;

use whizbang_storage::{Handed, Page, Partition};

use crate::lanes::Outcome;

/// One exchange's answers and messages for all workers, shared by them and reused when the last one lets go.
#[derive(Debug, Default)]
pub(crate) struct Handout {
    pub(crate) page: Page,
    pub(crate) of: Vec<Share>,
}

/// One worker's part.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// What the store said about the worker's units, in the order they were sent; to be read before `items`.
    pub(crate) outcomes: Vec<Outcome>,
    /// The place in the page and the flow of each message.
    pub(crate) items: Vec<(u32, u32)>,
}

impl Handout {
    /// A page of one: a copy of a message that is kept longer than its neighbours.
    pub(crate) fn of_one(handed: &Handed<'_>) -> Self {
        let mut page = Page::default();
        page.push(handed);
        Self { page, of: Vec::new() }
    }

    /// Whether there is nothing in it for this worker.
    pub(crate) fn is_empty_for(&self, worker: usize) -> bool {
        self.of[worker].outcomes.is_empty() && self.of[worker].items.is_empty()
    }
}

/// The worker that handles a partition. All lanes of a partition are with one worker, so that order needs no lock.
pub(crate) fn worker_of(partition: Partition, workers: usize) -> usize {
    partition.0 as usize % workers.max(1)
}

/// Handouts that may still be read, oldest first, and so the memory that messages in flight take.
#[derive(Debug, Default)]
pub(crate) struct Handouts {
    given: VecDeque<Arc<Handout>>,
    free: Vec<Arc<Handout>>,
}

/// Handouts kept for reuse; more are in use only while handlers are slow.
const KEPT_MAX: usize = 4;
/// Memory kept with each.
const KEPT_MESSAGES: usize = 4_096;
const KEPT_BYTES: usize = 1 << 20;

impl Handouts {
    /// An empty handout that nobody else holds.
    pub(crate) fn take(&mut self, workers: usize) -> Arc<Handout> {
        self.reclaim();
        let mut handout = self.free.pop().unwrap_or_default();
        if let Some(own) = Arc::get_mut(&mut handout) {
            own.of.resize_with(workers, Share::default);
        }
        handout
    }

    /// Takes note of a handout that was sent; empty ones come straight back.
    pub(crate) fn sent(&mut self, handout: Arc<Handout>) {
        self.given.push_back(handout);
    }

    /// Payload bytes of messages that workers still hold.
    pub(crate) fn bytes(&mut self) -> usize {
        self.reclaim();
        self.given.iter().map(|handout| handout.page.bytes()).sum()
    }

    fn reclaim(&mut self) {
        let free = &mut self.free;
        self.given.retain_mut(|handout| {
            let Some(own) = Arc::get_mut(handout) else {
                return true;
            };
            if free.len() < KEPT_MAX {
                own.page.clear();
                own.page.shrink_to(KEPT_MESSAGES, KEPT_BYTES);
                for share in &mut own.of {
                    share.outcomes.clear();
                    share.items.clear();
                }
                free.push(std::mem::take(handout));
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handout_is_reused_when_nobody_holds_it() {
        let mut handouts = Handouts::default();
        let mut first = handouts.take(2);
        let own = Arc::get_mut(&mut first).expect("a new handout has one owner");
        own.of[1].outcomes.push(Outcome::Settled);
        assert!(own.is_empty_for(0) && !own.is_empty_for(1));
        let address = Arc::as_ptr(&first);
        let held = Arc::clone(&first);
        handouts.sent(first);
        assert_ne!(Arc::as_ptr(&handouts.take(2)), address, "a worker still reads it");
        drop(held);
        let again = handouts.take(2);
        assert_eq!(Arc::as_ptr(&again), address);
        assert!(again.is_empty_for(1), "it comes back empty");
    }
}
