//! One batch: decided part by part in the contract's order on what is remembered, so that the database only has to compare
//! and write.
//!
//! Deciding changes the [`State`] in place. What it was before is kept in [`Changes`], both to take everything back when
//! something turns out to be otherwise, and to know what to write.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use whizbang_storage::cursor::Cursor;
use whizbang_storage::parked::{self, Suspects};
use whizbang_storage::turn::Turn;
use whizbang_storage::{
    Answer, Epoch, InstanceId, Membership, MembershipAnswer, MessageId, NotApplied, Partition, Position,
    Service, StoreError, StreamId, SubscriptionId, Timestamp, Version, WorkBatch, membership, refuse,
};

use crate::due::Picked;
use crate::housekeeping::Reach;
use crate::state::{Arrival, Desk, ParkedRow, Shared, State, index_of};
use crate::tail::Entry;
use crate::tail::Tail;

/// A batch that is being decided.
pub(crate) struct Exchange<'x, 'b> {
    pub(crate) service: &'x Service,
    pub(crate) state: &'x mut State,
    pub(crate) answer: &'x mut Answer,
    pub(crate) facts: &'x Facts,
    pub(crate) way: Way,
    pub(crate) now: Timestamp,
    pub(crate) sender: InstanceId,
    /// By index.
    pub(crate) group: Option<usize>,
    /// The group's subscriptions, by index.
    pub(crate) subscriptions: Vec<usize>,
    /// The numbers of the subscriptions that the sender joined with.
    pub(crate) registered: Vec<SubscriptionId>,
    /// Units of these are skipped.
    pub(crate) stuck: HashSet<(SubscriptionId, StreamId)>,
    /// What the sender gave back in this batch.
    pub(crate) freed: BTreeSet<Partition>,
    pub(crate) picked: Vec<Picked>,
    pub(crate) changes: Changes<'b>,
    pub(crate) needs: Vec<Need>,
}

/// How a batch is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In one round trip: what was assumed is compared by the database.
    Fast,
    /// While nobody else of the service writes: for what others might be writing as well.
    Alone,
}

/// What is known of the database beyond the [`State`], for this batch only.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Where everything stands was loaded for this batch.
    pub(crate) is_fresh: bool,
    /// And what is parked, of all partitions.
    pub(crate) has_all: bool,
    /// Heads of partitions that somebody else writes were looked up for this batch.
    pub(crate) has_heads: bool,
    /// What had arrived when the batch was first sent is known.
    pub(crate) has_arrivals: bool,
    /// Deduplication keys that are there already.
    pub(crate) keys: HashMap<Box<[u8]>, (MessageId, u64)>,
    pub(crate) versions: HashMap<StreamId, Version>,
    /// Versions of streams that somebody else writes, with the events that have arrived, but for drafts.
    pub(crate) expected_elsewhere: HashMap<StreamId, Version>,
    /// Undelayed drafts, and which stream's event each of them is; only when something is expected of a stream elsewhere.
    pub(crate) drafts: BTreeMap<i64, Option<StreamId>>,
    /// 0: it is not there.
    pub(crate) revisions: HashMap<(Box<str>, Box<[u8]>), u64>,
    pub(crate) messages: HashMap<(Partition, Position), Entry>,
    /// What was read of partitions for their suspects. Kept here, because who is suspect may be decided only by the batch.
    pub(crate) suspected: HashMap<Partition, Tail>,
    /// Positions that were trimmed: whether an event is kept there.
    pub(crate) is_event: HashMap<(Partition, Position), bool>,
    /// The oldest events of all partitions, when they were asked for.
    pub(crate) first_events: Option<HashMap<Partition, Position>>,
    /// Events that are old enough to go, when they were asked for.
    pub(crate) old_events: Option<BTreeMap<Partition, Vec<Position>>>,
}

