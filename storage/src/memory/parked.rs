//! The parked messages of one subscription in one partition: a state machine per message, and per lane who may run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::message::Message;
use crate::{DeadReason, InstanceId, OnDead, Position, StreamId, Timestamp};

/// A parked message.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) message: Message,
    pub(super) state: State,
    /// Failures.
    pub(super) attempts: u32,
    /// Deaths of its process while it was named.
    pub(super) crashes: u32,
    pub(super) error: Box<str>,
    pub(super) parked_at: Timestamp,
    /// When it dies if nobody knows its type; set when that was first said of it.
    pub(super) dies_at: Option<Timestamp>,
    /// It was a dead letter.
    pub(super) replay: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It runs when its time has come.
    Waiting { due_at: Timestamp },
    /// It ran, or may have run, when its process died: a suspect.
    Orphaned,
    /// An instance has it.
    Running { by: InstanceId, mode: Mode, was: Was },
    /// Nobody who had it knew its type.
    Unroutable,
    /// It is a dead letter.
    Dead { reason: DeadReason, at: Timestamp },
}

/// How a running message was handed out. All but `Shared` are *named*: a death of the process counts as a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Together with others.
    Shared,
    /// As a suspect.
    Suspect,
    /// It runs long and the log flows on.
    Detached,
}

/// What a running message was before, and is again when it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    Waiting { due_at: Timestamp },
    Orphaned,
    Unroutable,
}

impl Row {
    /// A message parked now that waits until `due_at`.
    pub(super) fn waiting(message: Message, now: Timestamp, due_at: Timestamp) -> Self {
        Self {
            message,
            state: State::Waiting { due_at },
            attempts: 0,
            crashes: 0,
            error: Box::default(),
            parked_at: now,
            dies_at: None,
            replay: false,
        }
    }

    /// The attempt it is handed out with.
    pub(super) fn attempt(&self) -> u32 {
        self.attempts.saturating_add(self.crashes).saturating_add(1)
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead { .. })
    }

    pub(super) fn runs_at(&self, instance: InstanceId) -> bool {
        matches!(self.state, State::Running { by, .. } if by == instance)
    }

    /// Hands it to an instance.
    pub(super) fn hand_out(&mut self, by: InstanceId) {
        let (was, mode) = match self.state {
            State::Orphaned => (Was::Orphaned, Mode::Suspect),
            State::Unroutable => (Was::Unroutable, Mode::Shared),
            State::Waiting { due_at } => (Was::Waiting { due_at }, Mode::Shared),
            State::Running { .. } | State::Dead { .. } => return,
        };
        self.state = State::Running { by, mode, was };
    }

    /// It was handed out and not run.
    pub(super) fn hand_back(&mut self) {
        if let State::Running { was, .. } = self.state {
            self.state = match was {
                Was::Waiting { due_at } => State::Waiting { due_at },
                Was::Orphaned => State::Orphaned,
                Was::Unroutable => State::Unroutable,
            };
        }
    }

    /// An attempt failed: it waits, or it is dead if that was the last one.
    pub(super) fn fail(&mut self, due_at: Timestamp, now: Timestamp, attempts_max: u32) {
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Waiting { due_at };
        if self.attempts >= attempts_max {
            self.die(DeadReason::AttemptsExhausted, now);
        }
    }

    /// The instance that had it was evicted.
    pub(super) fn survive(&mut self, now: Timestamp, crashes_max: u32) {
        let State::Running { mode, .. } = self.state else {
            return;
        };
        self.state = State::Orphaned;
        if mode != Mode::Shared {
            self.crashes = self.crashes.saturating_add(1);
            if self.crashes >= crashes_max {
                self.die(DeadReason::AttemptsExhausted, now);
            }
        }
    }

    pub(super) fn die(&mut self, reason: DeadReason, now: Timestamp) {
        self.state = State::Dead { reason, at: now };
    }
}

/// All parked messages of one subscription in one partition.
#[derive(Debug)]
pub(super) struct Parked {
    rows: BTreeMap<Position, Row>,
    on_dead: OnDead,
    // What blocks a lane: every row of it, dead ones only under `Halt`.
    lanes: HashMap<StreamId, BTreeSet<Position>>,
    // The first of each lane, if it waits or is orphaned.
    ready: BTreeSet<(Timestamp, Position)>,
    orphaned: BTreeSet<Position>,
    // Whatever its place in its lane.
    running: BTreeSet<Position>,
    unroutable: BTreeSet<Position>,
    // Those that run as suspects.
    suspects: BTreeSet<Position>,
}

impl Parked {
    pub(super) fn new(on_dead: OnDead) -> Self {
        Self {
            rows: BTreeMap::new(),
            on_dead,
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            orphaned: BTreeSet::new(),
            running: BTreeSet::new(),
            unroutable: BTreeSet::new(),
            suspects: BTreeSet::new(),
        }
    }

    pub(super) fn rows(&self) -> &BTreeMap<Position, Row> {
        &self.rows
    }

    pub(super) fn get(&self, position: Position) -> Option<&Row> {
        self.rows.get(&position)
    }

    /// Whether a smaller position of the lane is parked.
    #[inline]
    pub(super) fn blocks(&self, lane: StreamId, position: Position) -> bool {
        if self.lanes.is_empty() {
            return false;
        }
        self.lanes.get(&lane).and_then(BTreeSet::first).is_some_and(|first| *first < position)
    }

    /// The first of their lanes that wait, in order of (due time, position).
    pub(super) fn ready(&self) -> impl Iterator<Item = (Timestamp, Position)> {
        self.ready.iter().copied()
    }

