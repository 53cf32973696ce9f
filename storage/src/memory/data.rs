//! What is stored for one service.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::hash::IdHash;
use super::log::Log;
use super::message::{Message, Names};
use super::parked::{Parked, Suspects};
use crate::cursor::Cursor;
use crate::turn::KnownInstance;
use crate::{
    InstanceId, MessageId, OnDead, Partition, Position, Revision, Service, StartAt, StreamId, SubscriptionId,
    SubscriptionSpec, Timestamp, Version,
};

/// Everything of one service.
pub(super) struct Data {
    pub(super) time_to_live: Duration,
    pub(super) partitions: Vec<Part>,
    pub(super) groups: Vec<Group>,
    // By number − 1; dropped ones are none.
    pub(super) subscriptions: Vec<Option<Subscription>>,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) names: Names,
    pub(super) dedup: Dedup,
    pub(super) projections: BTreeMap<Box<str>, BTreeMap<Box<[u8]>, Stored>>,
    pub(super) last_commit: Option<Timestamp>,
    pub(super) truce: Option<Timestamp>,
    pub(super) arrivals_ever: u64,
}

/// One partition.
pub(super) struct Part {
    pub(super) log: Log,
    pub(super) arrivals: Arrivals,
    // One for each group, in the order of their age.
    pub(super) owners: Vec<Owner>,
    // The owner in the oldest group that has one: appends to the log.
    pub(super) writer: Option<InstanceId>,
    // One for each subscription, by number − 1.
    pub(super) desks: Vec<Option<Desk>>,
}

/// Who owns a partition in a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owner {
    pub(super) instance: Option<InstanceId>,
    pub(super) epoch: u64,
}

/// What a subscription has in a partition.
pub(super) struct Desk {
    pub(super) cursor: Cursor,
    pub(super) suspects: Suspects,
    pub(super) parked: Parked,
}

pub(super) struct Group {
    pub(super) name: Box<str>,
    // By index, in the order of their numbers.
    pub(super) subscriptions: Vec<usize>,
}

pub(super) struct Subscription {
    pub(super) group: usize,
    pub(super) name: Box<str>,
    pub(super) on_dead: OnDead,
    pub(super) attempts_max: u32,
    pub(super) paused: bool,
}

pub(super) struct Instance {
    pub(super) known: KnownInstance,
    pub(super) group: Option<usize>,
    pub(super) types: Vec<(Box<str>, u16)>,
    pub(super) last_seen: Timestamp,
}

impl Instance {
    pub(super) fn knows(&self, type_name: &str, version: u16) -> bool {
        self.types.iter().any(|(name, version_max)| **name == *type_name && version <= *version_max)
    }
}

/// A projection's state.
pub(super) struct Stored {
    pub(super) revision: Revision,
    pub(super) state: Box<[u8]>,
}

impl Data {
    pub(super) fn new(service: &Service) -> Self {
        let partition = || Part {
            log: Log::default(),
            arrivals: Arrivals::default(),
            owners: Vec::new(),
            writer: None,
            desks: Vec::new(),
        };
        Self {
            time_to_live: service.time_to_live,
            partitions: (0..service.partitions).map(|_| partition()).collect(),
            groups: Vec::new(),
            subscriptions: Vec::new(),
            instances: BTreeMap::new(),
            names: Names::default(),
            dedup: Dedup::default(),
            projections: BTreeMap::new(),
            last_commit: None,
            truce: None,
            arrivals_ever: 0,
        }
    }

    pub(super) fn partition_count(&self) -> u32 {
        self.partitions.len() as u32
    }

    pub(super) fn known(&self, instance: InstanceId) -> Option<KnownInstance> {
        self.instances.get(&instance).map(|instance| instance.known)
    }

    /// Instances that were not evicted and have not left.
    pub(super) fn living(&self) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances
            .iter()
            .filter(|(_, instance)| !instance.known.gone)
            .map(|(id, instance)| (*id, instance))
    }

    pub(super) fn part(&self, partition: Partition) -> Option<&Part> {
        self.partitions.get(partition.0 as usize)
    }

    /// The group's index; it is set up if there is none of that name.
    pub(super) fn group(&mut self, name: &str) -> usize {
        if let Some(group) = self.groups.iter().position(|group| &*group.name == name) {
            return group;
        }
        self.groups.push(Group { name: name.into(), subscriptions: Vec::new() });
        for part in &mut self.partitions {
            part.owners.push(Owner::default());
        }
        self.groups.len() - 1
    }

    /// Registers a subscription, or takes over what may change of one that is known.
    pub(super) fn register(&mut self, group: usize, spec: &SubscriptionSpec<'_>) -> SubscriptionId {
        let attempts_max = spec.attempts_max.max(1);
        let known =
            self.groups[group].subscriptions.iter().copied().find(
                |index| matches!(&self.subscriptions[*index], Some(known) if *known.name == *spec.name),
            );
        if let Some(index) = known {
            if let Some(known) = &mut self.subscriptions[index] {
                (known.on_dead, known.attempts_max) = (spec.on_dead, attempts_max);
            }
            for desk in self.partitions.iter_mut().filter_map(|part| part.desks[index].as_mut()) {
                desk.parked.set_on_dead(spec.on_dead);
            }
            return number(index);
        }
        let index = self.subscriptions.len();
        self.subscriptions.push(Some(Subscription {
            group,
            name: spec.name.into(),
            on_dead: spec.on_dead,
            attempts_max,
            paused: false,
        }));
        self.groups[group].subscriptions.push(index);
        for part in &mut self.partitions {
            let first = part.log.first().filter(|_| spec.start == StartAt::First);
            let low = first.map_or(part.log.head(), |first| Position(first.0 - 1));
            part.desks.push(Some(Desk {
                cursor: Cursor::at(low),
                suspects: Suspects::default(),
                parked: Parked::new(spec.on_dead),
            }));
        }
        number(index)
    }
}