/// What has to be looked up before a batch can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// Everything, as it is now.
    Fresh,
    /// That nobody else writes.
    Alone,
    Heads,
    /// Messages behind a position, to be kept for a subscription that reads there.
    Ahead {
        index: usize,
        partition: Partition,
        after: Position,
        last: Position,
    },
    /// The lanes of a subscription's suspects, which are behind a position and not behind another.
    Suspects {
        partition: Partition,
        after: Position,
        last: Position,
    },
    /// A parked message's record.
    Record {
        index: usize,
        partition: Partition,
        position: Position,
    },
    /// A message of the log.
    Message {
        partition: Partition,
        position: Position,
    },
    IsEvent {
        partition: Partition,
        position: Position,
    },
    FirstEvents,
    /// Events up to what all have settled, that were written by then.
    OldEvents {
        until: Timestamp,
        settled: Vec<Position>,
        max: usize,
    },
}

/// What a batch changes: how it was before, and what there is to write.
#[derive(Default)]
pub(crate) struct Changes<'b> {
    /// None: nothing that all instances know alike is changed.
    pub(crate) shared: Option<Shared>,
    /// Who is evicted: they can write nothing meanwhile.
    pub(crate) evicted: BTreeSet<InstanceId>,
    pub(crate) heads: BTreeMap<Partition, Position>,
    pub(crate) trimmed: BTreeMap<Partition, Position>,
    pub(crate) cursors: BTreeMap<(Partition, usize), Cursor>,
    pub(crate) suspects: BTreeMap<(Partition, usize), Option<Suspects>>,
    pub(crate) parked: BTreeMap<(usize, Partition, Position), Option<ParkedRow>>,
    pub(crate) errors: BTreeMap<(usize, Partition, Position), Box<str>>,
    pub(crate) desks: Vec<(Partition, usize, Option<Desk>)>,
    pub(crate) versions: HashMap<StreamId, Option<Version>>,
    /// Versions that nobody has compared yet.
    pub(crate) assumed_versions: BTreeMap<StreamId, Version>,
    /// Streams of which something is expected and that the sender writes.
    pub(crate) expected_here: BTreeSet<StreamId>,
    /// Streams of which something is expected and that somebody else writes: the versions before this batch, drafts not
    /// counted, which nobody has compared yet.
    pub(crate) expected_elsewhere: BTreeMap<StreamId, Version>,
    /// The drafts that were counted for these.
    pub(crate) drafts: Vec<i64>,
    /// How many undelayed events of such streams this batch sends.
    pub(crate) arrived_events: HashMap<StreamId, u64>,
    pub(crate) appended: Vec<Appended>,
    pub(crate) keys: BTreeMap<&'b [u8], (MessageId, u64)>,
    pub(crate) arrived: Vec<Arrived>,
    pub(crate) moved: Vec<(Partition, i64, Option<Timestamp>, Arrival)>,
    pub(crate) projections: BTreeMap<(&'b str, &'b [u8]), Written<'b>>,
    pub(crate) assumed_revisions: BTreeMap<(&'b str, &'b [u8]), u64>,
    /// Events that are not behind what is trimmed any more.
    pub(crate) passed: Vec<(Partition, BTreeSet<Position>)>,
    /// Of each partition the last event that goes.
    pub(crate) old_events: Vec<(Partition, Position)>,
    /// How many deduplication keys may go, and when the youngest of them was made.
    pub(crate) old_keys: Option<(usize, Timestamp)>,
    /// There is something in it for others.
    pub(crate) news: bool,
}

/// A message that goes into the log.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) partition: Partition,
    pub(crate) position: Position,
    pub(crate) lane: StreamId,
    /// An event, its stream, and its version there.
    pub(crate) event: Option<(Option<StreamId>, Option<Version>)>,
    pub(crate) record: Arc<[u8]>,
}

/// A message that becomes an arrival, unless the batch itself moves it into the log.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) partition: Partition,
    pub(crate) due: Option<Timestamp>,
    pub(crate) lane: StreamId,
    pub(crate) record: Arc<[u8]>,
    /// Its number among the arrivals until it has a real one.
    pub(crate) provisional: i64,
    pub(crate) is_moved: bool,
}

/// A projection as this batch leaves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'b> {
    /// Its revision before the batch; 0: it was not there.
    pub(crate) before: u64,
    pub(crate) revision: u64,
    pub(crate) state: Option<&'b [u8]>,
}

/// Provisional numbers of arrivals begin here: behind all real ones.
pub(crate) const PROVISIONAL: i64 = i64::MAX / 2;

