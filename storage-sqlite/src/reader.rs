//! The reading side: a read-only connection on a thread of its own, so that nobody who asks is blocked.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;
use whizbang_storage::cursor::Cursor;
use whizbang_storage::{
    DeadLetter, DeadReason, Epoch, InstanceId, LaneState, MessageId, Origin, Page, ParkedKey, Partition,
    Position, ProjectionState, ReadError, Revision, Statistics, StoreError, StoreReader, StreamId,
    SubscriptionId, SubscriptionStatistics, Timestamp, Version, Whereabouts,
};

use crate::SqliteOptions;
use crate::block::{self, BLOCK, Head, block_of};
use crate::dedup;
use crate::error::{Stop, breaks_connection};
use crate::options::{Access, Place, steady_plans};
use crate::schema::Agreed;
use crate::segment::{self, Segments};
use crate::state::{place, position_of};
use whizbang_storage::record::{Placed, Record, fallback_id};

/// The reading side of a [`SqliteStore`](crate::SqliteStore). Clones share one connection and its thread, which starts with the
/// first question and ends with the last clone.
#[derive(Clone)]
pub struct SqliteReader {
    shared: Arc<Shared>,
}

struct Shared {
    source: Source,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

/// What the thread reads from.
#[derive(Clone)]
struct Source {
    place: Place,
    options: SqliteOptions,
    agreed: Agreed,
}

type Job = Box<dyn FnOnce(Result<&View<'_>, &rusqlite::Error>) -> Answered + Send>;

/// What became of a question. The answer is delivered when the snapshot is closed, so that whoever has it is not in the way
/// of its own next batch.
struct Answered {
    deliver: Box<dyn FnOnce()>,
    /// The connection is better opened anew.
    broken: bool,
}

/// One snapshot of the service's rows.
struct View<'v> {
    sql: &'v Connection,
    agreed: Agreed,
    partitions: u32,
}

impl SqliteReader {
    pub(crate) fn new(options: &SqliteOptions, place: &Place, agreed: Agreed) -> Self {
        let source = Source { place: place.clone(), options: options.clone(), agreed };
        Self { shared: Arc::new(Shared { source, jobs: Mutex::new(None) }) }
    }

    /// Asks on the thread, in one snapshot.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |view| {
            let (result, broken) = match view.map(question) {
                Ok(Ok(answer)) => (Ok(answer), false),
                Ok(Err(Stop::Sqlite(error))) => {
                    let broken = breaks_connection(&error);
                    (Err(ReadError(error.into())), broken)
                }
                Ok(Err(stop)) => (Err(ReadError(StoreError::from(stop).into())), false),
                Err(error) => (Err(ReadError(error.to_string().into())), false),
            };
            // Nobody listens any more when the question was dropped.
            let deliver = Box::new(move || drop(reply.send(result)));
            Answered { deliver, broken }
        });
        self.send(job)?;
        answer.await.unwrap_or_else(|_| Err(ReadError("the reading thread has ended".into())))
    }

    fn send(&self, job: Job) -> Result<(), ReadError> {
        let mut jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match jobs.as_ref() {
            Some(sender) => match sender.send(job) {
                Ok(()) => return Ok(()),
                // The thread has ended, which only a panic can make it do: start another.
                Err(mpsc::SendError(job)) => job,
            },
            None => job,
        };
        let (sender, receiver) = mpsc::channel::<Job>();
        let source = self.shared.source.clone();
        thread::Builder::new()
            .name("whizbang-sqlite-reader".to_owned())
            .spawn(move || serve(&source, &receiver))
            .map_err(|error| ReadError(error.into()))?;
        // The receiver lives as long as the thread that was just started.
        let _ = sender.send(job);
        *jobs = Some(sender);
        Ok(())
    }
}

/// Answers one question after the other, each in a snapshot of its own; a broken connection is opened again for the next.
fn serve(source: &Source, jobs: &mpsc::Receiver<Job>) {
    let mut connection: Option<Connection> = None;
    while let Ok(job) = jobs.recv() {
        let opened = match connection.take() {
            Some(open) => Ok(open),
            None => open(source),
        };
        let sql = match opened.and_then(|sql| sql.execute_batch("BEGIN;").map(|()| sql)) {
            Ok(sql) => sql,
            Err(error) => {
                (job(Err(&error)).deliver)();
                continue;
            }
        };
        let answered = job(Ok(&View {
            sql: &sql,
            agreed: source.agreed,
            partitions: source.options.service.partitions,
        }));
        if sql.execute_batch("COMMIT;").is_ok() && !answered.broken {
            connection = Some(sql);
        }
        (answered.deliver)();
    }
}

