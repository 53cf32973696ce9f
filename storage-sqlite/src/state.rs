//! What a service's handle remembers between batches: who owns what, heads, cursors, versions.
//!
//! Everything here is a copy of committed rows, or of rows that this transaction is about to write. `BEGIN IMMEDIATE` lets
//! one writer in at a time, and `PRAGMA data_version` says whether another connection has committed since; only then is
//! anything read again, and only what can have changed. After any failure all of it is forgotten.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rusqlite::Connection;
use whizbang_storage::cursor::Cursor;
use whizbang_storage::turn::KnownInstance;
use whizbang_storage::{
    Epoch, InstanceId, OnDead, Partition, Position, StreamId, SubscriptionId, Timestamp, Version,
};

use crate::block::{self, BLOCK, Head, block_of, partitions_of};
use crate::error::Stop;
use crate::schema::Agreed;

/// Above so many, remembered stream versions are forgotten: 48 bytes each, about 6 MB.
const VERSIONS_MAX: usize = 1 << 17;

#[derive(Debug)]
pub(crate) struct State {
    agreed: Agreed,
    partitions: u32,
    /// None: nothing is known.
    data_version: Option<i64>,
    generation: i64,
    generation_moved: bool,
    pub(crate) truce_until: Option<Timestamp>,
    /// When the last batch was committed, where the instances' rows do not say it: it was a leave, or the clock went back.
    committed_at: Option<Timestamp>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) groups: Vec<Group>,
    pub(crate) subscriptions: Vec<Subscription>,
    heads: Vec<Option<Head>>,
    moved_heads: BTreeSet<usize>,
    moved_cursors: BTreeSet<(usize, usize)>,
    pub(crate) versions: HashMap<StreamId, Version>,
    /// The last of the old segments that housekeeping looked at.
    pub(crate) looked_at: i64,
}

/// A living instance.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) start_token: u64,
    pub(crate) number: u64,
    pub(crate) digest: u64,
    pub(crate) last_seen: Timestamp,
    pub(crate) group: Option<i64>,
    /// The id of the row in which its last batch stands.
    pub(crate) row: i64,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// By partition.
    pub(crate) owners: Vec<Owner>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) instance: Option<InstanceId>,
    pub(crate) epoch: Epoch,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) id: SubscriptionId,
    pub(crate) group: i64,
    pub(crate) name: String,
    pub(crate) on_dead: OnDead,
    pub(crate) attempts_max: u32,
    pub(crate) paused: bool,
    cursors: Vec<Option<Slot>>,
}

#[derive(Debug)]
struct Slot {
    cursor: Cursor,
    moved: bool,
    suspect_lanes: Option<SuspectLanes>,
}

/// The lanes of what was suspect when it was looked up, with the positions of each in order. What is settled since is told
/// by the cursor, so this never changes until the suspects do.
pub(crate) type SuspectLanes = HashMap<StreamId, Vec<Position>>;

impl State {
    pub(crate) fn new(agreed: Agreed, partitions: u32) -> Self {
        Self {
            agreed,
            partitions,
            data_version: None,
            generation: 0,
            generation_moved: false,
            truce_until: None,
            committed_at: None,
            instances: Vec::new(),
            groups: Vec::new(),
            subscriptions: Vec::new(),
            heads: Vec::new(),
            moved_heads: BTreeSet::new(),
            moved_cursors: BTreeSet::new(),
            versions: HashMap::new(),
            looked_at: 0,
        }
    }

    pub(crate) fn service(&self) -> i64 {
        self.agreed.service
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.partitions
    }

    /// A partition's number through the whole database.
    pub(crate) fn global(&self, partition: Partition) -> i64 {
        self.agreed.first_partition + i64::from(partition.0)
    }

    /// A partition and a position as one number.
    pub(crate) fn place(&self, partition: Partition, position: Position) -> i64 {
        place(self.global(partition), position)
    }

    /// Forgets everything: what is here may not be what is committed.
    pub(crate) fn forget(&mut self) {
        let (agreed, partitions) = (self.agreed, self.partitions);
        let mut versions = core::mem::take(&mut self.versions);
        versions.clear();
        *self = Self { versions, ..Self::new(agreed, partitions) };
    }

    /// Makes sure, under the write lock, that what is remembered is what is committed.
    pub(crate) fn refresh(&mut self, sql: &Connection) -> Result<(), Stop> {
        let version: i64 = sql.prepare_cached("PRAGMA data_version;")?.query_row([], |row| row.get(0))?;
        if self.data_version == Some(version) {
            return Ok(());
        }
        let known = self.data_version.is_some();
        self.data_version = Some(version);
        let generation = self.generation;
        self.load_service(sql)?;
        if known && generation == self.generation {
            // Nobody joined, left or was evicted; the other instances may have sent batches, or users have enqueued.
            if self.reload_numbers(sql)? {
                self.forget_places();
            }
            return Ok(());
        }
        self.forget_places();
        self.load_instances(sql)?;
        self.load_groups(sql)?;
        self.load_subscriptions(sql)
    }

