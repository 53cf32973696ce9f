//! Order: work of one stream runs one at a time, in the log's order, and may run ahead of the disk.
//!
//! A lane is (subscription, stream). It exists here only while it has something to remember: a handler that waits, work
//! behind it, units that the store has not answered yet. A lane that has nothing to do costs nothing.
//!
//! Two things need care. A unit may be refused when its lane is already further on (a conflict): then everything from
//! that unit on runs again, and what was sent in between is dropped by the pump, which tells it by the *generation*. And
//! a message may be parked (a retry) when the store has already handed out what follows: until every unit of the lane is
//! answered, what comes from the log's flow is deferred behind it; from then on the store itself says what must wait. Parked
//! work comes in runs of a lane: when one of a run is parked again, those behind it are given back. And what was dead and is asked
//! for again may find a later message of its lane that runs long: it waits here until that has ended.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;
use whizbang_storage::{Handed, LaneState, Origin, Partition, Position, StreamId};

use crate::handout::Handout;
use crate::host::{Hashing, is_planted};
use crate::own::Own;

/// One message for one subscription, still lying where it came in.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) handout: Own<Handout>,
    pub(crate) index: u32,
    /// The subscription's place in the dispatcher's list.
    pub(crate) flow: u32,
    /// How often its unit was in conflict.
    pub(crate) conflicts: u32,
    /// It came from the log's flow and was taken out of it: its handler ran long.
    pub(crate) detached: bool,
}

impl Work {
    pub(crate) fn handed(&self) -> Handed<'_> {
        self.handout.page.get(self.index as usize).expect("work is made from a page's own index")
    }

    /// The same without name and bytes: a look at it copies nothing.
    pub(crate) fn head(&self) -> &Handed<'static> {
        self.handout.page.head(self.index as usize).expect("work is made from a page's own index")
    }

    /// Whether it is out of the log's flow, so that it is settled by itself and waits for nobody.
    pub(crate) fn is_parked(&self) -> bool {
        self.detached || self.head().origin != Origin::Log
    }

    /// The same on a page of its own: what is kept for long does not keep its neighbours.
    pub(crate) fn alone(&self) -> Self {
        let handout = Own::new(Arc::new(Handout::of_one(&self.handed())));
        Self { handout, index: 0, ..*self }
    }

    pub(crate) fn key(&self) -> LaneKey {
        LaneKey { flow: self.flow, lane: self.head().lane_id() }
    }
}

/// Names a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) flow: u32,
    pub(crate) lane: StreamId,
}

/// What to do with a piece of work.
#[derive(Debug)]
pub(crate) enum Step {
    /// Give it to its handler.
    Run(Work),
    /// Send it behind the parked work of its stream: it is not its turn.
    Defer(Work),
}

/// What the store said about a unit, as far as its lane is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is written, or it was settled already.
    Settled,
    /// It has to run again.
    Conflict,
    /// It was not tried, or it was dropped, because an earlier one of its lane was not applied.
    NotTried,
    /// The store will never take it: the message has to die.
    Refused,
    /// The message is somebody else's now, or is settled otherwise; what was sent behind it has to run again.
    Lost,
}

impl Outcome {
    /// Whether everything of the lane from this unit on was not applied: the pump drops what was sent meanwhile.
    pub(crate) fn sets_back(self) -> bool {
        matches!(self, Self::Conflict | Self::Refused | Self::Lost)
    }
}

#[derive(Debug, Default)]
struct Lane {
    partition: Partition,
    /// Tells it from an earlier lane of the same key, whose partition was lost.
    born: u64,
    running: Option<Running>,
    waiting: VecDeque<Work>,
    /// Sent and not answered, in order.
    unanswered: VecDeque<Work>,
    /// Something of this lane was parked since it was last quiet.
    blocked: bool,
    /// Something that the store has parked is older than the lane's last quiet moment.
    parked: bool,
    /// Up to here, what came from the log was handed out before the store had parked something in front of it.
    behind: Option<Position>,
    /// Where a run of parked work broke off: one of it was parked again, and those behind it are not to be handled.
    broken_at: Option<Position>,
}

