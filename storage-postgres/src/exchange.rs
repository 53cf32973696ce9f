//! One batch: decided part by part in the contract's order on what is remembered, so that the database only has to compare
//! and write.
//!
//! Deciding changes the [`State`] in place. What it was before is kept in [`Changes`], both to take everything back when
//! something turns out to be otherwise, and to know what to write.

use std::collections::{BTreeSet, HashSet};

use whizbang_storage::cursor::Cursor;
use whizbang_storage::parked::{self, Suspects};
use whizbang_storage::turn::Turn;
use whizbang_storage::{
    Answer, Epoch, InstanceId, Membership, MembershipAnswer, NotApplied, Partition, Position, Service,
    StoreError, StreamId, SubscriptionId, Timestamp, WorkBatch, membership, refuse,
};

use crate::changes::{Changes, undo};
use crate::due::Picked;
use crate::housekeeping::Reach;
use crate::look_up::{Facts, Need};
use crate::state::{ParkedRow, Shared, State, index_of};

/// A batch that is being decided.
pub(crate) struct Exchange<'x, 'b> {
    pub(crate) service: &'x Service,
    pub(crate) state: &'x mut State,
    pub(crate) answer: &'x mut Answer,
    pub(crate) facts: &'x Facts,
    pub(crate) way: Way,
    pub(crate) now: Timestamp,
    pub(crate) sender: InstanceId,
    /// By index.
    pub(crate) group: Option<usize>,
    /// The group's subscriptions, by index.
    pub(crate) subscriptions: Vec<usize>,
    /// The numbers of the subscriptions that the sender joined with.
    pub(crate) registered: Vec<SubscriptionId>,
    /// Units of these are skipped.
    pub(crate) stuck: HashSet<(SubscriptionId, StreamId)>,
    /// What the sender gave back in this batch.
    pub(crate) freed: BTreeSet<Partition>,
    pub(crate) picked: Vec<Picked>,
    pub(crate) changes: Changes<'b>,
    pub(crate) needs: Vec<Need>,
}

/// How a batch is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In one round trip: what was assumed is compared by the database.
    Fast,
    /// While nobody else of the service writes: for what others might be writing as well.
    Alone,
}

/// How deciding ended.
pub(crate) enum Decided<'b> {
    /// This is to be written.
    Write(Box<Changes<'b>>),
    /// Nothing was changed: these are to be looked up first.
    Look(Vec<Need>),
}

/// What a batch is decided on.
pub(crate) struct Desktop<'x> {
    pub(crate) service: &'x Service,
    pub(crate) state: &'x mut State,
    pub(crate) answer: &'x mut Answer,
    pub(crate) facts: &'x Facts,
    pub(crate) way: Way,
    pub(crate) now: Timestamp,
}

impl Desktop<'_> {
    /// Decides a batch whose turn it is.
    pub(crate) fn decide<'b>(
        self,
        batch: &'b WorkBatch<'b>,
        turn: Turn,
        digest: u64,
    ) -> Result<Decided<'b>, StoreError> {
        let Self { service, state, answer, facts, way, now } = self;
        refuse::batch(batch, &service.limits)?;
        if let Some(Membership::Join(join)) = &batch.membership {
            refuse::join(join, &service.limits).map_err(NotApplied::Join)?;
        }
        // Whoever joins has its row from then on, so what it brings along must not turn out to be otherwise.
        let brings_something =
            !batch.units.is_empty() || !batch.appends.is_empty() || batch.arrivals.is_some();
        let concerns_others = !batch.operations.is_empty() || turn == Turn::Join && brings_something;
        if concerns_others && way == Way::Fast {
            return Ok(Decided::Look(vec![Need::Alone]));
        }
        answer.clear();
        let sender = batch.from.instance;
        let group = state.shared.instances.get(&sender).and_then(|instance| instance.group);
        let mut exchange = Exchange {
            service,
            group,
            state,
            answer,
            facts,
            way,
            now,
            sender,
            subscriptions: Vec::new(),
            registered: Vec::new(),
            stuck: HashSet::new(),
            freed: BTreeSet::new(),
            picked: Vec::new(),
            changes: Changes::default(),
            needs: Vec::new(),
        };
        if way == Way::Alone {
            // Others remember what is changed now: all of them are to look again.
            exchange.shared_mut();
        }
        exchange.apply(batch, digest);
        let Exchange { state, changes, needs, .. } = exchange;
        if needs.is_empty() {
            return Ok(Decided::Write(Box::new(changes)));
        }
        undo(state, changes);
        Ok(Decided::Look(needs))
    }
}

