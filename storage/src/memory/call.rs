//! Applies one batch, step by step in the contract's order.

use super::data::{Data, Desk, Instance};
use crate::turn::KnownInstance;
use crate::{
    Answer, InstanceId, Join, Limits, Membership, MembershipAnswer, NotApplied, Operation, OperationAnswer,
    ParkedKey, Partition, Service, SubscriptionId, Timestamp, WorkBatch, membership, refuse,
};

/// One call in progress: what it works on, who made it, and when.
pub(super) struct Call<'c> {
    pub(super) data: &'c mut Data,
    pub(super) service: &'c Service,
    pub(super) now: Timestamp,
    pub(super) sender: InstanceId,
    pub(super) group: Option<usize>,
    /// Something happened that others want to know of.
    pub(super) news: bool,
    /// Partitions that the sender gave back in this batch.
    pub(super) given_back: Vec<Partition>,
}

/// Says whether a batch can be applied. After that nothing fails: what is refused is refused item by item.
pub(super) fn accept(batch: &WorkBatch<'_>, limits: &Limits) -> Result<(), NotApplied> {
    refuse::batch(batch, limits)?;
    match &batch.membership {
        Some(Membership::Join(join)) => refuse::join(join, limits).map_err(NotApplied::Join),
        _ => Ok(()),
    }
}

impl Data {
    /// Applies a batch whose turn it is and that was accepted; says whether there is something in it for others. What comes of
    /// it depends on the data, the batch, the service and the instant, and on nothing else: a journal is read by that.
    pub(super) fn apply(
        &mut self,
        batch: &WorkBatch<'_>,
        digest: u64,
        service: &Service,
        now: Timestamp,
        answer: &mut Answer,
    ) -> bool {
        let subscriptions = self.heartbeat(batch, digest, now);
        let sender = batch.from.instance;
        let mut call = Call {
            group: self.instances.get(&sender).and_then(|instance| instance.group),
            data: self,
            service,
            now,
            sender,
            news: false,
            given_back: Vec::new(),
        };
        call.units(batch.units, answer);
        call.settle(batch.settled, answer);
        call.append(batch.appends, answer);
        call.move_arrivals(batch.arrivals.unwrap_or(0), answer);
        call.operate(batch.operations, answer);
        if let Some(said) = &batch.membership {
            call.give_up(said);
            call.evict();
            call.take_free(said);
        }
        let due = batch.due.map_or_else(Vec::new, |limit| call.due(limit));
        call.read(batch.reads, answer);
        call.hand_out_due(&due, answer);
        answer.removed = call.trim(batch.housekeeping.unwrap_or(0));
        if batch.membership.is_some() {
            answer.membership = Some(MembershipAnswer { subscriptions, ..call.membership() });
        }
        call.news
    }

    /// Notes the sender's sign of life and its batch's number; registers it and its subscriptions if it joins.
    fn heartbeat(&mut self, batch: &WorkBatch<'_>, digest: u64, now: Timestamp) -> Vec<SubscriptionId> {
        let from = batch.from;
        self.truce = membership::truce(self.last_commit, self.truce, now, self.time_to_live);
        self.last_commit = Some(now);
        if let Some(instance) = self.instances.get_mut(&from.instance) {
            instance.known.last = from.number;
            instance.known.digest = digest;
            instance.last_seen = now;
            return Vec::new();
        }
        let Some(Membership::Join(join)) = &batch.membership else {
            return Vec::new();
        };
        self.join(
            join,
            from.instance,
            now,
            KnownInstance { start_token: from.start_token, last: from.number, digest, gone: false },
        )
    }

    fn join(
        &mut self,
        join: &Join<'_>,
        id: InstanceId,
        now: Timestamp,
        known: KnownInstance,
    ) -> Vec<SubscriptionId> {
        let group = join.group.map(|name| self.group(name));
        let types = join.types.iter().map(|known| (known.name.into(), known.version_max)).collect();
        self.instances.insert(id, Instance { known, group, types, last_seen: now });
        group.map_or_else(Vec::new, |group| {
            let register = |spec| self.register(group, spec);
            join.subscriptions.iter().map(register).collect()
        })
    }
}

impl Call<'_> {
    /// The index of a subscription, if it is one of the sender's group.
    #[inline]
    pub(super) fn own_subscription(&self, id: SubscriptionId) -> Option<usize> {
        let index = super::data::index(id)?;
        let subscription = self.data.subscriptions.get(index)?.as_ref()?;
        (Some(subscription.group) == self.group).then_some(index)
    }

    fn operate(&mut self, operations: &[Operation<'_>], answer: &mut Answer) {
        for operation in operations {
            let done = match refuse::operation(operation, &self.service.limits) {
                Err(refusal) => OperationAnswer::Refused(refusal),
                Ok(()) => self.carry_out(operation).unwrap_or(OperationAnswer::Gone),
            };
            answer.operations.push(done);
        }
        self.news |= !operations.is_empty();
    }

    /// None: there is no such thing.
    fn carry_out(&mut self, operation: &Operation<'_>) -> Option<OperationAnswer> {
        match operation {
            Operation::Requeue(key) => {
                let now = self.now;
                self.dead(*key)?.parked.change(key.position, |row| {
                    row.state = super::parked::State::Waiting { due_at: now };
                    (row.attempts, row.crashes) = (0, 0);
                    (row.replay, row.dies_at) = (true, None);
                });
            }
            Operation::Discard(key) => {
                self.dead(*key)?.parked.remove(key.position);
            }
            Operation::Pause(id) => self.pausing(*id, true)?,
            Operation::Resume(id) => self.pausing(*id, false)?,
            Operation::Register { group, subscription } => {
                let group = self.data.group(group);
                return Some(OperationAnswer::Registered(self.data.register(group, subscription)));
            }
            Operation::Drop(id) => {
                let index = super::data::index(*id)?;
                let gone = self.data.subscriptions.get_mut(index)?.take()?;
                self.data.groups[gone.group].subscriptions.retain(|kept| *kept != index);
                for part in &mut self.data.partitions {
                    part.desks[index] = None;
                }
            }
        }
        Some(OperationAnswer::Done)
    }

    /// Where a dead letter is, if there is one under this key.
    fn dead(&mut self, key: ParkedKey) -> Option<&mut Desk> {
        let part = self.data.partitions.get_mut(key.partition.0 as usize)?;
        let desk = part.desks.get_mut(super::data::index(key.subscription)?)?.as_mut()?;
        desk.parked.get(key.position)?.is_dead().then_some(desk)
    }

    fn pausing(&mut self, id: SubscriptionId, paused: bool) -> Option<()> {
        let subscription = self.data.subscriptions.get_mut(super::data::index(id)?)?;
        subscription.as_mut()?.paused = paused;
        Some(())
    }
}
