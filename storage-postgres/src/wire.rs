//! The call that writes: what was decided becomes the arguments of one SQL function, and its row the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;
use whizbang_storage::record;
use whizbang_storage::{InstanceId, MessageId, Partition, Position, StreamId, Timestamp, Version};

use crate::change::Change;
use crate::changes::{Changes, PROVISIONAL};
use crate::draft::{self, DRAFT};
use crate::error::Stop;
use crate::look_up::Facts;
use crate::parked::{meta, state_of};
use crate::places;
use crate::state::{Arrival, ParkedRow, State, number};
use crate::tail::push_to_block;

/// So many bytes of a block fill a page of the database, and stay in the row.
const BLOCK_BYTES: usize = 7_900;

/// Whose exchange it is, and what holds for all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'c> {
    pub(crate) text: &'c str,
    pub(crate) service: i32,
    pub(crate) instance: InstanceId,
    pub(crate) number: u64,
    pub(crate) digest: u64,
    pub(crate) version: i64,
    pub(crate) now: Timestamp,
    /// How far `now` may be ahead of the server's clock; none: a test's clock, which is right.
    pub(crate) tolerance: Option<Duration>,
    /// And how far behind it, because a large batch is on its way for a while.
    pub(crate) lateness: Duration,
    /// Somebody who has been silent for so long is to be evicted, which is another way to carry out the batch.
    pub(crate) silence: Option<Duration>,
    pub(crate) lock_timeout: Duration,
    pub(crate) moves: bool,
    /// What came since the last look and concerns the batch is to be taken in first.
    pub(crate) awaits_arrivals: bool,
    pub(crate) removed: usize,
    pub(crate) folds: bool,
    pub(crate) channel: Option<&'c str>,
    /// All heads and what is trimmed go into their rows: those of an evicted instance are nowhere else.
    pub(crate) writes_all_heads: bool,
}

/// What the database said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    /// The service has changed, or the instance is gone.
    Changed,
    /// Another number is next.
    OtherNumber,
    ClocksDiffer,
    SomebodyIsSilent,
    /// Arrivals came that the batch should have known of.
    ArrivalsCame,
    /// A key is there, or a version or revision is another one.
    Otherwise,
}

/// Its answer.
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    pub(crate) clock: Option<Timestamp>,
    pub(crate) removed: usize,
    pub(crate) seen: Option<String>,
    pub(crate) come: Vec<Come>,
    pub(crate) arrived: Vec<i64>,
    drafts: BTreeMap<i64, Option<StreamId>>,
    row: Row,
}

/// Arguments with their types, in order.
#[derive(Default)]
pub(crate) struct Arguments<'a>(Vec<(&'a (dyn ToSql + Sync), Type)>);

impl<'a> Arguments<'a> {
    pub(crate) fn add(mut self, value: &'a (dyn ToSql + Sync), kind: Type) -> Self {
        self.0.push((value, kind));
        self
    }

    pub(crate) fn types(&self) -> &[(&'a (dyn ToSql + Sync), Type)] {
        &self.0
    }
}

/// The statement that calls the function.
pub(crate) fn call_text(schema: &str) -> String {
    let numbers: Vec<String> = (1..=ARGUMENTS).map(|n| format!("${n}")).collect();
    crate::schema::sql(&format!("SELECT * FROM {{schema}}.exchange({})", numbers.join(", ")), schema)
}

/// The statement that calls it, and writes what changes for all instances.
pub(crate) fn change_text(schema: &str) -> String {
    crate::schema::sql(&crate::change::text(ARGUMENTS), schema)
}

const ARGUMENTS: usize = 68;

/// A list that is not sent when it is empty.
pub(crate) fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

pub(crate) fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}

/// The partitions of whose arrivals an instance takes note, if there are any. Drafts may be for any partition.
pub(crate) fn written(state: &State, instance: InstanceId) -> Option<Vec<i32>> {
    let is_written = |partition: &u32| state.shared.writer(Partition(*partition)) == Some(instance);
    let written = (0..state.parts.len() as u32).filter(is_written).map(|partition| partition as i32);
    some(written.collect()).map(|written| [written, vec![DRAFT]].concat())
}