impl<'b> Exchange<'_, 'b> {
    fn apply(&mut self, batch: &'b WorkBatch<'b>, digest: u64) {
        self.beat(batch, digest);
        self.look_at_others(batch);
        for unit in batch.units {
            let answer = self.unit(unit);
            self.answer.units.push(answer);
        }
        for range in batch.settled {
            let answer = self.settled(range);
            self.answer.settled.push(answer);
        }
        self.answer.appends.reserve(batch.appends.len());
        for append in batch.appends {
            let answer = self.append(append);
            self.answer.appends.push(answer);
        }
        self.move_arrivals(batch.arrivals.unwrap_or(0));
        for operation in batch.operations {
            let answer = self.operation(operation);
            self.answer.operations.push(answer);
        }
        if let Some(said) = &batch.membership {
            self.give_up(said);
            self.evict();
            self.take_free(said);
            if !self.is_gone() {
                // The answer says when something is due.
                let owned = self.owned_partitions();
                self.know_all_suspects(&owned);
            }
        }
        if let Some(limit) = batch.due {
            self.due(limit);
        }
        for read in batch.reads {
            let answer = self.read(read);
            self.answer.reads.push(answer);
        }
        self.hand_out_picked();
        self.housekeeping(batch.housekeeping.unwrap_or(0), Reach::of(batch));
    }

    /// Notes the sender's sign of life and its batch's number; registers it and its subscriptions if it joins.
    fn beat(&mut self, batch: &WorkBatch<'_>, digest: u64) {
        let (now, ttl) = (self.now, self.service.time_to_live);
        let shared = &self.state.shared;
        let truce = membership::truce(shared.last_commit, shared.truce, now, ttl);
        let went_back = shared.last_commit.is_some_and(|last| now < last);
        if truce != shared.truce || went_back {
            // Others may have committed meanwhile, of which nothing is known here.
            if !self.facts.is_fresh {
                self.needs.push(Need::Fresh);
            } else if truce != self.state.shared.truce {
                self.shared_mut().truce = truce;
            }
        }
        let from = batch.from;
        if let Some(Membership::Join(join)) = &batch.membership {
            self.join(join, from, digest);
        }
        self.find_subscriptions();
    }

    /// What others write of partitions that the sender owns has to be looked up each time.
    fn look_at_others(&mut self, batch: &WorkBatch<'_>) {
        if self.facts.has_heads || self.facts.is_fresh {
            return;
        }
        let Some(group) = self.group.filter(|_| self.state.shared.groups.len() > 1) else {
            return;
        };
        let asks = batch.membership.is_some() || !batch.reads.is_empty() || batch.due.is_some();
        let shared = &self.state.shared;
        let is_read_only = |partition: u32| {
            let partition = Partition(partition);
            shared.owner(group, partition).instance == Some(self.sender)
                && shared.writer(partition) != Some(self.sender)
        };
        if asks && (0..self.service.partitions).any(is_read_only) {
            self.needs.push(Need::Heads);
        }
    }

    /// The index of a subscription, if it is one of the sender's group.
    pub(crate) fn own_subscription(&self, id: SubscriptionId) -> Option<usize> {
        let index = index_of(id)?;
        self.subscriptions.contains(&index).then_some(index)
    }

    /// Whether the sender owns a partition for its group, under this epoch.
    pub(crate) fn owns(&self, partition: Partition, epoch: Epoch) -> bool {
        self.group.is_some_and(|group| {
            let owner = self.state.shared.owner(group, partition);
            owner.instance == Some(self.sender) && owner.epoch == epoch
        })
    }

    /// Whether the sender owns a partition for its group.
    pub(crate) fn is_own(&self, partition: Partition) -> bool {
        self.group
            .is_some_and(|group| self.state.shared.owner(group, partition).instance == Some(self.sender))
    }

    /// Whether the sender has left with this very batch.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.shared.instances.get(&self.sender).is_none_or(|me| me.known.gone)
    }

    pub(crate) fn owned_partitions(&self) -> Vec<Partition> {
        (0..self.service.partitions).map(Partition).filter(|partition| self.is_own(*partition)).collect()
    }

    /// Looks up which subscriptions are the group's.
    pub(crate) fn find_subscriptions(&mut self) {
        let group = self.group.and_then(|group| self.state.shared.groups.get(group));
        self.subscriptions = group.map_or_else(Vec::new, |group| group.subscriptions.clone());
    }

    pub(crate) fn need(&mut self, need: Need) {
        // Of records there may be thousands, and each is needed once.
        if matches!(need, Need::Record { .. }) || !self.needs.contains(&need) {
            self.needs.push(need);
        }
    }

    /// What all instances know alike, to be changed.
    pub(crate) fn shared_mut(&mut self) -> &mut Shared {
        self.changes.shared.get_or_insert_with(|| self.state.shared.clone());
        &mut self.state.shared
    }

    /// A cursor that is going to be moved.
    pub(crate) fn cursor_mut(&mut self, index: usize, partition: Partition) -> Option<&mut Cursor> {
        let desk = self.state.desk_mut(index, partition)?;
        self.changes.cursors.entry((partition, index)).or_insert_with(|| desk.cursor.clone());
        Some(&mut desk.cursor)
    }

    pub(crate) fn suspects_mut(
        &mut self,
        index: usize,
        partition: Partition,
    ) -> Option<&mut Option<Suspects>> {
        let desk = self.state.desk_mut(index, partition)?;
        self.changes.suspects.entry((partition, index)).or_insert_with(|| desk.suspects.clone());
        Some(&mut desk.suspects)
    }

    /// Whether the suspects of a subscription are known; if not, they will be.
    pub(crate) fn knows_suspects(&mut self, index: usize, partition: Partition) -> bool {
        let Some(desk) = self.state.desk(index, partition).filter(|desk| desk.suspects.is_none()) else {
            return true;
        };
        let (after, last) = (desk.cursor.low(), desk.cursor.suspects_to());
        let facts = self.facts;
        let Some(read) = facts.suspected.get(&partition).filter(|read| read.covers(after, last)) else {
            self.need(Need::Suspects { partition, after, last });
            return false;
        };
        self.changes.suspects.entry((partition, index)).or_insert(None);
        if let Some(desk) = self.state.desk_mut(index, partition) {
            desk.find_suspects(read);
        }
        true
    }

    /// Changes a parked row.
    pub(crate) fn change_parked(
        &mut self,
        index: usize,
        partition: Partition,
        position: Position,
        change: impl FnOnce(&mut ParkedRow),
    ) {
        let group = self.state.shared.subscription(index).map(|one| one.group);
        let owner = group.and_then(|group| self.state.shared.owner(group, partition).instance);
        let is_own = owner.is_some_and(|owner| owner == self.sender || self.changes.evicted.contains(&owner));
        let Some(desk) = self.state.desk_mut(index, partition) else {
            return;
        };
        let before = desk.parked.get(position).cloned();
        desk.parked.change(position, change);
        let concerns_others = |row: &ParkedRow| matches!(row.state, parked::State::Unroutable);
        let is_for_all = !is_own
            || before.as_ref().is_some_and(concerns_others)
            || desk.parked.get(position).is_some_and(concerns_others);
        self.changes.parked.entry((index, partition, position)).or_insert(before);
        self.write_alone(is_for_all);
    }

    pub(crate) fn insert_parked(
        &mut self,
        index: usize,
        partition: Partition,
        position: Position,
        row: ParkedRow,
    ) {
        if let Some(desk) = self.state.desk_mut(index, partition) {
            let before = desk.parked.get(position).cloned();
            self.changes.parked.entry((index, partition, position)).or_insert(before);
            desk.parked.insert(position, row);
        }
    }

    pub(crate) fn remove_parked(&mut self, index: usize, partition: Partition, position: Position) {
        let is_own = self.is_own(partition);
        if let Some(desk) = self.state.desk_mut(index, partition) {
            let before = desk.parked.remove(position);
            self.changes.parked.entry((index, partition, position)).or_insert(before);
            self.write_alone(!is_own);
        }
    }

    /// What others may write as well may only be changed while they do not.
    pub(crate) fn write_alone(&mut self, is_needed: bool) {
        if is_needed && self.way == Way::Fast {
            self.need(Need::Alone);
        }
    }
}

/// What a batch's sender is told about itself and its group, as things stand.
pub(crate) fn told(
    service: &Service,
    state: &mut State,
    batch: &WorkBatch<'_>,
    now: Timestamp,
) -> MembershipAnswer {
    let (mut answer, facts) = (Answer::default(), Facts::default());
    let sender = batch.from.instance;
    let group = state.shared.instances.get(&sender).and_then(|instance| instance.group);
    let mut exchange = Exchange {
        service,
        group,
        state,
        answer: &mut answer,
        facts: &facts,
        way: Way::Fast,
        now,
        sender,
        subscriptions: Vec::new(),
        registered: Vec::new(),
        stuck: HashSet::new(),
        freed: BTreeSet::new(),
        picked: Vec::new(),
        changes: Changes::default(),
        needs: Vec::new(),
    };
    exchange.find_subscriptions();
    if let Some(Membership::Join(join)) = &batch.membership {
        let names = join.subscriptions.iter().filter(|_| group.is_some());
        exchange.registered = names.filter_map(|spec| exchange.subscription_named(spec.name)).collect();
    }
    exchange.membership()
}