    /// Writes what moved back into its rows.
    pub(crate) fn write(&mut self, sql: &Connection, scratch: &mut Vec<u8>) -> Result<(), Stop> {
        while let Some(block) = self.moved_heads.pop_first() {
            let heads = self.heads.iter().skip(block * BLOCK).take(BLOCK);
            let heads = heads.map(|head| head.unwrap_or_default());
            block::write_heads(sql, self.agreed.service, block, heads)?;
        }
        while let Some((index, block)) = self.moved_cursors.pop_first() {
            if let Some(subscription) = self.subscriptions.get_mut(index) {
                let slots = subscription.cursors.iter().skip(block * BLOCK).take(BLOCK);
                let cursors = slots.flatten().map(|slot| &slot.cursor);
                let service = self.agreed.service;
                block::write_cursors(sql, service, subscription.id, block, cursors, scratch)?;
            }
            self.mark_written(index, block);
        }
        if self.generation_moved {
            self.generation += 1;
            let micros = |instant: Option<Timestamp>| instant.map(Timestamp::micros);
            sql.prepare_cached(include_str!("sql/put_generation.sql"))?.execute((
                self.agreed.service,
                self.generation,
                micros(self.truce_until),
                micros(self.committed_at),
            ))?;
            self.generation_moved = false;
        }
        if self.versions.len() > VERSIONS_MAX {
            self.versions.clear();
        }
        Ok(())
    }

    /// To be called by whoever changes instances, groups, subscriptions, owners or the truce: other handles read them
    /// again.
    pub(crate) fn change(&mut self) {
        self.generation_moved = true;
    }

    /// Grows with each change of instances, groups, subscriptions, owners or the truce.
    pub(crate) fn generation(&self) -> i64 {
        self.generation
    }

    /// When any instance of the service last committed a batch.
    pub(crate) fn last_commit(&self) -> Option<Timestamp> {
        self.committed_at.or_else(|| self.last_seen())
    }

    fn last_seen(&self) -> Option<Timestamp> {
        self.instances.iter().map(|instance| instance.last_seen).max()
    }

    /// Makes sure that the rows tell when this batch was committed.
    pub(crate) fn note_commit(&mut self, now: Timestamp) {
        let committed_at = (self.last_seen() != Some(now)).then_some(now);
        if self.committed_at != committed_at {
            self.committed_at = committed_at;
            self.change();
        }
    }

    pub(crate) fn add_instance(&mut self, instance: Instance) {
        let at = self.instances.partition_point(|known| known.id < instance.id);
        self.instances.insert(at, instance);
    }

    /// The id of a row for a new instance.
    pub(crate) fn free_instance_row(&self) -> i64 {
        block::free_instance_row(self.agreed.service, self.instances.iter().map(|instance| instance.row))
    }

    /// The places of a group's subscriptions.
    pub(crate) fn subscriptions_of(&self, group: i64) -> Vec<usize> {
        let of_group =
            |(index, subscription): (usize, &Subscription)| (subscription.group == group).then_some(index);
        self.subscriptions.iter().enumerate().filter_map(of_group).collect()
    }

    /// Forgets a subscription; the places of those behind it move up.
    pub(crate) fn remove_subscription(&mut self, index: usize) {
        self.subscriptions.remove(index);
        let moved = core::mem::take(&mut self.moved_cursors);
        let others = moved.into_iter().filter(|(of, _)| *of != index);
        self.moved_cursors = others.map(|(of, block)| (of - usize::from(of > index), block)).collect();
        self.change();
    }

