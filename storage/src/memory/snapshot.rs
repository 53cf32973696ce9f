//! Everything of a service as bytes: equal data are equal bytes, whatever way they came about.

use std::collections::BTreeMap;

use super::data::{
    Arrival, Arrivals, Data, Dedup, Desk, First, Group, Instance, Owner, Part, Stored, Subscription,
};
use super::log::Log;
use super::message::{Bytes, Head, Message, Names};
use super::parked::{Mode, Parked, Row, State, Suspects};
use crate::cursor::Cursor;
use crate::parked::Was;
use crate::record::{self, Record, fallback_id};
use crate::turn::KnownInstance;
use crate::wire::{Malformed, Wire, wire_fields};
use crate::{Append, Condition, HandOut, InstanceId, Position, StreamId, Timestamp, Version};

wire_fields! {
    Owner { instance, epoch }
    Group { name, subscriptions }
    Subscription { group, name, on_dead, attempts_max, paused }
    KnownInstance { start_token, last, digest, gone }
    Instance { known, group, types, last_seen }
    Stored { revision, state }
    First { id, body }
}

impl Wire<'_> for Data {
    fn put(&self, out: &mut Vec<u8>) {
        self.time_to_live.put(out);
        (self.last_commit, self.truce, self.arrivals_ever).put(out);
        self.groups.put(out);
        self.subscriptions.put(out);
        put_map(&self.instances, out);
        self.dedup.put(out);
        self.projections.len().put(out);
        for (perspective, keys) in &self.projections {
            perspective.put(out);
            put_map(keys, out);
        }
        self.partitions.len().put(out);
        self.partitions.iter().for_each(|part| part.write(&self.names, out));
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        let time_to_live = Wire::get(from)?;
        let (last_commit, truce, arrivals_ever) = Wire::get(from)?;
        let groups: Vec<Group> = Wire::get(from)?;
        let subscriptions: Vec<Option<Subscription>> = Wire::get(from)?;
        let instances: BTreeMap<InstanceId, Instance> = get_map(from)?;
        let dedup = Wire::get(from)?;
        let mut projections = BTreeMap::new();
        for _ in 0..usize::get(from)? {
            projections.insert(Wire::get(from)?, get_map(from)?);
        }
        // Numbers of groups and subscriptions are places in lists: one that is none would be found much later.
        let is_group = |group: usize| group < groups.len();
        let is_known = |index: &usize| matches!(subscriptions.get(*index), Some(Some(_)));
        let fits = groups.iter().flat_map(|group| &group.subscriptions).all(is_known)
            && subscriptions.iter().flatten().all(|subscription| is_group(subscription.group))
            && instances.values().all(|instance| instance.group.is_none_or(is_group));
        if !fits {
            return Err(Malformed);
        }
        let mut names = Names::default();
        let mut partitions = Vec::new();
        for _ in 0..usize::get(from)? {
            partitions.push(Part::restore(from, &groups, &subscriptions, &mut names)?);
        }
        Ok(Self {
            time_to_live,
            partitions,
            groups,
            subscriptions,
            instances,
            names,
            dedup,
            projections,
            last_commit,
            truce,
            arrivals_ever,
        })
    }
}

impl Part {
    fn write(&self, names: &Names, out: &mut Vec<u8>) {
        self.log.write(names, out);
        self.arrivals.write(names, out);
        self.owners.iter().for_each(|owner| owner.put(out));
        self.desks.iter().flatten().for_each(|desk| desk.write(names, out));
    }

    fn restore(
        from: &mut &[u8],
        groups: &[Group],
        subscriptions: &[Option<Subscription>],
        names: &mut Names,
    ) -> Result<Self, Malformed> {
        let log = Log::restore(from, names)?;
        let arrivals = Arrivals::restore(from, names)?;
        let owners = groups.iter().map(|_| Owner::get(from)).collect::<Result<_, _>>()?;
        let desk = |subscription: &Option<Subscription>| {
            subscription.as_ref().map(|subscription| Desk::restore(from, subscription, names)).transpose()
        };
        let desks = subscriptions.iter().map(desk).collect::<Result<_, _>>()?;
        let mut part = Self { log, arrivals, owners, writer: None, desks };
        part.find_writer();
        Ok(part)
    }
}

