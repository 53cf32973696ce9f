//! How a pump comes to its end: what was accepted is stored, what runs may finish or is cancelled, and the group is told.

use std::time::Instant;

use tokio::sync::mpsc;
use whizbang_storage::{Running, WorkStore};

use super::{Pump, ToWorker};
use crate::handout::worker_of;
use crate::handover::HandOver;
use crate::host;
use crate::settle::{Scope, Settlement};
use crate::shared::{State, StopTimes};

/// An engine that is coming to its end.
pub(super) struct Stopping {
    /// What still runs then is cancelled.
    pub(super) deadline: Instant,
    /// What could not be stored then is given up.
    pub(super) give_up_at: Instant,
    pub(super) abandoned: bool,
    /// Workers that still have something running.
    busy: usize,
    cancelled: usize,
    /// Of the cancelled, those whose attempt counts.
    pub(super) running: Vec<Running>,
}

/// How an engine came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Handlers that were cancelled because the deadline had come; their messages will be handled again.
    pub cancelled: usize,
    /// Whether everything that was accepted is durable. `false` when the store could not be reached before the deadline.
    pub all_durable: bool,
}

impl<S: WorkStore> Pump<S> {
    /// Does what the engine's handles asked for: stop, look at the store at once.
    pub(super) fn follow_orders(&mut self, now: Instant) {
        let orders = self.shared.take_orders();
        if orders.hinted {
            self.agenda.hinted(now);
        }
        self.operations.extend(orders.operations);
        // What names a subscription that was not joined is dropped, which its caller sees.
        let subscriptions = self.flows.subscriptions();
        self.operations.retain(|order| order.what.with_numbers(subscriptions).is_some());
        // Workers end with the user's runtime, or by a defect: then the group is to take over.
        let is_deserted =
            self.stopping.is_none() && self.workers.iter().any(mpsc::UnboundedSender::is_closed);
        if is_deserted {
            tracing::error!("receive: a worker has ended before its engine; the engine stops");
        }
        let stop = orders.stop.or_else(|| is_deserted.then(|| StopTimes::at_once(now)));
        if let Some(StopTimes { deadline, give_up_at }) = stop
            && self.stopping.is_none()
        {
            self.intake.close();
            self.shared.with_health(|health| health.state = State::Stopping);
            for worker in &self.workers {
                let _ = worker.send(ToWorker::Quieten(Scope::All));
            }
            let busy = self.workers.len();
            self.stopping = Some(Stopping {
                deadline,
                give_up_at,
                abandoned: false,
                busy,
                cancelled: 0,
                running: Vec::new(),
            });
        }
        let workers = &self.workers;
        self.hand_over.overdue(now, |partition| {
            let worker = &workers[worker_of(partition, workers.len())];
            let _ = worker.send(ToWorker::Abandon(Scope::One(partition)));
        });
        if let Some(stopping) = &mut self.stopping
            && !stopping.abandoned
            && stopping.deadline <= now
        {
            stopping.abandoned = true;
            for worker in &self.workers {
                let _ = worker.send(ToWorker::Abandon(Scope::All));
            }
        }
    }

    /// Whether everything is done that has to be done before leaving.
    pub(super) fn may_leave(&self) -> bool {
        let Some(stopping) = &self.stopping else {
            return false;
        };
        let workers_gone = self.workers.iter().filter(|worker| worker.is_closed()).count();
        // A worker whose runtime has ended says nothing any more.
        stopping.busy <= workers_gone
            && (self.intake.is_closed_and_empty() || host::is_planted("leaves-what-it-accepted"))
            && self.settled.is_empty()
            && !self.flows.has_done()
    }

    /// Lets go of everything, and tells whoever waits for the end.
    pub(super) fn end(self, all_durable: bool) {
        let Self { exchange, stopping, shared, workers, .. } = self;
        // Who waits for the end may open the store's file next.
        drop(exchange);
        drop(workers);
        let cancelled = stopping.map_or(0, |stopping| stopping.cancelled);
        shared.ended(Stopped { cancelled, all_durable });
    }
}

/// Takes note of what a worker said about partitions that are given back.
pub(super) fn notice_of(
    notice: Settlement,
    now: Instant,
    hand_over: &mut HandOver,
    stopping: &mut Option<Stopping>,
) {
    match notice {
        Settlement::StillRunning { running, is_first } => match stopping {
            Some(stopping) => {
                stopping.cancelled += 1;
                stopping.running.extend(is_first.then_some(running));
            }
            None if is_first => hand_over.still_running(running),
            None => {}
        },
        Settlement::Quiet { scope: Scope::One(partition) } => hand_over.quiet(partition, now),
        Settlement::Quiet { scope: Scope::All } => {
            if let Some(stopping) = stopping {
                stopping.busy = stopping.busy.saturating_sub(1);
            }
        }
        Settlement::Done { .. } | Settlement::Unit(_) => {}
    }
}
