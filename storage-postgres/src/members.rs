//! Who is there: joining, leaving and giving back, evicting, taking what is free, and what an instance is told about itself.

use std::sync::Arc;

use whizbang_storage::cursor::Cursor;
use whizbang_storage::membership::{Holding, expired, gives_back, takes};
use whizbang_storage::parked::Row;
use whizbang_storage::turn::KnownInstance;
use whizbang_storage::{
    CursorAt, Epoch, InstanceId, Join, Membership, MembershipAnswer, Owned, Partition, Position, Running,
    Sender, StartAt, SubscriptionId, SubscriptionSpec,
};

use crate::exchange::Exchange;
use crate::look_up::Need;
use crate::state::{Desk, Group, Instance, Owner, Subscription, number};

impl Exchange<'_, '_> {
    pub(crate) fn join(&mut self, join: &Join<'_>, from: Sender, digest: u64) {
        let group = join.group.map(|name| self.group_named(name));
        self.group = group;
        let types: Vec<(Box<str>, u16)> =
            join.types.iter().map(|one| (one.name.into(), one.version_max)).collect();
        // Its number and digest are those before this batch: the exchange itself notes them.
        let known = KnownInstance { start_token: from.start_token, last: from.number, digest, gone: false };
        let instance = Instance { known, group, types: Arc::from(types), last_seen: self.now };
        self.shared_mut().instances.insert(from.instance, instance);
        if let Some(group) = group {
            // The others are to give it its share.
            self.changes.news = true;
            for spec in join.subscriptions {
                let id = self.register(group, spec);
                self.registered.push(id);
            }
        }
    }

    /// What the sender gives back, or everything if it leaves.
    pub(crate) fn give_up(&mut self, said: &Membership<'_>) {
        match said {
            Membership::Join(_) | Membership::Heartbeat => {}
            Membership::Release(releases) => {
                for release in *releases {
                    if self.owns(release.partition, release.epoch) {
                        self.hand_back(release.partition, release.running);
                        self.free(release.partition);
                    }
                }
            }
            Membership::Leave { running } => {
                for partition in (0..self.service.partitions).map(Partition) {
                    self.hand_back(partition, running);
                    if self.is_own(partition) {
                        self.free(partition);
                    }
                }
                self.bury(self.sender);
            }
        }
    }

    /// Puts what the sender has of a partition back: an attempt is counted for what is named as running, the rest is as if it
    /// had not been handed out.
    fn hand_back(&mut self, partition: Partition, running: &[Running]) {
        let (sender, is_own) = (self.sender, self.is_own(partition));
        for running in running.iter().filter(|running| running.partition == partition) {
            let Some(index) = self.own_subscription(running.subscription) else {
                continue;
            };
            let is_parked = |desk: &Desk| desk.parked.get(running.position).is_some();
            // Of a partition it does not own the sender can have nothing but parked work.
            if is_own || self.state.desk(index, partition).is_some_and(is_parked) {
                self.fail_running(index, partition, running.position);
            }
        }
        for index in self.subscriptions.clone() {
            for position in self.running_at(sender, index, partition) {
                self.change_parked(index, partition, position, Row::hand_back);
            }
            if is_own && let Some(cursor) = self.cursor_mut(index, partition) {
                cursor.owner_left();
            }
        }
    }

    fn running_at(&self, instance: InstanceId, index: usize, partition: Partition) -> Vec<Position> {
        let Some(desk) = self.state.desk(index, partition) else {
            return Vec::new();
        };
        let runs_there =
            |position: &Position| desk.parked.get(*position).is_some_and(|row| row.runs_at(instance));
        desk.parked.running().filter(runs_there).collect()
    }

    /// Frees a partition of the sender.
    fn free(&mut self, partition: Partition) {
        if let Some(group) = self.group {
            self.shared_mut().groups[group].owners[partition.0 as usize].instance = None;
            self.freed.insert(partition);
            self.changes.news = true;
        }
    }

