//! Parked messages: a state machine per message; who may run is computed from the rows of its lane.

use rusqlite::{Row as SqlRow, params};
use whizbang_storage::{DeadReason, InstanceId, OnDead, Partition, Position, StreamId, Timestamp};

use crate::error::Stop;
use crate::exchange::Exchange;
use crate::log::Copied;
use whizbang_storage::record::{Record, fallback_id};

/// A parked message without its record.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    pub(crate) id: i64,
    pub(crate) position: Position,
    pub(crate) lane: StreamId,
    pub(crate) state: Standing,
    /// When it may run, if it waits, or waited before it was handed out.
    pub(crate) due: Timestamp,
    /// Failures.
    pub(crate) attempts: u32,
    /// Deaths of its process while it was named.
    pub(crate) crashes: u32,
    /// When it dies if nobody knows its type; set when that was first said of it.
    pub(crate) dies_at: Option<Timestamp>,
    /// It was a dead letter.
    pub(crate) replay: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It runs when its time has come.
    Waiting,
    /// It ran, or may have run, when its process died: a suspect.
    Orphaned,
    /// Nobody who had it knew its type.
    Unroutable,
    /// An instance has it; `was` is what it is again when it is given back.
    Running { by: InstanceId, mode: Mode, was: Was },
    /// It is a dead letter.
    Dead { reason: DeadReason, at: Timestamp },
}

/// How a running message was handed out. All but `Shared` are *named*: a death of the process counts as a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Together with others.
    Shared,
    /// As a suspect.
    Suspect,
    /// It runs long, and the log flows on.
    Detached,
}

/// What a running message was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Was {
    Waiting,
    Orphaned,
    Unroutable,
}

// The states as they are stored.
const WAITING: i64 = 1;
const ORPHANED: i64 = 2;
const UNROUTABLE: i64 = 3;
const RUNNING: i64 = 4;
const DEAD: i64 = 5;

impl Parked {
    /// A message that waits until `due`.
    pub(crate) fn waiting(position: Position, lane: StreamId, due: Timestamp) -> Self {
        Self {
            id: 0,
            position,
            lane,
            state: Standing::Waiting,
            due,
            attempts: 0,
            crashes: 0,
            dies_at: None,
            replay: false,
        }
    }

