//! Who is there: joining, giving back, evicting, taking what is free, and what an instance is told about itself.

use core::ops::ControlFlow;
use std::time::Duration;

use whizbang_storage::cursor::Cursor;
use whizbang_storage::membership::{Holding, expired, gives_back, takes, truce};
use whizbang_storage::{
    CursorAt, Epoch, InstanceId, Join, Membership, MembershipAnswer, OnDead, Owned, Partition, Position,
    Running, StartAt, SubscriptionId, SubscriptionSpec, WorkBatch,
};

use crate::error::Stop;
use crate::exchange::Exchange;
use crate::log::Span;
use crate::parked::Parked;
use crate::state::{Group, Instance, ON_DEAD_HALT, ON_DEAD_SKIP, Owner, Subscription, micros};

/// How long it is remembered that an instance is gone.
const DEPARTED_KEPT: Duration = Duration::from_secs(24 * 3_600);

impl Exchange<'_, '_> {
    /// Notes the sender's sign of life and its batch's number; registers it and its subscriptions if it joins.
    pub(crate) fn beat(&mut self, batch: &WorkBatch<'_>, digest: u64) -> Result<(), Stop> {
        let until =
            truce(self.state.last_commit(), self.state.truce_until, self.now, self.service.time_to_live);
        if until != self.state.truce_until {
            self.state.truce_until = until;
            self.state.change();
        }
        let from = batch.from;
        if let Some(Membership::Join(join)) = &batch.membership {
            let group = join.group.map(|name| self.group_named(name)).transpose()?;
            self.group = group;
            self.add_instance(Instance {
                id: from.instance,
                start_token: from.start_token,
                number: from.number,
                digest,
                last_seen: self.now,
                group,
                row: self.state.free_instance_row(),
            })?;
            self.add_types(join)?;
            if let Some(group) = group {
                for spec in join.subscriptions {
                    let id = self.register(group, spec)?;
                    self.registered.push(id);
                }
            }
        } else if let Some(instance) = self.state.instance_mut(from.instance) {
            (instance.number, instance.digest, instance.last_seen) = (from.number, digest, self.now);
            self.sql.prepare_cached(include_str!("sql/beat.sql"))?.execute((
                instance.row,
                from.number as i64,
                digest as i64,
                self.now.micros(),
            ))?;
        }
        self.find_subscriptions();
        Ok(())
    }

    /// What the sender gives back, or everything if it leaves.
    pub(crate) fn give_back(&mut self, said: &Membership<'_>) -> Result<(), Stop> {
        match said {
            Membership::Join(_) | Membership::Heartbeat => Ok(()),
            Membership::Release(releases) => {
                for release in *releases {
                    if self.owns(release.partition, release.epoch) {
                        let here = release.running.iter().filter(|r| r.partition == release.partition);
                        self.fail_named(here)?;
                        self.hand_back_running(Some(release.partition))?;
                        self.free(release.partition)?;
                    }
                }
                Ok(())
            }
            Membership::Leave { running } => {
                self.fail_named(running.iter())?;
                self.hand_back_running(None)?;
                for partition in (0..self.state.partitions()).map(Partition) {
                    let group = self.group.map(|group| self.state.owner(group, partition));
                    if group.is_some_and(|owner| owner.instance == Some(self.sender)) {
                        self.free(partition)?;
                    }
                }
                self.bury(self.sender)
            }
        }
    }