    /// Evicts every other instance that has been silent for its time to live, unless the silence was everybody's.
    ///
    /// What is remembered of others is old: the database says whether there is a reason to look.
    pub(crate) fn evict(&mut self) {
        let (now, ttl) = (self.now, self.service.time_to_live);
        if !self.facts.has_all || self.state.shared.truce.is_some_and(|until| now < until) {
            return;
        }
        let is_silent =
            |(id, one): &(InstanceId, &Instance)| *id != self.sender && expired(one.last_seen, now, ttl);
        let silent: Vec<InstanceId> =
            self.state.shared.living().filter(is_silent).map(|(id, _)| id).collect();
        for id in silent {
            self.evict_one(id);
            self.changes.news = true;
        }
    }

    fn evict_one(&mut self, id: InstanceId) {
        let now = self.now;
        let group = self.state.shared.instances.get(&id).and_then(|instance| instance.group);
        self.changes.evicted.insert(id);
        self.bury(id);
        let Some(group) = group else {
            return;
        };
        let subscriptions = self.state.shared.groups[group].subscriptions.clone();
        for partition in (0..self.service.partitions).map(Partition) {
            let is_owned = self.state.shared.owner(group, partition).instance == Some(id);
            for &index in &subscriptions {
                let attempts_max = self.state.shared.subscription(index).map_or(1, |one| one.attempts_max);
                for position in self.running_at(id, index, partition) {
                    self.change_parked(index, partition, position, |row| row.survive(now, attempts_max));
                }
                if is_owned {
                    let Some(cursor) = self.cursor_mut(index, partition) else {
                        continue;
                    };
                    cursor.owner_died();
                    let has_suspects = cursor.has_suspects();
                    if let Some(suspects) = self.suspects_mut(index, partition).filter(|_| has_suspects) {
                        // To be looked up by whoever owns them.
                        *suspects = None;
                    }
                }
            }
            if is_owned {
                self.shared_mut().groups[group].owners[partition.0 as usize].instance = None;
            }
        }
    }

    /// Takes the sender's share of what is free.
    pub(crate) fn take_free(&mut self, said: &Membership<'_>) {
        let Some(group) = self.group.filter(|_| !matches!(said, Membership::Leave { .. })) else {
            return;
        };
        let owners = &self.state.shared.groups[group].owners;
        let free: Vec<usize> = (0..owners.len())
            .filter(|index| owners[*index].instance.is_none())
            .filter(|index| !self.freed.contains(&Partition(*index as u32)))
            .collect();
        let takes = takes(self.sender, free.len() as u32, &self.holdings(group)) as usize;
        for index in free.into_iter().take(takes) {
            // Whoever appends there for another group has to end that first.
            self.write_alone(self.state.shared.writer(Partition(index as u32)).is_some());
            let sender = self.sender;
            let owner = &mut self.shared_mut().groups[group].owners[index];
            *owner = Owner { instance: Some(sender), epoch: Epoch(owner.epoch.0 + 1) };
        }
    }

    /// What the sender is told about itself.
    pub(crate) fn membership(&self) -> MembershipAnswer {
        let subscriptions = self.registered.clone();
        let Some(group) = self.group else {
            return MembershipAnswer { subscriptions, ..MembershipAnswer::default() };
        };
        let holdings = self.holdings(group);
        let owners = &self.state.shared.groups[group].owners;
        let free = owners.iter().filter(|owner| owner.instance.is_none()).count() as u32;
        let movable =
            |partition: Partition| self.state.parts[partition.0 as usize].arrivals.movable(self.now);
        MembershipAnswer {
            subscriptions,
            owned: self.owned(group),
            give_back: gives_back(self.sender, self.service.partitions, free, &holdings) as usize,
            arrivals_waiting: self.written().into_iter().map(movable).sum(),
            next_due: self.next_due(),
            alive: holdings.len(),
        }
    }

