//! A work batch, and what a service agreed on.

use std::time::Duration;

use super::{Malformed, Wire, put_list, wire_fields};
use crate::record::{self, Record, fallback_id};
use crate::{
    Append, Condition, DeadReason, Delivery, Epoch, Expected, HandOut, Join, KnownType, Limit, Limits,
    Membership, OnDead, Operation, ParkedKey, Partition, Projection, Read, Release, Running, Sender, Service,
    Settle, Settled, StartAt, SubscriptionSpec, Unit, WorkBatch,
};

wire_fields! {
    Service {
        name, partitions, time_to_live, window, dedup_retention, event_retention, unroutable_after, limits,
    }
    Limits {
        payload_bytes_max, metadata_bytes_max, name_bytes_max, key_bytes_max, error_bytes_max, state_bytes_max,
        batch_messages_max, batch_bytes_max,
    }
    Sender { instance, start_token, number }
    KnownType<'r> { name, version_max }
    SubscriptionSpec<'r> { name, start, on_dead, attempts_max }
    Running { subscription, partition, position }
    Delivery { subscription, partition, position, lane, epoch, attempt }
    Settled { subscription, partition, epoch, first, last }
    Expected { stream, version }
    Projection<'r> { perspective, key, based_on, state }
    Limit { messages, bytes }
    Read { subscription, partition, epoch, after, limit }
    ParkedKey { subscription, partition, position }
}

/// A batch that was read: it lends its bytes, and holds the lists that a [`WorkBatch`] borrows.
pub(crate) struct Borrowed<'r> {
    from: Sender,
    membership: Option<BorrowedMembership<'r>>,
    units: Vec<BorrowedUnit<'r>>,
    settled: Vec<Settled>,
    appends: Vec<Append<'r>>,
    arrivals: Option<usize>,
    operations: Vec<Operation<'r>>,
    due: Option<Limit>,
    reads: Vec<Read>,
    housekeeping: Option<usize>,
}

enum BorrowedMembership<'r> {
    Join { group: Option<&'r str>, subscriptions: Vec<SubscriptionSpec<'r>>, types: Vec<KnownType<'r>> },
    Heartbeat,
    Release(Vec<(Partition, Epoch, Vec<Running>)>),
    Leave(Vec<Running>),
}

struct BorrowedUnit<'r> {
    delivery: Option<Delivery>,
    settle: Settle<'r>,
    emits: Vec<Append<'r>>,
    expects: Vec<Expected>,
    projections: Vec<Projection<'r>>,
}

impl<'r> Borrowed<'r> {
    /// Writes a batch.
    pub(crate) fn put(batch: &WorkBatch<'_>, out: &mut Vec<u8>) {
        batch.from.put(out);
        put_membership(batch.membership.as_ref(), out);
        batch.units.len().put(out);
        batch.units.iter().for_each(|unit| put_unit(unit, out));
        put_list(batch.settled.iter().copied(), out);
        put_list(batch.appends.iter().copied(), out);
        batch.arrivals.put(out);
        put_list(batch.operations.iter().copied(), out);
        batch.due.put(out);
        put_list(batch.reads.iter().copied(), out);
        batch.housekeeping.put(out);
    }

    /// Reads a batch.
    pub(crate) fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        Ok(Self {
            from: Wire::get(from)?,
            membership: get_membership(from)?,
            units: Wire::get(from)?,
            settled: Wire::get(from)?,
            appends: Wire::get(from)?,
            arrivals: Wire::get(from)?,
            operations: Wire::get(from)?,
            due: Wire::get(from)?,
            reads: Wire::get(from)?,
            housekeeping: Wire::get(from)?,
        })
    }

    /// Lends the batch.
    pub(crate) fn lend<T>(&self, to: impl FnOnce(&WorkBatch<'_>) -> T) -> T {
        let mut releases = Vec::new();
        let membership = self.membership.as_ref().map(|said| match said {
            BorrowedMembership::Join { group, subscriptions, types } => {
                Membership::Join(Join { group: *group, subscriptions, types })
            }
            BorrowedMembership::Heartbeat => Membership::Heartbeat,
            BorrowedMembership::Release(given) => {
                releases.extend(given.iter().map(|(partition, epoch, running)| Release {
                    partition: *partition,
                    epoch: *epoch,
                    running,
                }));
                Membership::Release(&releases)
            }
            BorrowedMembership::Leave(running) => Membership::Leave { running },
        });
        let units: Vec<Unit<'_>> = self
            .units
            .iter()
            .map(|unit| Unit {
                delivery: unit.delivery,
                settle: unit.settle,
                emits: &unit.emits,
                expects: &unit.expects,
                projections: &unit.projections,
            })
            .collect();
        to(&WorkBatch {
            from: self.from,
            membership,
            units: &units,
            settled: &self.settled,
            appends: &self.appends,
            arrivals: self.arrivals,
            operations: &self.operations,
            due: self.due,
            reads: &self.reads,
            housekeeping: self.housekeeping,
        })
    }
}

fn put_membership(said: Option<&Membership<'_>>, out: &mut Vec<u8>) {
    match said {
        None => 0u8.put(out),
        Some(Membership::Join(join)) => {
            1u8.put(out);
            join.group.put(out);
            put_list(join.subscriptions.iter().copied(), out);
            put_list(join.types.iter().copied(), out);
        }
        Some(Membership::Heartbeat) => 2u8.put(out),
        Some(Membership::Release(releases)) => {
            3u8.put(out);
            releases.len().put(out);
            for release in *releases {
                (release.partition, release.epoch).put(out);
                put_list(release.running.iter().copied(), out);
            }
        }
        Some(Membership::Leave { running }) => {
            4u8.put(out);
            put_list(running.iter().copied(), out);
        }
    }
}

