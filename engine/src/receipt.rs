//! What a sender holds once its message is durable.

use std::sync::Arc;
use std::time::Duration;

use whizbang_storage::{
    AppendAnswer, DeadReason, MessageId, Position, ReadError, SameBody, StoreReader, StreamId, Version,
    Whereabouts,
};

use crate::shared::Shared;

/// Says that a message is durable: no crash loses it any more.
#[derive(Clone)]
pub struct Receipt {
    id: MessageId,
    stream: Option<StreamId>,
    stored: Stored,
    shared: Arc<Shared>,
}

/// What the store said of a message, where it said anything beyond "stored".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    position: Option<Position>,
    version: Option<Version>,
    duplicate: Option<(MessageId, SameBody)>,
}

impl Stored {
    pub(crate) fn of(answer: &AppendAnswer) -> Self {
        match *answer {
            AppendAnswer::Stored { position, version, .. } => {
                Self { position: Some(position), version, duplicate: None }
            }
            AppendAnswer::Duplicate { first, body } => {
                Self { duplicate: Some((first, body)), ..Self::default() }
            }
            AppendAnswer::Arrived | AppendAnswer::Refused(_) => Self::default(),
        }
    }
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    /// Every subscription has handled it.
    Done,
    /// At least one subscription has given it up; it waits as a dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
        /// The last error.
        error: String,
    },
}

impl Receipt {
    pub(crate) fn new(id: MessageId, stream: Option<StreamId>, stored: Stored, shared: Arc<Shared>) -> Self {
        Self { id, stream, stored, shared }
    }

    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The message that had the same key before; then this one was dropped.
    pub fn duplicate_of(&self) -> Option<MessageId> {
        self.stored.duplicate.map(|(first, _)| first)
    }

    /// Whether it was dropped as a duplicate of a message that says something else: two messages were given one key.
    pub fn is_conflicting_duplicate(&self) -> bool {
        matches!(self.stored.duplicate, Some((_, SameBody::Different)))
    }

    /// Its version in its stream, where the store has said so: for events that were sent with options or in a group.
    pub fn version(&self) -> Option<Version> {
        self.stored.version
    }

    /// Waits until the message was handled by every subscription, or given up. Of a duplicate: until the first one was.
    ///
    /// Asks the store's reading side, with a pause between two questions that grows from 1 ms to 1 s, so it works for
    /// messages of other instances too. It waits as long as it takes: put a time-out around it.
    ///
    /// # Errors
    /// [`ReadError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped and called again at any time.
    pub async fn handled(&self) -> Result<Handled, ReadError> {
        let message = self.duplicate_of().unwrap_or(self.id);
        let mut pause = Duration::from_millis(1);
        loop {
            match self.shared.reader.whereabouts(message, self.stream).await? {
                Whereabouts::NotWaiting => return Ok(Handled::Done),
                Whereabouts::Dead { reason, error } => return Ok(Handled::Dead { reason, error }),
                Whereabouts::Waiting => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").field("id", &self.id).field("stored", &self.stored).finish_non_exhaustive()
    }
}
