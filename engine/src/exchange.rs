//! One exchange: a batch goes to the store under its number, again and again until it is answered.

use std::time::Duration;

use whizbang_storage::{Answer, InstanceId, NotApplied, Sender, StoreError, WorkBatch, WorkStore};

use crate::host;

/// The pump's side of the store: who it is there, and the number of its next batch.
pub(crate) struct Exchange<S> {
    store: S,
    from: Sender,
    retry_max: Duration,
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Exchanged {
    /// The answer is there.
    Answered,
    /// Nothing was written and nothing ever will be under this instance: join again.
    Evicted,
    /// Nothing was written: send less at once.
    TooLarge,
    /// The caller gave up waiting; the batch may have been written.
    GivenUp,
    /// Store and engine do not agree about what was sent: a defect, and no way on that would be safe.
    Broken(StoreError),
}

impl<S: WorkStore> Exchange<S> {
    pub(crate) fn new(store: S, instance: InstanceId, retry_max: Duration) -> Self {
        Self { store, from: first(instance), retry_max }
    }

    /// Who sends the next batch, and under which number.
    pub(crate) fn from(&self) -> Sender {
        self.from
    }

    /// Starts over as a new instance.
    pub(crate) fn reborn(&mut self, instance: InstanceId) {
        self.from = first(instance);
    }

    /// Sends the batch once.
    pub(crate) async fn once(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        debug_assert_eq!(batch.from, self.from, "a batch carries the next number");
        answer.clear();
        self.store.process_work_batch(batch, answer).await?;
        self.from.number += 1;
        Ok(())
    }

    /// Sends the batch until it is answered. After each failure `pause` is told the error and waits; it may give up.
    ///
    /// An error that is not definite means *unknown*, so nothing but the very same batch may follow it. A definite one
    /// would allow another batch, but what failed here (a locked file, a full disk, a lost server) passes or does not.
    pub(crate) async fn until_answered(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
        mut pause: impl AsyncFnMut(&StoreError, Duration) -> Patience,
    ) -> Exchanged {
        let mut wait = Duration::from_millis(10);
        loop {
            let error = match self.once(batch, answer).await {
                Ok(()) if answer.evicted => return Exchanged::Evicted,
                Ok(()) => return Exchanged::Answered,
                Err(StoreError::NotApplied(NotApplied::BatchTooLarge { .. })) => return Exchanged::TooLarge,
                Err(StoreError::Evicted | StoreError::InstanceTaken) => return Exchanged::Evicted,
                Err(StoreError::Unknown(_)) if host::is_planted("takes-an-error-for-an-answer") => {
                    self.from.number += 1;
                    return Exchanged::Answered;
                }
                Err(StoreError::NotApplied(_)) if host::is_planted("drops-what-was-refused") => {
                    return Exchanged::Answered;
                }
                Err(error @ (StoreError::NotApplied(_) | StoreError::Unknown(_))) => error,
                Err(error) => return Exchanged::Broken(error),
            };
            let began = host::now();
            if pause(&error, wait).await == Patience::Over {
                return Exchanged::GivenUp;
            }
            tracing::debug!(?error, waited = ?host::now().saturating_duration_since(began), "exchange: sending the batch again");
            wait = (wait * 2).min(self.retry_max);
        }
    }
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    TryAgain,
    Over,
}

fn first(instance: InstanceId) -> Sender {
    Sender { instance, start_token: fastrand::u64(..), number: 1 }
}