fn get_membership<'r>(from: &mut &'r [u8]) -> Result<Option<BorrowedMembership<'r>>, Malformed> {
    Ok(Some(match u8::get(from)? {
        0 => return Ok(None),
        1 => BorrowedMembership::Join {
            group: Wire::get(from)?,
            subscriptions: Wire::get(from)?,
            types: Wire::get(from)?,
        },
        2 => BorrowedMembership::Heartbeat,
        3 => BorrowedMembership::Release(Wire::get(from)?),
        4 => BorrowedMembership::Leave(Wire::get(from)?),
        _ => return Err(Malformed),
    }))
}

fn put_unit(unit: &Unit<'_>, out: &mut Vec<u8>) {
    unit.delivery.put(out);
    unit.settle.put(out);
    put_list(unit.emits.iter().copied(), out);
    put_list(unit.expects.iter().copied(), out);
    put_list(unit.projections.iter().copied(), out);
}

impl<'r> Wire<'r> for BorrowedUnit<'r> {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { delivery, settle, emits, expects, projections } = self;
        put_unit(&Unit { delivery: *delivery, settle: *settle, emits, expects, projections }, out);
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        Ok(Self {
            delivery: Wire::get(from)?,
            settle: Wire::get(from)?,
            emits: Wire::get(from)?,
            expects: Wire::get(from)?,
            projections: Wire::get(from)?,
        })
    }
}

/// As the record that databases keep of it, and what the sender asked for.
impl<'r> Wire<'r> for Append<'r> {
    fn put(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(self.bytes() + 128);
        record::encode(self, &mut bytes);
        bytes.as_slice().put(out);
        self.dedup.put(out);
        self.due_in.put(out);
        (self.hand_out == HandOut::Now).put(out);
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        let record = Record::read(Wire::get(from)?, fallback_id(0));
        if record.condition != Condition::Whole {
            return Err(Malformed);
        }
        Ok(Self {
            id: record.id,
            stream: record.stream,
            kind: record.kind,
            type_name: record.type_name,
            type_version: record.type_version,
            content_type: record.content_type,
            payload: record.payload,
            correlation: record.correlation,
            causation: record.causation,
            metadata: record.metadata,
            dedup: Wire::get(from)?,
            due_in: Wire::get(from)?,
            hand_out: if bool::get(from)? { HandOut::Now } else { HandOut::Later },
        })
    }
}

impl<'r> Wire<'r> for Settle<'r> {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Settle::Done => 0u8.put(out),
            Settle::Retry { after, error } => {
                1u8.put(out);
                (after, error).put(out);
            }
            Settle::Dead { reason, error } => {
                2u8.put(out);
                (reason, error).put(out);
            }
            Settle::Detach => 3u8.put(out),
            Settle::Defer => 4u8.put(out),
            Settle::Unroutable => 5u8.put(out),
            Settle::Release => 6u8.put(out),
            Settle::Exhausted { error } => {
                7u8.put(out);
                error.put(out);
            }
        }
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        Ok(match u8::get(from)? {
            0 => Settle::Done,
            1 => Settle::Retry { after: Duration::get(from)?, error: Wire::get(from)? },
            2 => Settle::Dead { reason: Wire::get(from)?, error: Wire::get(from)? },
            3 => Settle::Detach,
            4 => Settle::Defer,
            5 => Settle::Unroutable,
            6 => Settle::Release,
            7 => Settle::Exhausted { error: Wire::get(from)? },
            _ => return Err(Malformed),
        })
    }
}

impl<'r> Wire<'r> for Operation<'r> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Operation::Requeue(key) => (0u8, *key).put(out),
            Operation::Discard(key) => (1u8, *key).put(out),
            Operation::Pause(id) => (2u8, *id).put(out),
            Operation::Resume(id) => (3u8, *id).put(out),
            Operation::Register { group, subscription } => (4u8, *group, *subscription).put(out),
            Operation::Drop(id) => (5u8, *id).put(out),
        }
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        Ok(match u8::get(from)? {
            0 => Operation::Requeue(Wire::get(from)?),
            1 => Operation::Discard(Wire::get(from)?),
            2 => Operation::Pause(Wire::get(from)?),
            3 => Operation::Resume(Wire::get(from)?),
            4 => Operation::Register { group: Wire::get(from)?, subscription: Wire::get(from)? },
            5 => Operation::Drop(Wire::get(from)?),
            _ => return Err(Malformed),
        })
    }
}

impl Wire<'_> for DeadReason {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u8).put(out);
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        Self::from_number(u8::get(from)?).ok_or(Malformed)
    }
}

impl Wire<'_> for StartAt {
    fn put(&self, out: &mut Vec<u8>) {
        (*self == StartAt::End).put(out);
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(if bool::get(from)? { StartAt::End } else { StartAt::First })
    }
}

impl Wire<'_> for OnDead {
    fn put(&self, out: &mut Vec<u8>) {
        (*self == OnDead::Halt).put(out);
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(if bool::get(from)? { OnDead::Halt } else { OnDead::Skip })
    }
}