impl Part {
    /// The version a stream is at when what has arrived is in the log.
    pub(super) fn version(&self, stream: StreamId) -> Version {
        Version(self.log.version(stream).0 + self.arrivals.events(stream))
    }

    /// Notes who writes the log after an owner has changed.
    pub(super) fn find_writer(&mut self) {
        self.writer = self.owners.iter().find_map(|owner| owner.instance);
    }

    pub(super) fn is_owned(&self, group: usize, by: InstanceId) -> bool {
        self.owners[group].instance == Some(by)
    }
}

impl Desk {
    /// Whether a message must wait for a smaller position of its lane.
    #[inline]
    pub(super) fn blocks(&self, lane: StreamId, position: Position) -> bool {
        self.parked.blocks(lane, position) || self.suspects.blocks(lane, position)
    }
}

/// The number of the subscription at an index.
pub(super) fn number(index: usize) -> SubscriptionId {
    SubscriptionId(u32::try_from(index + 1).expect("fewer than 4 G subscriptions"))
}

/// The index of a subscription's number.
pub(super) fn index(id: SubscriptionId) -> Option<usize> {
    (id.0 as usize).checked_sub(1)
}

/// Messages on their way into one partition's log.
#[derive(Default)]
pub(super) struct Arrivals {
    pub(super) undelayed: VecDeque<Arrival>,
    pub(super) scheduled: BTreeMap<(Timestamp, u64), Message>,
    // The undelayed ones that wait in a lane.
    waiting: HashMap<StreamId, Waiting, IdHash>,
}

/// How many undelayed messages wait in a lane, and how many of them will be events of its stream.
#[derive(Default)]
struct Waiting {
    messages: usize,
    events: u64,
}

pub(super) struct Arrival {
    pub(super) number: u64,
    pub(super) message: Message,
}

impl Arrivals {
    pub(super) fn len(&self) -> usize {
        self.undelayed.len() + self.scheduled.len()
    }

    pub(super) fn push(&mut self, arrival: Arrival) {
        let head = arrival.message.head;
        let waiting = self.waiting.entry(head.lane()).or_default();
        waiting.messages += 1;
        waiting.events += u64::from(head.gets_version());
        self.undelayed.push_back(arrival);
    }

    pub(super) fn pop(&mut self) -> Option<Arrival> {
        let arrival = self.undelayed.pop_front()?;
        let head = arrival.message.head;
        if let Some(waiting) = self.waiting.get_mut(&head.lane()) {
            waiting.messages -= 1;
            waiting.events -= u64::from(head.gets_version());
            if waiting.messages == 0 {
                self.waiting.remove(&head.lane());
            }
        }
        Some(arrival)
    }

    /// Whether an undelayed message of this lane waits, which later ones must not overtake.
    #[inline]
    pub(super) fn holds(&self, lane: StreamId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&lane)
    }

    /// How many undelayed events of a stream wait, each of which gets a version before whatever comes now.
    pub(super) fn events(&self, stream: StreamId) -> u64 {
        self.waiting.get(&stream).map_or(0, |waiting| waiting.events)
    }

    /// Those that may be moved at this moment.
    pub(super) fn movable(&self, now: Timestamp) -> usize {
        self.undelayed.len() + self.scheduled.range(..=(now, u64::MAX)).count()
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.undelayed.iter().map(|arrival| &arrival.message).chain(self.scheduled.values())
    }
}

/// The deduplication keys that are remembered.
#[derive(Default)]
pub(super) struct Dedup {
    first: HashMap<Box<[u8]>, First>,
    // In the order in which they came; none has an earlier instant than those before it.
    ages: VecDeque<(Timestamp, Box<[u8]>)>,
}

/// The message that came first with a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct First {
    pub(super) id: MessageId,
    pub(super) body: u64,
}

impl Dedup {
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<First> {
        self.first.get(key).copied()
    }

    pub(super) fn insert(&mut self, key: &[u8], first: First, now: Timestamp) {
        let at = self.ages.back().map_or(now, |(last, _)| now.max(*last));
        self.first.insert(key.into(), first);
        self.ages.push_back((at, key.into()));
    }

    /// All keys, the oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (Timestamp, &[u8], First)> {
        self.ages.iter().filter_map(|(at, key)| Some((*at, &**key, self.get(key)?)))
    }

    /// Forgets at most `max` keys that are old, the oldest first; says how many.
    pub(super) fn forget(&mut self, max: usize, old: impl Fn(Timestamp) -> bool) -> usize {
        let mut forgotten = 0;
        while forgotten < max
            && let Some((_, key)) = self.ages.pop_front_if(|(at, _)| old(*at))
        {
            self.first.remove(&key);
            forgotten += 1;
        }
        forgotten
    }
}
