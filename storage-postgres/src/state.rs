//! What a store remembers of its service between exchanges: who owns what, heads, cursors, what is parked, what has arrived.
//!
//! It is a copy of committed rows. What a store's own instances own is always up to date, because nobody else writes it; the
//! rest is as it was when it was loaded, and every exchange lets the database say whether it still is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use whizbang_storage::cursor::Cursor;
use whizbang_storage::parked::{InLane, Parked, Row, Suspects};
use whizbang_storage::record;
use whizbang_storage::turn::KnownInstance;
use whizbang_storage::{
    Epoch, InstanceId, MessageId, OnDead, Partition, Position, StreamId, SubscriptionId, Timestamp, Version,
};

use crate::tail::Tail;

/// Above so many, remembered stream versions are forgotten: 48 bytes each, about 6 MB.
const VERSIONS_MAX: usize = 1 << 17;

/// Everything of one service that decisions need.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) shared: Shared,
    pub(crate) parts: Vec<Part>,
    /// What the last look at the arrivals has seen.
    pub(crate) seen: String,
    /// Versions of streams that only this store's instance appends to.
    pub(crate) versions: HashMap<StreamId, Version>,
    /// Places that were moved by exchanges since they were last written to their own rows.
    pub(crate) unfolded: BTreeSet<(Partition, u32)>,
    /// Exchanges since then.
    pub(crate) exchanges: u32,
}

/// What all instances of a service know alike.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) version: i64,
    pub(crate) truce: Option<Timestamp>,
    /// When any instance last committed, as far as is known.
    pub(crate) last_commit: Option<Timestamp>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// By number − 1.
    pub(crate) groups: Vec<Group>,
    /// By number − 1; dropped ones are none.
    pub(crate) subscriptions: Vec<Option<Subscription>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) known: KnownInstance,
    /// By index.
    pub(crate) group: Option<usize>,
    pub(crate) types: Arc<[KnownType]>,
    pub(crate) last_seen: Timestamp,
}

/// The name of a type, and the newest version of it that is understood.
pub(crate) type KnownType = (Box<str>, u16);

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: Box<str>,
    pub(crate) owners: Vec<Owner>,
    /// By index, in the order of their numbers.
    pub(crate) subscriptions: Vec<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) instance: Option<InstanceId>,
    pub(crate) epoch: Epoch,
}

#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) group: usize,
    pub(crate) name: Box<str>,
    pub(crate) on_dead: OnDead,
    pub(crate) attempts_max: u32,
    pub(crate) paused: bool,
}

/// One partition.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) head: Position,
    /// Messages up to here that are not events are gone.
    pub(crate) trimmed: Position,
    /// Where events lie behind `trimmed`, in order; known of partitions that the store's instance writes.
    pub(crate) events: BTreeSet<Position>,
    pub(crate) tail: Tail,
    pub(crate) arrivals: Arrivals,
    /// By index of the subscription.
    pub(crate) desks: Vec<Option<Desk>>,
}

/// What a subscription has in a partition.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) cursor: Cursor,
    /// None: the cursor has suspects, and they were not looked up.
    pub(crate) suspects: Option<Suspects>,
    /// The suspects themselves.
    pub(crate) suspected: Tail,
    pub(crate) parked: Parked<Copied>,
    /// What was read for it ahead, where it is far behind the head.
    pub(crate) ahead: Tail,
}

/// A parked message, as far as it is kept in memory.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    pub(crate) id: MessageId,
    pub(crate) lane: StreamId,
    pub(crate) version: Option<Version>,
    pub(crate) type_name: Arc<str>,
    pub(crate) type_version: u16,
    pub(crate) bytes: usize,
    /// None: it has to be fetched.
    pub(crate) record: Option<Arc<[u8]>>,
}

pub(crate) type ParkedRow = Row<Copied>;

impl InLane for Copied {
    fn lane(&self) -> StreamId {
        self.lane
    }
}

/// Messages on their way into one partition's log.
#[derive(Debug, Default, Clone)]
pub(crate) struct Arrivals {
    pub(crate) undelayed: BTreeMap<i64, Arrival>,
    pub(crate) scheduled: BTreeMap<(Timestamp, i64), Arrival>,
    /// The undelayed ones that wait in a lane.
    waiting: HashMap<StreamId, Waiting>,
}

/// How many undelayed messages wait in a lane, and how many of them will be events of its stream.
#[derive(Debug, Default, Clone, Copy)]
struct Waiting {
    messages: usize,
    events: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) lane: StreamId,
    pub(crate) record: Arc<[u8]>,
}

impl Arrivals {
    pub(crate) fn is_empty(&self) -> bool {
        self.undelayed.is_empty() && self.scheduled.is_empty()
    }

