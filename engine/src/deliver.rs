//! Takes an answer apart: what was stored is known, what may run goes to the workers, who waits is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use whizbang_storage::{
    Answer, Append, AppendAnswer, Condition, Handed, LaneState, Origin, ReadAnswer, SettledAnswer, Unit,
    UnitAnswer, WorkBatch,
};

use crate::agenda::Agenda;
use crate::assemble::{Assembled, Source};
use crate::conflicts::Conflicts;
use crate::flows::Flows;
use crate::handout::{Handout, worker_of};
use crate::host;
use crate::lanes::{LaneKey, Outcome};
use crate::replies::Refused;
use crate::settle::{How, UnitHead};
use crate::shared::{Shared, Wants};

/// What taking an answer apart needs.
pub(crate) struct Delivering<'p> {
    pub(crate) flows: &'p mut Flows,
    pub(crate) conflicts: &'p mut Conflicts,
    pub(crate) agenda: &'p mut Agenda,
    pub(crate) shared: &'p Shared,
    pub(crate) wants: &'p Wants,
    pub(crate) workers: usize,
    pub(crate) handout: Arc<Handout>,
    /// Lanes of which this batch has parked something.
    pub(crate) parked: HashSet<LaneKey>,
}

/// What came of it.
pub(crate) struct Delivered {
    pub(crate) handout: Arc<Handout>,
    /// Units that were settled.
    pub(crate) settled: u64,
}

