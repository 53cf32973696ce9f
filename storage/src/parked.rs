//! The parked messages of one subscription in one partition: a state machine per message, and per lane who may run.
//!
//! For stores that keep an index of what they have parked in memory; `M` is whatever such a store keeps of a message.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{DeadReason, InstanceId, OnDead, Position, StreamId, Timestamp};

/// What orders a message.
pub trait InLane {
    /// Its stream, or the stream of one that its id names.
    fn lane(&self) -> StreamId;
}

/// A parked message.
#[derive(Debug, Clone)]
pub struct Row<M> {
    /// The message itself.
    pub message: M,
    /// What has become of it.
    pub state: State,
    /// Failures.
    pub attempts: u32,
    /// Deaths of its process while it was named.
    pub crashes: u32,
    /// The last error's text.
    pub error: Box<str>,
    /// When it was first parked.
    pub parked_at: Timestamp,
    /// When it dies if nobody knows its type; set when that was first said of it.
    pub dies_at: Option<Timestamp>,
    /// It was a dead letter.
    pub replay: bool,
}

/// What has become of a parked message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs when its time has come.
    Waiting {
        /// When that is.
        due_at: Timestamp,
    },
    /// It ran, or may have run, when its process died: a suspect.
    Orphaned,
    /// An instance has it.
    Running {
        /// Which one.
        by: InstanceId,
        /// How it was handed out.
        mode: Mode,
        /// What it was before.
        was: Was,
    },
    /// Nobody who had it knew its type.
    Unroutable,
    /// It is a dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
        /// Since when.
        at: Timestamp,
    },
}

/// How a running message was handed out. All but `Shared` are *named*: a death of the process counts as a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Together with others.
    Shared,
    /// As a suspect.
    Suspect,
    /// It runs long and the log flows on.
    Detached,
}

/// What a running message was before, and is again when it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// It waited.
    Waiting {
        /// Until when.
        due_at: Timestamp,
    },
    /// It was a suspect.
    Orphaned,
    /// Nobody who had it knew its type.
    Unroutable,
}

impl<M> Row<M> {
    /// A message parked now that waits until `due_at`.
    pub fn waiting(message: M, now: Timestamp, due_at: Timestamp) -> Self {
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
    pub fn attempt(&self) -> u32 {
        self.attempts.saturating_add(self.crashes).saturating_add(1)
    }

    /// Whether it is a dead letter.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead { .. })
    }

    /// Whether this instance has it.
    pub fn runs_at(&self, instance: InstanceId) -> bool {
        matches!(self.state, State::Running { by, .. } if by == instance)
    }

    /// Hands it to an instance.
    pub fn hand_out(&mut self, by: InstanceId) {
        let (was, mode) = match self.state {
            State::Orphaned => (Was::Orphaned, Mode::Suspect),
            State::Unroutable => (Was::Unroutable, Mode::Shared),
            State::Waiting { due_at } => (Was::Waiting { due_at }, Mode::Shared),
            State::Running { .. } | State::Dead { .. } => return,
        };
        self.state = State::Running { by, mode, was };
    }

    /// It was handed out and not run.
    pub fn hand_back(&mut self) {
        if let State::Running { was, .. } = self.state {
            self.state = match was {
                Was::Waiting { due_at } => State::Waiting { due_at },
                Was::Orphaned => State::Orphaned,
                Was::Unroutable => State::Unroutable,
            };
        }
    }

    /// An attempt failed: it waits, or it is dead if that was the last one.
    pub fn fail(&mut self, due_at: Timestamp, now: Timestamp, attempts_max: u32) {
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Waiting { due_at };
        if self.attempts >= attempts_max {
            self.die(DeadReason::AttemptsExhausted, now);
        }
    }

