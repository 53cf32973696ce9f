//! One batch is one transaction: its parts in the contract's order.

use std::collections::{HashMap, HashSet};

use rusqlite::{CachedStatement, Connection};
use whizbang_storage::turn::{KnownInstance, Turn, turn};
use whizbang_storage::{
    Answer, Clock, InstanceId, Membership, NotApplied, Partition, Service, StreamId, SubscriptionId,
    Timestamp, WorkBatch, refuse,
};

use crate::due::Picked;
use crate::error::Stop;
use crate::segment::{Freed, Pending};
use crate::state::State;

/// One batch on its way into the database, under the file's write lock.
pub(crate) struct Exchange<'x, 'b> {
    pub(crate) sql: &'x Connection,
    pub(crate) service: &'x Service,
    pub(crate) state: &'x mut State,
    pub(crate) answer: &'x mut Answer,
    pub(crate) scratch: &'x mut Scratch,
    pub(crate) statements: Statements<'x>,
    /// Read once, under the lock.
    pub(crate) now: Timestamp,
    pub(crate) sender: InstanceId,
    pub(crate) group: Option<i64>,
    /// The group's subscriptions, by their place in the state.
    pub(crate) subscriptions: Vec<usize>,
    /// The numbers of the subscriptions that the sender joined with.
    pub(crate) registered: Vec<SubscriptionId>,
    /// What goes into the log and is not written yet.
    pub(crate) pending: Vec<Pending<'b>>,
    /// What of which segment is not needed any more.
    pub(crate) freed_bytes: HashMap<i64, Freed>,
    /// Partitions in which arrivals wait, once that was asked.
    pub(crate) arriving: Option<HashSet<Partition>>,
    /// The id and the instant of the next deduplication key, once there was one.
    pub(crate) next_dedup: Option<(i64, Timestamp)>,
    /// Subscriptions, by their place in the state, of which something is parked that may hold a lane up.
    pub(crate) parks: HashMap<usize, bool>,
    /// Units of these are skipped.
    pub(crate) stuck: HashSet<(SubscriptionId, StreamId)>,
    /// What the sender gave back in this batch.
    pub(crate) freed: HashSet<Partition>,
    /// Due work that is handed out, to be put into the page behind the reads.
    pub(crate) picked: Vec<Picked>,
}

/// Memory that is kept from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u8>,
    pub(crate) places: Vec<u8>,
    /// The run that is being read.
    pub(crate) run: Vec<u8>,
    /// Records of arrivals that go into the log.
    pub(crate) copied: Vec<u8>,
}

/// Statements that run once a message: looked up once a batch.
#[derive(Default)]
pub(crate) struct Statements<'x> {
    pub(crate) put_event: Kept<'x>,
    pub(crate) put_arrival: Kept<'x>,
    pub(crate) find_dedup: Kept<'x>,
    pub(crate) put_dedup: Kept<'x>,
    pub(crate) stream_version: Kept<'x>,
    pub(crate) lane_is_parked: Kept<'x>,
    pub(crate) put_parked: Kept<'x>,
    pub(crate) find_parked: Kept<'x>,
    pub(crate) delete_parked: Kept<'x>,
    pub(crate) unblock: Kept<'x>,
    pub(crate) runs: Kept<'x>,
    pub(crate) events: Kept<'x>,
}

/// A statement that is prepared when it is first needed.
#[derive(Default)]
pub(crate) struct Kept<'x>(Option<CachedStatement<'x>>);

impl<'x> Kept<'x> {
    pub(crate) fn get(&mut self, sql: &'x Connection, text: &str) -> Result<&mut CachedStatement<'x>, Stop> {
        if self.0.is_none() {
            self.0 = Some(sql.prepare_cached(text)?);
        }
        Ok(self.0.as_mut().expect("it was just put there"))
    }
}

/// How a batch ends that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything is written and wants to be committed.
    Applied,
    /// It had been applied before: there is nothing to commit, the kept answer is the answer.
    Repeated(Turn),
}