/// How deciding ended.
pub(crate) enum Decided<'b> {
    /// This is to be written.
    Write(Box<Changes<'b>>),
    /// Nothing was changed: these are to be looked up first.
    Look(Vec<Need>),
}

/// What a batch is decided on.
pub(crate) struct Desktop<'x> {
    pub(crate) service: &'x Service,
    pub(crate) state: &'x mut State,
    pub(crate) answer: &'x mut Answer,
    pub(crate) facts: &'x Facts,
    pub(crate) way: Way,
    pub(crate) now: Timestamp,
}

impl Desktop<'_> {
    /// Decides a batch whose turn it is.
    pub(crate) fn decide<'b>(
        self,
        batch: &'b WorkBatch<'b>,
        turn: Turn,
        digest: u64,
    ) -> Result<Decided<'b>, StoreError> {
        let Self { service, state, answer, facts, way, now } = self;
        refuse::batch(batch, &service.limits)?;
        if let Some(Membership::Join(join)) = &batch.membership {
            refuse::join(join, &service.limits).map_err(NotApplied::Join)?;
        }
        // Whoever joins has its row from then on, so what it brings along must not turn out to be otherwise.
        let brings_something =
            !batch.units.is_empty() || !batch.appends.is_empty() || batch.arrivals.is_some();
        let concerns_others = !batch.operations.is_empty() || turn == Turn::Join && brings_something;
        if concerns_others && way == Way::Fast {
            return Ok(Decided::Look(vec![Need::Alone]));
        }
        answer.clear();
        let sender = batch.from.instance;
        let group = state.shared.instances.get(&sender).and_then(|instance| instance.group);
        let mut exchange = Exchange {
            service,
            group,
            state,
            answer,
            facts,
            way,
            now,
            sender,
            subscriptions: Vec::new(),
            registered: Vec::new(),
            stuck: HashSet::new(),
            freed: BTreeSet::new(),
            picked: Vec::new(),
            changes: Changes::default(),
            needs: Vec::new(),
        };
        if way == Way::Alone {
            // Others remember what is changed now: all of them are to look again.
            exchange.shared_mut();
        }
        exchange.apply(batch, digest);
        let Exchange { state, changes, needs, .. } = exchange;
        if needs.is_empty() {
            return Ok(Decided::Write(Box::new(changes)));
        }
        undo(state, changes);
        Ok(Decided::Look(needs))
    }
}

