//! How a handler's end becomes a settlement: done, tried again, dead, or set aside.

use std::panic::{AssertUnwindSafe, catch_unwind};

use whizbang_storage::{DeadReason, MessageId, Position};

use super::{POOL_MAX, PumpGone, Running, UNIT_KEPT, Work};
use crate::dispatch::{Dispatcher, ReceptorOptions};
use crate::failure::Verdict;
use crate::host;
use crate::settle::{How, NotSent, Settlement, UnitHead, delivery};
use crate::unit::Unit;
use crate::waiting::{Ended, Handled, Happened, Slot};

impl<D: Dispatcher, S, F> Running<D, S, F> {
    /// Settles a message as its handler's end says.
    pub(super) async fn conclude(&mut self, work: Work, happened: Happened) -> Result<(), PumpGone> {
        if let Happened::Finished(Handled { ended: Ended::Done, unit }) = happened {
            return self.settle(work, How::Done, "", Some(unit)).await;
        }
        let handed = work.handed();
        let kind = D::resolve(handed.type_name);
        let options =
            kind.and_then(|kind| D::options(work.flow as usize, kind)).unwrap_or(&ReceptorOptions::DEFAULT);
        let retry = || again(options, handed.attempt);
        let (how, text, unit) = match happened {
            Happened::Finished(Handled { ended, unit }) => {
                let (how, text) = match ended {
                    Ended::Done => (How::Done, String::new()),
                    Ended::Undecodable(text) => (How::Dead { reason: DeadReason::Undecodable }, text),
                    Ended::Failed(failure) => {
                        let how = match failure.verdict() {
                            Verdict::Retry => retry(),
                            Verdict::RetryIn(after) if handed.attempt < options.attempts_max => {
                                How::Retry { after }
                            }
                            Verdict::RetryIn(_) => retry(),
                            Verdict::Dead => How::Dead { reason: DeadReason::Rejected },
                        };
                        (how, text_of(&failure))
                    }
                };
                (how, text, Some(unit))
            }
            Happened::Panicked(text) => (retry(), text, None),
            Happened::OverDeadline => (
                retry(),
                format!("cancelled: it ran longer than its deadline of {:?}", options.deadline),
                None,
            ),
            Happened::RunsLong | Happened::Cancelled => return Ok(()),
        };
        self.settle(work, how, &text, unit).await
    }

    /// Sends a settlement to the pump: as one position of a range, or as a unit that is answered by itself.
    pub(super) async fn settle(
        &mut self,
        work: Work,
        how: How,
        text: &str,
        unit: Option<Box<Unit>>,
    ) -> Result<(), PumpGone> {
        let key = work.key();
        let handed = work.head();
        let produced = unit.as_ref().filter(|unit| how == How::Done && !unit.is_empty());
        let is_parked = work.is_parked();
        if how == How::Done && produced.is_none() && !is_parked && !self.lanes.is_tracked(key) {
            let done = Settlement::Done {
                flow: work.flow,
                partition: handed.partition,
                epoch: handed.epoch,
                position: handed.position,
            };
            self.give_back_unit(unit);
            return self.send(done, &[]).await;
        }
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        let mut record = None;
        match produced {
            Some(unit) => {
                unit.encode_into(&mut payload);
                let view = unit.view();
                if view.projections().len() > 0 {
                    self.projections.commit(&view);
                    record = Some(payload.clone().into_boxed_slice());
                }
            }
            None => payload.extend_from_slice(self.limits.cut(text).as_bytes()),
        }
        let head = UnitHead {
            worker: self.worker.number,
            flow: work.flow,
            generation: self.lanes.generation(),
            incarnation: self.incarnation,
            delivery: delivery(handed),
            parked: is_parked,
            how,
        };
        log(&head, handed.id, text);
        self.give_back_unit(unit);
        let sent = self.worker.ring.send(Settlement::Unit(head), &payload).await;
        self.scratch = payload;
        match sent {
            Ok(()) => {
                self.lanes.sent(work, how.parks(), record);
                Ok(())
            }
            Err(NotSent::Closed) => Err(PumpGone),
            // A unit's size is bounded when it is filled, by what the ring takes, and the shortest ring takes any text.
            Err(NotSent::TooLarge { bytes_max }) => {
                tracing::error!(
                    bytes_max,
                    "settle: a unit is larger than its ring takes; the message becomes a dead letter"
                );
                let how = How::Dead { reason: DeadReason::Rejected };
                let dead = Settlement::Unit(UnitHead { how, ..head });
                self.send(dead, b"what the receptor produced is larger than a ring takes").await?;
                self.lanes.sent(work, true, None);
                Ok(())
            }
        }
    }

    /// Sends what the pump has to know.
    pub(super) async fn send(&mut self, settlement: Settlement, payload: &[u8]) -> Result<(), PumpGone> {
        self.worker.ring.send(settlement, payload).await.map_err(|_| PumpGone)
    }

    fn give_back_unit(&mut self, unit: Option<Box<Unit>>) {
        if let Some(mut unit) = unit
            && self.units.len() < POOL_MAX
        {
            unit.shrink_to(UNIT_KEPT);
            self.units.push(unit);
        }
    }

    /// Keeps the place of a handler that has ended for another.
    pub(super) fn recycle(&mut self, mut slot: Slot<F>) {
        // Dropping a handler's future runs its destructors; a panic there is the handler's, not the worker's.
        let emptied = catch_unwind(AssertUnwindSafe(|| slot.set(None)));
        if emptied.is_ok() && self.slots.len() < POOL_MAX {
            self.slots.push(slot);
        }
    }
}

/// A failure's text. It is the user's own code that writes it, and may panic.
fn text_of(failure: &crate::failure::Failure) -> String {
    let text = catch_unwind(AssertUnwindSafe(|| failure.to_string()));
    text.unwrap_or_else(|_| "the failure's own text panicked".to_owned())
}

/// How a message that failed goes on: once more after a pause, or not at all.
pub(super) fn again(options: &ReceptorOptions, attempt: u32) -> How {
    // The store counts too, up to what the subscription's most patient receptor takes.
    let early = u32::from(host::is_planted("buries-too-early"));
    if attempt + early >= options.attempts_max {
        How::Dead { reason: DeadReason::AttemptsExhausted }
    } else {
        How::Retry { after: options.retry_after(attempt, fastrand::f32()) }
    }
}

fn log(head: &UnitHead, message: MessageId, text: &str) {
    let Position(position) = head.delivery.position;
    match head.how {
        How::Done | How::Defer | How::Release => {}
        How::Detach => tracing::debug!(position, partition = %head.delivery.partition, "receive: runs long"),
        how => {
            let (word, attempt) = (how.word(), head.delivery.attempt);
            let (partition, lane) = (head.delivery.partition, head.delivery.lane);
            tracing::warn!(%message, %lane, position, %partition, attempt, error = text, "receive: {word}");
        }
    }
}