impl Log {
    fn write(&self, names: &Names, out: &mut Vec<u8>) {
        self.head().put(out);
        let streams: BTreeMap<StreamId, Version> = self.versions().collect();
        put_map(&streams, out);
        let (others, events) = self.counts();
        (others + events).put(out);
        for (entry, bytes) in self.after(Position::START) {
            (entry.position, entry.at).put(out);
            put_message(&entry.head, bytes, names, out);
        }
    }

    fn restore(from: &mut &[u8], names: &mut Names) -> Result<Self, Malformed> {
        let head = Position::get(from)?;
        let versions: BTreeMap<StreamId, Version> = get_map(from)?;
        let mut log = Self::at(head, versions);
        let mut last = Position::START;
        for _ in 0..usize::get(from)? {
            let (position, at) = <(Position, Timestamp)>::get(from)?;
            if position <= last || position > head {
                return Err(Malformed);
            }
            last = position;
            let (entry, bytes) = get_message(from, names)?;
            log.put_back(entry, position, at, bytes);
        }
        Ok(log)
    }
}

impl Arrivals {
    fn write(&self, names: &Names, out: &mut Vec<u8>) {
        self.undelayed.len().put(out);
        for arrival in &self.undelayed {
            arrival.number.put(out);
            put_message(&arrival.message.head, arrival.message.bytes(), names, out);
        }
        self.scheduled.len().put(out);
        for ((due_at, number), message) in &self.scheduled {
            (*due_at, *number).put(out);
            put_message(&message.head, message.bytes(), names, out);
        }
    }

    fn restore(from: &mut &[u8], names: &mut Names) -> Result<Self, Malformed> {
        let mut arrivals = Self::default();
        for _ in 0..usize::get(from)? {
            let number = u64::get(from)?;
            let (head, bytes) = get_message(from, names)?;
            arrivals.push(Arrival { number, message: Message::new(head, bytes) });
        }
        for _ in 0..usize::get(from)? {
            let due = Wire::get(from)?;
            let (head, bytes) = get_message(from, names)?;
            arrivals.scheduled.insert(due, Message::new(head, bytes));
        }
        Ok(arrivals)
    }
}

impl Desk {
    fn write(&self, names: &Names, out: &mut Vec<u8>) {
        let mut cursor = Vec::new();
        self.cursor.to_bytes(&mut cursor);
        cursor.as_slice().put(out);
        let suspects: Vec<(Position, StreamId)> = self.suspects.iter().collect();
        suspects.put(out);
        self.parked.rows().len().put(out);
        for (position, row) in self.parked.rows() {
            position.put(out);
            put_message(&row.message.head, row.message.bytes(), names, out);
            row.state.put(out);
            (row.attempts, row.crashes, row.replay).put(out);
            (row.parked_at, row.dies_at).put(out);
            row.error.put(out);
        }
    }

    fn restore(from: &mut &[u8], subscription: &Subscription, names: &mut Names) -> Result<Self, Malformed> {
        let cursor = Cursor::from_bytes(Wire::get(from)?).ok_or(Malformed)?;
        let mut suspects = Suspects::default();
        for (position, lane) in Vec::<(Position, StreamId)>::get(from)? {
            suspects.insert(position, lane);
        }
        let mut parked = Parked::new(subscription.on_dead);
        for _ in 0..usize::get(from)? {
            let position = Wire::get(from)?;
            let (head, bytes) = get_message(from, names)?;
            let message = Message::new(head, bytes);
            let state = Wire::get(from)?;
            let (attempts, crashes, replay) = Wire::get(from)?;
            let (parked_at, dies_at) = Wire::get(from)?;
            let error = Wire::get(from)?;
            parked.insert(
                position,
                Row { message, state, attempts, crashes, error, parked_at, dies_at, replay },
            );
        }
        Ok(Self { cursor, suspects, parked })
    }
}

impl Wire<'_> for Dedup {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        for (at, key, first) in self.by_age() {
            (at, key, first).put(out);
        }
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        let mut dedup = Self::default();
        for _ in 0..usize::get(from)? {
            let (at, key, first) = <(Timestamp, &[u8], First)>::get(from)?;
            dedup.insert(key, first, at);
        }
        Ok(dedup)
    }
}

