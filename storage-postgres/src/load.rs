//! What is remembered is read from the database: where everything stands in one round trip, what lies there in another one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;
use whizbang_storage::parked::Suspects;
use whizbang_storage::turn::KnownInstance;
use whizbang_storage::{Epoch, InstanceId, OnDead, Partition, Position, SubscriptionId, Timestamp};

use crate::error::Stop;
use crate::places;
use crate::state::{Desk, Group, Instance, KnownType, Owner, Part, Shared, State, Subscription, index_of};
use crate::statements::Statements;
use crate::tail::Tail;
use crate::wire::{Arguments, Come, one_that_came, uuid};

/// How much of the service is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What the sender owns or might take, and what all know alike.
    Mine,
    /// Everything.
    All,
    /// Only where everything stands.
    Places,
}

/// What was loaded.
pub(crate) struct Loaded {
    pub(crate) state: State,
    pub(crate) clock: Timestamp,
    /// What the sender's last exchange removed.
    pub(crate) removed: Option<usize>,
}

/// Loads the service, as one instance needs it.
pub(crate) async fn load(
    client: &Client,
    sql: &Statements,
    partitions: u32,
    sender: InstanceId,
    extent: Extent,
) -> Result<Loaded, Stop> {
    let (me, all) = (uuid(sender.to_bytes()), extent == Extent::All);
    let service = &sql.service;
    // The service first: should it change meanwhile, its version tells. An eviction takes an instance's exchanges away, so they come
    // before the instances: whoever is evicted in between is seen as evicted, not as one that has sent nothing.
    let plain = [
        &sql.load_service,
        &sql.load_exchanges,
        &sql.load_instances,
        &sql.load_groups,
        &sql.load_owners,
        &sql.load_subscriptions,
        &sql.load_places,
    ];
    let mut queries: Vec<BoxFuture<'_, Result<Vec<Row>, tokio_postgres::Error>>> = Vec::new();
    for text in plain {
        queries.push(Box::pin(async move { client.query_typed(text, &[(service, Type::INT4)]).await }));
    }
    if extent != Extent::Places {
        queries.push(Box::pin(async {
            let arguments = [(service as _, Type::INT4), (&me as _, Type::UUID), (&all as _, Type::BOOL)];
            client.query_typed(&sql.load_parked, &arguments).await
        }));
    }
    let mut found = join_all(queries).await.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut next = || found.next().unwrap_or_default();
    let (service, exchanges, instances, groups, owners, subscriptions, places, parked) =
        (next(), next(), next(), next(), next(), next(), next(), next());

    let service = service.first().ok_or(Stop::Damaged("the service is gone"))?;
    let clock = Timestamp::from_micros(service.get(4));
    let (instances, last_commit) = read_instances(&instances, &exchanges)?;
    let shared = Shared {
        version: service.get(0),
        truce: service.get::<_, Option<i64>>(1).map(Timestamp::from_micros),
        last_commit,
        instances,
        groups: read_groups(&groups, &owners, partitions),
        subscriptions: Vec::new(),
    };
    let mut state = State {
        shared,
        parts: (0..partitions).map(|_| Part::default()).collect(),
        seen: String::new(),
        versions: HashMap::new(),
        unfolded: BTreeSet::new(),
        exchanges: 0,
    };
    read_subscriptions(&mut state, &subscriptions, service.get::<_, i32>(3) as usize)?;
    for row in &places {
        let value: &[u8] = row.get(2);
        places::restore(
            &mut state,
            Partition(row.get::<_, i32>(0) as u32),
            row.get::<_, i32>(1) as u32,
            value,
        )
        .ok_or(Stop::Damaged("a place cannot be read"))?;
    }
    let mut removed = None;
    for row in &exchanges {
        let instance = InstanceId::from_bytes(row.get::<_, Uuid>(0).into_bytes());
        let is_mine = instance == Some(sender);
        let (bytes, mut at): (&[u8], usize) = (row.get(6), 0);
        while at < bytes.len() {
            let (partition, what, value) =
                places::pull(bytes, &mut at).ok_or(Stop::Damaged("an exchange cannot be read"))?;
            places::restore(&mut state, partition, what, value)
                .ok_or(Stop::Damaged("a place cannot be read"))?;
            if is_mine {
                state.unfolded.insert((partition, what));
            }
        }
        if is_mine {
            state.exchanges += 1;
            removed = Some(row.get::<_, i32>(5) as usize);
        }
    }
    for part in &mut state.parts {
        part.tail = Tail::behind(part.head);
        for desk in part.desks.iter_mut().flatten() {
            desk.suspects = (!desk.cursor.has_suspects()).then(Suspects::default);
        }
    }
    for row in &parked {
        let index = index_of(SubscriptionId(row.get::<_, i32>(0) as u32));
        let position = Position(row.get::<_, i64>(2) as u64);
        let read = crate::parked::read(row.get(3), row.get(4), row.get(5), row.get(6));
        let read = read.ok_or(Stop::Damaged("a parked row cannot be read"))?;
        let desk = index.and_then(|index| state.desk_mut(index, Partition(row.get::<_, i32>(1) as u32)));
        if let Some(desk) = desk {
            desk.parked.insert(position, read);
        }
    }
    Ok(Loaded { state, clock, removed })
}