    /// The attempt it is handed out with.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempts.saturating_add(self.crashes).saturating_add(1)
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, Standing::Dead { .. })
    }

    pub(crate) fn runs_at(&self, instance: InstanceId) -> bool {
        matches!(self.state, Standing::Running { by, .. } if by == instance)
    }

    /// Hands it to an instance.
    pub(crate) fn hand_out(&mut self, by: InstanceId) {
        let (was, mode) = match self.state {
            Standing::Waiting => (Was::Waiting, Mode::Shared),
            Standing::Orphaned => (Was::Orphaned, Mode::Suspect),
            Standing::Unroutable => (Was::Unroutable, Mode::Shared),
            Standing::Running { .. } | Standing::Dead { .. } => return,
        };
        self.state = Standing::Running { by, mode, was };
    }

    /// It was handed out and not run.
    pub(crate) fn hand_back(&mut self) {
        if let Standing::Running { was, .. } = self.state {
            self.state = match was {
                Was::Waiting => Standing::Waiting,
                Was::Orphaned => Standing::Orphaned,
                Was::Unroutable => Standing::Unroutable,
            };
        }
    }

    /// It waits until `due`, whatever it did before.
    pub(crate) fn wait(&mut self, due: Timestamp) {
        (self.state, self.due) = (Standing::Waiting, due);
    }

    /// An attempt failed: it waits, or it is dead if that was the last one.
    pub(crate) fn fail(&mut self, due: Timestamp, now: Timestamp, attempts_max: u32) {
        self.attempts = self.attempts.saturating_add(1);
        self.wait(due);
        if self.attempts >= attempts_max {
            self.die(DeadReason::AttemptsExhausted, now);
        }
    }

    /// The instance that had it was evicted.
    pub(crate) fn survive(&mut self, now: Timestamp, crashes_max: u32) {
        let Standing::Running { mode, .. } = self.state else {
            return;
        };
        self.state = Standing::Orphaned;
        if mode != Mode::Shared {
            self.crashes = self.crashes.saturating_add(1);
            if self.crashes >= crashes_max {
                self.die(DeadReason::AttemptsExhausted, now);
            }
        }
    }

    /// Whoever had it says that it is a dead letter, after an attempt or before one was begun.
    pub(crate) fn end_dead(&mut self, reason: DeadReason, at: Timestamp) {
        self.attempts = self.attempts.saturating_add(u32::from(reason.ends_an_attempt()));
        self.die(reason, at);
    }

    pub(crate) fn die(&mut self, reason: DeadReason, at: Timestamp) {
        self.state = Standing::Dead { reason, at };
    }

    /// Reads the columns that `COLUMNS` of every statement on parked rows begins with.
    pub(crate) fn of(row: &SqlRow<'_>) -> Result<Self, Stop> {
        const DAMAGED: Stop = Stop::Damaged("a parked row cannot be read");
        let instant = |index| row.get::<_, Option<i64>>(index).map(|at| at.map(Timestamp::from_micros));
        let state = match row.get::<_, i64>(3)? {
            WAITING => Standing::Waiting,
            ORPHANED => Standing::Orphaned,
            UNROUTABLE => Standing::Unroutable,
            RUNNING => Standing::Running {
                by: InstanceId::from_bytes(row.get(4)?).ok_or(DAMAGED)?,
                mode: match row.get::<_, i64>(5)? {
                    1 => Mode::Suspect,
                    2 => Mode::Detached,
                    _ => Mode::Shared,
                },
                was: match row.get::<_, i64>(6)? {
                    ORPHANED => Was::Orphaned,
                    UNROUTABLE => Was::Unroutable,
                    _ => Was::Waiting,
                },
            },
            _ => Standing::Dead {
                reason: DeadReason::from_number(row.get(7)?).ok_or(DAMAGED)?,
                at: instant(8)?.ok_or(DAMAGED)?,
            },
        };
        Ok(Self {
            id: row.get(0)?,
            position: Position(row.get::<_, i64>(1)? as u64),
            lane: StreamId::from_bytes(row.get(2)?).ok_or(DAMAGED)?,
            state,
            due: Timestamp::from_micros(row.get(9)?),
            attempts: row.get(10)?,
            crashes: row.get(11)?,
            dies_at: instant(12)?,
            replay: row.get(13)?,
        })
    }

    fn columns(&self) -> Columns {
        let mut columns = Columns { state: WAITING, was: WAITING, ..Columns::default() };
        match self.state {
            Standing::Waiting => {}
            Standing::Orphaned => columns.state = ORPHANED,
            Standing::Unroutable => columns.state = UNROUTABLE,
            Standing::Running { by, mode, was } => {
                columns.state = RUNNING;
                columns.instance = Some(by.to_bytes());
                columns.mode = match mode {
                    Mode::Shared => 0,
                    Mode::Suspect => 1,
                    Mode::Detached => 2,
                };
                columns.was = match was {
                    Was::Waiting => WAITING,
                    Was::Orphaned => ORPHANED,
                    Was::Unroutable => UNROUTABLE,
                };
            }
            Standing::Dead { reason, at } => {
                columns.state = DEAD;
                columns.reason = Some(reason as u8);
                columns.dead_at = Some(at.micros());
            }
        }
        columns
    }
}

/// A state as its columns hold it.
#[derive(Default)]
struct Columns {
    state: i64,
    was: i64,
    mode: i64,
    instance: Option<[u8; 16]>,
    reason: Option<u8>,
    dead_at: Option<i64>,
}

impl Exchange<'_, '_> {
    pub(crate) fn find_parked(
        &mut self,
        index: usize,
        partition: Partition,
        position: Position,
    ) -> Result<Option<Parked>, Stop> {
        let subscription = self.state.subscriptions[index].id.0;
        let find = self.statements.find_parked.get(self.sql, include_str!("sql/find_parked.sql"))?;
        let mut rows = find.query((subscription, partition.0, position.0 as i64))?;
        rows.next()?.map(Parked::of).transpose()
    }

