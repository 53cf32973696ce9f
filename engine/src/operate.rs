//! What an operator does: look after dead letters, pause and resume a subscription.

use tokio::sync::oneshot;
use whizbang_storage::{Operation, OperationAnswer, ParkedKey, SubscriptionId};

use crate::dispatch::Dispatcher;
use crate::engine::Engine;

/// Why an operation was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// There is no such dead letter any more: it was requeued or discarded before.
    #[error("there is no such dead letter any more")]
    Gone,
    /// This engine has no subscription of that name, or belongs to no group.
    #[error("this engine has no subscription of that name")]
    UnknownSubscription,
    /// The engine has stopped, or stopped before it had an answer: look again before repeating it.
    #[error("the engine has stopped")]
    Closed,
}

/// An operation on its way to the pump.
pub(crate) struct Order {
    pub(crate) what: What,
    pub(crate) done: oneshot::Sender<OperationAnswer>,
}

/// An operation before the store's numbers are known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Requeue(ParkedKey),
    Discard(ParkedKey),
    /// By the subscription's place in the dispatcher's list.
    Pause(usize),
    Resume(usize),
}

impl What {
    /// The operation as the store knows it; `None` when the engine has joined no such subscription.
    pub(crate) fn with_numbers(self, subscriptions: &[SubscriptionId]) -> Option<Operation<'static>> {
        Some(match self {
            Self::Requeue(key) => Operation::Requeue(key),
            Self::Discard(key) => Operation::Discard(key),
            Self::Pause(place) => Operation::Pause(*subscriptions.get(place)?),
            Self::Resume(place) => Operation::Resume(*subscriptions.get(place)?),
        })
    }
}

impl<D: Dispatcher> Engine<D> {
    /// Gives a dead letter to its subscription once more: at once, with a fresh count of attempts, marked as a replay.
    ///
    /// [`reader().dead_letters(…)`](crate::StoreReader::dead_letters) lists them with their keys.
    ///
    /// # Errors
    /// [`OperationError::Gone`] when somebody was faster.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be carried out or not.
    pub async fn requeue(&self, dead_letter: ParkedKey) -> Result<(), OperationError> {
        self.operate(What::Requeue(dead_letter)).await
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// [`OperationError::Gone`] when somebody was faster.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be carried out or not.
    pub async fn discard(&self, dead_letter: ParkedKey) -> Result<(), OperationError> {
        self.operate(What::Discard(dead_letter)).await
    }

    /// Hands out nothing of a subscription until it is [resumed](Self::resume), on all instances: for an outage of what its
    /// receptors talk to. Nothing is parked and no attempt is counted meanwhile.
    ///
    /// # Errors
    /// [`OperationError::UnknownSubscription`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be carried out or not.
    pub async fn pause(&self, subscription: &str) -> Result<(), OperationError> {
        self.operate(What::Pause(Self::place_of(subscription)?)).await
    }

    /// Ends a [pause](Self::pause). Other instances notice with their next heartbeat.
    ///
    /// # Errors
    /// [`OperationError::UnknownSubscription`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be carried out or not.
    pub async fn resume(&self, subscription: &str) -> Result<(), OperationError> {
        self.operate(What::Resume(Self::place_of(subscription)?)).await
    }

    fn place_of(subscription: &str) -> Result<usize, OperationError> {
        let place = D::SUBSCRIPTIONS.iter().position(|spec| spec.name == subscription);
        place.ok_or(OperationError::UnknownSubscription)
    }

    async fn operate(&self, what: What) -> Result<(), OperationError> {
        let (done, answer) = oneshot::channel();
        self.inner.shared.order(Order { what, done });
        match answer.await {
            Ok(OperationAnswer::Done | OperationAnswer::Registered(_)) => Ok(()),
            Ok(OperationAnswer::Gone) => Err(OperationError::Gone),
            Ok(OperationAnswer::Refused(_)) => Err(OperationError::UnknownSubscription),
            Err(_) => Err(OperationError::Closed),
        }
    }
}
