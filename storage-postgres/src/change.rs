//! What an exchange changes of what all instances know alike: who is there, who owns what, which groups and subscriptions there
//! are. It is compared and written in the same statement as the exchange, see `sql/functions/members.sql`.

use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;
use whizbang_storage::{InstanceId, OnDead, Timestamp};

use crate::load::write_types;
use crate::state::{Shared, State, Subscription, number};
use crate::wire::{Arguments, some, uuid};

/// How long it is remembered that an instance is gone.
const GONE_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// The arguments of `lock_members` and `put_members` that the exchange itself has not.
pub(crate) const ARGUMENTS: usize = 25;

/// Whose exchange it is that a change goes with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) sender: InstanceId,
    pub(crate) number: u64,
    pub(crate) digest: u64,
    pub(crate) now: Timestamp,
}

/// What is different, as columns.
pub(crate) struct Change<'s> {
    start_token: Option<i64>,
    group: Option<i32>,
    types: Option<Vec<u8>>,
    long_ago: i64,
    joins: bool,
    truce: Option<i64>,
    groups: i32,
    subscriptions: i32,
    group_numbers: Option<Vec<i32>>,
    group_names: Option<Vec<&'s str>>,
    put: Subscriptions<'s>,
    dropped: Option<Vec<i32>>,
    owners: Owners,
    gone: Gone,
}

impl<'s> Change<'s> {
    pub(crate) fn between(before: &Shared, state: &'s State, sent: Sent) -> Self {
        let after = &state.shared;
        let me = after.instances.get(&sent.sender).filter(|_| !before.instances.contains_key(&sent.sender));
        let (groups, subscriptions) = (after.groups.len() as i32, after.subscriptions.len() as i32);
        let is_dropped =
            |index: &usize| before.subscription(*index).is_some() && after.subscription(*index).is_none();
        let dropped = (0..before.subscriptions.len()).filter(is_dropped);
        Self {
            start_token: me.map(|me| me.known.start_token as i64),
            group: me.and_then(|me| me.group).map(|group| group as i32 + 1),
            types: me.map(|me| write_types(&me.types)),
            long_ago: sent.now.micros().saturating_sub(GONE_KEPT.as_micros() as i64),
            joins: me.is_some(),
            truce: after.truce.map(Timestamp::micros),
            groups,
            subscriptions,
            group_numbers: some((before.groups.len() as i32 + 1..=groups).collect()),
            group_names: some(
                after.groups.iter().skip(before.groups.len()).map(|group| &*group.name).collect(),
            ),
            put: Subscriptions::put(before, after),
            dropped: some(dropped.map(|index| number(index).0 as i32).collect()),
            owners: Owners::changed(before, after),
            gone: Gone::new(before, after, sent),
        }
    }

    /// In the order in which [`text`] names them.
    pub(crate) fn add_to<'a>(&'a self, arguments: Arguments<'a>) -> Arguments<'a> {
        let Self { put, owners, gone, .. } = self;
        arguments
            .add(&gone.ids, Type::UUID_ARRAY)
            .add(&gone.numbers, Type::INT8_ARRAY)
            .add(&self.start_token, Type::INT8)
            .add(&self.group, Type::INT4)
            .add(&self.types, Type::BYTEA)
            .add(&self.long_ago, Type::INT8)
            .add(&self.joins, Type::BOOL)
            .add(&self.truce, Type::INT8)
            .add(&self.groups, Type::INT4)
            .add(&self.subscriptions, Type::INT4)
            .add(&self.group_numbers, Type::INT4_ARRAY)
            .add(&self.group_names, Type::TEXT_ARRAY)
            .add(&put.numbers, Type::INT4_ARRAY)
            .add(&put.groups, Type::INT4_ARRAY)
            .add(&put.names, Type::TEXT_ARRAY)
            .add(&put.halts, Type::BOOL_ARRAY)
            .add(&put.attempts_max, Type::INT4_ARRAY)
            .add(&put.paused, Type::BOOL_ARRAY)
            .add(&self.dropped, Type::INT4_ARRAY)
            .add(&owners.groups, Type::INT4_ARRAY)
            .add(&owners.partitions, Type::INT4_ARRAY)
            .add(&owners.instances, Type::UUID_ARRAY)
            .add(&owners.epochs, Type::INT8_ARRAY)
            .add(&gone.digests, Type::INT8_ARRAY)
            .add(&gone.ats, Type::INT8_ARRAY)
    }
}

/// The statement: each function takes what the one before has answered, so they are called in this order. `exchange` are the
/// numbers of the exchange's own arguments, of which the first are the service, the instance, the number, the digest, the
/// version, the time, three durations, and the lock's time-out.
pub(crate) fn text(exchange: usize) -> String {
    let mine = |n: usize| format!("${}", exchange + n);
    let all = |range: core::ops::RangeInclusive<usize>| range.map(mine).collect::<Vec<_>>().join(", ");
    let rest: Vec<String> = (6..=exchange).map(|n| format!("${n}")).collect();
    format!(
        "SELECT e.*, p.is_put FROM {{schema}}.lock_members($1, $5, $10, $2, {}, $6) l (version)
CROSS JOIN LATERAL {{schema}}.exchange($1, $2, $3, $4, l.version, {}) e
CROSS JOIN LATERAL {{schema}}.put_members(e.outcome, $1, $2, $6, {}, {}, {}) p (is_put)",
        all(1..=5),
        rest.join(", "),
        all(6..=23),
        all(1..=2),
        all(24..=ARGUMENTS),
    )
}

/// Who has left, or was evicted.
#[derive(Default)]
struct Gone {
    ids: Option<Vec<Uuid>>,
    numbers: Option<Vec<i64>>,
    digests: Option<Vec<i64>>,
    ats: Option<Vec<i64>>,
}

impl Gone {
    fn new(before: &Shared, after: &Shared, sent: Sent) -> Self {
        let is_new = |id: &InstanceId| !before.instances.get(id).is_some_and(|one| one.known.gone);
        let gone: Vec<_> = after.instances.iter().filter(|(id, one)| one.known.gone && is_new(id)).collect();
        let last = |id: InstanceId, one: &crate::state::Instance| {
            // Its last batch is this one.
            let is_me = id == sent.sender;
            if is_me {
                (sent.number, sent.digest, sent.now)
            } else {
                (one.known.last, one.known.digest, one.last_seen)
            }
        };
        let lasts: Vec<_> = gone.iter().map(|(id, one)| last(**id, one)).collect();
        Self {
            ids: some(gone.iter().map(|(id, _)| uuid(id.to_bytes())).collect()),
            numbers: some(lasts.iter().map(|(number, ..)| *number as i64).collect()),
            digests: some(lasts.iter().map(|(_, digest, _)| *digest as i64).collect()),
            ats: some(lasts.iter().map(|(.., at)| at.micros()).collect()),
        }
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
            let same = |known: &Subscription| {
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
