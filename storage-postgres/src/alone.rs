//! What concerns all instances of a service is changed while none of them writes: their rows are locked, everything is
//! read, decided and written in one transaction of a few round trips.

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;
use whizbang_storage::{InstanceId, OnDead, Timestamp};

use crate::error::Stop;
use crate::load::write_types;
use crate::state::{Shared, State, number};
use crate::statements::Statements;
use crate::wire::{Arguments, uuid};

/// How long it is remembered that an instance is gone.
const GONE_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Begins the transaction and takes all locks, the service's first, in one round trip.
pub(crate) async fn begin(client: &Client, sql: &Statements, patience: Duration) -> Result<(), Stop> {
    let millis = patience.as_millis().max(1);
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}"
    );
    let lock = |text| async move { client.query_typed(text, &[(&sql.service, Type::INT4)]).await.map(drop) };
    let steps: Vec<BoxFuture<'_, Result<(), tokio_postgres::Error>>> = vec![
        Box::pin(async { client.batch_execute(&begin).await }),
        Box::pin(lock(&sql.lock_service)),
        Box::pin(lock(&sql.lock_instances)),
    ];
    join_all(steps).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(())
}

/// Writes what all instances know alike, where it has changed; the service's version grows in any case.
pub(crate) async fn write(
    client: &Client,
    sql: &Statements,
    before: &Shared,
    state: &State,
    now: Timestamp,
) -> Result<(), Stop> {
    let after = &state.shared;
    let truce = after.truce.map(Timestamp::micros);
    let (groups, subscriptions) = (after.groups.len() as i32, after.subscriptions.len() as i32);
    let joined: Vec<Joined> = Joined::all(before, after);
    let long_ago = now.micros().saturating_sub(GONE_KEPT.as_micros() as i64);
    let new_groups: Vec<i32> = (before.groups.len() as i32 + 1..=groups).collect();
    let group_names: Vec<&str> =
        after.groups.iter().skip(before.groups.len()).map(|group| &*group.name).collect();
    let put = Subscriptions::put(before, after);
    let is_dropped =
        |index: &usize| before.subscription(*index).is_some() && after.subscription(*index).is_none();
    let dropped: Vec<i32> =
        (0..before.subscriptions.len()).filter(is_dropped).map(|index| number(index).0 as i32).collect();
    let owners = Owners::changed(before, after);

    // Sent in this order: the driver sends a statement when its future is first polled.
    let mut steps: Vec<BoxFuture<'_, Result<(), tokio_postgres::Error>>> = Vec::new();
    let bump = Arguments::default()
        .add(&sql.service, Type::INT4)
        .add(&truce, Type::INT8)
        .add(&groups, Type::INT4)
        .add(&subscriptions, Type::INT4);
    steps.push(Box::pin(async move { client.query_typed(&sql.bump, bump.types()).await.map(drop) }));

    for joined in &joined {
        let at = now.micros();
        steps.push(Box::pin(async move {
            let arguments = Arguments::default()
                .add(&sql.service, Type::INT4)
                .add(&joined.id, Type::UUID)
                .add(&joined.start_token, Type::INT8)
                .add(&joined.group, Type::INT4)
                .add(&joined.types, Type::BYTEA)
                .add(&at, Type::INT8);
            client.query_typed(&sql.add_instance, arguments.types()).await?;
            let arguments = [(&sql.service as _, Type::INT4), (&long_ago as _, Type::INT8)];
            client.query_typed(&sql.forget_gone, &arguments).await.map(drop)
        }));
    }
    if !new_groups.is_empty() {
        steps.push(Box::pin(async {
            let arguments = Arguments::default()
                .add(&sql.service, Type::INT4)
                .add(&new_groups, Type::INT4_ARRAY)
                .add(&group_names, Type::TEXT_ARRAY);
            client.query_typed(&sql.add_groups, arguments.types()).await.map(drop)
        }));
    }
    if !put.numbers.is_empty() {
        steps.push(Box::pin(async {
            let arguments = Arguments::default()
                .add(&sql.service, Type::INT4)
                .add(&put.numbers, Type::INT4_ARRAY)
                .add(&put.groups, Type::INT4_ARRAY)
                .add(&put.names, Type::TEXT_ARRAY)
                .add(&put.halts, Type::BOOL_ARRAY)
                .add(&put.attempts_max, Type::INT4_ARRAY)
                .add(&put.paused, Type::BOOL_ARRAY);
            client.query_typed(&sql.put_subscriptions, arguments.types()).await.map(drop)
        }));
    }
    if !dropped.is_empty() {
        for text in [&sql.drop_subscriptions, &sql.drop_places, &sql.drop_parked] {
            let dropped = &dropped;
            steps.push(Box::pin(async move {
                let arguments = [(&sql.service as _, Type::INT4), (dropped as _, Type::INT4_ARRAY)];
                client.query_typed(text, &arguments).await.map(drop)
            }));
        }
    }
    if !owners.partitions.is_empty() {
        steps.push(Box::pin(async {
            let arguments = Arguments::default()
                .add(&sql.service, Type::INT4)
                .add(&owners.groups, Type::INT4_ARRAY)
                .add(&owners.partitions, Type::INT4_ARRAY)
                .add(&owners.instances, Type::UUID_ARRAY)
                .add(&owners.epochs, Type::INT8_ARRAY);
            client.query_typed(&sql.put_owners, arguments.types()).await.map(drop)
        }));
    }
    join_all(steps).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(())
}