impl Lane {
    fn step(&mut self, work: Work) -> Step {
        let handed = work.head();
        let must_wait = if work.is_parked() {
            // The store hands it out when it is its turn, so the run that begins here is a new one.
            self.broken_at = self.broken_at.filter(|at| *at < handed.position);
            self.broken_at.is_some()
        } else {
            (self.blocked && !is_planted("runs-past-a-retry"))
                || self.is_behind(&work)
                || waits_in_store(&work)
        };
        if must_wait { Step::Defer(work) } else { Step::Run(work) }
    }

    /// Nothing is parked that the store does not know of.
    fn unblock(&mut self) {
        (self.blocked, self.parked, self.broken_at) = (false, false, None);
    }

    fn is_behind(&self, work: &Work) -> bool {
        self.behind.is_some_and(|to| work.head().position <= to)
    }

    /// Everything that waits here was handed out before its lane was set back, and the store may have parked something since.
    fn set_back(&mut self) {
        if self.parked && !is_planted("forgets-what-is-parked") {
            self.behind = self.waiting.iter().map(|work| work.head().position).max().max(self.behind);
        }
        self.unblock();
    }
}

/// The first step of a lane.
fn first_step(work: Work) -> Step {
    if waits_in_store(&work) { Step::Defer(work) } else { Step::Run(work) }
}

/// Whether a later message of its lane runs beside it: this one was dead meanwhile.
fn is_overtaken(detached: &[Detached], work: &Work) -> bool {
    let is_later = |it: &Detached| it.key == work.key() && it.work.head().position > work.head().position;
    !detached.is_empty()
        && work.is_parked()
        && detached.iter().any(is_later)
        && !is_planted("replays-beside-what-runs-on")
}

/// Whether the store has said that earlier work of the lane is parked.
fn waits_in_store(work: &Work) -> bool {
    !work.is_parked() && work.head().lane == LaneState::Parked
}

#[derive(Debug)]
struct Running {
    work: Work,
    /// Dropped to cancel the handler.
    cancel: oneshot::Sender<()>,
    /// The lane was set back while the handler ran: what it returns is not used.
    stale: bool,
}

/// A unit that was sent.
#[derive(Debug)]
struct Sent {
    key: LaneKey,
    born: u64,
    parks: bool,
    record: Option<Box<[u8]>>,
}

/// The store's answer to the oldest unit, as far as this worker is concerned.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) key: LaneKey,
    /// The record that was kept with it.
    pub(crate) record: Option<Box<[u8]>>,
    /// The work whose unit the store will never take.
    pub(crate) refused: Option<Work>,
}

/// A handler that runs beside its lane, because it runs long.
#[derive(Debug)]
struct Detached {
    key: LaneKey,
    work: Work,
    _cancel: oneshot::Sender<()>,
}

/// The lanes of one worker.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<LaneKey, Lane, Hashing>,
    detached: Vec<Detached>,
    /// The lane of each unit that was sent and not answered, in the order of sending.
    sent: VecDeque<Sent>,
    generation: u32,
    births: u64,
}

impl Lanes {
    /// Counts the conflicts this worker has taken note of; every unit is sent with it.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Work has come from the pump: it may be next, or wait its turn here.
    pub(crate) fn arrive(&mut self, work: Work) -> Option<Step> {
        if self.lanes.is_empty() && self.detached.is_empty() {
            return Some(first_step(work));
        }
        if is_overtaken(&self.detached, &work) {
            self.lane(&work).waiting.push_back(work.alone());
            return None;
        }
        let key = work.key();
        match self.lanes.get_mut(&key) {
            None => Some(first_step(work)),
            Some(lane) if lane.running.is_none() && lane.waiting.is_empty() => Some(lane.step(work)),
            Some(lane) => {
                lane.waiting.push_back(work);
                self.next(key)
            }
        }
    }

