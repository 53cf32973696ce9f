//! What operators ask for.

use whizbang_storage::{Operation, OperationAnswer, ParkedKey, SubscriptionId, refuse};

use crate::block;
use crate::error::Stop;
use crate::exchange::Exchange;
use crate::parked::Parked;

impl Exchange<'_, '_> {
    pub(crate) fn operation(&mut self, operation: &Operation<'_>) -> Result<OperationAnswer, Stop> {
        if let Err(refusal) = refuse::operation(operation, &self.service.limits) {
            return Ok(OperationAnswer::Refused(refusal));
        }
        let done = match operation {
            Operation::Requeue(key) => self.requeue(*key)?,
            Operation::Discard(key) => match self.dead(*key)? {
                Some((index, row)) => {
                    self.delete_parked(index, &row)?;
                    true
                }
                None => false,
            },
            Operation::Pause(id) => self.set_paused(*id, true)?,
            Operation::Resume(id) => self.set_paused(*id, false)?,
            Operation::Register { group, subscription } => {
                let group = self.group_named(group)?;
                return Ok(OperationAnswer::Registered(self.register(group, subscription)?));
            }
            Operation::Drop(id) => self.drop_subscription(*id)?,
        };
        Ok(if done { OperationAnswer::Done } else { OperationAnswer::Gone })
    }

    fn requeue(&mut self, key: ParkedKey) -> Result<bool, Stop> {
        let Some((index, mut row)) = self.dead(key)? else {
            return Ok(false);
        };
        row.wait(self.now);
        (row.attempts, row.crashes) = (0, 0);
        (row.replay, row.dies_at) = (true, None);
        self.change_parked(index, &row, None)?;
        self.parks.insert(index, true);
        Ok(true)
    }

    /// The dead letter under this key, if there is one.
    fn dead(&mut self, key: ParkedKey) -> Result<Option<(usize, Parked)>, Stop> {
        let Some(index) = self.state.subscription_index(key.subscription) else {
            return Ok(None);
        };
        let row = self.find_parked(index, key.partition, key.position)?;
        Ok(row.filter(Parked::is_dead).map(|row| (index, row)))
    }

    fn set_paused(&mut self, id: SubscriptionId, paused: bool) -> Result<bool, Stop> {
        let Some(index) = self.state.subscription_index(id) else {
            return Ok(false);
        };
        if self.state.subscriptions[index].paused != paused {
            self.sql.prepare_cached(include_str!("sql/set_paused.sql"))?.execute((id.0, paused))?;
            self.state.subscriptions[index].paused = paused;
            self.state.change();
        }
        Ok(true)
    }

    fn drop_subscription(&mut self, id: SubscriptionId) -> Result<bool, Stop> {
        let Some(index) = self.state.subscription_index(id) else {
            return Ok(false);
        };
        self.sql.prepare_cached(include_str!("sql/delete_subscription.sql"))?.execute([id.0])?;
        block::delete_cursors(self.sql, self.state.service(), id, self.state.partitions())?;
        self.sql.prepare_cached(include_str!("sql/delete_parked_of.sql"))?.execute([id.0])?;
        self.state.remove_subscription(index);
        // The others moved up.
        self.parks.clear();
        self.find_subscriptions();
        Ok(true)
    }
}