    pub(crate) fn add(&mut self, id: i64, due: Option<Timestamp>, arrival: Arrival) {
        match due {
            Some(due) => {
                self.scheduled.insert((due, id), arrival);
            }
            None => {
                let (lane, event) = (arrival.lane, u64::from(record::gets_version(&arrival.record)));
                if self.undelayed.insert(id, arrival).is_none() {
                    let waiting = self.waiting.entry(lane).or_default();
                    waiting.messages += 1;
                    waiting.events += event;
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, id: i64, due: Option<Timestamp>) -> Option<Arrival> {
        if let Some(due) = due {
            return self.scheduled.remove(&(due, id));
        }
        let arrival = self.undelayed.remove(&id)?;
        if let Some(waiting) = self.waiting.get_mut(&arrival.lane) {
            waiting.messages -= 1;
            waiting.events -= u64::from(record::gets_version(&arrival.record));
            if waiting.messages == 0 {
                self.waiting.remove(&arrival.lane);
            }
        }
        Some(arrival)
    }

    /// Whether an undelayed message of this lane waits, which later ones must not overtake.
    pub(crate) fn holds(&self, lane: StreamId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&lane)
    }

    /// How many undelayed events of a stream wait, each of which gets a version before whatever comes now.
    pub(crate) fn events(&self, stream: StreamId) -> u64 {
        self.waiting.get(&stream).map_or(0, |waiting| waiting.events)
    }

    /// Those that may be moved at this moment.
    pub(crate) fn movable(&self, now: Timestamp) -> usize {
        self.undelayed.len() + self.scheduled.range(..=(now, i64::MAX)).count()
    }
}

impl Desk {
    pub(crate) fn new(cursor: Cursor, on_dead: OnDead) -> Self {
        let suspects = (!cursor.has_suspects()).then(Suspects::default);
        Self {
            cursor,
            suspects,
            suspected: Tail::default(),
            parked: Parked::new(on_dead),
            ahead: Tail::default(),
        }
    }

    /// Finds the suspects in what was read of the log.
    pub(crate) fn find_suspects(&mut self, read: &Tail) {
        let low = self.cursor.low();
        let mut suspects = Suspects::default();
        self.suspected = Tail::behind(low);
        for entry in read.after(low).filter(|entry| self.cursor.is_suspect(entry.position)) {
            suspects.insert(entry.position, entry.record().lane());
            self.suspected.push(entry.clone());
        }
        self.suspects = Some(suspects);
    }

    /// Whether a message must wait for a smaller position of its lane.
    pub(crate) fn blocks(&self, lane: StreamId, position: Position) -> bool {
        self.parked.blocks(lane, position) || self.is_behind_suspect(lane, position)
    }

    pub(crate) fn is_behind_suspect(&self, lane: StreamId, position: Position) -> bool {
        self.suspects.as_ref().is_some_and(|suspects| suspects.blocks(lane, position))
    }
}

impl Instance {
    pub(crate) fn knows(&self, type_name: &str, version: u16) -> bool {
        self.types.iter().any(|(name, version_max)| **name == *type_name && version <= *version_max)
    }
}

impl Shared {
    /// Instances that were not evicted and have not left.
    pub(crate) fn living(&self) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances.iter().filter(|(_, one)| !one.known.gone).map(|(id, one)| (*id, one))
    }

    pub(crate) fn owner(&self, group: usize, partition: Partition) -> Owner {
        let owner = self.groups.get(group).and_then(|group| group.owners.get(partition.0 as usize));
        owner.copied().unwrap_or_default()
    }

    /// The one instance that appends to a partition's log: its owner in the oldest group that has one.
    pub(crate) fn writer(&self, partition: Partition) -> Option<InstanceId> {
        self.groups.iter().find_map(|group| group.owners.get(partition.0 as usize)?.instance)
    }

    pub(crate) fn subscription(&self, index: usize) -> Option<&Subscription> {
        self.subscriptions.get(index)?.as_ref()
    }
}

impl State {
    pub(crate) fn part(&self, partition: Partition) -> Option<&Part> {
        self.parts.get(partition.0 as usize)
    }

    pub(crate) fn part_mut(&mut self, partition: Partition) -> &mut Part {
        &mut self.parts[partition.0 as usize]
    }

    pub(crate) fn desk(&self, index: usize, partition: Partition) -> Option<&Desk> {
        self.part(partition)?.desks.get(index)?.as_ref()
    }

    pub(crate) fn desk_mut(&mut self, index: usize, partition: Partition) -> Option<&mut Desk> {
        self.parts.get_mut(partition.0 as usize)?.desks.get_mut(index)?.as_mut()
    }

    pub(crate) fn bound_versions(&mut self) {
        if self.versions.len() > VERSIONS_MAX {
            self.versions.clear();
        }
    }
}

/// The number of the subscription at an index.
pub(crate) fn number(index: usize) -> SubscriptionId {
    SubscriptionId(u32::try_from(index + 1).expect("fewer than 4 G subscriptions"))
}

/// The index of a subscription's number.
pub(crate) fn index_of(id: SubscriptionId) -> Option<usize> {
    (id.0 as usize).checked_sub(1)
}