    /// A handler did not finish at once; it holds its lane until [`finished`](Self::finished).
    pub(crate) fn running(&mut self, work: Work, cancel: oneshot::Sender<()>) {
        let lane = self.lane(&work);
        debug_assert!(lane.running.is_none(), "one at a time");
        lane.running = Some(Running { work, cancel, stale: false });
    }

    /// A waiting handler has finished; its work comes back, or `None` when its lane was set back or is gone.
    pub(crate) fn finished(&mut self, key: LaneKey) -> Option<Work> {
        let running = self.lanes.get_mut(&key)?.running.take()?;
        (!running.stale || is_planted("uses-a-stale-handler")).then_some(running.work)
    }

    /// A waiting handler runs long: it goes on beside its lane, until [`finished_detached`](Self::finished_detached).
    /// `None` when its lane was set back or is gone.
    pub(crate) fn detach(&mut self, key: LaneKey) -> Option<Work> {
        let running = self.lanes.get_mut(&key)?.running.take_if(|running| !running.stale)?;
        let work = running.work.alone();
        let detached = Work { detached: true, ..work.clone() };
        self.detached.push(Detached { key, work: detached, _cancel: running.cancel });
        Some(work)
    }

    /// A detached handler has finished; `None` when it was cancelled meanwhile.
    pub(crate) fn finished_detached(&mut self, key: LaneKey, position: Position) -> Option<Work> {
        let is_it = |it: &Detached| it.key == key && it.work.head().position == position;
        let place = self.detached.iter().position(is_it)?;
        Some(self.detached.swap_remove(place).work)
    }

    /// Whether what this lane sends must be answered by itself, because something before it is not answered yet.
    pub(crate) fn is_tracked(&self, key: LaneKey) -> bool {
        !self.lanes.is_empty() && self.lanes.get(&key).is_some_and(|lane| !lane.unanswered.is_empty())
    }

    /// A unit was sent for this work. `parks`: it takes the message out of the log's flow, so what follows must wait.
    /// `record` is kept until it is answered.
    pub(crate) fn sent(&mut self, work: Work, parks: bool, record: Option<Box<[u8]>>) {
        let key = work.key();
        let lane = self.lane(&work);
        let born = lane.born;
        lane.blocked |= parks;
        if parks && work.is_parked() && lane.broken_at.is_none() && !is_planted("goes-on-in-a-broken-run") {
            lane.broken_at = Some(work.head().position);
        }
        lane.unanswered.push_back(work);
        self.sent.push_back(Sent { key, born, parks, record });
    }

    /// What the lane does next, if it is free.
    pub(crate) fn next(&mut self, key: LaneKey) -> Option<Step> {
        let lane = self.lanes.get_mut(&key)?;
        if lane.running.is_some() {
            return None;
        }
        let may_go = |work: &Work| !is_overtaken(&self.detached, work);
        match lane.waiting.iter().position(may_go).and_then(|place| lane.waiting.remove(place)) {
            Some(work) => Some(lane.step(work)),
            None => {
                if lane.unanswered.is_empty() && lane.waiting.is_empty() {
                    self.lanes.remove(&key);
                }
                None
            }
        }
    }