impl Delivering<'_> {
    /// Takes the answer apart. The page is taken out of it and goes to the workers.
    pub(crate) fn deliver(
        mut self,
        batch: &WorkBatch<'_>,
        parts: &Assembled<'_>,
        answer: &mut Answer,
        now: Instant,
    ) -> Delivered {
        // Shared handouts are filled before they are shared.
        let mut handout = std::mem::take(&mut self.handout);
        let out = Arc::get_mut(&mut handout).expect("a handout that was just taken has one owner");
        std::mem::swap(&mut out.page, &mut answer.page);
        out.of.resize_with(self.workers, Default::default);

        self.parked = parked_lanes(parts, answer);
        for (ticket, why) in parts.unsendable {
            self.shared.replies.refuse(*ticket, why.clone());
        }
        self.units(parts, answer, out, now);
        for ((append, answered), ticket) in batch.appends.iter().zip(&answer.appends).zip(parts.tickets) {
            if let AppendAnswer::Refused(why) = answered {
                self.shared.replies.refuse(*ticket, Refused::ByStore(*why));
            }
            self.appended(append, answered, out, now);
        }
        for &(partition, head) in &answer.moved {
            self.flows.moved(partition, head);
        }
        self.reads(batch, answer, out);
        for index in answer.due.clone() {
            self.give(index, out);
        }
        for (range, answered) in parts.settled.iter().zip(&answer.settled) {
            if *answered == SettledAnswer::Unknown {
                tracing::error!(?range, "settle: the store knows nothing of these positions");
            }
        }
        let settled = self.tracked(parts, answer, out);
        Delivered { handout, settled }
    }

    /// Every unit: its messages are known, and its producer is told. Workers are told later, in the order of their rings.
    fn units(&mut self, parts: &Assembled<'_>, answer: &Answer, out: &mut Handout, now: Instant) {
        for ((unit, answered), source) in parts.units.iter().zip(&answer.units).zip(parts.sources) {
            let emits = match answered {
                UnitAnswer::Applied { emits } => &answer.emits[emits.clone()],
                _ => &[],
            };
            for (emit, answered) in unit.emits.iter().zip(emits) {
                self.appended(emit, answered, out, now);
            }
            match source {
                Source::Worker(head) => self.parked(head, answered, now),
                Source::Producer(slot) => {
                    let reply = refusal(unit, answered).map_or_else(|| Ok(emits.to_vec()), Err);
                    self.shared.replies.answer(*slot, reply);
                }
                Source::Single(ticket) => {
                    if let Some(why) = refusal(unit, answered) {
                        self.shared.replies.refuse(*ticket, why);
                    }
                }
            }
        }
    }

    /// A message that was appended: it may run at once, or will be read, or is on its way.
    fn appended(&mut self, append: &Append<'_>, answered: &AppendAnswer, out: &mut Handout, now: Instant) {
        let partition = append.lane().partition(self.shared.partitions);
        match *answered {
            AppendAnswer::Stored { position, version, handed_out } => {
                self.flows.appended(partition, position, handed_out);
                let Some(epoch) = self.flows.epoch(partition).filter(|_| handed_out) else {
                    return;
                };
                let lane_id = append.lane();
                for flow in 0..self.flows.subscriptions().len() {
                    let is_parked = !self.parked.is_empty()
                        && self.parked.contains(&LaneKey { flow: flow as u32, lane: lane_id });
                    if !(self.wants)(flow as u32, append.type_name) {
                        self.flows.done(flow, partition, epoch, position);
                        continue;
                    }
                    let index = out.page.len();
                    out.page.push(&Handed {
                        id: append.id,
                        stream: append.stream,
                        version,
                        kind: append.kind,
                        type_name: append.type_name,
                        type_version: append.type_version,
                        content_type: append.content_type,
                        payload: append.payload,
                        metadata: append.metadata,
                        correlation: append.correlation,
                        causation: append.causation,
                        subscription: self.flows.subscriptions()[flow],
                        partition,
                        position,
                        epoch,
                        attempt: 1,
                        origin: Origin::Log,
                        lane: if is_parked { LaneState::Parked } else { LaneState::Free },
                        condition: Condition::Whole,
                    });
                    out.of[worker_of(partition, self.workers)].items.push((index as u32, flow as u32));
                    self.flows.handed(partition, epoch);
                }
            }
            AppendAnswer::Arrived => match append.due_in {
                Some(after) => self.agenda.due_in(now, after),
                None if self.flows.epoch(partition).is_some() => self.agenda.arrivals_wait(),
                None => {}
            },
            AppendAnswer::Duplicate { .. } | AppendAnswer::Refused(_) => {}
        }
    }

    fn reads(&mut self, batch: &WorkBatch<'_>, answer: &Answer, out: &mut Handout) {
        for (read, answered) in batch.reads.iter().zip(&answer.reads) {
            match answered {
                ReadAnswer::Messages { messages, through } => {
                    let positions =
                        messages.clone().filter_map(|index| out.page.get(index).map(|m| m.position));
                    self.flows.read(read, *through, positions);
                    for index in messages.clone() {
                        self.give(index, out);
                    }
                }
                ReadAnswer::Paused => self.flows.pause(read.subscription),
                // The next heartbeat's answer says whose it is.
                ReadAnswer::Fenced => self.agenda.hinted(host::now()),
            }
        }
    }

    /// A message that the store handed out goes to its worker, unless nobody here wants it.
    fn give(&mut self, index: usize, out: &mut Handout) {
        let Some(handed) = out.page.get(index) else { return };
        let (partition, epoch, position) = (handed.partition, handed.epoch, handed.position);
        let subscriptions = self.flows.subscriptions();
        let Some(flow) = subscriptions.iter().position(|id| *id == handed.subscription) else {
            return;
        };
        let is_plain_flow = handed.origin == Origin::Log && handed.condition == Condition::Whole;
        if is_plain_flow && !(self.wants)(flow as u32, handed.type_name) {
            self.flows.done(flow, partition, epoch, position);
            return;
        }
        out.of[worker_of(partition, self.workers)].items.push((index as u32, flow as u32));
        self.flows.handed(partition, epoch);
    }

    /// What a worker's unit did to parked work: when it, or what waits behind it, will be due.
    fn parked(&mut self, head: &UnitHead, answered: &UnitAnswer, now: Instant) {
        if !matches!(answered, UnitAnswer::Applied { .. }) {
            return;
        }
        if head.parked || head.how == How::Defer {
            self.agenda.due_now();
        }
        if let How::Retry { after } = head.how {
            self.agenda.due_in(now, after);
        }
        metrics::counter!("whizbang_units_total", "how" => head.how.word()).increment(1);
    }

    /// Tells each worker what became of its units, in the order in which it sent them.
    fn tracked(&mut self, parts: &Assembled<'_>, answer: &Answer, out: &mut Handout) -> u64 {
        let mut settled = 0;
        for tracked in parts.tracked {
            let answered = tracked.unit.and_then(|unit| answer.units.get(unit));
            let outcome = answered.map_or(Outcome::NotTried, outcome);
            self.conflicts.answered(&tracked.head);
            if outcome.sets_back() && !host::is_planted("sends-what-was-set-back") {
                self.conflicts.set_back(&tracked.head);
            }
            // A detached handler still runs; it is counted when it ends.
            let is_over = tracked.head.how != How::Detach;
            if is_over && (outcome == Outcome::Settled || outcome == Outcome::Lost) {
                settled += 1;
                self.flows.settled(tracked.head.delivery.partition, tracked.head.delivery.epoch);
            }
            if let Some(share) = out.of.get_mut(tracked.head.worker as usize) {
                share.outcomes.push(outcome);
            }
        }
        settled
    }
}