fn open(source: &Source) -> rusqlite::Result<Connection> {
    let connection = source.place.connect(Access::Read)?;
    steady_plans(&connection)?;
    connection.busy_timeout(source.options.patience())?;
    let kib = i64::try_from(source.options.cache_bytes >> 10).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kib)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

impl StoreReader for SqliteReader {
    async fn history(
        &self,
        stream: StreamId,
        after: Version,
        messages_max: usize,
        page: &mut Page,
    ) -> Result<(), ReadError> {
        let read = self.ask(move |view| view.history(stream, after, messages_max)).await?;
        if page.is_empty() {
            *page = read;
        } else {
            read.iter().for_each(|message| page.push(&message));
        }
        Ok(())
    }

    async fn projection(&self, perspective: &str, key: &[u8]) -> Result<Option<ProjectionState>, ReadError> {
        let (perspective, key) = (perspective.to_owned(), key.to_vec());
        self.ask(move |view| view.projection(&perspective, key)).await
    }

    async fn projections(
        &self,
        perspective: &str,
        after: &[u8],
        count_max: usize,
    ) -> Result<Vec<ProjectionState>, ReadError> {
        let (perspective, after) = (perspective.to_owned(), after.to_vec());
        self.ask(move |view| view.projections(&perspective, &after, count_max)).await
    }

    async fn whereabouts(
        &self,
        message: MessageId,
        stream: Option<StreamId>,
    ) -> Result<Whereabouts, ReadError> {
        self.ask(move |view| view.whereabouts(message, stream)).await
    }

    async fn dead_letters(
        &self,
        after: Option<ParkedKey>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.ask(move |view| view.dead_letters(after, count_max)).await
    }

    async fn statistics(&self) -> Result<Statistics, ReadError> {
        self.ask(|view| view.statistics()).await
    }
}

/// A subscription, as far as questions need it.
struct Named {
    id: SubscriptionId,
    group: String,
    name: String,
    paused: bool,
}

