//! The reading side: a few connections of its own, each question in one snapshot.

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Transaction,
};
use std::num::NonZeroU128;
use std::sync::Arc;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Row};
use uuid::Uuid;
use whizbang_storage::record::{Placed, Record, fallback_id};
use whizbang_storage::{
    DeadLetter, DeadReason, Epoch, InstanceId, LaneState, MessageId, Origin, Page, ParkedKey, Partition,
    Position, ProjectionState, ReadError, Revision, Statistics, StoreReader, StreamId, SubscriptionId,
    SubscriptionStatistics, Version, Whereabouts,
};

use crate::error::{Stop, with_details};
use crate::load::{Extent, load};
use crate::look_up::{Range, read_log};
use crate::parked::{self, DEAD, UNROUTABLE};
use crate::schema::{Agreed, sql};
use crate::state::{State, number};
use crate::statements::Statements;
use crate::tls::Connector;
use crate::wire::{Arguments, uuid};
use crate::{OpenError, PostgresOptions};

/// The reading side of a [`PostgresStore`](crate::PostgresStore). Clones share its connections, which are made when there is
/// a question, on the runtime that asks it.
#[derive(Clone)]
pub struct PostgresReader {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    connector: Connector,
    statements: Statements,
    questions: Questions,
    partitions: u32,
}

/// The statements of the reading side alone.
struct Questions {
    history: String,
    projection: String,
    projections: String,
    is_arriving: String,
    event_as: String,
    parked_as: String,
    dead_letters: String,
    count_parked: String,
    counts: String,
}

impl PostgresReader {
    pub(crate) fn new(
        options: &PostgresOptions,
        connector: &Connector,
        agreed: Agreed,
    ) -> Result<Self, OpenError> {
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_connect(
            connector.config().clone(),
            connector.clone(),
            ManagerConfig { recycling_method },
        );
        let pool = Pool::builder(manager)
            .max_size(options.readers_max)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(options.connect_timeout))
            .build()
            .map_err(|error| OpenError::Connect(error.into()))?;
        let text = |text: &str| sql(text, &options.schema);
        let questions = Questions {
            history: text(include_str!("sql/history.sql")),
            projection: text(include_str!("sql/projection.sql")),
            projections: text(include_str!("sql/projections.sql")),
            is_arriving: text(include_str!("sql/is_arriving.sql")),
            event_as: text(include_str!("sql/event_as.sql")),
            parked_as: text(include_str!("sql/parked_as.sql")),
            dead_letters: text(include_str!("sql/dead_letters.sql")),
            count_parked: text(include_str!("sql/count_parked.sql")),
            counts: text(include_str!("sql/counts.sql")),
        };
        let statements = Statements::new(&options.schema, agreed.service);
        let (connector, partitions) = (connector.clone(), options.service.partitions);
        let shared = Shared { pool, connector, statements, questions, partitions };
        Ok(Self { shared: Arc::new(shared) })
    }

    async fn connection(&self) -> Result<Object, ReadError> {
        self.shared.pool.get().await.map_err(|error| match error {
            PoolError::Backend(source) => ReadError(self.shared.connector.failed(source).into()),
            error => ReadError(error.into()),
        })
    }

    fn service(&self) -> &i32 {
        &self.shared.statements.service
    }

    /// Where everything stands.
    async fn places(&self, client: &Client) -> Result<State, ReadError> {
        // Nobody's: nothing that belongs to an instance is asked for.
        let nobody = InstanceId::from_bits(NonZeroU128::MAX);
        let Shared { statements, partitions, .. } = &*self.shared;
        let loaded = load(client, statements, *partitions, nobody, Extent::Places).await;
        loaded.map(|loaded| loaded.state).map_err(stopped)
    }

    /// Where in its partition's log a message is.
    async fn position_of(
        &self,
        client: &Client,
        state: &State,
        partition: Partition,
        message: MessageId,
    ) -> Result<Option<Position>, ReadError> {
        let part = &state.parts[partition.0 as usize];
        let mut after = part.trimmed;
        while after < part.head {
            let range = Range { partition, after, last: part.head, trimmed: part.trimmed };
            let read = read_log(client, &self.shared.statements, range).await.map_err(stopped)?;
            if let Some(entry) = read.after(after).find(|entry| entry.record().id == message) {
                return Ok(Some(entry.position));
            }
            after = read.through();
        }
        let (number, id) = (partition.0 as i32, message.to_bytes().to_vec());
        let arguments =
            [(self.service() as _, Type::INT4), (&number as _, Type::INT4), (&id as _, Type::BYTEA)];
        let rows = client.query_typed(&self.shared.questions.event_as, &arguments).await.map_err(failed)?;
        Ok(rows.first().map(|row| Position(row.get::<_, i64>(0) as u64)))
    }
}

async fn snapshot(connection: &mut Object) -> Result<Transaction<'_>, ReadError> {
    let builder =
        connection.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    builder.start().await.map_err(failed)
}