/// The lanes of which this batch has parked something. A message that it emitted before that was still handed out at once;
/// nobody but this engine knows that it has to wait.
fn parked_lanes(parts: &Assembled<'_>, answer: &Answer) -> HashSet<LaneKey> {
    let parked = parts.sources.iter().zip(&answer.units).filter_map(|(source, answered)| match source {
        Source::Worker(head) if head.how.parks() && matches!(answered, UnitAnswer::Applied { .. }) => {
            (!host::is_planted("lets-emits-overtake-a-retry")).then(|| head.lane())
        }
        _ => None,
    });
    parked.collect()
}

/// What a unit's answer means for its lane.
fn outcome(answered: &UnitAnswer) -> Outcome {
    match answered {
        UnitAnswer::ProjectionConflict { .. } if host::is_planted("takes-a-conflict-for-done") => {
            Outcome::Settled
        }
        UnitAnswer::Applied { .. } => Outcome::Settled,
        UnitAnswer::StreamConflict { .. } | UnitAnswer::ProjectionConflict { .. } => Outcome::Conflict,
        UnitAnswer::Skipped => Outcome::NotTried,
        UnitAnswer::Refused(_) => Outcome::Refused,
        UnitAnswer::Fenced | UnitAnswer::AlreadySettled | UnitAnswer::Unknown => Outcome::Lost,
    }
}

/// Why a producer's unit was not applied; `None` when it was.
fn refusal(unit: &Unit<'_>, answered: &UnitAnswer) -> Option<Refused> {
    match answered {
        UnitAnswer::Applied { .. } => None,
        UnitAnswer::StreamConflict { stream, actual } => {
            let expected = unit.expects.iter().find(|of| of.stream == *stream && of.version != *actual);
            let expected = expected.map_or_else(Default::default, |of| of.version);
            Some(Refused::StreamConflict { stream: *stream, expected, actual: *actual })
        }
        UnitAnswer::ProjectionConflict { index } => {
            let of = unit.projections.get(*index);
            Some(Refused::ProjectionConflict {
                perspective: of.map_or_else(String::new, |of| of.perspective.to_owned()),
                key: of.map_or_else(Vec::new, |of| of.key.to_vec()),
            })
        }
        UnitAnswer::Refused(why) => Some(Refused::ByStore(*why)),
        // A unit without a delivery belongs to no lane and fences nothing.
        UnitAnswer::Fenced | UnitAnswer::Skipped | UnitAnswer::AlreadySettled | UnitAnswer::Unknown => {
            Some(Refused::Encoding("the store answered as if it settled something".to_owned()))
        }
    }
}