/// Notes who is gone: after the sender's own exchange, which may be its last.
pub(crate) async fn bury(
    client: &Client,
    sql: &Statements,
    before: &Shared,
    state: &State,
    now: Timestamp,
) -> Result<(), Stop> {
    let is_new = |id: &InstanceId| !before.instances.get(id).is_some_and(|instance| instance.known.gone);
    let gone = state.shared.instances.iter().filter(|(id, one)| one.known.gone && is_new(id));
    let (mut ids, mut numbers, mut digests, mut ats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, one) in gone {
        ids.push(uuid(id.to_bytes()));
        numbers.push(one.known.last as i64);
        digests.push(one.known.digest as i64);
        ats.push(one.last_seen.micros());
    }
    if ids.is_empty() {
        return Ok(());
    }
    let now = now.micros();
    let arguments = Arguments::default()
        .add(&sql.service, Type::INT4)
        .add(&now, Type::INT8)
        .add(&ids, Type::UUID_ARRAY)
        .add(&numbers, Type::INT8_ARRAY)
        .add(&digests, Type::INT8_ARRAY)
        .add(&ats, Type::INT8_ARRAY);
    client.query_typed(&sql.bury_instances, arguments.types()).await?;
    let arguments = [(&sql.service as _, Type::INT4), (&ids as _, Type::UUID_ARRAY)];
    client.query_typed(&sql.delete_exchanges, &arguments).await?;
    Ok(())
}

struct Joined {
    id: Uuid,
    start_token: i64,
    group: Option<i32>,
    types: Vec<u8>,
}

impl Joined {
    fn all(before: &Shared, after: &Shared) -> Vec<Self> {
        let new = after.instances.iter().filter(|(id, _)| !before.instances.contains_key(id));
        new.map(|(id, one)| Self {
            id: uuid(id.to_bytes()),
            start_token: one.known.start_token as i64,
            group: one.group.map(|group| group as i32 + 1),
            types: write_types(&one.types),
        })
        .collect()
    }
}

#[derive(Default)]
struct Subscriptions<'s> {
    numbers: Vec<i32>,
    groups: Vec<i32>,
    names: Vec<&'s str>,
    halts: Vec<bool>,
    attempts_max: Vec<i32>,
    paused: Vec<bool>,
}

impl<'s> Subscriptions<'s> {
    /// Those that are new, or not what they were.
    fn put(before: &Shared, after: &'s Shared) -> Self {
        let mut put = Self::default();
        for (index, one) in after.subscriptions.iter().enumerate() {
            let Some(one) = one else {
                continue;
            };
            let same = |known: &crate::state::Subscription| {
                (known.on_dead, known.attempts_max, known.paused)
                    == (one.on_dead, one.attempts_max, one.paused)
            };
            if before.subscription(index).is_some_and(same) {
                continue;
            }
            put.numbers.push(number(index).0 as i32);
            put.groups.push(one.group as i32 + 1);
            put.names.push(&one.name);
            put.halts.push(one.on_dead == OnDead::Halt);
            put.attempts_max.push(i32::try_from(one.attempts_max).unwrap_or(i32::MAX));
            put.paused.push(one.paused);
        }
        put
    }
}

#[derive(Default)]
struct Owners {
    groups: Vec<i32>,
    partitions: Vec<i32>,
    instances: Vec<Option<Uuid>>,
    epochs: Vec<i64>,
}

impl Owners {
    fn changed(before: &Shared, after: &Shared) -> Self {
        let mut changed = Self::default();
        for (index, group) in after.groups.iter().enumerate() {
            let known = before.groups.get(index);
            for (partition, owner) in group.owners.iter().enumerate() {
                let was = known.and_then(|known| known.owners.get(partition)).copied().unwrap_or_default();
                if was == *owner {
                    continue;
                }
                changed.groups.push(index as i32 + 1);
                changed.partitions.push(partition as i32);
                changed.instances.push(owner.instance.map(|instance| uuid(instance.to_bytes())));
                changed.epochs.push(owner.epoch.0 as i64);
            }
        }
        changed
    }
}