    /// The first of their lanes that are orphaned, in order.
    pub(super) fn orphaned(&self) -> impl Iterator<Item = Position> {
        self.orphaned.iter().copied()
    }

    /// Rows that some instance has, in order.
    pub(super) fn running(&self) -> impl Iterator<Item = Position> {
        self.running.iter().copied()
    }

    /// Rows of a type nobody knew, in order.
    pub(super) fn unroutable(&self) -> impl Iterator<Item = Position> {
        self.unroutable.iter().copied()
    }

    /// Rows that run and were handed out as suspects, in order.
    pub(super) fn running_suspects(&self) -> impl Iterator<Item = &Row> {
        self.suspects.iter().filter_map(|position| self.rows.get(position))
    }

    /// What stands behind a row in its lane, in order.
    pub(super) fn behind(&self, position: Position) -> impl Iterator<Item = (Position, &Row)> {
        let lane = self.rows.get(&position).and_then(|row| self.lanes.get(&row.message.head.lane()));
        let behind = lane.into_iter().flat_map(move |lane| lane.range(position.next()..));
        behind.filter_map(|position| Some((*position, self.rows.get(position)?)))
    }

    pub(super) fn insert(&mut self, position: Position, row: Row) {
        self.rows.insert(position, row);
        self.link(position);
    }

    pub(super) fn remove(&mut self, position: Position) -> Option<Row> {
        self.unlink(position);
        self.rows.remove(&position)
    }

    /// Changes a row, and with it who may run in its lane.
    pub(super) fn change(&mut self, position: Position, change: impl FnOnce(&mut Row)) {
        self.unlink(position);
        if let Some(row) = self.rows.get_mut(&position) {
            change(row);
        }
        self.link(position);
    }

    /// Changes what dead rows mean for their lanes.
    pub(super) fn set_on_dead(&mut self, on_dead: OnDead) {
        if self.on_dead == on_dead {
            return;
        }
        let dead: Vec<Position> =
            self.rows.iter().filter(|(_, row)| row.is_dead()).map(|(position, _)| *position).collect();
        dead.iter().for_each(|position| self.unlink(*position));
        self.on_dead = on_dead;
        dead.iter().for_each(|position| self.link(*position));
    }

    fn link(&mut self, position: Position) {
        let Some(row) = self.rows.get(&position) else {
            return;
        };
        let (state, lane) = (row.state, row.message.head.lane());
        match state {
            State::Running { mode, .. } => {
                self.running.insert(position);
                if mode == Mode::Suspect {
                    self.suspects.insert(position);
                }
            }
            State::Unroutable => {
                self.unroutable.insert(position);
            }
            State::Waiting { .. } | State::Orphaned | State::Dead { .. } => {}
        }
        if self.is_blocking(state) {
            self.unmark_first(lane);
            self.lanes.entry(lane).or_default().insert(position);
            self.mark_first(lane);
        }
    }

    fn unlink(&mut self, position: Position) {
        let Some(row) = self.rows.get(&position) else {
            return;
        };
        let (state, lane) = (row.state, row.message.head.lane());
        match state {
            State::Running { mode, .. } => {
                self.running.remove(&position);
                if mode == Mode::Suspect {
                    self.suspects.remove(&position);
                }
            }
            State::Unroutable => {
                self.unroutable.remove(&position);
            }
            State::Waiting { .. } | State::Orphaned | State::Dead { .. } => {}
        }
        if self.is_blocking(state) {
            self.unmark_first(lane);
            if let Some(positions) = self.lanes.get_mut(&lane) {
                positions.remove(&position);
                if positions.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
            self.mark_first(lane);
        }
    }

    fn is_blocking(&self, state: State) -> bool {
        !matches!(state, State::Dead { .. }) || self.on_dead == OnDead::Halt
    }

    fn first_of(&self, lane: StreamId) -> Option<(Position, State)> {
        let first = *self.lanes.get(&lane)?.first()?;
        Some((first, self.rows.get(&first)?.state))
    }

    fn mark_first(&mut self, lane: StreamId) {
        match self.first_of(lane) {
            Some((first, State::Waiting { due_at })) => {
                self.ready.insert((due_at, first));
            }
            Some((first, State::Orphaned)) => {
                self.orphaned.insert(first);
            }
            _ => {}
        }
    }

    fn unmark_first(&mut self, lane: StreamId) {
        match self.first_of(lane) {
            Some((first, State::Waiting { due_at })) => {
                self.ready.remove(&(due_at, first));
            }
            Some((first, State::Orphaned)) => {
                self.orphaned.remove(&first);
            }
            _ => {}
        }
    }
}

/// What an owner that died was given from the log, and has not settled: in order, and by lane.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    positions: BTreeMap<Position, StreamId>,
    lanes: HashMap<StreamId, BTreeSet<Position>>,
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn first(&self) -> Option<(Position, StreamId)> {
        self.iter().next()
    }

    /// Position and lane of each, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Position, StreamId)> {
        self.positions.iter().map(|(position, lane)| (*position, *lane))
    }

    pub(super) fn insert(&mut self, position: Position, lane: StreamId) {
        self.positions.insert(position, lane);
        self.lanes.entry(lane).or_default().insert(position);
    }

    pub(super) fn remove(&mut self, position: Position) {
        if let Some(lane) = self.positions.remove(&position)
            && let Some(positions) = self.lanes.get_mut(&lane)
        {
            positions.remove(&position);
            if positions.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// Whether a smaller position of the lane is suspect.
    #[inline]
    pub(super) fn blocks(&self, lane: StreamId, position: Position) -> bool {
        if self.lanes.is_empty() {
            return false;
        }
        self.lanes.get(&lane).and_then(BTreeSet::first).is_some_and(|first| *first < position)
    }
}