impl Call<'_> {
    /// Sends what was decided.
    pub(crate) async fn send(
        &self,
        client: &Client,
        state: &State,
        changes: &Changes<'_>,
        change: Option<&Change<'_>>,
        timeout: Duration,
    ) -> Result<Reply, Stop> {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let (instance, now) = (uuid(self.instance.to_bytes()), self.now.micros());
        let (number, digest) = (self.number as i64, self.digest as i64);
        let (tolerance, silence) = (self.tolerance.map(micros), self.silence.map(micros));
        let lateness = self.tolerance.map(|_| micros(self.lateness));
        let lock_timeout = format!("{}ms", self.lock_timeout.as_millis().max(1));

        let keys = some(changes.keys.keys().copied().collect::<Vec<&[u8]>>());
        let key_firsts = some(changes.keys.values().map(|(first, _)| uuid(first.to_bytes())).collect());
        let key_bodies = some(changes.keys.values().map(|(_, body)| *body as i64).collect());
        let streams = some(changes.assumed_versions.keys().map(|stream| uuid(stream.to_bytes())).collect());
        let versions = some(changes.assumed_versions.values().map(|version| version.0 as i64).collect());
        let elsewhere = &changes.expected_elsewhere;
        let expected_streams = some(elsewhere.keys().map(|stream| uuid(stream.to_bytes())).collect());
        let homes: Vec<Partition> =
            elsewhere.keys().map(|stream| stream.partition(state.parts.len() as u32)).collect();
        let expected_partitions = some(homes.iter().map(|partition| partition.0 as i32).collect());
        let expected_versions = some(elsewhere.values().map(|version| version.0 as i64).collect());
        let writers: BTreeSet<InstanceId> =
            homes.iter().filter_map(|partition| state.shared.writer(*partition)).collect();
        let writers: Vec<Uuid> = writers.into_iter().map(|writer| uuid(writer.to_bytes())).collect();
        let drafts = some(changes.drafts.clone());
        let compared_perspectives =
            some(changes.assumed_revisions.keys().map(|(name, _)| *name).collect::<Vec<&str>>());
        let compared_keys =
            some(changes.assumed_revisions.keys().map(|(_, key)| *key).collect::<Vec<&[u8]>>());
        let compared_revisions = some(changes.assumed_revisions.values().map(|one| *one as i64).collect());

        let written = written(state, self.instance);
        let seen = written.as_ref().map(|_| &state.seen[..]);
        let lanes = changes.appended.iter().flat_map(|appended| appended.lane.to_bytes().into_iter().skip(8));
        // Of what is expected there must be nothing new, however often that is found out.
        let expected = changes.expected_here.iter().flat_map(|stream| stream.to_bytes().into_iter().skip(8));
        let lanes: Vec<u8> = lanes.take_while(|_| self.awaits_arrivals).chain(expected).collect();
        let moves = self.moves && self.awaits_arrivals;

        let blocks = Blocks::of(changes);
        let block_partitions = some(blocks.partitions);
        let block_lasts = some(blocks.lasts);
        let block_bytes = some(blocks.bytes);

        let events: Vec<_> = changes.appended.iter().filter_map(|one| Some((one, one.event?))).collect();
        let event_partitions = some(events.iter().map(|(one, _)| one.partition.0 as i32).collect());
        let event_positions = some(events.iter().map(|(one, _)| one.position.0 as i64).collect());
        let event_streams = some(
            events.iter().map(|(_, (stream, _))| stream.map(|stream| uuid(stream.to_bytes()))).collect(),
        );
        let event_versions =
            some(events.iter().map(|(_, (_, version))| version.map(|version| version.0 as i64)).collect());
        let event_records = some(events.iter().map(|(one, _)| &*one.record).collect::<Vec<&[u8]>>());

        let arrived: Vec<_> = changes.arrived.iter().filter(|one| !one.is_moved).collect();
        let arrival_partitions = some(arrived.iter().map(|one| one.partition.0 as i32).collect());
        let arrival_dues = some(arrived.iter().map(|one| one.due.map(Timestamp::micros)).collect());
        let arrival_lanes = some(arrived.iter().map(|one| uuid(one.lane.to_bytes())).collect());
        let arrival_records = some(arrived.iter().map(|one| &*one.record).collect::<Vec<&[u8]>>());
        let moved = changes.moved.iter().map(|(_, id, ..)| *id).filter(|id| *id < PROVISIONAL);
        let moved = some(moved.collect());

        let parked = ParkedColumns::of(state, changes);
        let ended = parked.ended;
        let ended_subscriptions =
            some(ended.iter().map(|(index, ..)| self::number(*index).0 as i32).collect());
        let ended_partitions = some(ended.iter().map(|(_, partition, _)| partition.0 as i32).collect());
        let ended_positions = some(ended.iter().map(|(.., position)| position.0 as i64).collect());
        let parked_partitions = some(parked.partitions);
        let parked_subscriptions = some(parked.subscriptions);
        let parked_positions = some(parked.positions);
        let parked_states = some(parked.states);
        let parked_holders = some(parked.holders);
        let parked_messages = some(parked.messages);
        let parked_metas = some(parked.metas);
        let parked_errors = some(parked.errors);
        let parked_records = some(parked.records);

        let projections = &changes.projections;
        let perspectives = some(projections.keys().map(|(name, _)| *name).collect::<Vec<&str>>());
        let projection_keys = some(projections.keys().map(|(_, key)| *key).collect::<Vec<&[u8]>>());
        let projection_befores = some(projections.values().map(|one| one.before as i64).collect());
        let projection_revisions = some(projections.values().map(|one| one.revision as i64).collect());
        let projection_states =
            some(projections.values().map(|one| one.state).collect::<Vec<Option<&[u8]>>>());

        let moved_places = moved_places(state, changes);
        let mut blob = Vec::new();
        for ((partition, what), value) in &moved_places {
            places::push(&mut blob, *partition, *what, value);
        }
        let base = if self.folds { self.base(state, moved_places) } else { BTreeMap::new() };
        let base_partitions = some(base.keys().map(|(partition, _)| partition.0 as i32).collect());
        let base_whats = some(base.keys().map(|(_, what)| *what as i32).collect());
        let base_values = some(base.into_values().collect());

        let old_event_partitions =
            some(changes.old_events.iter().map(|(partition, _)| partition.0 as i32).collect());
        let old_event_positions =
            some(changes.old_events.iter().map(|(_, position)| position.0 as i64).collect());
        let old_keys = changes.old_keys.map(|(_, youngest)| youngest.micros());
        let old_keys_max = changes.old_keys.map(|(max, _)| i64::try_from(max).unwrap_or(i64::MAX));
        let removed = self.removed as i32;

        let arguments = Arguments::default()
            .add(&self.service, Type::INT4)
            .add(&instance, Type::UUID)
            .add(&number, Type::INT8)
            .add(&digest, Type::INT8)
            .add(&self.version, Type::INT8)
            .add(&now, Type::INT8)
            .add(&tolerance, Type::INT8)
            .add(&lateness, Type::INT8)
            .add(&silence, Type::INT8)
            .add(&lock_timeout, Type::TEXT)
            .add(&keys, Type::BYTEA_ARRAY)
            .add(&key_firsts, Type::UUID_ARRAY)
            .add(&key_bodies, Type::INT8_ARRAY)
            .add(&streams, Type::UUID_ARRAY)
            .add(&versions, Type::INT8_ARRAY)
            .add(&compared_perspectives, Type::TEXT_ARRAY)
            .add(&compared_keys, Type::BYTEA_ARRAY)
            .add(&compared_revisions, Type::INT8_ARRAY)
            .add(&seen, Type::TEXT)
            .add(&written, Type::INT4_ARRAY)
            .add(&moves, Type::BOOL)
            .add(&lanes, Type::BYTEA)
            .add(&block_partitions, Type::INT4_ARRAY)
            .add(&block_lasts, Type::INT8_ARRAY)
            .add(&block_bytes, Type::BYTEA_ARRAY)
            .add(&event_partitions, Type::INT4_ARRAY)
            .add(&event_positions, Type::INT8_ARRAY)
            .add(&event_streams, Type::UUID_ARRAY)
            .add(&event_versions, Type::INT8_ARRAY)
            .add(&event_records, Type::BYTEA_ARRAY)
            .add(&arrival_partitions, Type::INT4_ARRAY)
            .add(&arrival_dues, Type::INT8_ARRAY)
            .add(&arrival_lanes, Type::UUID_ARRAY)
            .add(&arrival_records, Type::BYTEA_ARRAY)
            .add(&moved, Type::INT8_ARRAY)
            .add(&parked_subscriptions, Type::INT4_ARRAY)
            .add(&parked_partitions, Type::INT4_ARRAY)
            .add(&parked_positions, Type::INT8_ARRAY)
            .add(&parked_states, Type::INT2_ARRAY)
            .add(&parked_holders, Type::UUID_ARRAY)
            .add(&parked_messages, Type::UUID_ARRAY)
            .add(&parked_metas, Type::BYTEA_ARRAY)
            .add(&parked_errors, Type::TEXT_ARRAY)
            .add(&parked_records, Type::BYTEA_ARRAY)
            .add(&ended_subscriptions, Type::INT4_ARRAY)
            .add(&ended_partitions, Type::INT4_ARRAY)
            .add(&ended_positions, Type::INT8_ARRAY)
            .add(&perspectives, Type::TEXT_ARRAY)
            .add(&projection_keys, Type::BYTEA_ARRAY)
            .add(&projection_befores, Type::INT8_ARRAY)
            .add(&projection_revisions, Type::INT8_ARRAY)
            .add(&projection_states, Type::BYTEA_ARRAY)
            .add(&blob, Type::BYTEA)
            .add(&base_partitions, Type::INT4_ARRAY)
            .add(&base_whats, Type::INT4_ARRAY)
            .add(&base_values, Type::BYTEA_ARRAY)
            .add(&self.folds, Type::BOOL)
            .add(&old_event_partitions, Type::INT4_ARRAY)
            .add(&old_event_positions, Type::INT8_ARRAY)
            .add(&old_keys, Type::INT8)
            .add(&old_keys_max, Type::INT8)
            .add(&removed, Type::INT4)
            .add(&self.channel, Type::TEXT)
            .add(&expected_streams, Type::UUID_ARRAY)
            .add(&expected_partitions, Type::INT4_ARRAY)
            .add(&expected_versions, Type::INT8_ARRAY)
            .add(&writers, Type::UUID_ARRAY)
            .add(&drafts, Type::INT8_ARRAY);
        debug_assert_eq!(arguments.0.len(), ARGUMENTS);
        let arguments = match change {
            Some(change) => change.add_to(arguments),
            None => arguments,
        };
        let query = client.query_typed(self.text, &arguments.0);
        let rows = tokio::time::timeout(timeout, query).await.map_err(|_| Stop::Silent)??;
        let row = rows.into_iter().next().ok_or(Stop::Damaged("the exchange was not answered"))?;
        Reply::of(row, state.parts.len() as u32)
    }

    /// All places that have rows of their own and may have moved since they were written there.
    fn base(
        &self,
        state: &State,
        mut moved: BTreeMap<(Partition, u32), Vec<u8>>,
    ) -> BTreeMap<(Partition, u32), Vec<u8>> {
        let all = state.parts.len() as u32;
        let heads = (0..if self.writes_all_heads { all } else { 0 }).map(Partition);
        let heads = heads.flat_map(|partition| [(partition, places::HEAD), (partition, places::TRIMMED)]);
        for (partition, what) in state.unfolded.iter().copied().chain(heads) {
            if let Some(value) = places::value(state, partition, what) {
                moved.insert((partition, what), value);
            }
        }
        moved
    }
}