    /// Parks a message with its own copy.
    pub(crate) fn park(
        &mut self,
        index: usize,
        partition: Partition,
        row: &Parked,
        error: &str,
        copied: &Copied,
    ) -> Result<i64, Stop> {
        let behind =
            row.state == Standing::Waiting && self.is_behind_parked(index, row.lane, row.position)?;
        let subscription = self.state.subscriptions[index].id.0;
        let columns = row.columns();
        let place = self.state.place(partition, row.position);
        let message = Record::read(&copied.record, fallback_id(place));
        let put = self.statements.put_parked.get(self.sql, include_str!("sql/put_parked.sql"))?;
        put.execute(params![
            subscription,
            partition.0,
            row.position.0 as i64,
            row.lane.to_bytes(),
            columns.state,
            columns.was,
            columns.mode,
            behind,
            row.due.micros(),
            row.attempts,
            row.crashes,
            columns.instance,
            row.dies_at.map(Timestamp::micros),
            row.replay,
            columns.reason,
            error,
            self.now.micros(),
            columns.dead_at,
            message.type_name,
            message.type_version,
            message.bytes() as i64,
            copied.version.map(|version| version.0 as i64),
            copied.record,
        ])?;
        self.parks.insert(index, true);
        Ok(self.sql.last_insert_rowid())
    }

    /// Writes a changed row back; `error` replaces its text.
    pub(crate) fn change_parked(
        &mut self,
        index: usize,
        row: &Parked,
        error: Option<&str>,
    ) -> Result<(), Stop> {
        let columns = row.columns();
        self.sql.prepare_cached(include_str!("sql/change_parked.sql"))?.execute(params![
            row.id,
            columns.state,
            columns.was,
            columns.mode,
            row.due.micros(),
            row.attempts,
            row.crashes,
            columns.instance,
            row.dies_at.map(Timestamp::micros),
            row.replay,
            columns.reason,
            columns.dead_at,
            error,
        ])?;
        if row.is_dead() && self.state.subscriptions[index].on_dead == OnDead::Skip {
            self.unblock(index, row.lane)?;
        }
        Ok(())
    }

    pub(crate) fn delete_parked(&mut self, index: usize, row: &Parked) -> Result<(), Stop> {
        self.statements
            .delete_parked
            .get(self.sql, include_str!("sql/delete_parked.sql"))?
            .execute([row.id])?;
        self.unblock(index, row.lane)
    }

    /// The first row of a lane is behind nothing any more. (Whether it may run is still computed when it is asked for.)
    fn unblock(&mut self, index: usize, lane: StreamId) -> Result<(), Stop> {
        let subscription = self.state.subscriptions[index].id.0;
        self.statements
            .unblock
            .get(self.sql, include_str!("sql/unblock.sql"))?
            .execute((subscription, lane.to_bytes()))?;
        Ok(())
    }

    /// Whether a smaller position of the lane is parked, in a way that holds it up.
    pub(crate) fn is_behind_parked(
        &mut self,
        index: usize,
        lane: StreamId,
        position: Position,
    ) -> Result<bool, Stop> {
        if !self.parks_any(index)? {
            return Ok(false);
        }
        let subscription = &self.state.subscriptions[index];
        let halt = subscription.on_dead == OnDead::Halt;
        let find = self.statements.lane_is_parked.get(self.sql, include_str!("sql/lane_is_parked.sql"))?;
        Ok(find.exists((subscription.id.0, lane.to_bytes(), position.0 as i64, halt))?)
    }

    /// Whether the subscription has parked anything that can hold a lane up: asked once a batch.
    fn parks_any(&mut self, index: usize) -> Result<bool, Stop> {
        if let Some(parks) = self.parks.get(&index) {
            return Ok(*parks);
        }
        let subscription = &self.state.subscriptions[index];
        let halt = subscription.on_dead == OnDead::Halt;
        let mut find = self.sql.prepare_cached(include_str!("sql/parks_any.sql"))?;
        let parks: bool = find.query_row((subscription.id.0, halt), |row| row.get(0))?;
        self.parks.insert(index, parks);
        Ok(parks)
    }
}