    fn fail_named<'r>(&mut self, running: impl Iterator<Item = &'r Running>) -> Result<(), Stop> {
        for running in running {
            let Some(index) = self.own_subscription(running.subscription) else {
                continue;
            };
            if running.partition.0 >= self.state.partitions() {
                continue;
            }
            let owner = self.group.map(|group| self.state.owner(group, running.partition));
            let owned = owner.is_some_and(|owner| owner.instance == Some(self.sender));
            // Of a partition it does not own the sender can have nothing but parked work.
            if owned || self.find_parked(index, running.partition, running.position)?.is_some() {
                self.fail_running(index, running.partition, running.position)?;
            }
        }
        Ok(())
    }

    /// What runs at the sender is as if it had not been handed out.
    fn hand_back_running(&mut self, partition: Option<Partition>) -> Result<(), Stop> {
        for (index, at, mut row) in self.running_at(self.sender)? {
            if partition.is_none_or(|partition| partition == at) {
                row.hand_back();
                self.change_parked(index, &row, None)?;
            }
        }
        Ok(())
    }

    fn running_at(&self, instance: InstanceId) -> Result<Vec<(usize, Partition, Parked)>, Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/running_at.sql"))?;
        let mut rows = find.query([instance.to_bytes()])?;
        let mut running = Vec::new();
        while let Some(row) = rows.next()? {
            // Another service's, should two share an instance id.
            if let Some(index) = self.state.subscription_index(SubscriptionId(row.get(14)?)) {
                running.push((index, Partition(row.get(15)?), Parked::of(row)?));
            }
        }
        Ok(running)
    }

    /// Frees a partition of the sender that it gives back in peace.
    fn free(&mut self, partition: Partition) -> Result<(), Stop> {
        for at in 0..self.subscriptions.len() {
            let index = self.subscriptions[at];
            let mut left = self.state.cursor(self.sql, index, partition)?.clone();
            left.owner_left();
            self.put_cursor(index, partition, left)?;
        }
        let Some(group) = self.group else {
            return Ok(());
        };
        let epoch = self.state.owner(group, partition).epoch;
        self.put_owner(group, partition, Owner { instance: None, epoch })?;
        self.freed.insert(partition);
        Ok(())
    }

    /// Evicts every other instance that has been silent for its time to live, unless the silence was everybody's.
    pub(crate) fn evict(&mut self) -> Result<(), Stop> {
        if self.state.truce_until.is_some_and(|until| self.now < until) {
            return Ok(());
        }
        let (now, ttl) = (self.now, self.service.time_to_live);
        let silent: Vec<InstanceId> = self
            .state
            .instances
            .iter()
            .filter(|instance| instance.id != self.sender && expired(instance.last_seen, now, ttl))
            .map(|instance| instance.id)
            .collect();
        silent.into_iter().try_for_each(|id| self.evict_one(id))
    }

    fn evict_one(&mut self, id: InstanceId) -> Result<(), Stop> {
        let group = self.state.instance(id).and_then(|instance| instance.group);
        self.bury(id)?;
        let Some(group) = group else {
            return Ok(());
        };
        for (index, _, mut row) in self.running_at(id)? {
            row.survive(self.now, self.state.subscriptions[index].attempts_max);
            self.change_parked(index, &row, None)?;
        }
        for partition in (0..self.state.partitions()).map(Partition) {
            let owner = self.state.owner(group, partition);
            if owner.instance != Some(id) {
                continue;
            }
            for index in self.state.subscriptions_of(group) {
                let mut died = self.state.cursor(self.sql, index, partition)?.clone();
                died.owner_died();
                self.put_cursor(index, partition, died)?;
            }
            let epoch = owner.epoch;
            self.put_owner(group, partition, Owner { instance: None, epoch })?;
        }
        Ok(())
    }

    /// Takes the sender's share of what is free.
    pub(crate) fn take_free(&mut self) -> Result<(), Stop> {
        let Some(group) = self.group.filter(|_| self.state.instance(self.sender).is_some()) else {
            return Ok(());
        };
        let free: Vec<(Partition, Epoch)> = self
            .state
            .group(group)
            .into_iter()
            .flat_map(|group| group.owners.iter().enumerate())
            .filter(|(_, owner)| owner.instance.is_none())
            .map(|(partition, owner)| (Partition(partition as u32), owner.epoch))
            .filter(|(partition, _)| !self.freed.contains(partition))
            .collect();
        let takes = takes(self.sender, free.len() as u32, &self.holdings(group)) as usize;
        for (partition, epoch) in free.into_iter().take(takes) {
            let owner = Owner { instance: Some(self.sender), epoch: Epoch(epoch.0 + 1) };
            self.put_owner(group, partition, owner)?;
        }
        Ok(())
    }

    /// What the sender is told about itself.
    pub(crate) fn answer_membership(&mut self) -> Result<(), Stop> {
        let mut told = MembershipAnswer {
            subscriptions: core::mem::take(&mut self.registered),
            ..MembershipAnswer::default()
        };
        if let Some(group) = self.group {
            let holdings = self.holdings(group);
            let owners = self.state.group(group).map_or(&[][..], |group| &group.owners);
            let free = owners.iter().filter(|owner| owner.instance.is_none()).count() as u32;
            told.give_back = gives_back(self.sender, self.state.partitions(), free, &holdings) as usize;
            told.alive = holdings.len();
            told.owned = self.owned(group)?;
            told.arrivals_waiting = self.arrivals_waiting()?;
            let next = [self.next_arrival()?, self.next_parked()?];
            told.next_due = next.into_iter().flatten().min().map(|next| next.since(self.now));
        }
        self.answer.membership = Some(told);
        Ok(())
    }

    fn owned(&mut self, group: i64) -> Result<Vec<Owned>, Stop> {
        let mut owned = Vec::new();
        for partition in (0..self.state.partitions()).map(Partition) {
            let owner = self.state.owner(group, partition);
            if owner.instance != Some(self.sender) {
                continue;
            }
            let mut cursors = Vec::with_capacity(self.subscriptions.len());
            for &index in &self.subscriptions {
                let subscription = self.state.subscriptions[index].id;
                let cursor = self.state.cursor(self.sql, index, partition)?;
                cursors.push(CursorAt { subscription, low: cursor.low(), read_from: cursor.read_from() });
            }
            owned.push(Owned {
                partition,
                epoch: owner.epoch,
                head: Position(self.state.head(self.sql, partition)?.position),
                cursors,
            });
        }
        Ok(owned)
    }

    /// What every living instance of a group holds.
    fn holdings(&self, group: i64) -> Vec<Holding> {
        let owners = self.state.group(group).map_or(&[][..], |group| &group.owners);
        let held = |id| owners.iter().filter(|owner| owner.instance == Some(id)).count() as u32;
        let of_group = |instance: &&Instance| instance.group == Some(group);
        let living = self.state.instances.iter().filter(of_group);
        living.map(|instance| Holding { instance: instance.id, held: held(instance.id) }).collect()
    }

    /// Registers a subscription, or takes over what may change of one that is known.
    pub(crate) fn register(
        &mut self,
        group: i64,
        spec: &SubscriptionSpec<'_>,
    ) -> Result<SubscriptionId, Stop> {
        let attempts_max = spec.attempts_max.max(1);
        let on_dead = match spec.on_dead {
            OnDead::Skip => ON_DEAD_SKIP,
            OnDead::Halt => ON_DEAD_HALT,
        };
        let is_it = |known: &Subscription| known.group == group && known.name == spec.name;
        if let Some(known) = self.state.subscriptions.iter_mut().find(|known| is_it(known)) {
            let id = known.id;
            if (known.on_dead, known.attempts_max) != (spec.on_dead, attempts_max) {
                (known.on_dead, known.attempts_max) = (spec.on_dead, attempts_max);
                self.state.change();
                self.sql.prepare_cached(include_str!("sql/change_subscription.sql"))?.execute((
                    id.0,
                    on_dead,
                    attempts_max,
                ))?;
                if spec.on_dead == OnDead::Skip {
                    // What stood behind dead ones stands behind nothing now.
                    self.sql.prepare_cached(include_str!("sql/unblock_all.sql"))?.execute([id.0])?;
                }
                self.parks.clear();
            }
            return Ok(id);
        }
        self.sql.prepare_cached(include_str!("sql/add_subscription.sql"))?.execute((
            group,
            spec.name,
            on_dead,
            attempts_max,
        ))?;
        let id = u32::try_from(self.sql.last_insert_rowid());
        let id = SubscriptionId(id.map_err(|_| Stop::Damaged("there are too many subscriptions"))?);
        let added = Subscription::new(id, group, spec.name, spec.on_dead, attempts_max);
        self.state.subscriptions.push(added);
        self.state.change();
        let index = self.state.subscriptions.len() - 1;
        for partition in (0..self.state.partitions()).map(Partition) {
            let low = self.start_of(partition, spec.start)?;
            self.put_cursor(index, partition, Cursor::at(low))?;
        }
        self.find_subscriptions();
        Ok(id)
    }

    /// Behind which position a new subscription starts.
    fn start_of(&mut self, partition: Partition, start: StartAt) -> Result<Position, Stop> {
        let head = Position(self.state.head(self.sql, partition)?.position);
        let mut low = head;
        if start == StartAt::First {
            let span = Span { partition, after: Position::START, last: head };
            self.visit(span, |_, found| {
                low = Position(found.position.0 - 1);
                Ok(ControlFlow::Break(()))
            })?;
        }
        Ok(low)
    }

    fn put_cursor(&mut self, index: usize, partition: Partition, cursor: Cursor) -> Result<(), Stop> {
        if *self.state.cursor(self.sql, index, partition)? != cursor {
            *self.state.cursor_mut(self.sql, index, partition)? = cursor;
            *self.state.suspect_lanes(index, partition) = None;
        }
        Ok(())
    }

    pub(crate) fn group_named(&mut self, name: &str) -> Result<i64, Stop> {
        if let Some(group) = self.state.groups.iter().find(|group| group.name == name) {
            return Ok(group.id);
        }
        self.sql.prepare_cached(include_str!("sql/add_group.sql"))?.execute((self.state.service(), name))?;
        let id = self.sql.last_insert_rowid();
        let owners = vec![Owner::default(); self.state.partitions() as usize];
        self.state.groups.push(Group { id, name: name.to_owned(), owners });
        self.state.change();
        Ok(id)
    }

    fn put_owner(&mut self, group: i64, partition: Partition, owner: Owner) -> Result<(), Stop> {
        let instance = owner.instance.map(InstanceId::to_bytes);
        self.sql.prepare_cached(include_str!("sql/put_owner.sql"))?.execute((
            group,
            partition.0,
            instance,
            owner.epoch.0 as i64,
        ))?;
        if let Some(group) = self.state.group_mut(group) {
            group.owners[partition.0 as usize] = owner;
        }
        self.state.change();
        Ok(())
    }

    fn add_instance(&mut self, instance: Instance) -> Result<(), Stop> {
        let service = self.state.service();
        self.sql.prepare_cached(include_str!("sql/add_instance.sql"))?.execute((
            service,
            instance.id.to_bytes(),
            instance.start_token as i64,
            instance.row,
            instance.group,
        ))?;
        self.sql.prepare_cached(include_str!("sql/add_beat.sql"))?.execute((
            instance.row,
            instance.number as i64,
            instance.digest as i64,
            instance.last_seen.micros(),
        ))?;
        let long_ago = self.now.micros().saturating_sub(micros(DEPARTED_KEPT));
        self.sql.prepare_cached(include_str!("sql/forget_departed.sql"))?.execute((service, long_ago))?;
        self.state.add_instance(instance);
        self.state.change();
        Ok(())
    }

    fn add_types(&mut self, join: &Join<'_>) -> Result<(), Stop> {
        let types = &mut self.scratch.bytes;
        types.clear();
        for known in join.types {
            types.extend_from_slice(known.name.as_bytes());
            types.push(0);
            types.extend_from_slice(known.version_max.to_string().as_bytes());
            types.push(0);
        }
        self.sql.prepare_cached(include_str!("sql/put_known_types.sql"))?.execute((
            self.state.service(),
            self.sender.to_bytes(),
            &types[..],
        ))?;
        Ok(())
    }

    /// An instance is gone for good.
    fn bury(&mut self, id: InstanceId) -> Result<(), Stop> {
        let service = self.state.service();
        let key = (service, id.to_bytes(), self.now.micros());
        self.sql.prepare_cached(include_str!("sql/add_departed.sql"))?.execute(key)?;
        let key = (service, id.to_bytes());
        self.sql.prepare_cached(include_str!("sql/delete_instance.sql"))?.execute(key)?;
        if let Some(instance) = self.state.instance(id) {
            self.sql.prepare_cached(include_str!("sql/delete_state.sql"))?.execute([instance.row])?;
        }
        self.sql.prepare_cached(include_str!("sql/delete_known_types.sql"))?.execute(key)?;
        self.state.instances.retain(|instance| instance.id != id);
        self.state.change();
        Ok(())
    }

    /// Looks up which subscriptions are the group's.
    pub(crate) fn find_subscriptions(&mut self) {
        self.subscriptions = match self.group {
            Some(group) => self.state.subscriptions_of(group),
            None => Vec::new(),
        };
    }
}