    fn owned(&self, group: usize) -> Vec<Owned> {
        let own = self.owned_partitions().into_iter();
        own.map(|partition| Owned {
            partition,
            epoch: self.state.shared.owner(group, partition).epoch,
            head: self.state.parts[partition.0 as usize].head,
            cursors: self
                .subscriptions
                .iter()
                .filter_map(|index| {
                    let cursor = &self.state.desk(*index, partition)?.cursor;
                    Some(CursorAt {
                        subscription: number(*index),
                        low: cursor.low(),
                        read_from: cursor.read_from(),
                    })
                })
                .collect(),
        })
        .collect()
    }

    /// What every living instance of a group holds.
    fn holdings(&self, group: usize) -> Vec<Holding> {
        let owners = &self.state.shared.groups[group].owners;
        let held = |id: InstanceId| owners.iter().filter(|owner| owner.instance == Some(id)).count() as u32;
        let living = self.state.shared.living().filter(|(_, instance)| instance.group == Some(group));
        living.map(|(instance, _)| Holding { instance, held: held(instance) }).collect()
    }

    /// Registers a subscription, or takes over what may change of one that is known.
    pub(crate) fn register(&mut self, group: usize, spec: &SubscriptionSpec<'_>) -> SubscriptionId {
        let attempts_max = spec.attempts_max.max(1);
        let shared = self.shared_mut();
        let is_it =
            |index: &usize| shared.subscription(*index).is_some_and(|known| *known.name == *spec.name);
        if let Some(index) = shared.groups[group].subscriptions.iter().copied().find(is_it) {
            if let Some(known) = &mut shared.subscriptions[index] {
                (known.on_dead, known.attempts_max) = (spec.on_dead, attempts_max);
            }
            for desk in self.state.parts.iter_mut().filter_map(|part| part.desks[index].as_mut()) {
                desk.parked.set_on_dead(spec.on_dead);
            }
            return number(index);
        }
        let index = shared.subscriptions.len();
        shared.subscriptions.push(Some(Subscription {
            group,
            name: spec.name.into(),
            on_dead: spec.on_dead,
            attempts_max,
            paused: false,
        }));
        shared.groups[group].subscriptions.push(index);
        for partition in (0..self.service.partitions).map(Partition) {
            let low = self.start_of(partition, spec.start);
            let part = self.state.part_mut(partition);
            part.desks.push(Some(Desk::new(Cursor::at(low), spec.on_dead)));
            self.changes.desks.push((partition, index, None));
        }
        number(index)
    }

    /// The number of the group's subscription of this name.
    pub(crate) fn subscription_named(&self, name: &str) -> Option<SubscriptionId> {
        let is_it = |index: &&usize| {
            self.state.shared.subscription(**index).is_some_and(|known| *known.name == *name)
        };
        self.subscriptions.iter().find(is_it).map(|index| number(*index))
    }

    /// Behind which position a new subscription starts.
    fn start_of(&mut self, partition: Partition, start: StartAt) -> Position {
        let part = &self.state.parts[partition.0 as usize];
        let (head, trimmed) = (part.head, part.trimmed);
        if start == StartAt::End {
            return head;
        }
        let Some(first_events) = &self.facts.first_events else {
            if trimmed > Position::START {
                self.need(Need::FirstEvents);
            }
            return trimmed;
        };
        let first_event = first_events.get(&partition).map(|first| Position(first.0 - 1));
        first_event.map_or(trimmed, |first| first.min(trimmed))
    }

    pub(crate) fn group_named(&mut self, name: &str) -> usize {
        let partitions = self.service.partitions as usize;
        let groups = &mut self.shared_mut().groups;
        groups.iter().position(|group| *group.name == *name).unwrap_or_else(|| {
            let owners = vec![Owner::default(); partitions];
            groups.push(Group { name: name.into(), owners, subscriptions: Vec::new() });
            groups.len() - 1
        })
    }

    /// Notes that an instance is gone for good.
    fn bury(&mut self, id: InstanceId) {
        if let Some(instance) = self.shared_mut().instances.get_mut(&id) {
            instance.known.gone = true;
            instance.types = Arc::from([]);
        }
    }
}
