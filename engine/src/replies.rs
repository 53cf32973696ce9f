//! Answers that are not simply "stored": a slot for each message that can be answered otherwise.
//!
//! Plain messages need none: their ring's horizon answers a whole batch with one store. Of those, only what was refused
//! is remembered here, and only the newest: a ticket that nobody asks about must not keep memory for ever.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use whizbang_lockfree::Ticket;
use whizbang_storage::{AppendAnswer, Refusal, StreamId, Version};

/// Why an accepted message was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The store does not take it.
    #[error(transparent)]
    ByStore(#[from] Refusal),
    /// It could not be encoded.
    #[error("it could not be encoded: {0}")]
    Encoding(String),
    /// A stream was not at the version it was expected at.
    #[error("stream {stream} was expected at version {expected}, and is at version {actual}")]
    StreamConflict {
        /// The stream.
        stream: StreamId,
        /// Where it was expected.
        expected: Version,
        /// Where it is.
        actual: Version,
    },
    /// A projection was changed by somebody else meanwhile.
    #[error("projection {perspective:?} of key \"{}\" was changed by somebody else meanwhile", key.escape_ascii())]
    ProjectionConflict {
        /// The perspective it belongs to.
        perspective: String,
        /// Its key.
        key: Vec<u8>,
    },
}

/// What a producer's unit was answered with: an entry per message in it, or why there is none.
pub(crate) type UnitReply = Result<Vec<AppendAnswer>, Refused>;

/// Where an answer waits for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    slots: Mutex<Slots>,
    refused: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    newest: VecDeque<(Ticket, Refused)>,
    /// By ring: up to here refusals have been forgotten, so that nothing can be said of a ticket.
    forgotten: HashMap<usize, u64>,
}

/// What became of a plain message that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored,
    Refused(Refused),
    /// Too many were refused since: it may have been one of them.
    Unknown,
}

#[derive(Debug, Default)]
struct Slots {
    waiting: Vec<Option<oneshot::Sender<UnitReply>>>,
    free: Vec<u32>,
}

/// A slot's number; travels in a record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// Refusals that are remembered until somebody asks.
const REFUSED_MAX: usize = 1_024;

impl Replies {
    /// A slot, and the end at which its answer comes out.
    pub(crate) fn open(&self) -> (Slot, oneshot::Receiver<UnitReply>) {
        let (sender, receiver) = oneshot::channel();
        let mut slots = self.slots.lock();
        let number = match slots.free.pop() {
            Some(number) => {
                slots.waiting[number as usize] = Some(sender);
                number
            }
            None => {
                slots.waiting.push(Some(sender));
                (slots.waiting.len() - 1) as u32
            }
        };
        (Slot(number), receiver)
    }

    /// Gives a slot back whose message was not accepted.
    pub(crate) fn close(&self, slot: Slot) {
        drop(self.take(slot));
    }

    /// Answers a slot; nobody need be waiting any more.
    pub(crate) fn answer(&self, slot: Slot, reply: UnitReply) {
        if let Some(sender) = self.take(slot) {
            let _ = sender.send(reply);
        }
    }

    /// Drops every open slot: whoever waits learns that there will be no answer.
    pub(crate) fn abandon(&self) {
        *self.slots.lock() = Slots::default();
    }

    /// Remembers that a plain message was refused.
    pub(crate) fn refuse(&self, ticket: Ticket, why: Refused) {
        let mut refused = self.refused.lock();
        if refused.newest.len() == REFUSED_MAX
            && let Some((old, _)) = refused.newest.pop_front()
        {
            let forgotten = refused.forgotten.entry(old.ring()).or_default();
            *forgotten = old.position().max(*forgotten);
        }
        refused.newest.push_back((ticket, why));
    }

    /// What became of a plain message that was answered. May be asked any number of times.
    pub(crate) fn fate(&self, ticket: Ticket) -> Fate {
        let refused = self.refused.lock();
        if let Some((_, why)) = refused.newest.iter().find(|(of, _)| *of == ticket) {
            return Fate::Refused(why.clone());
        }
        match refused.forgotten.get(&ticket.ring()) {
            Some(forgotten) if ticket.position() <= *forgotten => Fate::Unknown,
            _ => Fate::Stored,
        }
    }

    fn take(&self, Slot(number): Slot) -> Option<oneshot::Sender<UnitReply>> {
        let mut slots = self.slots.lock();
        let sender = slots.waiting.get_mut(number as usize)?.take()?;
        slots.free.push(number);
        Some(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_the_slot_it_is_for_and_the_slot_is_used_again() {
        let replies = Replies::default();
        let (first, mut first_answer) = replies.open();
        let (second, mut second_answer) = replies.open();
        replies.answer(second, Ok(vec![AppendAnswer::Arrived]));
        assert_eq!(second_answer.try_recv().unwrap(), Ok(vec![AppendAnswer::Arrived]));
        assert!(first_answer.try_recv().is_err());
        let (again, _answer) = replies.open();
        assert_eq!(again, second);
        let conflict = Refused::ProjectionConflict { perspective: "totals".to_owned(), key: b"a\0".to_vec() };
        let text = r#"projection "totals" of key "a\x00" was changed by somebody else meanwhile"#;
        assert_eq!(conflict.to_string(), text);
        replies.answer(first, Err(conflict.clone()));
        assert_eq!(first_answer.try_recv().unwrap(), Err(conflict));
        replies.answer(first, Ok(Vec::new()));
    }

    #[test]
    fn abandoned_slots_say_that_there_will_be_no_answer() {
        let replies = Replies::default();
        let (slot, mut answer) = replies.open();
        replies.abandon();
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        replies.answer(slot, Ok(Vec::new()));
    }
}