    /// The instance that had it was evicted.
    pub fn survive(&mut self, now: Timestamp, crashes_max: u32) {
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

    /// Whoever had it says that it is a dead letter, after an attempt or before one was begun.
    pub fn end_dead(&mut self, reason: DeadReason, now: Timestamp) {
        self.attempts = self.attempts.saturating_add(u32::from(reason.ends_an_attempt()));
        self.die(reason, now);
    }

    /// It is a dead letter from now on.
    pub fn die(&mut self, reason: DeadReason, now: Timestamp) {
        self.state = State::Dead { reason, at: now };
    }
}

/// All parked messages of one subscription in one partition.
#[derive(Debug)]
pub struct Parked<M> {
    rows: BTreeMap<Position, Row<M>>,
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

impl<M: InLane> Parked<M> {
    /// Nothing is parked.
    pub fn new(on_dead: OnDead) -> Self {
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

    /// All rows, in order.
    pub fn rows(&self) -> &BTreeMap<Position, Row<M>> {
        &self.rows
    }

    /// The row at a position.
    pub fn get(&self, position: Position) -> Option<&Row<M>> {
        self.rows.get(&position)
    }

    /// Whether a smaller position of the lane is parked.
    #[inline]
    pub fn blocks(&self, lane: StreamId, position: Position) -> bool {
        if self.lanes.is_empty() {
            return false;
        }
        self.lanes.get(&lane).and_then(BTreeSet::first).is_some_and(|first| *first < position)
    }

    /// The first of their lanes that wait, in order of (due time, position).
    pub fn ready(&self) -> impl Iterator<Item = (Timestamp, Position)> {
        self.ready.iter().copied()
    }

    /// The first of their lanes that are orphaned, in order.
    pub fn orphaned(&self) -> impl Iterator<Item = Position> {
        self.orphaned.iter().copied()
    }

    /// Rows that some instance has, in order.
    pub fn running(&self) -> impl Iterator<Item = Position> {
        self.running.iter().copied()
    }

    /// Rows of a type nobody knew, in order.
    pub fn unroutable(&self) -> impl Iterator<Item = Position> {
        self.unroutable.iter().copied()
    }

    /// Rows that run and were handed out as suspects, in order.
    pub fn running_suspects(&self) -> impl Iterator<Item = &Row<M>> {
        self.suspects.iter().filter_map(|position| self.rows.get(position))
    }

    /// What stands behind a row in its lane, in order.
    pub fn behind(&self, position: Position) -> impl Iterator<Item = (Position, &Row<M>)> {
        let lane = self.rows.get(&position).and_then(|row| self.lanes.get(&row.message.lane()));
        let behind = lane.into_iter().flat_map(move |lane| lane.range(position.next()..));
        behind.filter_map(|position| Some((*position, self.rows.get(position)?)))
    }

    /// Parks a message.
    pub fn insert(&mut self, position: Position, row: Row<M>) {
        self.rows.insert(position, row);
        self.link(position);
    }

    /// Ends a row.
    pub fn remove(&mut self, position: Position) -> Option<Row<M>> {
        self.unlink(position);
        self.rows.remove(&position)
    }

    /// Changes a row, and with it who may run in its lane.
    pub fn change(&mut self, position: Position, change: impl FnOnce(&mut Row<M>)) {
        self.unlink(position);
        if let Some(row) = self.rows.get_mut(&position) {
            change(row);
        }
        self.link(position);
    }

    /// Changes what dead rows mean for their lanes.
    pub fn set_on_dead(&mut self, on_dead: OnDead) {
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
        let (state, lane) = (row.state, row.message.lane());
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
        let (state, lane) = (row.state, row.message.lane());
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
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    positions: BTreeMap<Position, StreamId>,
    lanes: HashMap<StreamId, BTreeSet<Position>>,
}

impl Suspects {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Position and lane of the first.
    pub fn first(&self) -> Option<(Position, StreamId)> {
        self.iter().next()
    }

    /// Position and lane of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Position, StreamId)> {
        self.positions.iter().map(|(position, lane)| (*position, *lane))
    }

    /// Adds one.
    pub fn insert(&mut self, position: Position, lane: StreamId) {
        self.positions.insert(position, lane);
        self.lanes.entry(lane).or_default().insert(position);
    }

    /// One less.
    pub fn remove(&mut self, position: Position) {
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
    pub fn blocks(&self, lane: StreamId, position: Position) -> bool {
        if self.lanes.is_empty() {
            return false;
        }
        self.lanes.get(&lane).and_then(BTreeSet::first).is_some_and(|first| *first < position)
    }
}