    pub(crate) fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    pub(crate) fn instance_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    pub(crate) fn group(&self, id: i64) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    pub(crate) fn group_mut(&mut self, id: i64) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.id == id)
    }

    pub(crate) fn owner(&self, group: i64, partition: Partition) -> Owner {
        self.group(group)
            .and_then(|group| group.owners.get(partition.0 as usize))
            .copied()
            .unwrap_or_default()
    }

    /// The one instance that appends to a partition's log: its owner in the oldest group that has one.
    pub(crate) fn writer(&self, partition: Partition) -> Option<InstanceId> {
        self.groups.iter().find_map(|group| group.owners.get(partition.0 as usize)?.instance)
    }

    pub(crate) fn subscription_index(&self, id: SubscriptionId) -> Option<usize> {
        self.subscriptions.iter().position(|subscription| subscription.id == id)
    }

    /// A partition's head.
    pub(crate) fn head(&mut self, sql: &Connection, partition: Partition) -> Result<Head, Stop> {
        if let Some(Some(head)) = self.heads.get(partition.0 as usize) {
            return Ok(*head);
        }
        if partition.0 >= self.partitions {
            return Err(NO_PARTITION);
        }
        self.heads.resize(self.partitions as usize, None);
        let block = block_of(partition);
        let heads = block::read_heads(sql, self.agreed.service, block)?;
        for (at, head) in partitions_of(block).zip(heads) {
            if let Some(slot) = self.heads.get_mut(at) {
                *slot = Some(head);
            }
        }
        Ok(heads[partition.0 as usize % BLOCK])
    }

    /// Takes the next position of a partition's log.
    pub(crate) fn next_position(&mut self, sql: &Connection, partition: Partition) -> Result<Position, Stop> {
        let mut head = self.head(sql, partition)?;
        if head.position >= POSITION_MAX {
            return Err(Stop::Damaged("a partition is full: it has had 2^40 messages"));
        }
        head.position += 1;
        self.put_head(partition, head);
        Ok(Position(head.position))
    }

    pub(crate) fn trim_to(
        &mut self,
        sql: &Connection,
        partition: Partition,
        trimmed: u64,
    ) -> Result<(), Stop> {
        let mut head = self.head(sql, partition)?;
        head.trimmed = head.trimmed.max(trimmed);
        self.put_head(partition, head);
        Ok(())
    }

    fn put_head(&mut self, partition: Partition, head: Head) {
        // Most batches move few blocks, many times each: the last one is remembered.
        let block = block_of(partition);
        if self.moved_heads.last() != Some(&block) {
            self.moved_heads.insert(block);
        }
        self.heads[partition.0 as usize] = Some(head);
    }

    /// A subscription's cursor in a partition.
    pub(crate) fn cursor(
        &mut self,
        sql: &Connection,
        index: usize,
        partition: Partition,
    ) -> Result<&Cursor, Stop> {
        Ok(&self.slot(sql, index, partition)?.cursor)
    }

    /// A cursor that is going to be moved: it is written at the end of the batch.
    pub(crate) fn cursor_mut(
        &mut self,
        sql: &Connection,
        index: usize,
        partition: Partition,
    ) -> Result<&mut Cursor, Stop> {
        let slot = self.slot(sql, index, partition)?;
        if !slot.moved {
            slot.moved = true;
            self.moved_cursors.insert((index, block_of(partition)));
        }
        Ok(&mut self.slot(sql, index, partition)?.cursor)
    }

    /// The lanes of a cursor's suspects, if they were looked up before.
    pub(crate) fn suspect_lanes(&mut self, index: usize, partition: Partition) -> &mut Option<SuspectLanes> {
        let slot = self.subscriptions[index].cursors[partition.0 as usize].as_mut();
        &mut slot.expect("the cursor was asked for before its suspects").suspect_lanes
    }

    fn slot(&mut self, sql: &Connection, index: usize, partition: Partition) -> Result<&mut Slot, Stop> {
        let subscription = &mut self.subscriptions[index];
        let at = partition.0 as usize;
        if subscription.cursors.is_empty() {
            subscription.cursors.resize_with(self.partitions as usize, || None);
        }
        if at >= subscription.cursors.len() {
            return Err(NO_PARTITION);
        }
        if subscription.cursors[at].is_none() {
            let block = block_of(partition);
            let cursors = block::read_cursors(sql, self.agreed.service, subscription.id, block)?;
            for (at, cursor) in partitions_of(block).zip(cursors) {
                if let Some(slot) = subscription.cursors.get_mut(at) {
                    *slot = Some(Slot { cursor, moved: false, suspect_lanes: None });
                }
            }
        }
        Ok(subscription.cursors[at].as_mut().expect("it was just put there"))
    }

    /// The cursors of a block are as they are stored.
    fn mark_written(&mut self, index: usize, block: usize) {
        if let Some(subscription) = self.subscriptions.get_mut(index) {
            let slots = subscription.cursors.iter_mut().skip(block * BLOCK).take(BLOCK);
            slots.flatten().for_each(|slot| slot.moved = false);
        }
    }

    /// Heads, cursors and versions are read again when they are needed.
    fn forget_places(&mut self) {
        self.heads.clear();
        self.moved_heads.clear();
        self.moved_cursors.clear();
        self.versions.clear();
        for subscription in &mut self.subscriptions {
            subscription.cursors.clear();
        }
    }

    fn load_service(&mut self, sql: &Connection) -> Result<(), Stop> {
        let mut find = sql.prepare_cached(include_str!("sql/service_state.sql"))?;
        let (generation, truce, committed) = find.query_row([self.agreed.service], |row| {
            Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?))
        })?;
        self.generation = generation;
        self.truce_until = truce.map(Timestamp::from_micros);
        self.committed_at = committed.map(Timestamp::from_micros);
        Ok(())
    }

    /// Reads the instances' numbers again; says whether any of them has moved.
    fn reload_numbers(&mut self, sql: &Connection) -> Result<bool, Stop> {
        let before = core::mem::take(&mut self.instances);
        self.load_instances(sql)?;
        let same = before.len() == self.instances.len()
            && before.iter().zip(&self.instances).all(|(a, b)| a.id == b.id && a.number == b.number);
        Ok(!same)
    }

    fn load_instances(&mut self, sql: &Connection) -> Result<(), Stop> {
        self.instances.clear();
        let mut find = sql.prepare_cached(include_str!("sql/instances.sql"))?;
        let mut rows = find.query([self.agreed.service])?;
        while let Some(row) = rows.next()? {
            self.instances.push(Instance {
                id: InstanceId::from_bytes(row.get(0)?).ok_or(Stop::Damaged("an instance has no id"))?,
                start_token: row.get::<_, i64>(1)? as u64,
                row: row.get(2)?,
                group: row.get(3)?,
                number: row.get::<_, i64>(4)? as u64,
                digest: row.get::<_, i64>(5)? as u64,
                last_seen: Timestamp::from_micros(row.get(6)?),
            });
        }
        Ok(())
    }

    fn load_groups(&mut self, sql: &Connection) -> Result<(), Stop> {
        self.groups.clear();
        let mut find = sql.prepare_cached(include_str!("sql/groups.sql"))?;
        let mut rows = find.query([self.agreed.service])?;
        while let Some(row) = rows.next()? {
            self.groups.push(Group {
                id: row.get(0)?,
                name: row.get(1)?,
                owners: vec![Owner::default(); self.partitions as usize],
            });
        }
        // The oldest first.
        self.groups.sort_unstable_by_key(|group| group.id);
        let mut find = sql.prepare_cached(include_str!("sql/owners.sql"))?;
        for group in &mut self.groups {
            let mut rows = find.query([group.id])?;
            while let Some(row) = rows.next()? {
                let instance: Option<[u8; 16]> = row.get(1)?;
                let owner = Owner {
                    instance: instance.and_then(InstanceId::from_bytes),
                    epoch: Epoch(row.get::<_, i64>(2)? as u64),
                };
                if let Some(slot) = group.owners.get_mut(row.get::<_, u32>(0)? as usize) {
                    *slot = owner;
                }
            }
        }
        Ok(())
    }

    fn load_subscriptions(&mut self, sql: &Connection) -> Result<(), Stop> {
        self.subscriptions.clear();
        let mut find = sql.prepare_cached(include_str!("sql/subscriptions.sql"))?;
        let mut rows = find.query([self.agreed.service])?;
        while let Some(row) = rows.next()? {
            self.subscriptions.push(Subscription {
                id: SubscriptionId(row.get(0)?),
                group: row.get(1)?,
                name: row.get(2)?,
                on_dead: if row.get::<_, i64>(3)? == ON_DEAD_HALT { OnDead::Halt } else { OnDead::Skip },
                attempts_max: row.get(4)?,
                paused: row.get(5)?,
                cursors: Vec::new(),
            });
        }
        self.subscriptions.sort_unstable_by_key(|subscription| subscription.id);
        Ok(())
    }
}

