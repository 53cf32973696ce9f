//! Single facts of the database are looked up when a batch needs them: all that it needs, in one round trip.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use whizbang_storage::{MessageId, Partition, Position, StreamId, SubscriptionId, Timestamp, Version};

use crate::error::Stop;
use crate::state::{State, index_of, number};
use crate::statements::Statements;
use crate::tail::{Entry, Slice, Tail, read_block};
use crate::wire::Arguments;

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

/// Reads blocks until they have about so many bytes; a read-ahead.
const AHEAD_BLOCKS: i64 = 128;
const AHEAD_EVENTS: i64 = 2_048;

/// Looks everything up that a batch needs, one round trip in all.
pub(crate) async fn look_up(
    client: &Client,
    sql: &Statements,
    state: &mut State,
    facts: &mut Facts,
    needs: &[Need],
) -> Result<(), Stop> {
    let mut queries: Vec<BoxFuture<'_, Result<Found, Stop>>> = Vec::new();
    let mut suspects: BTreeMap<Partition, (Position, Position)> = BTreeMap::new();
    let mut records = Records::default();
    for need in needs {
        match need.clone() {
            Need::Fresh | Need::Alone => {}
            Need::Heads => queries.push(Box::pin(heads(client, sql))),
            Need::Ahead { index, partition, after, last } => {
                let part = &state.parts[partition.0 as usize];
                // What the batch itself appends is not there yet.
                let (trimmed, last) = (part.trimmed, last.min(part.head));
                queries.push(Box::pin(async move {
                    let read = read_log(client, sql, Range { partition, after, last, trimmed }).await?;
                    Ok(Found::Ahead { index, partition, read })
                }));
            }
            Need::Suspects { partition, after, last } => {
                // What was read before is not forgotten: it may be needed once more, too.
                let before = facts.suspected.get(&partition).map(|read| (read.begin(), read.through()));
                let known = suspects.entry(partition).or_insert(before.unwrap_or((after, last)));
                *known = (known.0.min(after), known.1.max(last));
            }
            Need::Record { index, partition, position } => records.push(index, partition, position),
            Need::Message { partition, position } => {
                let trimmed = state.parts[partition.0 as usize].trimmed;
                queries.push(Box::pin(async move {
                    let range = Range { partition, after: Position(position.0 - 1), last: position, trimmed };
                    let read = read_log(client, sql, range).await?;
                    Ok(Found::Message { partition, position, read })
                }));
            }
            Need::IsEvent { partition, position } => queries.push(Box::pin(async move {
                let (number, at) = (partition.0 as i32, position.0 as i64);
                let arguments = Arguments::default()
                    .add(&sql.service, Type::INT4)
                    .add(&number, Type::INT4)
                    .add(&at, Type::INT8);
                let rows = client.query_typed(&sql.is_event, arguments.types()).await?;
                Ok(Found::IsEvent { partition, position, is_event: !rows.is_empty() })
            })),
            Need::FirstEvents => queries.push(Box::pin(async move {
                let rows = client.query_typed(&sql.first_events, &[(&sql.service, Type::INT4)]).await?;
                Ok(Found::FirstEvents(rows))
            })),
            Need::OldEvents { until, settled, max } => queries.push(Box::pin(async move {
                let partitions: Vec<i32> = (0..settled.len() as i32).collect();
                let settled: Vec<i64> = settled.iter().map(|position| position.0 as i64).collect();
                let (until, max) = (until.micros(), i64::try_from(max).unwrap_or(i64::MAX));
                let arguments = Arguments::default()
                    .add(&sql.service, Type::INT4)
                    .add(&partitions, Type::INT4_ARRAY)
                    .add(&settled, Type::INT8_ARRAY)
                    .add(&until, Type::INT8)
                    .add(&max, Type::INT8);
                Ok(Found::OldEvents(client.query_typed(&sql.old_events, arguments.types()).await?))
            })),
        }
    }
    if !records.positions.is_empty() {
        queries.push(Box::pin(records.fetch(client, sql)));
    }
    for (&partition, &(after, last)) in &suspects {
        let trimmed = state.parts[partition.0 as usize].trimmed;
        queries.push(Box::pin(async move {
            let mut all = Tail::behind(after);
            // A window may hold more than is read at once.
            while all.through() < last {
                let range = Range { partition, after: all.through(), last, trimmed };
                let read = read_log(client, sql, range).await?;
                read.after(range.after).for_each(|entry| all.push(entry.clone()));
                all.extend_to(read.through());
            }
            Ok(Found::Suspects { partition, read: all })
        }));
    }
    for found in join_all(queries).await {
        take(found?, state, facts)?;
    }
    Ok(())
}