/// What a batch is applied to.
pub(crate) struct Desk<'x> {
    pub(crate) sql: &'x Connection,
    pub(crate) service: &'x Service,
    pub(crate) clock: &'x dyn Clock,
    pub(crate) state: &'x mut State,
    pub(crate) scratch: &'x mut Scratch,
    pub(crate) answer: &'x mut Answer,
}

impl Desk<'_> {
    /// Applies a batch; the caller has begun the transaction, and ends it. `answer_is_kept`: that of this very batch.
    pub(crate) fn exchange(
        self,
        batch: &WorkBatch<'_>,
        digest: u64,
        answer_is_kept: bool,
    ) -> Result<Ended, Stop> {
        let Self { sql, service, state, .. } = self;
        state.refresh(sql)?;
        let sender = batch.from.instance;
        let known = match state.instance(sender) {
            Some(instance) => Some(instance.known()),
            None => departed(sql, state.service(), sender)?,
        };
        let turn = turn(known, batch, digest, answer_is_kept)?;
        if matches!(turn, Turn::Repeat | Turn::RepeatEvicted) {
            return Ok(Ended::Repeated(turn));
        }
        refuse::batch(batch, &service.limits)?;
        if let Some(Membership::Join(join)) = &batch.membership {
            refuse::join(join, &service.limits).map_err(NotApplied::Join)?;
        }
        self.scratch.copied.clear();
        let mut exchange = Exchange {
            sql,
            service,
            now: self.clock.now(),
            sender,
            group: state.instance(sender).and_then(|instance| instance.group),
            state,
            answer: self.answer,
            scratch: self.scratch,
            statements: Statements::default(),
            subscriptions: Vec::new(),
            registered: Vec::new(),
            pending: Vec::new(),
            freed_bytes: HashMap::new(),
            arriving: None,
            next_dedup: None,
            parks: HashMap::new(),
            stuck: HashSet::new(),
            freed: HashSet::new(),
            picked: Vec::new(),
        };
        exchange.apply(batch, digest)?;
        Ok(Ended::Applied)
    }
}

impl<'b> Exchange<'_, 'b> {
    fn apply(&mut self, batch: &'b WorkBatch<'b>, digest: u64) -> Result<(), Stop> {
        self.beat(batch, digest)?;
        for unit in batch.units {
            let answer = self.unit(unit)?;
            self.answer.units.push(answer);
        }
        for range in batch.settled {
            let answer = self.settled(range)?;
            self.answer.settled.push(answer);
        }
        for append in batch.appends {
            let answer = self.append(append)?;
            self.answer.appends.push(answer);
        }
        if let Some(count_max) = batch.arrivals {
            self.move_arrivals(count_max)?;
        }
        for operation in batch.operations {
            let answer = self.operation(operation)?;
            self.answer.operations.push(answer);
        }
        if let Some(membership) = &batch.membership {
            self.give_back(membership)?;
            self.evict()?;
            self.take_free()?;
        }
        if let Some(limit) = batch.due {
            self.due(limit)?;
        }
        for read in batch.reads {
            let answer = self.read(read)?;
            self.answer.reads.push(answer);
        }
        self.hand_out_picked()?;
        if let Some(rows_max) = batch.housekeeping {
            self.housekeeping(rows_max)?;
        }
        if batch.membership.is_some() {
            self.answer_membership()?;
        }
        self.write_log()?;
        self.state.note_commit(self.now);
        self.state.write(self.sql, &mut self.scratch.bytes)
    }
}

fn departed(sql: &Connection, service: i64, id: InstanceId) -> Result<Option<KnownInstance>, Stop> {
    let mut find = sql.prepare_cached(include_str!("sql/departed.sql"))?;
    let mut rows = find.query((service, id.to_bytes()))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(KnownInstance {
        start_token: row.get::<_, i64>(0)? as u64,
        last: row.get::<_, i64>(1)? as u64,
        digest: row.get::<_, i64>(2)? as u64,
        gone: true,
    }))
}