impl View<'_> {
    fn history(&self, stream: StreamId, after: Version, messages_max: usize) -> Result<Page, Stop> {
        let partition = stream.partition(self.partitions);
        let mut page = Page::default();
        let mut find = self.sql.prepare_cached(include_str!("sql/history.sql"))?;
        let (first, last) = self.places(partition);
        let limit = i64::try_from(messages_max).unwrap_or(i64::MAX);
        let after = i64::try_from(after.0).unwrap_or(i64::MAX);
        let mut rows = find.query((stream.to_bytes(), after, first, last, limit))?;
        while let Some(row) = rows.next()? {
            let place: i64 = row.get(0)?;
            let bytes = row.get_ref(2)?.as_blob().unwrap_or(&[]);
            let mut record = Record::read(bytes, fallback_id(place));
            record.stream = Some(stream);
            page.push(&record.handed(&Placed {
                version: Some(Version(row.get::<_, i64>(1)? as u64)),
                subscription: SubscriptionId(0),
                partition,
                position: position_of(place),
                epoch: Epoch(0),
                attempt: 1,
                origin: Origin::Log,
                lane: LaneState::Free,
            }));
        }
        Ok(page)
    }

    fn projection(&self, perspective: &str, key: Vec<u8>) -> Result<Option<ProjectionState>, Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/projection.sql"))?;
        let found = find.query_row((self.agreed.service, perspective, &key[..]), |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?))
        });
        Ok(found.optional()?.map(|(revision, state)| ProjectionState {
            key,
            revision: Revision(revision as u64),
            state,
        }))
    }

    fn projections(
        &self,
        perspective: &str,
        after: &[u8],
        count_max: usize,
    ) -> Result<Vec<ProjectionState>, Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/projections.sql"))?;
        let limit = i64::try_from(count_max).unwrap_or(i64::MAX);
        let found = find.query_map((self.agreed.service, perspective, after, limit), |row| {
            Ok(ProjectionState {
                key: row.get(0)?,
                revision: Revision(row.get::<_, i64>(1)? as u64),
                state: row.get(2)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn whereabouts(&self, message: MessageId, stream: Option<StreamId>) -> Result<Whereabouts, Stop> {
        let lane = stream.unwrap_or_else(|| message.into());
        let partition = lane.partition(self.partitions);
        let global = self.agreed.first_partition + i64::from(partition.0);
        let mut arriving = self.sql.prepare_cached(include_str!("sql/is_arriving.sql"))?;
        if arriving.exists((global, message.to_bytes()))? {
            return Ok(Whereabouts::Waiting);
        }
        let position = self.position_of(partition, message)?;
        let mut dead = None;
        let mut find = self.sql.prepare_cached(include_str!("sql/parked_as.sql"))?;
        for subscription in self.subscriptions()? {
            let cursor = self.cursor(subscription.id, partition)?;
            if position.is_some_and(|position| !cursor.is_settled(position)) {
                return Ok(Whereabouts::Waiting);
            }
            let mut rows = find.query((subscription.id.0, partition.0, message.to_bytes()))?;
            while let Some(row) = rows.next()? {
                match row.get::<_, Option<u8>>(0)?.and_then(DeadReason::from_number) {
                    Some(reason) if dead.is_none() => dead = Some((reason, row.get(1)?)),
                    Some(_) => {}
                    None => return Ok(Whereabouts::Waiting),
                }
            }
        }
        Ok(dead.map_or(Whereabouts::NotWaiting, |(reason, error)| Whereabouts::Dead { reason, error }))
    }

    /// Where in its partition's log a message is.
    fn position_of(&self, partition: Partition, message: MessageId) -> Result<Option<Position>, Stop> {
        let (first, last) = self.places(partition);
        let trimmed = self.head(partition)?.trimmed;
        let mut find = self.sql.prepare_cached(include_str!("sql/runs_to_trim.sql"))?;
        let mut rows = find.query((first, last))?;
        let (mut segments, mut bytes) = (Segments::new(self.sql), Vec::new());
        while let Some(row) = rows.next()? {
            let run = segments.read(&segment::Placed::of(row)?, row, &mut bytes)?;
            let is_it = |(place, bytes): &(i64, &[u8])| {
                position_of(*place).0 > trimmed && bytes.get(4..20) == Some(&message.to_bytes()[..])
            };
            if let Some((place, _)) = run.records().find(is_it) {
                return Ok(Some(position_of(place)));
            }
        }
        let mut find = self.sql.prepare_cached(include_str!("sql/event_as.sql"))?;
        let event: Option<i64> =
            find.query_row((first, last, message.to_bytes()), |row| row.get(0)).optional()?;
        Ok(event.map(position_of))
    }

    fn dead_letters(&self, after: Option<ParkedKey>, count_max: usize) -> Result<Vec<DeadLetter>, Stop> {
        let mut letters = Vec::new();
        let mut find = self.sql.prepare_cached(include_str!("sql/dead_letters.sql"))?;
        for subscription in self.subscriptions()? {
            let (partition, position) = match after {
                Some(after) if after.subscription > subscription.id => continue,
                Some(after) if after.subscription == subscription.id => {
                    (i64::from(after.partition.0), i64::try_from(after.position.0).unwrap_or(i64::MAX))
                }
                _ => (-1, 0),
            };
            let left = i64::try_from(count_max - letters.len()).unwrap_or(i64::MAX);
            let mut rows = find.query((subscription.id.0, partition, position, left))?;
            while let Some(row) = rows.next()? {
                let key = ParkedKey {
                    subscription: subscription.id,
                    partition: Partition(row.get(0)?),
                    position: Position(row.get::<_, i64>(1)? as u64),
                };
                let global = self.agreed.first_partition + i64::from(key.partition.0);
                let bytes = row.get_ref(8)?.as_blob().unwrap_or(&[]);
                let message = Record::read(bytes, fallback_id(place(global, key.position)));
                letters.push(DeadLetter {
                    key,
                    group: subscription.group.clone(),
                    subscription: subscription.name.clone(),
                    message: message.id,
                    stream: message.stream,
                    type_name: message.type_name.to_owned(),
                    payload: message.payload.to_vec(),
                    reason: DeadReason::from_number(row.get(2)?)
                        .ok_or(Stop::Damaged("a dead letter has no reason"))?,
                    error: row.get(3)?,
                    attempts: row.get(4)?,
                    crashes: row.get(5)?,
                    first_failed_at: Timestamp::from_micros(row.get(6)?),
                    dead_at: Timestamp::from_micros(row.get(7)?),
                });
            }
        }
        Ok(letters)
    }

    fn statistics(&self) -> Result<Statistics, Stop> {
        let first = self.agreed.first_partition;
        let end = first + i64::from(self.partitions);
        let places = (place(first, Position::START), place(end, Position::START));
        let count = |text: &str, from: i64, to: i64| -> Result<u64, Stop> {
            let mut count = self.sql.prepare_cached(text)?;
            Ok(count.query_row((from, to), |row| row.get::<_, i64>(0))? as u64)
        };
        let (first_key, last_key) = dedup::ids(self.agreed.service);
        let mut statistics = Statistics {
            messages: count(include_str!("sql/count_messages.sql"), places.0, places.1)?,
            events: count(include_str!("sql/count_events.sql"), places.0, places.1)?,
            arrivals: count(include_str!("sql/count_arriving.sql"), first, end)?,
            dedup_keys: count(include_str!("sql/count_dedup.sql"), first_key, last_key)?,
            ..Statistics::default()
        };
        let mut heads = Vec::with_capacity(self.partitions as usize);
        for partition in (0..self.partitions).map(Partition) {
            let head = self.head(partition)?;
            heads.push(head.position);
            let gone = self.half_trimmed(partition, head.trimmed)?;
            statistics.messages = statistics.messages.saturating_sub(gone);
        }
        let mut count = self.sql.prepare_cached(include_str!("sql/count_projections.sql"))?;
        statistics.projections = count.query_row([self.agreed.service], |row| row.get::<_, i64>(0))? as u64;
        let mut find = self.sql.prepare_cached(include_str!("sql/instances.sql"))?;
        let mut rows = find.query([self.agreed.service])?;
        while let Some(row) = rows.next()? {
            statistics.instances.extend(InstanceId::from_bytes(row.get(0)?));
        }
        for subscription in self.subscriptions()? {
            let counts = self.subscription_statistics(subscription, &heads)?;
            statistics.subscriptions.push(counts);
        }
        Ok(statistics)
    }

    fn subscription_statistics(&self, of: Named, heads: &[u64]) -> Result<SubscriptionStatistics, Stop> {
        let mut lag = 0;
        for (partition, head) in heads.iter().enumerate() {
            let cursor = self.cursor(of.id, Partition(partition as u32))?;
            let above = cursor.above().iter().map(|(first, last)| last.0 - first.0 + 1);
            lag += head.saturating_sub(cursor.low().0).saturating_sub(above.sum());
        }
        let mut count = self.sql.prepare_cached(include_str!("sql/count_parked.sql"))?;
        let (parked, unroutable, dead) = count.query_row([of.id.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        Ok(SubscriptionStatistics {
            group: of.group,
            name: of.name,
            lag,
            parked: parked as u64,
            unroutable: unroutable as u64,
            dead: dead as u64,
            paused: of.paused,
        })
    }

    /// Messages of a run that is trimmed but for its end, which count as gone.
    fn half_trimmed(&self, partition: Partition, trimmed: u64) -> Result<u64, Stop> {
        if trimmed == 0 {
            return Ok(0);
        }
        let (first, _) = self.places(partition);
        let trimmed = first + trimmed as i64;
        let mut find = self.sql.prepare_cached(include_str!("sql/run_before.sql"))?;
        let mut rows = find.query((first, trimmed))?;
        let Some(row) = rows.next()? else {
            return Ok(0);
        };
        let mut bytes = Vec::new();
        let run = Segments::new(self.sql).read(&segment::Placed::of(row)?, row, &mut bytes)?;
        let gone =
            |(place, record): &(i64, &[u8])| *place <= trimmed && (!record.is_empty() || run.is_damaged());
        Ok(run.records().filter(gone).count() as u64)
    }

    fn head(&self, partition: Partition) -> Result<Head, Stop> {
        let heads = block::read_heads(self.sql, self.agreed.service, block_of(partition))?;
        Ok(heads[partition.0 as usize % BLOCK])
    }

    fn cursor(&self, subscription: SubscriptionId, partition: Partition) -> Result<Cursor, Stop> {
        let mut cursors =
            block::read_cursors(self.sql, self.agreed.service, subscription, block_of(partition))?;
        Ok(core::mem::take(&mut cursors[partition.0 as usize % BLOCK]))
    }

    fn subscriptions(&self) -> Result<Vec<Named>, Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/named_subscriptions.sql"))?;
        let named = find.query_map([self.agreed.service], |row| {
            Ok(Named {
                id: SubscriptionId(row.get(0)?),
                group: row.get(1)?,
                name: row.get(2)?,
                paused: row.get(3)?,
            })
        })?;
        let mut named = named.collect::<Result<Vec<Named>, _>>()?;
        named.sort_unstable_by_key(|subscription| subscription.id);
        Ok(named)
    }

    /// The first and the last place of a partition.
    fn places(&self, partition: Partition) -> (i64, i64) {
        let global = self.agreed.first_partition + i64::from(partition.0);
        (place(global, Position::START), place(global, Position(u64::MAX)))
    }
}