impl<'b> Exchange<'_, 'b> {
    fn apply(&mut self, batch: &'b WorkBatch<'b>, digest: u64) {
        self.beat(batch, digest);
        self.look_at_others(batch);
        for unit in batch.units {
            let answer = self.unit(unit);
            self.answer.units.push(answer);
        }
        for range in batch.settled {
            let answer = self.settled(range);
            self.answer.settled.push(answer);
        }
        self.answer.appends.reserve(batch.appends.len());
        for append in batch.appends {
            let answer = self.append(append);
            self.answer.appends.push(answer);
        }
        self.move_arrivals(batch.arrivals.unwrap_or(0));
        for operation in batch.operations {
            let answer = self.operation(operation);
            self.answer.operations.push(answer);
        }
        if let Some(said) = &batch.membership {
            self.give_up(said);
            self.evict();
            self.take_free(said);
            if !self.is_gone() {
                // The answer says when something is due.
                let owned = self.owned_partitions();
                self.know_all_suspects(&owned);
            }
        }
        if let Some(limit) = batch.due {
            self.due(limit);
        }
        for read in batch.reads {
            let answer = self.read(read);
            self.answer.reads.push(answer);
        }
        self.hand_out_picked();
        self.housekeeping(batch.housekeeping.unwrap_or(0), Reach::of(batch));
    }

    /// Notes the sender's sign of life and its batch's number; registers it and its subscriptions if it joins.
    fn beat(&mut self, batch: &WorkBatch<'_>, digest: u64) {
        let (now, ttl) = (self.now, self.service.time_to_live);
        let shared = &self.state.shared;
        let truce = membership::truce(shared.last_commit, shared.truce, now, ttl);
        let went_back = shared.last_commit.is_some_and(|last| now < last);
        if truce != shared.truce || went_back {
            // Others may have committed meanwhile, of which nothing is known here.
            if !self.facts.is_fresh {
                self.needs.push(Need::Fresh);
            } else if truce != self.state.shared.truce {
                self.shared_mut().truce = truce;
            }
        }
        let from = batch.from;
        if let Some(Membership::Join(join)) = &batch.membership {
            self.join(join, from, digest);
        }
        self.find_subscriptions();
    }

    /// What others write of partitions that the sender owns has to be looked up each time.
    fn look_at_others(&mut self, batch: &WorkBatch<'_>) {
        if self.facts.has_heads || self.facts.is_fresh {
            return;
        }
        let Some(group) = self.group.filter(|_| self.state.shared.groups.len() > 1) else {
            return;
        };
        let asks = batch.membership.is_some() || !batch.reads.is_empty() || batch.due.is_some();
        let shared = &self.state.shared;
        let is_read_only = |partition: u32| {
            let partition = Partition(partition);
            shared.owner(group, partition).instance == Some(self.sender)
                && shared.writer(partition) != Some(self.sender)
        };
        if asks && (0..self.service.partitions).any(is_read_only) {
            self.needs.push(Need::Heads);
        }
    }

    /// The index of a subscription, if it is one of the sender's group.
    pub(crate) fn own_subscription(&self, id: SubscriptionId) -> Option<usize> {
        let index = index_of(id)?;
        self.subscriptions.contains(&index).then_some(index)
    }

    /// Whether the sender owns a partition for its group, under this epoch.
    pub(crate) fn owns(&self, partition: Partition, epoch: Epoch) -> bool {
        self.group.is_some_and(|group| {
            let owner = self.state.shared.owner(group, partition);
            owner.instance == Some(self.sender) && owner.epoch == epoch
        })
    }

    /// Whether the sender owns a partition for its group.
    pub(crate) fn is_own(&self, partition: Partition) -> bool {
        self.group
            .is_some_and(|group| self.state.shared.owner(group, partition).instance == Some(self.sender))
    }

    /// Whether the sender has left with this very batch.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.shared.instances.get(&self.sender).is_none_or(|me| me.known.gone)
    }

    pub(crate) fn owned_partitions(&self) -> Vec<Partition> {
        (0..self.service.partitions).map(Partition).filter(|partition| self.is_own(*partition)).collect()
    }

    /// Looks up which subscriptions are the group's.
    pub(crate) fn find_subscriptions(&mut self) {
        let group = self.group.and_then(|group| self.state.shared.groups.get(group));
        self.subscriptions = group.map_or_else(Vec::new, |group| group.subscriptions.clone());
    }

    pub(crate) fn need(&mut self, need: Need) {
        // Of records there may be thousands, and each is needed once.
        if matches!(need, Need::Record { .. }) || !self.needs.contains(&need) {
            self.needs.push(need);
        }
    }

    /// What all instances know alike, to be changed.
    pub(crate) fn shared_mut(&mut self) -> &mut Shared {
        self.changes.shared.get_or_insert_with(|| self.state.shared.clone());
        &mut self.state.shared
    }

    /// A cursor that is going to be moved.
    pub(crate) fn cursor_mut(&mut self, index: usize, partition: Partition) -> Option<&mut Cursor> {
        let desk = self.state.desk_mut(index, partition)?;
        self.changes.cursors.entry((partition, index)).or_insert_with(|| desk.cursor.clone());
        Some(&mut desk.cursor)
    }

    pub(crate) fn suspects_mut(
        &mut self,
        index: usize,
        partition: Partition,
    ) -> Option<&mut Option<Suspects>> {
        let desk = self.state.desk_mut(index, partition)?;
        self.changes.suspects.entry((partition, index)).or_insert_with(|| desk.suspects.clone());
        Some(&mut desk.suspects)
    }

    /// Whether the suspects of a subscription are known; if not, they will be.
    pub(crate) fn knows_suspects(&mut self, index: usize, partition: Partition) -> bool {
        let Some(desk) = self.state.desk(index, partition).filter(|desk| desk.suspects.is_none()) else {
            return true;
        };
        let (after, last) = (desk.cursor.low(), desk.cursor.suspects_to());
        let facts = self.facts;
        let Some(read) = facts.suspected.get(&partition).filter(|read| read.covers(after, last)) else {
            self.need(Need::Suspects { partition, after, last });
            return false;
        };
        self.changes.suspects.entry((partition, index)).or_insert(None);
        if let Some(desk) = self.state.desk_mut(index, partition) {
            desk.find_suspects(read);
        }
        true
    }

    /// Changes a parked row.
    pub(crate) fn change_parked(
        &mut self,
        index: usize,
        partition: Partition,
        position: Position,
        change: impl FnOnce(&mut ParkedRow),
    ) {
        let group = self.state.shared.subscription(index).map(|one| one.group);
        let owner = group.and_then(|group| self.state.shared.owner(group, partition).instance);
        let is_own = owner.is_some_and(|owner| owner == self.sender || self.changes.evicted.contains(&owner));
        let Some(desk) = self.state.desk_mut(index, partition) else {
            return;
        };
        let before = desk.parked.get(position).cloned();
        desk.parked.change(position, change);
        let concerns_others = |row: &ParkedRow| matches!(row.state, parked::State::Unroutable);
        let is_for_all = !is_own
            || before.as_ref().is_some_and(concerns_others)
            || desk.parked.get(position).is_some_and(concerns_others);
        self.changes.parked.entry((index, partition, position)).or_insert(before);
        self.write_alone(is_for_all);
    }

    pub(crate) fn insert_parked(
        &mut self,
        index: usize,
        partition: Partition,
        position: Position,
        row: ParkedRow,
    ) {
        if let Some(desk) = self.state.desk_mut(index, partition) {
            let before = desk.parked.get(position).cloned();
            self.changes.parked.entry((index, partition, position)).or_insert(before);
            desk.parked.insert(position, row);
        }
    }

    pub(crate) fn remove_parked(&mut self, index: usize, partition: Partition, position: Position) {
        let is_own = self.is_own(partition);
        if let Some(desk) = self.state.desk_mut(index, partition) {
            let before = desk.parked.remove(position);
            self.changes.parked.entry((index, partition, position)).or_insert(before);
            self.write_alone(!is_own);
        }
    }

    /// What others may write as well may only be changed while they do not.
    pub(crate) fn write_alone(&mut self, is_needed: bool) {
        if is_needed && self.way == Way::Fast {
            self.need(Need::Alone);
        }
    }
}

