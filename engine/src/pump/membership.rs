//! Where an instance stands in its group: joining, what it owns, giving back, and starting over after it was evicted.

use std::time::{Duration, Instant};

use whizbang_storage::{
    InstanceId, Join, Membership, MembershipAnswer, Partition, StoreError, WorkBatch, WorkStore,
};

use super::{Profile, Pump, ToWorker};
use crate::agenda::Plan;
use crate::flows::Change;
use crate::handout::worker_of;
use crate::host;
use crate::settle::Scope;
use crate::shared::State;

/// How often the store is asked whether the suspects of a partition are settled, while what is new waits for them.
const HELD_ASKS: Duration = Duration::from_millis(5);

impl<S: WorkStore> Pump<S> {
    /// Says to the store that this instance is there. To be done once, before [`run`](Self::run).
    pub(crate) async fn join(&mut self) -> Result<(), StoreError> {
        let Profile { group, subscriptions, types } = &self.profile;
        let join = Join { group: group.as_deref(), subscriptions, types };
        let mut batch = WorkBatch::empty(self.exchange.from());
        batch.membership = Some(Membership::Join(join));
        self.exchange.once(&batch, &mut self.answer).await?;
        let membership = self.answer.membership.take().unwrap_or_default();
        self.flows.joined(&membership.subscriptions);
        self.shared.with_health(|health| health.state = State::Running);
        self.take_note(&membership);
        Ok(())
    }

    /// What an answer about membership leads to.
    pub(super) fn after(&mut self, plan: Plan, released: Vec<Partition>, now: Instant) {
        for partition in released {
            self.hand_over.gone(partition);
        }
        if let Some(membership) = self.answer.membership.take() {
            self.take_note(&membership);
            self.agenda.told(now, membership.arrivals_waiting, membership.next_due);
            self.give_back(membership.give_back, now);
            self.flows.ask_paused_again();
        } else if plan.heartbeat {
            tracing::warn!("the store answered a heartbeat without saying what this instance owns");
        }
        if self.flows.hold_until(now).is_some() {
            // Only a heartbeat says when the last suspect is settled.
            self.agenda.hinted(now + HELD_ASKS);
        }
        self.messages_max = (self.messages_max * 2).min(self.options.batch_messages_max);
    }

    /// Brings the partitions in line with what the store says is owned.
    fn take_note(&mut self, membership: &MembershipAnswer) {
        let (workers, hand_over, agenda) = (&self.workers, &mut self.hand_over, &mut self.agenda);
        self.flows.owned(membership, host::now(), |change| match change {
            Change::Gained(partition) => {
                tracing::debug!(%partition, "gained");
                // Its last owner may have left suspects, or parked work that is due.
                agenda.due_now();
                agenda.arrivals_wait();
            }
            Change::Lost(partition, epoch) => {
                tracing::debug!(%partition, "given away");
                hand_over.gone(partition);
                let worker = &workers[worker_of(partition, workers.len())];
                if !host::is_planted("keeps-what-was-given-away") {
                    let _ = worker.send(ToWorker::Forget(partition, epoch));
                }
            }
        });
        // What was given away is in flight no more, and the next exchange may be a heartbeat away.
        self.shared.holds(membership.owned.len(), self.flows.in_flight());
    }

    /// Starts to give so many partitions back, those already on their way included.
    fn give_back(&mut self, asked: usize, now: Instant) {
        let more = asked.saturating_sub(self.hand_over.len());
        let chosen: Vec<_> = self.flows.keepable().take(more).collect();
        for (partition, epoch) in chosen {
            self.flows.give_back(partition);
            self.hand_over.begin(partition, epoch, now, self.options.give_back_within);
            let worker = &self.workers[worker_of(partition, self.workers.len())];
            let _ = worker.send(ToWorker::Quieten(Scope::One(partition)));
        }
    }

    /// Starts over under a new id, after the group has taken this instance for dead.
    pub(super) async fn rejoin(&mut self) {
        tracing::warn!("evicted: joining again under a new id");
        self.incarnation += 1;
        for worker in self.workers.iter().filter(|_| !host::is_planted("keeps-a-rebirth-to-itself")) {
            let _ = worker.send(ToWorker::Reborn { incarnation: self.incarnation });
        }
        self.flows.clear();
        self.hand_over.clear();
        self.done_since = None;
        let mut wait = Duration::from_millis(10);
        loop {
            // Each try is a new instance: whether an earlier one was written does not matter, it owns nothing for long.
            self.exchange.reborn(new_instance());
            match self.join().await {
                Ok(()) => break,
                Err(error) => self.shared.storage_failed(&error),
            }
            self.follow_orders(host::now());
            if self.stopping.as_ref().is_some_and(|stopping| host::now() >= stopping.give_up_at) {
                break;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.options.storage_retry_max);
        }
        self.agenda.hinted(host::now());
        self.shared.with_health(|health| health.evictions += 1);
    }
}

/// The id of an instance that is new.
pub(super) fn new_instance() -> InstanceId {
    InstanceId::from_bits(host::next_id())
}