/// Parked rows whose records are needed: there may be very many after a hand-over.
#[derive(Default)]
struct Records {
    subscriptions: Vec<i32>,
    partitions: Vec<i32>,
    positions: Vec<i64>,
}

impl Records {
    fn push(&mut self, index: usize, partition: Partition, position: Position) {
        self.subscriptions.push(number(index).0 as i32);
        self.partitions.push(partition.0 as i32);
        self.positions.push(position.0 as i64);
    }

    async fn fetch(self, client: &Client, sql: &Statements) -> Result<Found, Stop> {
        let arguments = Arguments::default()
            .add(&sql.service, Type::INT4)
            .add(&self.subscriptions, Type::INT4_ARRAY)
            .add(&self.partitions, Type::INT4_ARRAY)
            .add(&self.positions, Type::INT8_ARRAY);
        let rows = client.query_typed(&sql.parked_records, arguments.types()).await?;
        if rows.len() < self.positions.len() {
            // Whoever owns it now has settled it.
            return Err(Stop::Outdated("a parked row is gone"));
        }
        Ok(Found::Records(rows))
    }
}

/// What was looked up.
enum Found {
    Heads(Vec<Row>),
    Ahead { index: usize, partition: Partition, read: Tail },
    Suspects { partition: Partition, read: Tail },
    Records(Vec<Row>),
    Message { partition: Partition, position: Position, read: Tail },
    IsEvent { partition: Partition, position: Position, is_event: bool },
    FirstEvents(Vec<Row>),
    OldEvents(Vec<Row>),
}

async fn heads(client: &Client, sql: &Statements) -> Result<Found, Stop> {
    Ok(Found::Heads(client.query_typed(&sql.heads, &[(&sql.service, Type::INT4)]).await?))
}

fn take(found: Found, state: &mut State, facts: &mut Facts) -> Result<(), Stop> {
    match found {
        Found::Heads(rows) => {
            for row in rows {
                let head = Position(row.get::<_, i64>(1) as u64);
                if let Some(part) = state.parts.get_mut(row.get::<_, i32>(0) as usize) {
                    part.head = part.head.max(head);
                }
            }
            facts.has_heads = true;
        }
        Found::Ahead { index, partition, read } => {
            if let Some(desk) = state.desk_mut(index, partition) {
                if desk.ahead.through() == read.begin() {
                    read.after(read.begin()).for_each(|entry| desk.ahead.push(entry.clone()));
                    desk.ahead.extend_to(read.through());
                } else {
                    desk.ahead = read;
                }
            }
        }
        Found::Suspects { partition, read } => {
            facts.suspected.insert(partition, read);
        }
        Found::Records(rows) => {
            for row in rows {
                let index = index_of(SubscriptionId(row.get::<_, i32>(0) as u32));
                let partition = Partition(row.get::<_, i32>(1) as u32);
                let (position, record) = (Position(row.get::<_, i64>(2) as u64), row.get::<_, &[u8]>(3));
                if let Some(desk) = index.and_then(|index| state.desk_mut(index, partition)) {
                    desk.parked.change(position, |row| row.message.record = Some(record.into()));
                }
            }
        }
        Found::Message { partition, position, read } => {
            // What must be there and is not is an empty record, which reads as a damaged one.
            let missing = || Entry { position, version: None, bytes: Slice::whole(&[]) };
            let entry = read.get(position).cloned().unwrap_or_else(missing);
            facts.messages.insert((partition, position), entry);
        }
        Found::IsEvent { partition, position, is_event } => {
            facts.is_event.insert((partition, position), is_event);
        }
        Found::FirstEvents(rows) => {
            let first =
                |row: &Row| (Partition(row.get::<_, i32>(0) as u32), Position(row.get::<_, i64>(1) as u64));
            facts.first_events = Some(rows.iter().map(first).collect());
        }
        Found::OldEvents(rows) => {
            let positions =
                |row: &Row| row.get::<_, Vec<i64>>(1).into_iter().map(|at| Position(at as u64)).collect();
            let old =
                rows.iter().map(|row| (Partition(row.get::<_, i32>(0) as u32), positions(row))).collect();
            facts.old_events = Some(old);
        }
    }
    Ok(())
}