/// What this batch has moved, as it is now.
pub(crate) fn moved_places(state: &State, changes: &Changes<'_>) -> BTreeMap<(Partition, u32), Vec<u8>> {
    let heads = changes.heads.keys().map(|partition| (*partition, places::HEAD));
    let trimmed = changes.trimmed.keys().map(|partition| (*partition, places::TRIMMED));
    let cursors =
        changes.cursors.keys().map(|(partition, index)| (*partition, places::cursor_number(*index)));
    let added = changes.desks.iter().map(|(partition, index, _)| (*partition, places::cursor_number(*index)));
    let all = heads.chain(trimmed).chain(cursors).chain(added);
    all.filter_map(|(partition, what)| Some(((partition, what), places::value(state, partition, what)?)))
        .collect()
}

/// The log's new blocks.
#[derive(Default)]
struct Blocks {
    partitions: Vec<i32>,
    lasts: Vec<i64>,
    bytes: Vec<Vec<u8>>,
}

impl Blocks {
    fn of(changes: &Changes<'_>) -> Self {
        let mut others: Vec<_> = changes.appended.iter().filter(|one| one.event.is_none()).collect();
        others.sort_by_key(|one| one.partition);
        let mut blocks = Self::default();
        for one in others {
            let (partition, position) = (one.partition.0 as i32, one.position.0 as i64);
            let is_new = blocks.partitions.last() != Some(&partition)
                || blocks.bytes.last().is_none_or(|block| block.len() + one.record.len() > BLOCK_BYTES);
            if is_new {
                blocks.partitions.push(partition);
                blocks.lasts.push(position);
                blocks.bytes.push(Vec::with_capacity(one.record.len() + 16));
            }
            if let (Some(last), Some(block)) = (blocks.lasts.last_mut(), blocks.bytes.last_mut()) {
                push_to_block(block, (position - *last) as u64, &one.record);
                *last = position;
            }
        }
        blocks
    }
}