/// Takes everything back.
pub(crate) fn undo(state: &mut State, changes: Changes<'_>) {
    let Changes {
        shared,
        heads,
        trimmed,
        cursors,
        suspects,
        parked,
        desks,
        versions,
        arrived,
        moved,
        passed,
        ..
    } = changes;
    // The last one first: a subscription may have been added and dropped.
    for (partition, index, before) in desks.into_iter().rev() {
        let part = state.part_mut(partition);
        match before {
            Some(desk) => part.desks[index] = Some(desk),
            None => part.desks.truncate(index),
        }
    }
    for arrived in arrived.iter().filter(|arrived| !arrived.is_moved) {
        state.part_mut(arrived.partition).arrivals.remove(arrived.provisional, arrived.due);
    }
    for (partition, id, due, arrival) in moved {
        if id < PROVISIONAL {
            state.part_mut(partition).arrivals.add(id, due, arrival);
        }
    }
    for ((index, partition, position), before) in parked {
        if let Some(desk) = state.desk_mut(index, partition) {
            desk.parked.remove(position);
            if let Some(row) = before {
                desk.parked.insert(position, row);
            }
        }
    }
    for ((partition, index), before) in cursors {
        if let Some(desk) = state.desk_mut(index, partition) {
            desk.cursor = before;
        }
    }
    for ((partition, index), before) in suspects {
        if let Some(desk) = state.desk_mut(index, partition) {
            desk.suspects = before;
        }
    }
    for (partition, events) in passed {
        state.part_mut(partition).events.extend(events);
    }
    for (partition, head) in heads {
        let part = state.part_mut(partition);
        part.head = head;
        part.tail.cut_back(head);
        part.events.split_off(&head.next());
    }
    for (partition, before) in trimmed {
        state.part_mut(partition).trimmed = before;
    }
    for (stream, before) in versions {
        match before {
            Some(version) => state.versions.insert(stream, version),
            None => state.versions.remove(&stream),
        };
    }
    if let Some(shared) = shared {
        state.shared = shared;
    }
}