impl Wire<'_> for State {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            State::Waiting { due_at } => (0u8, due_at).put(out),
            State::Orphaned => 1u8.put(out),
            State::Running { by, mode, was } => {
                let mode = match mode {
                    Mode::Shared => 0u8,
                    Mode::Suspect => 1,
                    Mode::Detached => 2,
                };
                let was = match was {
                    Was::Waiting { due_at } => State::Waiting { due_at },
                    Was::Orphaned => State::Orphaned,
                    Was::Unroutable => State::Unroutable,
                };
                (2u8, by, mode).put(out);
                was.put(out);
            }
            State::Unroutable => 3u8.put(out),
            State::Dead { reason, at } => (4u8, reason, at).put(out),
        }
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(match u8::get(from)? {
            0 => State::Waiting { due_at: Wire::get(from)? },
            1 => State::Orphaned,
            2 => State::Running {
                by: Wire::get(from)?,
                mode: match u8::get(from)? {
                    0 => Mode::Shared,
                    1 => Mode::Suspect,
                    2 => Mode::Detached,
                    _ => return Err(Malformed),
                },
                was: match u8::get(from)? {
                    0 => Was::Waiting { due_at: Wire::get(from)? },
                    1 => Was::Orphaned,
                    3 => Was::Unroutable,
                    _ => return Err(Malformed),
                },
            },
            3 => State::Unroutable,
            4 => State::Dead { reason: Wire::get(from)?, at: Wire::get(from)? },
            _ => return Err(Malformed),
        })
    }
}

/// As the record that databases keep of a message, and its version.
fn put_message(head: &Head, bytes: Bytes<'_>, names: &Names, out: &mut Vec<u8>) {
    let append = Append {
        id: head.id,
        stream: head.stream,
        kind: head.kind,
        type_name: names.name(head.name),
        type_version: head.type_version,
        content_type: head.content_type,
        payload: bytes.payload,
        correlation: head.correlation,
        causation: head.causation,
        metadata: bytes.metadata,
        dedup: None,
        due_in: None,
        hand_out: HandOut::Later,
    };
    let mut record = Vec::with_capacity(append.bytes() + 128);
    record::encode(&append, &mut record);
    record.as_slice().put(out);
    head.version.put(out);
}

fn get_message<'r>(from: &mut &'r [u8], names: &mut Names) -> Result<(Head, Bytes<'r>), Malformed> {
    let record = Record::read(Wire::get(from)?, fallback_id(0));
    if record.condition != Condition::Whole {
        return Err(Malformed);
    }
    let head = Head {
        id: record.id,
        stream: record.stream,
        correlation: record.correlation,
        causation: record.causation,
        version: Wire::get(from)?,
        name: names.id(record.type_name),
        type_version: record.type_version,
        kind: record.kind,
        content_type: record.content_type,
    };
    Ok((head, Bytes { payload: record.payload, metadata: record.metadata }))
}

fn put_map<'r, K: Wire<'r>, V: Wire<'r>>(map: &BTreeMap<K, V>, out: &mut Vec<u8>) {
    map.len().put(out);
    for (key, value) in map {
        key.put(out);
        value.put(out);
    }
}

fn get_map<'r, K: Wire<'r> + Ord, V: Wire<'r>>(from: &mut &'r [u8]) -> Result<BTreeMap<K, V>, Malformed> {
    (0..usize::get(from)?).map(|_| <(K, V)>::get(from)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Service;

    #[test]
    fn data_that_are_cut_off_are_none() {
        let mut data = Data::new(&Service { partitions: 3, ..Service::default() });
        data.group("g");
        let mut bytes = Vec::new();
        data.put(&mut bytes);
        assert!(Data::get(&mut &bytes[..]).is_ok());
        for length in 0..bytes.len() {
            assert_eq!(Data::get(&mut &bytes[..length]).map(drop), Err(Malformed), "{length}");
        }
    }

    proptest! {
        #[test]
        fn reading_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Data::get(&mut &bytes[..]);
        }
    }
}