/// Parked rows that were changed, and those that are gone.
#[derive(Default)]
struct ParkedColumns<'c> {
    ended: Vec<(usize, Partition, Position)>,
    subscriptions: Vec<i32>,
    partitions: Vec<i32>,
    positions: Vec<i64>,
    states: Vec<i16>,
    holders: Vec<Option<Uuid>>,
    messages: Vec<Uuid>,
    metas: Vec<Vec<u8>>,
    errors: Vec<Option<&'c str>>,
    records: Vec<Option<&'c [u8]>>,
}

impl<'c> ParkedColumns<'c> {
    fn of(state: &'c State, changes: &'c Changes<'_>) -> Self {
        let mut columns = Self::default();
        for (key @ (index, partition, position), before) in &changes.parked {
            let row = state.desk(*index, *partition).and_then(|desk| desk.parked.get(*position));
            match (before, row) {
                (_, Some(row)) => columns.push(key, before.is_none(), row, changes),
                (Some(_), None) => columns.ended.push(*key),
                // Parked and ended by the same batch.
                (None, None) => {}
            }
        }
        columns
    }

    fn push(
        &mut self,
        key: &(usize, Partition, Position),
        is_new: bool,
        row: &'c ParkedRow,
        changes: &'c Changes<'_>,
    ) {
        let (state, holder) = state_of(row);
        self.subscriptions.push(number(key.0).0 as i32);
        self.partitions.push(key.1.0 as i32);
        self.positions.push(key.2.0 as i64);
        self.states.push(state);
        self.holders.push(holder);
        self.messages.push(uuid(row.message.id.to_bytes()));
        self.metas.push(meta(row));
        self.errors.push(changes.errors.get(key).map(|error| &**error));
        self.records.push(row.message.record.as_deref().filter(|_| is_new));
    }
}