/// Loads the arrivals of the partitions that an instance writes, and what had been committed then.
pub(crate) async fn load_arrivals(
    client: &Client,
    sql: &Statements,
    state: &mut State,
    sender: InstanceId,
) -> Result<(), Stop> {
    let partitions = state.parts.len() as u32;
    let (seen, come) = fetch_arrivals(client, sql, sender, partitions).await?;
    put_arrivals(state, sender, seen, come);
    Ok(())
}

/// Adds arrivals that were loaded.
pub(crate) fn put_arrivals(state: &mut State, sender: InstanceId, seen: String, come: Vec<Come>) {
    state.seen = seen;
    for (id, partition, due, arrival) in come {
        // Drafts are for anybody.
        let is_written = state.shared.writer(partition) == Some(sender);
        if let Some(part) = state.parts.get_mut(partition.0 as usize).filter(|_| is_written) {
            part.arrivals.add(id, due, arrival);
        }
    }
}

async fn fetch_arrivals(
    client: &Client,
    sql: &Statements,
    sender: InstanceId,
    partitions: u32,
) -> Result<(String, Vec<Come>), Stop> {
    let me = uuid(sender.to_bytes());
    let arguments = [(&sql.service as _, Type::INT4), (&me as _, Type::UUID)];
    let rows = client.query_typed(&sql.load_arrivals, &arguments).await?;
    let (mut seen, mut come) = (None, Vec::with_capacity(rows.len()));
    for row in &rows {
        match row.get::<_, Option<String>>("seen") {
            Some(text) => seen = Some(text),
            None => come.push(one_that_came(row, partitions)?),
        }
    }
    Ok((seen.ok_or(Stop::Damaged("arrivals cannot be read"))?, come))
}

/// Loads what is not kept of arrivals and of where events lie, in one round trip.
pub(crate) async fn load_rest(
    client: &Client,
    sql: &Statements,
    state: &mut State,
    sender: InstanceId,
    extent: Extent,
    kept: &Kept,
) -> Result<(), Stop> {
    let partitions = state.parts.len() as u32;
    let arrivals = async {
        match kept.arrivals {
            true => Ok(None),
            false => fetch_arrivals(client, sql, sender, partitions).await.map(Some),
        }
    };
    // In this order on the way.
    let events = load_events(client, sql, state, sender, extent, kept);
    let (events, arrivals) = futures_util::future::join(events, arrivals).await;
    events?;
    if let Some((seen, come)) = arrivals? {
        put_arrivals(state, sender, seen, come);
    }
    Ok(())
}