impl StoreReader for PostgresReader {
    async fn history(
        &self,
        stream: StreamId,
        after: Version,
        messages_max: usize,
        page: &mut Page,
    ) -> Result<(), ReadError> {
        let connection = self.connection().await?;
        let id = uuid(stream.to_bytes());
        let after = i64::try_from(after.0).unwrap_or(i64::MAX);
        let limit = i64::try_from(messages_max).unwrap_or(i64::MAX);
        let arguments = Arguments::default()
            .add(self.service(), Type::INT4)
            .add(&id, Type::UUID)
            .add(&after, Type::INT8)
            .add(&limit, Type::INT8);
        let rows = connection
            .query_typed(&self.shared.questions.history, arguments.types())
            .await
            .map_err(failed)?;
        for row in rows {
            let position = Position(row.get::<_, i64>(1) as u64);
            let mut record = Record::read(row.get(3), fallback_id(position.0 as i64));
            record.stream = Some(stream);
            page.push(&record.handed(&Placed {
                version: Some(Version(row.get::<_, i64>(2) as u64)),
                subscription: SubscriptionId(0),
                partition: Partition(row.get::<_, i32>(0) as u32),
                position,
                epoch: Epoch(0),
                attempt: 1,
                origin: Origin::Log,
                lane: LaneState::Free,
            }));
        }
        Ok(())
    }

    async fn projection(&self, perspective: &str, key: &[u8]) -> Result<Option<ProjectionState>, ReadError> {
        let connection = self.connection().await?;
        let arguments =
            [(self.service() as _, Type::INT4), (&perspective as _, Type::TEXT), (&key as _, Type::BYTEA)];
        let rows =
            connection.query_typed(&self.shared.questions.projection, &arguments).await.map_err(failed)?;
        Ok(rows.first().map(projection))
    }

    async fn projections(
        &self,
        perspective: &str,
        after: &[u8],
        count_max: usize,
    ) -> Result<Vec<ProjectionState>, ReadError> {
        let connection = self.connection().await?;
        let limit = i64::try_from(count_max).unwrap_or(i64::MAX);
        let arguments = Arguments::default()
            .add(self.service(), Type::INT4)
            .add(&perspective, Type::TEXT)
            .add(&after, Type::BYTEA)
            .add(&limit, Type::INT8);
        let rows = connection
            .query_typed(&self.shared.questions.projections, arguments.types())
            .await
            .map_err(failed)?;
        Ok(rows.iter().map(projection).collect())
    }

    async fn whereabouts(
        &self,
        message: MessageId,
        stream: Option<StreamId>,
    ) -> Result<Whereabouts, ReadError> {
        let lane = stream.unwrap_or_else(|| message.into());
        let partition = lane.partition(self.shared.partitions);
        let mut connection = self.connection().await?;
        let snapshot = snapshot(&mut connection).await?;
        let client = snapshot.client();
        let questions = &self.shared.questions;
        let (at, id, bytes) = (partition.0 as i32, uuid(message.to_bytes()), message.to_bytes().to_vec());
        let arguments =
            [(self.service() as _, Type::INT4), (&at as _, Type::INT4), (&bytes as _, Type::BYTEA)];
        if !client.query_typed(&questions.is_arriving, &arguments).await.map_err(failed)?.is_empty() {
            return Ok(Whereabouts::Waiting);
        }
        let state = self.places(client).await?;
        let position = self.position_of(client, &state, partition, message).await?;
        let arguments = [(self.service() as _, Type::INT4), (&at as _, Type::INT4), (&id as _, Type::UUID)];
        let rows = client.query_typed(&questions.parked_as, &arguments).await.map_err(failed)?;
        let mut dead = None;
        for (index, desk) in state.parts[partition.0 as usize].desks.iter().enumerate() {
            let Some(desk) = desk else {
                continue;
            };
            if position.is_some_and(|position| !desk.cursor.is_settled(position)) {
                return Ok(Whereabouts::Waiting);
            }
            for row in rows.iter().filter(|row| row.get::<_, i32>(0) == number(index).0 as i32) {
                match parked_reason(row, id)? {
                    Some(reason) if dead.is_none() => {
                        dead = Some(Whereabouts::Dead { reason, error: row.get(4) });
                    }
                    Some(_) => {}
                    None => return Ok(Whereabouts::Waiting),
                }
            }
        }
        Ok(dead.unwrap_or(Whereabouts::NotWaiting))
    }

    async fn dead_letters(
        &self,
        after: Option<ParkedKey>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let connection = self.connection().await?;
        let (subscription, partition, position) = after.map_or((-1, -1, -1), |key| {
            let position = i64::try_from(key.position.0).unwrap_or(i64::MAX);
            (key.subscription.0 as i32, key.partition.0 as i32, position)
        });
        let limit = i64::try_from(count_max).unwrap_or(i64::MAX);
        let arguments = Arguments::default()
            .add(self.service(), Type::INT4)
            .add(&subscription, Type::INT4)
            .add(&partition, Type::INT4)
            .add(&position, Type::INT8)
            .add(&limit, Type::INT8)
            .add(&DEAD, Type::INT2);
        let rows = connection
            .query_typed(&self.shared.questions.dead_letters, arguments.types())
            .await
            .map_err(failed)?;
        rows.iter().map(dead_letter).collect()
    }