impl Subscription {
    pub(crate) fn new(
        id: SubscriptionId,
        group: i64,
        name: &str,
        on_dead: OnDead,
        attempts_max: u32,
    ) -> Self {
        Self { id, group, name: name.to_owned(), on_dead, attempts_max, paused: false, cursors: Vec::new() }
    }
}

impl Instance {
    pub(crate) fn known(&self) -> KnownInstance {
        KnownInstance { start_token: self.start_token, last: self.number, digest: self.digest, gone: false }
    }
}

/// [`OnDead::Skip`] as it is stored.
pub(crate) const ON_DEAD_SKIP: i64 = 1;
/// [`OnDead::Halt`] as it is stored.
pub(crate) const ON_DEAD_HALT: i64 = 2;

/// Bits of a position within a place.
const POSITION_BITS: u32 = 40;
pub(crate) const POSITION_MAX: u64 = (1 << POSITION_BITS) - 1;

/// A partition (numbered through the whole database) and a position as one number.
pub(crate) fn place(global: i64, position: Position) -> i64 {
    global << POSITION_BITS | position.0.min(POSITION_MAX) as i64
}

/// The position in a place.
pub(crate) fn position_of(place: i64) -> Position {
    Position(place as u64 & POSITION_MAX)
}

const NO_PARTITION: Stop = Stop::Damaged("a row names a partition that its service does not have");

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
