//! Who is there: leaving and giving back, evicting, taking what is free, and what an instance is told about itself.

use std::collections::BTreeSet;

use super::call::Call;
use super::data::{Data, number};
use super::parked::Row;
use crate::membership::{Holding, expired, gives_back, takes};
use crate::{CursorAt, Epoch, InstanceId, Membership, MembershipAnswer, Owned, Partition, Position, Running};

impl Call<'_> {
    /// What the sender gives back, or everything if it leaves.
    pub(super) fn give_up(&mut self, said: &Membership<'_>) {
        match said {
            Membership::Join(_) | Membership::Heartbeat => {}
            Membership::Release(releases) => {
                let Some(group) = self.group else {
                    return;
                };
                for release in *releases {
                    if self.owns(release.partition, release.epoch) {
                        let here = |running: &&Running| running.partition == release.partition;
                        let running: Vec<Running> = release.running.iter().filter(here).copied().collect();
                        self.hand_back(release.partition, &running);
                        self.free(group, release.partition);
                    }
                }
            }
            Membership::Leave { running } => {
                for partition in (0..self.data.partition_count()).map(Partition) {
                    let here = |running: &&Running| running.partition == partition;
                    let running: Vec<Running> = running.iter().filter(here).copied().collect();
                    self.hand_back(partition, &running);
                    if let Some(group) = self.group
                        && self.data.partitions[partition.0 as usize].is_owned(group, self.sender)
                    {
                        self.free(group, partition);
                    }
                }
                self.data.bury(self.sender);
            }
        }
    }

    /// Puts what the sender has of a partition back: an attempt is counted for what is named as running, the rest is as if it
    /// had not been handed out.
    fn hand_back(&mut self, partition: Partition, running: &[Running]) {
        let Some(group) = self.group else {
            return;
        };
        let owned = self.data.partitions[partition.0 as usize].is_owned(group, self.sender);
        for running in running {
            if let Some(index) = self.own_subscription(running.subscription) {
                let parked = self.data.partitions[partition.0 as usize].desks[index]
                    .as_ref()
                    .is_some_and(|desk| desk.parked.get(running.position).is_some());
                // Of a partition it does not own the sender can have nothing but parked work.
                if owned || parked {
                    self.fail_running(index, partition, running.position);
                }
            }
        }
        let sender = self.sender;
        let part = &mut self.data.partitions[partition.0 as usize];
        for index in &self.data.groups[group].subscriptions {
            let Some(desk) = &mut part.desks[*index] else {
                continue;
            };
            let runs_here = |position: &Position| {
                let row = desk.parked.get(*position);
                row.is_some_and(|row| row.runs_at(sender))
            };
            let handed: Vec<Position> = desk.parked.running().filter(runs_here).collect();
            for position in handed {
                desk.parked.change(position, Row::hand_back);
            }
            if owned {
                desk.cursor.owner_left();
            }
        }
    }

    fn free(&mut self, group: usize, partition: Partition) {
        let part = &mut self.data.partitions[partition.0 as usize];
        part.owners[group].instance = None;
        part.find_writer();
        self.given_back.push(partition);
        self.news = true;
    }

    /// Evicts every other instance that has been silent for its time to live, unless the silence was everybody's.
    pub(super) fn evict(&mut self) {
        let (now, ttl) = (self.now, self.data.time_to_live);
        if self.data.truce.is_some_and(|until| now < until) {
            return;
        }
        let silent: Vec<InstanceId> = self
            .data
            .living()
            .filter(|(id, instance)| *id != self.sender && expired(instance.last_seen, now, ttl))
            .map(|(id, _)| id)
            .collect();
        for id in silent {
            self.evict_one(id);
            self.news = true;
        }
    }

    fn evict_one(&mut self, id: InstanceId) {
        let now = self.now;
        let group = self.data.instances.get(&id).and_then(|instance| instance.group);
        self.data.bury(id);
        let Some(group) = group else {
            return;
        };
        let data = &mut *self.data;
        for part in &mut data.partitions {
            let owned = part.is_owned(group, id);
            for index in &data.groups[group].subscriptions {
                let (Some(desk), Some(subscription)) = (&mut part.desks[*index], &data.subscriptions[*index])
                else {
                    continue;
                };
                let runs_there = |position: &Position| {
                    let row = desk.parked.get(*position);
                    row.is_some_and(|row| row.runs_at(id))
                };
                let orphans: Vec<Position> = desk.parked.running().filter(runs_there).collect();
                for position in orphans {
                    let survive = |row: &mut Row| row.survive(now, subscription.attempts_max);
                    desk.parked.change(position, survive);
                }
                if owned {
                    let before = desk.cursor.suspects_to();
                    desk.cursor.owner_died();
                    for (entry, _) in part.log.after(before.max(desk.cursor.low())) {
                        if entry.position > desk.cursor.suspects_to() {
                            break;
                        }
                        if desk.cursor.is_suspect(entry.position) {
                            desk.suspects.insert(entry.position, entry.head.lane());
                        }
                    }
                }
            }
            if owned {
                part.owners[group].instance = None;
                part.find_writer();
            }
        }
    }

    /// Takes the sender's share of what is free.
    pub(super) fn take_free(&mut self, said: &Membership<'_>) {
        let Some(group) = self.group.filter(|_| !matches!(said, Membership::Leave { .. })) else {
            return;
        };
        let given_back: BTreeSet<Partition> = self.given_back.iter().copied().collect();
        let free: Vec<usize> = (0..self.data.partitions.len())
            .filter(|index| self.data.partitions[*index].owners[group].instance.is_none())
            .filter(|index| !given_back.contains(&Partition(*index as u32)))
            .collect();
        let living = self.holdings(group);
        let takes = takes(self.sender, free.len() as u32, &living) as usize;
        for index in free.into_iter().take(takes) {
            let part = &mut self.data.partitions[index];
            part.owners[group].instance = Some(self.sender);
            part.owners[group].epoch += 1;
            part.find_writer();
        }
    }

    /// What the sender is told about itself, but for the numbers of its subscriptions.
    pub(super) fn membership(&self) -> MembershipAnswer {
        let Some(group) = self.group else {
            return MembershipAnswer::default();
        };
        let holdings = self.holdings(group);
        let free = self.data.partitions.iter().filter(|part| part.owners[group].instance.is_none()).count();
        let movable = |(_, part): (usize, &super::data::Part)| part.arrivals.movable(self.now);
        MembershipAnswer {
            subscriptions: Vec::new(),
            owned: self.owned(group),
            give_back: gives_back(self.sender, self.data.partition_count(), free as u32, &holdings) as usize,
            arrivals_waiting: self.written().map(movable).sum(),
            next_due: self.next_due(),
            alive: holdings.len(),
        }
    }

    fn owned(&self, group: usize) -> Vec<Owned> {
        let parts = self.data.partitions.iter().enumerate();
        let own = parts.filter(|(_, part)| part.is_owned(group, self.sender));
        own.map(|(index, part)| Owned {
            partition: Partition(index as u32),
            epoch: Epoch(part.owners[group].epoch),
            head: part.log.head(),
            cursors: self.data.groups[group]
                .subscriptions
                .iter()
                .filter_map(|index| {
                    let cursor = &part.desks[*index].as_ref()?.cursor;
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
        let held = |id: InstanceId| {
            let parts = self.data.partitions.iter();
            parts.filter(|part| part.owners[group].instance == Some(id)).count() as u32
        };
        self.data
            .living()
            .filter(|(_, instance)| instance.group == Some(group))
            .map(|(instance, _)| Holding { instance, held: held(instance) })
            .collect()
    }
}

impl Data {
    /// Notes that an instance is gone for good.
    fn bury(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.known.gone = true;
            instance.types = Vec::new();
        }
    }
}