/// Loads where events lie in the partitions for which that may be asked: those that an instance owns or might take, or all of
/// them; not where it is remembered.
async fn load_events(
    client: &Client,
    sql: &Statements,
    state: &mut State,
    sender: InstanceId,
    extent: Extent,
    kept: &Kept,
) -> Result<(), Stop> {
    // Where groups share partitions, whoever clears up does so everywhere.
    let all = extent == Extent::All || state.shared.groups.len() > 1;
    let is_asked = |partition: &Partition| {
        let writer = state.shared.writer(*partition);
        !kept.events.contains(partition) && (all || writer.is_none_or(|writer| writer == sender))
    };
    let asked: Vec<Partition> = (0..state.parts.len() as u32).map(Partition).filter(is_asked).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let partitions: Vec<i32> = asked.iter().map(|partition| partition.0 as i32).collect();
    let trimmed = |partition: &Partition| state.parts[partition.0 as usize].trimmed.0 as i64;
    let trimmed: Vec<i64> = asked.iter().map(trimmed).collect();
    let arguments = Arguments::default()
        .add(&sql.service, Type::INT4)
        .add(&partitions, Type::INT4_ARRAY)
        .add(&trimmed, Type::INT8_ARRAY);
    for row in client.query_typed(&sql.load_events, arguments.types()).await? {
        if let Some(part) = state.parts.get_mut(row.get::<_, i32>(0) as usize) {
            part.events.insert(Position(row.get::<_, i64>(1) as u64));
        }
    }
    Ok(())
}

/// What [`carry_over`] has taken over.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// All arrivals of the partitions that the sender writes.
    arrivals: bool,
    /// Where events lie in these.
    events: BTreeSet<Partition>,
}

/// Takes over from what was remembered what cannot have changed: messages, and of partitions that the sender wrote all the
/// time arrivals, where events lie, and at which versions streams are.
pub(crate) fn carry_over(state: &mut State, mut previous: State, sender: InstanceId) -> Kept {
    let writes = |state: &State, at: usize| state.shared.writer(Partition(at as u32)) == Some(sender);
    // Somebody of an older group may have written there for a while: then there is more in the log.
    let is_same: Vec<bool> = (0..state.parts.len())
        .map(|at| {
            let is_as_long = previous.parts.get(at).is_some_and(|old| old.head == state.parts[at].head);
            is_as_long && writes(state, at) && writes(&previous, at)
        })
        .collect();
    let mut kept = Kept {
        arrivals: !previous.seen.is_empty()
            && (0..state.parts.len()).all(|at| !writes(state, at) || is_same[at]),
        events: BTreeSet::new(),
    };
    let partitions = state.parts.len() as u32;
    state.versions = core::mem::take(&mut previous.versions);
    state.versions.retain(|stream, _| is_same[stream.partition(partitions).0 as usize]);
    for (at, (part, old)) in state.parts.iter_mut().zip(&mut previous.parts).enumerate() {
        if kept.arrivals && is_same[at] {
            part.arrivals = core::mem::take(&mut old.arrivals);
        }
        if old.head == part.head {
            part.tail = core::mem::take(&mut old.tail);
            if is_same[at] {
                part.events = old.events.split_off(&part.trimmed.next());
                kept.events.insert(Partition(at as u32));
            }
        }
        for (desk, old) in part.desks.iter_mut().zip(&mut old.desks) {
            if let (Some(desk), Some(old)) = (desk, old) {
                desk.ahead = core::mem::take(&mut old.ahead);
                carry_records_over(desk, old);
                if desk.cursor == old.cursor && desk.suspects.is_none() && old.suspects.is_some() {
                    desk.suspects = old.suspects.take();
                    desk.suspected = core::mem::take(&mut old.suspected);
                }
            }
        }
    }
    if kept.arrivals {
        state.seen = previous.seen;
    }
    kept
}

/// A parked message is what it was, whatever has become of it.
fn carry_records_over(desk: &mut Desk, old: &Desk) {
    let kept = old.parked.rows().iter().filter_map(|(at, row)| Some((*at, row.message.record.clone()?)));
    for (position, record) in kept {
        if desk.parked.get(position).is_some_and(|row| row.message.record.is_none()) {
            desk.parked.change(position, |row| row.message.record = Some(record));
        }
    }
}