/// What a batch's sender is told about itself and its group, as things stand.
pub(crate) fn told(
    service: &Service,
    state: &mut State,
    batch: &WorkBatch<'_>,
    now: Timestamp,
) -> MembershipAnswer {
    let (mut answer, facts) = (Answer::default(), Facts::default());
    let sender = batch.from.instance;
    let group = state.shared.instances.get(&sender).and_then(|instance| instance.group);
    let mut exchange = Exchange {
        service,
        group,
        state,
        answer: &mut answer,
        facts: &facts,
        way: Way::Fast,
        now,
        sender,
        subscriptions: Vec::new(),
        registered: Vec::new(),
        stuck: HashSet::new(),
        freed: BTreeSet::new(),
        picked: Vec::new(),
        changes: Changes::default(),
        needs: Vec::new(),
    };
    exchange.find_subscriptions();
    if let Some(Membership::Join(join)) = &batch.membership {
        let names = join.subscriptions.iter().filter(|_| group.is_some());
        exchange.registered = names.filter_map(|spec| exchange.subscription_named(spec.name)).collect();
    }
    exchange.membership()
}

/// After an exchange was written: arrivals get their numbers, and memory that is not needed is let go.
pub(crate) fn settle_down(state: &mut State, changes: Changes<'_>, arrived: &[i64], sender: InstanceId) {
    let Changes { arrived: new, parked, cursors, heads, .. } = changes;
    for (one, id) in new.into_iter().filter(|one| !one.is_moved).zip(arrived) {
        if state.shared.writer(one.partition) == Some(sender) {
            let arrivals = &mut state.part_mut(one.partition).arrivals;
            if let Some(arrival) = arrivals.remove(one.provisional, one.due) {
                arrivals.add(*id, one.due, arrival);
            }
        }
    }
    for (index, partition, position) in parked.into_keys() {
        if let Some(desk) = state.desk_mut(index, partition)
            && let Some(row) = desk.parked.get(position)
            && (!matches!(row.state, parked::State::Waiting { .. }) || desk.parked.rows().len() > RECORDS_MAX)
        {
            // Handed out or dead: it is fetched should it be needed again.
            desk.parked.change(position, |row| row.message.record = None);
        }
    }
    let moved: BTreeSet<Partition> =
        cursors.into_keys().map(|(partition, _)| partition).chain(heads.into_keys()).collect();
    let tail_bytes = TAILS_BYTES / state.parts.len().max(1);
    for partition in moved {
        let group = state.shared.instances.get(&sender).and_then(|instance| instance.group);
        let is_own = group.is_some_and(|group| state.shared.owner(group, partition).instance == Some(sender));
        let group_of = |index: usize| state.shared.subscription(index).map(|one| one.group);
        let mine: Vec<bool> = (0..state.shared.subscriptions.len())
            .map(|index| group.is_some() && group_of(index) == group)
            .collect();
        let part = &mut state.parts[partition.0 as usize];
        let mut settled = None;
        for (desk, _) in part.desks.iter_mut().zip(mine).filter(|(_, mine)| *mine) {
            let Some(desk) = desk else {
                continue;
            };
            let low = desk.cursor.low();
            settled = Some(settled.map_or(low, |settled: Position| settled.min(low)));
            desk.ahead.release(low, AHEAD_BYTES);
            if !desk.cursor.has_suspects() {
                desk.suspected = Default::default();
            }
        }
        let settled = if is_own { settled.unwrap_or(part.head) } else { part.head };
        part.tail.release(settled, tail_bytes);
    }
    state.bound_versions();
}

/// Bytes of messages that are kept in memory behind all heads.
const TAILS_BYTES: usize = 64 << 20;
/// Bytes of messages that are kept in memory for a subscription that is behind, in a partition.
const AHEAD_BYTES: usize = 16 << 20;
/// Parked messages of a subscription and partition above which new ones are not kept in memory.
const RECORDS_MAX: usize = 4_096;
