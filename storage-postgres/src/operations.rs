//! What an operator asks for.

use whizbang_storage::parked::State;
use whizbang_storage::{Operation, OperationAnswer, ParkedKey, Partition, SubscriptionId, refuse};

use crate::exchange::Exchange;
use crate::state::index_of;

impl Exchange<'_, '_> {
    pub(crate) fn operation(&mut self, operation: &Operation<'_>) -> OperationAnswer {
        self.changes.news = true;
        match refuse::operation(operation, &self.service.limits) {
            Err(refusal) => OperationAnswer::Refused(refusal),
            Ok(()) => self.carry_out(operation).unwrap_or(OperationAnswer::Gone),
        }
    }

    /// None: there is no such thing.
    fn carry_out(&mut self, operation: &Operation<'_>) -> Option<OperationAnswer> {
        match operation {
            Operation::Requeue(key) => {
                let (index, now) = (self.dead(*key)?, self.now);
                self.change_parked(index, key.partition, key.position, |row| {
                    row.state = State::Waiting { due_at: now };
                    (row.attempts, row.crashes) = (0, 0);
                    (row.replay, row.dies_at) = (true, None);
                });
            }
            Operation::Discard(key) => {
                let index = self.dead(*key)?;
                self.remove_parked(index, key.partition, key.position);
            }
            Operation::Pause(id) => self.pausing(*id, true)?,
            Operation::Resume(id) => self.pausing(*id, false)?,
            Operation::Register { group, subscription } => {
                let group = self.group_named(group);
                let id = self.register(group, subscription);
                self.find_subscriptions();
                return Some(OperationAnswer::Registered(id));
            }
            Operation::Drop(id) => self.drop_subscription(*id)?,
        }
        Some(OperationAnswer::Done)
    }

    fn drop_subscription(&mut self, id: SubscriptionId) -> Option<()> {
        let index = index_of(id)?;
        let gone = self.shared_mut().subscriptions.get_mut(index)?.take()?;
        self.shared_mut().groups[gone.group].subscriptions.retain(|kept| *kept != index);
        for partition in (0..self.service.partitions).map(Partition) {
            let desk = self.state.part_mut(partition).desks[index].take();
            self.changes.desks.push((partition, index, desk));
        }
        self.find_subscriptions();
        Some(())
    }

    /// The index of a dead letter's subscription, if there is a dead letter under this key.
    fn dead(&self, key: ParkedKey) -> Option<usize> {
        let index = index_of(key.subscription)?;
        let desk = self.state.desk(index, key.partition)?;
        desk.parked.get(key.position)?.is_dead().then_some(index)
    }

    fn pausing(&mut self, id: SubscriptionId, paused: bool) -> Option<()> {
        self.shared_mut().subscriptions.get_mut(index_of(id)?)?.as_mut()?.paused = paused;
        Some(())
    }
}