impl Reply {
    fn of(row: Row, partitions: u32) -> Result<Self, Stop> {
        let outcome = match row.get::<_, i32>("outcome") {
            0 => Outcome::Written,
            1 => Outcome::Changed,
            2 => Outcome::OtherNumber,
            3 => Outcome::ClocksDiffer,
            4 => Outcome::SomebodyIsSilent,
            5 => Outcome::ArrivalsCame,
            6 => Outcome::Otherwise,
            _ => return Err(Stop::Damaged("the exchange was answered in a way that is not known")),
        };
        let come = match (come(&row, partitions), outcome) {
            // It is committed: whatever is wrong with what has come does not undo that.
            (Err(_), Outcome::Written) => return Err(Stop::Silent),
            (come, _) => come?,
        };
        Ok(Self {
            outcome,
            clock: row.get::<_, Option<i64>>("clock").map(Timestamp::from_micros),
            removed: row.get::<_, Option<i64>>("removed").unwrap_or(0) as usize,
            seen: row.get("seen"),
            come,
            drafts: drafts(&row, partitions),
            arrived: row.get::<_, Option<_>>("arrived_ids").unwrap_or_default(),
            row,
        })
    }

    /// Adds what turned out to be otherwise to what is known.
    pub(crate) fn learn(&self, changes: &Changes<'_>, facts: &mut Facts) -> Result<(), Stop> {
        let row = &self.row;
        let keys: Vec<&[u8]> = row.get::<_, Option<_>>("found_keys").unwrap_or_default();
        let firsts: Vec<Uuid> = row.get::<_, Option<_>>("found_firsts").unwrap_or_default();
        let bodies: Vec<i64> = row.get::<_, Option<_>>("found_bodies").unwrap_or_default();
        for ((key, first), body) in keys.into_iter().zip(firsts).zip(bodies) {
            let first =
                MessageId::from_bytes(first.into_bytes()).ok_or(Stop::Damaged("a key has no message"))?;
            facts.keys.insert(key.into(), (first, body as u64));
        }
        let versions: Vec<i64> = row.get::<_, Option<_>>("found_versions").unwrap_or_default();
        for (stream, version) in changes.assumed_versions.keys().zip(versions) {
            facts.versions.insert(*stream, Version(version as u64));
        }
        let versions: Vec<i64> = row.get::<_, Option<_>>("found_expected").unwrap_or_default();
        for (stream, version) in changes.expected_elsewhere.keys().zip(versions) {
            facts.expected_elsewhere.insert(*stream, Version(version as u64));
        }
        if !changes.expected_elsewhere.is_empty() {
            facts.drafts = self.drafts.clone();
        }
        let revisions: Vec<i64> = row.get::<_, Option<_>>("found_revisions").unwrap_or_default();
        for ((perspective, key), revision) in changes.assumed_revisions.keys().zip(revisions) {
            facts.revisions.insert(((*perspective).into(), (*key).into()), revision as u64);
        }
        Ok(())
    }
}