fn read_instances(
    instances: &[Row],
    exchanges: &[Row],
) -> Result<(BTreeMap<InstanceId, Instance>, Option<Timestamp>), Stop> {
    const DAMAGED: Stop = Stop::Damaged("an instance cannot be read");
    let mut known = BTreeMap::new();
    // Of those that a dump brought, whose transactions are none of this server's, the newest by their time.
    let mut last: Option<(i64, Timestamp)> = None;
    let mut note = |transaction: i64, at: Timestamp| last = last.max(Some((transaction, at)));
    for row in instances {
        let id = InstanceId::from_bytes(row.get::<_, Uuid>(0).into_bytes()).ok_or(DAMAGED)?;
        let at = Timestamp::from_micros(row.get(7));
        note(row.get(8), at);
        let instance = Instance {
            known: KnownInstance {
                start_token: row.get::<_, i64>(1) as u64,
                last: row.get::<_, i64>(5) as u64,
                digest: row.get::<_, i64>(6) as u64,
                gone: row.get(4),
            },
            group: row.get::<_, Option<i32>>(2).map(|group| group as usize - 1),
            types: read_types(row.get(3)).ok_or(DAMAGED)?,
            last_seen: at,
        };
        known.insert(id, instance);
    }
    for row in exchanges {
        let id = InstanceId::from_bytes(row.get::<_, Uuid>(0).into_bytes()).ok_or(DAMAGED)?;
        let at = Timestamp::from_micros(row.get(3));
        note(row.get(4), at);
        if let Some(instance) = known.get_mut(&id) {
            instance.known.last = row.get::<_, i64>(1) as u64;
            instance.known.digest = row.get::<_, i64>(2) as u64;
            instance.last_seen = at;
        }
    }
    Ok((known, last.map(|(_, at)| at)))
}

/// Name, NUL, newest version, NUL, and so on.
fn read_types(bytes: &[u8]) -> Option<Arc<[KnownType]>> {
    let mut fields = bytes.split(|byte| *byte == 0);
    let mut types = Vec::new();
    while let (Some(name), Some(version)) = (fields.next(), fields.next()) {
        let version = core::str::from_utf8(version).ok()?.parse().ok()?;
        types.push((core::str::from_utf8(name).ok()?.into(), version));
    }
    Some(types.into())
}

/// What [`read_types`] reads.
pub(crate) fn write_types(types: &[KnownType]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, version) in types {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(version.to_string().as_bytes());
        out.push(0);
    }
    out
}

fn read_groups(groups: &[Row], owners: &[Row], partitions: u32) -> Vec<Group> {
    let group = |row: &Row| Group {
        name: row.get::<_, &str>(1).into(),
        owners: vec![Owner::default(); partitions as usize],
        subscriptions: Vec::new(),
    };
    let mut groups: Vec<Group> = groups.iter().map(group).collect();
    for row in owners {
        let instance = row.get::<_, Option<Uuid>>(2);
        let owner = Owner {
            instance: instance.and_then(|instance| InstanceId::from_bytes(instance.into_bytes())),
            epoch: Epoch(row.get::<_, i64>(3) as u64),
        };
        let group = groups.get_mut(row.get::<_, i32>(0) as usize - 1);
        if let Some(slot) = group.and_then(|group| group.owners.get_mut(row.get::<_, i32>(1) as usize)) {
            *slot = owner;
        }
    }
    groups
}

fn read_subscriptions(state: &mut State, rows: &[Row], ever: usize) -> Result<(), Stop> {
    let State { shared, parts, .. } = state;
    shared.subscriptions.resize_with(ever, || None);
    parts.iter_mut().for_each(|part| part.desks.resize_with(ever, || None));
    for row in rows {
        let index = row.get::<_, i32>(0) as usize - 1;
        let group = row.get::<_, i32>(1) as usize - 1;
        let on_dead = if row.get(3) { OnDead::Halt } else { OnDead::Skip };
        let subscription = Subscription {
            group,
            name: row.get::<_, &str>(2).into(),
            on_dead,
            attempts_max: row.get::<_, i32>(4) as u32,
            paused: row.get(5),
        };
        let (Some(slot), Some(group)) = (shared.subscriptions.get_mut(index), shared.groups.get_mut(group))
        else {
            // Whoever joined a moment ago has brought it along.
            return Err(Stop::Outdated("a subscription is newer than the service"));
        };
        *slot = Some(subscription);
        group.subscriptions.push(index);
        for part in parts.iter_mut() {
            part.desks[index] = Some(Desk::new(Default::default(), on_dead));
        }
    }
    Ok(())
}