/// Positions of a partition to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) partition: Partition,
    pub(crate) after: Position,
    pub(crate) last: Position,
    pub(crate) trimmed: Position,
}

/// Reads the messages of a range, as many as are worth a round trip.
pub(crate) async fn read_log(client: &Client, sql: &Statements, range: Range) -> Result<Tail, Stop> {
    let Range { partition, after, last, trimmed } = range;
    let number = partition.0 as i32;
    let (first, end) = (after.0 as i64, last.0 as i64);
    // Nothing that is trimmed is shown, though it may still be there.
    let behind = first.max(trimmed.0 as i64);
    let blocks = async {
        let arguments = Arguments::default()
            .add(&sql.service, Type::INT4)
            .add(&number, Type::INT4)
            .add(&behind, Type::INT8)
            .add(&end, Type::INT8)
            .add(&AHEAD_BLOCKS, Type::INT8);
        client.query_typed(&sql.read_blocks, arguments.types()).await
    };
    let events = async {
        let arguments = Arguments::default()
            .add(&sql.service, Type::INT4)
            .add(&number, Type::INT4)
            .add(&first, Type::INT8)
            .add(&end, Type::INT8)
            .add(&AHEAD_EVENTS, Type::INT8);
        client.query_typed(&sql.read_events, arguments.types()).await
    };
    let (blocks, events) = futures_util::future::join(blocks, events).await;
    let (blocks, events) = (blocks?, events?);
    let mut through = last;
    if blocks.len() as i64 == AHEAD_BLOCKS {
        through = blocks.last().map_or(last, |row| Position(row.get::<_, i64>(0) as u64)).min(last);
    }
    if events.len() as i64 == AHEAD_EVENTS {
        through = events.last().map_or(through, |row| Position(row.get::<_, i64>(0) as u64)).min(through);
    }
    let mut entries: Vec<Entry> = Vec::new();
    for row in &blocks {
        let (last, bytes): (i64, &[u8]) = (row.get(0), row.get(1));
        let buffer: Arc<[u8]> = bytes.into();
        let found = read_block(bytes, Position(last as u64))
            .ok_or(Stop::Damaged("a block of the log cannot be read"))?;
        let shown = found.into_iter().filter(|(position, ..)| *position > after && *position > trimmed);
        entries.extend(shown.map(|(position, start, end)| Entry {
            position,
            version: None,
            bytes: Slice::new(&buffer, start, end),
        }));
    }
    for row in &events {
        entries.push(Entry {
            position: Position(row.get::<_, i64>(0) as u64),
            version: row.get::<_, Option<i64>>(1).map(|version| Version(version as u64)),
            bytes: Slice::whole(row.get(2)),
        });
    }
    entries.sort_by_key(|entry| entry.position);
    let mut read = Tail::behind(after);
    entries.into_iter().filter(|entry| entry.position <= through).for_each(|entry| read.push(entry));
    read.extend_to(through);
    Ok(read)
}