/// The drafts that wait, and which stream's event each of them is.
fn drafts(row: &Row, partitions: u32) -> BTreeMap<i64, Option<StreamId>> {
    let ids: Vec<i64> = row.get::<_, Option<_>>("found_draft_ids").unwrap_or_default();
    let drafts: Vec<&[u8]> = row.get::<_, Option<_>>("found_drafts").unwrap_or_default();
    let stream = |id: i64, draft: &[u8]| {
        let (_, arrival) = draft::complete(draft, id, partitions);
        record::gets_version(&arrival.record).then_some(arrival.lane)
    };
    ids.into_iter().zip(drafts).map(|(id, draft)| (id, stream(id, draft))).collect()
}

/// An arrival that has come: its number, where it goes, and when, if it has to wait.
pub(crate) type Come = (i64, Partition, Option<Timestamp>, Arrival);

/// The arrivals in a row with the columns `come…`, of a service with so many partitions.
pub(crate) fn come(row: &Row, partitions: u32) -> Result<Vec<Come>, Stop> {
    let ids: Vec<i64> = row.get::<_, Option<_>>("come_ids").unwrap_or_default();
    let homes: Vec<i32> = row.get::<_, Option<_>>("come_partitions").unwrap_or_default();
    let dues: Vec<Option<i64>> = row.get::<_, Option<_>>("come_dues").unwrap_or_default();
    let lanes: Vec<Uuid> = row.get::<_, Option<_>>("come_lanes").unwrap_or_default();
    let records: Vec<&[u8]> = row.get::<_, Option<_>>("come").unwrap_or_default();
    let each = ids.into_iter().zip(homes).zip(dues).zip(lanes).zip(records);
    each.map(|((((id, partition), due), lane), record)| arrival(id, partition, due, lane, record, partitions))
        .collect()
}

/// The arrival in a row of its own.
pub(crate) fn one_that_came(row: &Row, partitions: u32) -> Result<Come, Stop> {
    arrival(
        row.get("id"),
        row.get("partition"),
        row.get("due"),
        row.get("lane"),
        row.get("record"),
        partitions,
    )
}

fn arrival(
    id: i64,
    partition: i32,
    due: Option<i64>,
    lane: Uuid,
    record: &[u8],
    partitions: u32,
) -> Result<Come, Stop> {
    let lane = StreamId::from_bytes(lane.into_bytes()).ok_or(Stop::Damaged("an arrival has no lane"))?;
    let (partition, arrival) = match partition {
        DRAFT => draft::complete(record, id, partitions),
        partition => (Partition(partition as u32), Arrival { lane, record: record.into() }),
    };
    Ok((id, partition, due.map(Timestamp::from_micros), arrival))
}