    /// The store has answered the oldest unit that was sent; `None` when none was.
    pub(crate) fn answered(&mut self, outcome: Outcome) -> Option<Answered> {
        let Sent { key, born, parks, record } = self.sent.pop_front()?;
        if outcome.sets_back() && !is_planted("keeps-its-generation") {
            self.generation += 1;
        }
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.born == born) else {
            return Some(Answered { key, record, refused: None });
        };
        let mut refused = None;
        match outcome {
            Outcome::Settled => {
                lane.unanswered.pop_front();
                lane.parked |= parks;
            }
            // Its work was put back when the earlier unit's answer came.
            Outcome::NotTried => {}
            Outcome::Conflict | Outcome::Refused | Outcome::Lost => {
                let mut first = lane.unanswered.pop_front();
                let later = std::mem::take(&mut lane.unanswered);
                match outcome {
                    Outcome::Refused => refused = first.take(),
                    Outcome::Lost => first = None,
                    _ => first.iter_mut().for_each(|work| work.conflicts += 1),
                }
                let running = lane.running.as_mut().filter(|running| !running.stale).map(|running| {
                    running.stale = true;
                    running.work.clone()
                });
                let waiting = std::mem::take(&mut lane.waiting);
                // A message that was detached and has ended stands here twice, with what was deferred meanwhile in between.
                lane.waiting.extend(first.into_iter().chain(later).chain(running).chain(waiting));
                let mut seen = HashSet::new();
                lane.waiting.retain(|work| {
                    seen.insert(work.head().position) || is_planted("repeats-what-was-detached")
                });
                lane.set_back();
                self.detached.retain(|detached| detached.key != key);
            }
        }
        if lane.unanswered.is_empty() {
            lane.unblock();
        }
        Some(Answered { key, record, refused })
    }

    /// Forgets everything of these partitions: waiting work is dropped, running handlers are cancelled.
    pub(crate) fn forget(&mut self, gone: impl Fn(Partition) -> bool) {
        self.lanes.retain(|_, lane| !gone(lane.partition));
        self.detached.retain(|detached| !gone(detached.work.head().partition));
    }

    /// Drops the work of these partitions that has not begun.
    pub(crate) fn quieten(&mut self, quiet: impl Fn(Partition) -> bool) {
        for lane in self.lanes.values_mut().filter(|lane| quiet(lane.partition)) {
            lane.waiting.clear();
        }
        self.lanes.retain(|_, lane| {
            lane.running.is_some() || !lane.unanswered.is_empty() || !lane.waiting.is_empty()
        });
    }

    /// What runs now in these partitions, and whether all that stands before it in its lane is settled, as far as is known
    /// here. What runs ahead of that must not be parked: it would come back before those that may have to run again.
    pub(crate) fn running_in(
        &self,
        wanted: impl Fn(Partition) -> bool,
    ) -> impl Iterator<Item = (whizbang_storage::Running, bool)> {
        let in_lanes = self
            .lanes
            .values()
            .filter_map(|lane| lane.running.as_ref().map(|running| (&running.work, running.stale)));
        let beside = self.detached.iter().map(|detached| (&detached.work, false));
        in_lanes.chain(beside).filter_map(move |(work, is_stale)| {
            let Handed { subscription, partition, position, .. } = *work.head();
            let is_before = |other: &Work| other.head().position < position;
            let is_ahead = is_stale
                || self.lanes.get(&work.key()).is_some_and(|lane| lane.unanswered.iter().any(is_before));
            let running = whizbang_storage::Running { subscription, partition, position };
            wanted(partition).then_some((running, !is_ahead || is_planted("parks-what-runs-ahead")))
        })
    }

    /// Whether anything of these partitions runs, waits, or is not answered.
    pub(crate) fn is_busy(&self, wanted: impl Fn(Partition) -> bool) -> bool {
        let beside = self.detached.iter().any(|detached| wanted(detached.work.head().partition));
        beside || self.lanes.values().any(|lane| wanted(lane.partition))
    }

    /// How much is remembered: lanes, handlers beside theirs, units without an answer.
    #[cfg(feature = "simulation")]
    pub(crate) fn held(&self) -> usize {
        self.lanes.len() + self.detached.len() + self.sent.len()
    }

    fn lane(&mut self, work: &Work) -> &mut Lane {
        let handed = work.head();
        let (key, partition) = (LaneKey { flow: work.flow, lane: handed.lane_id() }, handed.partition);
        self.lanes.entry(key).or_insert_with(|| {
            self.births += 1;
            Lane { partition, born: self.births, ..Lane::default() }
        })
    }
}

#[cfg(test)]
mod tests;