    async fn statistics(&self) -> Result<Statistics, ReadError> {
        let mut connection = self.connection().await?;
        let snapshot = snapshot(&mut connection).await?;
        let client = snapshot.client();
        let state = self.places(client).await?;
        let questions = &self.shared.questions;
        let partitions: Vec<i32> = (0..state.parts.len() as i32).collect();
        let trimmed: Vec<i64> = state.parts.iter().map(|part| part.trimmed.0 as i64).collect();
        let arguments = Arguments::default()
            .add(self.service(), Type::INT4)
            .add(&partitions, Type::INT4_ARRAY)
            .add(&trimmed, Type::INT8_ARRAY);
        let counts = client.query_typed(&questions.counts, arguments.types()).await.map_err(failed)?;
        let counts = counts.first().ok_or_else(|| ReadError("nothing was counted".into()))?;
        let count = |index: usize| counts.get::<_, i64>(index) as u64;
        let parked = client
            .query_typed(&questions.count_parked, &[(self.service() as _, Type::INT4)])
            .await
            .map_err(failed)?;
        let kept: u64 = state.parts.iter().map(|part| part.head.0 - part.trimmed.0).sum();
        let mut statistics = Statistics {
            messages: kept.saturating_sub(count(1)),
            events: count(0),
            arrivals: count(2),
            dedup_keys: count(3),
            projections: count(4),
            instances: state.shared.living().map(|(id, _)| id).collect(),
            subscriptions: Vec::new(),
        };
        for (index, subscription) in state.shared.subscriptions.iter().enumerate() {
            let Some(subscription) = subscription else {
                continue;
            };
            let mut one = SubscriptionStatistics {
                group: state.shared.groups[subscription.group].name.to_string(),
                name: subscription.name.to_string(),
                lag: 0,
                parked: 0,
                unroutable: 0,
                dead: 0,
                paused: subscription.paused,
            };
            for part in &state.parts {
                let Some(desk) = &part.desks[index] else {
                    continue;
                };
                let above = desk.cursor.above().iter().map(|(first, last)| last.0 - first.0 + 1).sum::<u64>();
                one.lag += part.head.0.saturating_sub(desk.cursor.low().0).saturating_sub(above);
            }
            for row in parked.iter().filter(|row| row.get::<_, i32>(0) == number(index).0 as i32) {
                let rows = row.get::<_, i64>(2) as u64;
                match row.get::<_, i16>(1) {
                    UNROUTABLE => one.unroutable += rows,
                    DEAD => one.dead += rows,
                    _ => one.parked += rows,
                }
            }
            statistics.subscriptions.push(one);
        }
        Ok(statistics)
    }
}

fn projection(row: &Row) -> ProjectionState {
    ProjectionState { key: row.get(0), revision: Revision(row.get::<_, i64>(1) as u64), state: row.get(2) }
}

/// Why a parked message is dead; none if it is not.
fn parked_reason(row: &Row, message: Uuid) -> Result<Option<DeadReason>, ReadError> {
    let read = parked::read(message, row.get(1), row.get(2), row.get(3));
    let read = read.ok_or_else(|| ReadError("a parked row cannot be read".into()))?;
    Ok(match read.state {
        whizbang_storage::parked::State::Dead { reason, .. } => Some(reason),
        _ => None,
    })
}

fn dead_letter(row: &Row) -> Result<DeadLetter, ReadError> {
    let damaged = || ReadError("a dead letter cannot be read".into());
    let key = ParkedKey {
        subscription: SubscriptionId(row.get::<_, i32>(0) as u32),
        partition: Partition(row.get::<_, i32>(1) as u32),
        position: Position(row.get::<_, i64>(2) as u64),
    };
    let letter = parked::read(row.get(3), DEAD, None, row.get(4)).ok_or_else(damaged)?;
    let message = Record::read(row.get(6), fallback_id(key.position.0 as i64));
    let whizbang_storage::parked::State::Dead { reason, at } = letter.state else {
        return Err(damaged());
    };
    Ok(DeadLetter {
        key,
        group: row.get(8),
        subscription: row.get(7),
        message: message.id,
        stream: message.stream,
        type_name: message.type_name.to_owned(),
        payload: message.payload.to_vec(),
        reason,
        error: row.get(5),
        attempts: letter.attempts,
        crashes: letter.crashes,
        first_failed_at: letter.parked_at,
        dead_at: at,
    })
}

fn failed(error: tokio_postgres::Error) -> ReadError {
    ReadError(with_details(error))
}

fn stopped(stop: Stop) -> ReadError {
    ReadError(whizbang_storage::StoreError::from(stop).into())
}
