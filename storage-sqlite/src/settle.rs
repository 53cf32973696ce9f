//! Units and settled ranges: how deliveries end, and what their handlers produced.

use rusqlite::OptionalExtension;
use whizbang_storage::{
    DeadReason, Delivery, Epoch, Partition, Position, Projection, Revision, Settle, Settled, SettledAnswer,
    SubscriptionId, Unit, UnitAnswer, refuse,
};

use crate::error::Stop;
use crate::exchange::Exchange;
use crate::parked::{Mode, Parked, Standing};
use whizbang_storage::record::{Record, fallback_id};

/// Where a delivery stands that may be settled.
enum Stands {
    /// In the log's flow, handed out.
    InFlow,
    /// Parked, and running under the sender with this attempt.
    Parked(Parked),
}

impl<'b> Exchange<'_, 'b> {
    pub(crate) fn unit(&mut self, unit: &'b Unit<'b>) -> Result<UnitAnswer, Stop> {
        let lane = unit.delivery.map(|delivery| (delivery.subscription, delivery.lane));
        if lane.is_some_and(|lane| self.stuck.contains(&lane)) {
            return Ok(UnitAnswer::Skipped);
        }
        let answer = self.try_unit(unit)?;
        if !matches!(answer, UnitAnswer::Applied { .. }) {
            self.stuck.extend(lane);
        }
        Ok(answer)
    }

    fn try_unit(&mut self, unit: &'b Unit<'b>) -> Result<UnitAnswer, Stop> {
        // Everything is looked at before anything is written.
        if let Err(refusal) = refuse::unit(unit, &self.service.limits) {
            return Ok(UnitAnswer::Refused(refusal));
        }
        let stands = match &unit.delivery {
            Some(delivery) => match self.stands(delivery, unit.settle)? {
                Ok(stands) => Some((delivery, stands)),
                Err(answer) => return Ok(answer),
            },
            None => None,
        };
        for expected in unit.expects {
            let actual = self.version_with_arrivals(expected.stream)?;
            if actual != expected.version {
                return Ok(UnitAnswer::StreamConflict { stream: expected.stream, actual });
            }
        }
        for (index, projection) in unit.projections.iter().enumerate() {
            if self.revision(projection)? != projection.based_on.map(|revision| revision.0 as i64) {
                return Ok(UnitAnswer::ProjectionConflict { index });
            }
        }
        let first = self.answer.emits.len();
        for emit in unit.emits {
            let answer = self.append(emit)?;
            self.answer.emits.push(answer);
        }
        for projection in unit.projections {
            self.project(projection)?;
        }
        if let Some((delivery, stands)) = stands {
            self.end(delivery, unit.settle, stands)?;
        }
        Ok(UnitAnswer::Applied { emits: first..self.answer.emits.len() })
    }

    fn stands(
        &mut self,
        delivery: &Delivery,
        settle: Settle<'_>,
    ) -> Result<Result<Stands, UnitAnswer>, Stop> {
        let Some(index) = self.own_subscription(delivery.subscription) else {
            return Ok(Err(UnitAnswer::Unknown));
        };
        if delivery.partition.0 >= self.state.partitions() {
            return Ok(Err(UnitAnswer::Fenced));
        }
        let (position, partition) = (delivery.position, delivery.partition);
        let cursor = self.state.cursor(self.sql, index, partition)?;
        let (is_settled, suspects_to, given) =
            (cursor.is_settled(position), cursor.suspects_to(), cursor.given());
        // What is parked is settled as far as the log's flow goes.
        if is_settled
            && let Some(row) = self.find_parked(index, partition, position)?
            && !row.is_dead()
        {
            let is_it = row.runs_at(self.sender) && row.attempt() == delivery.attempt;
            return Ok(if is_it { Ok(Stands::Parked(row)) } else { Err(UnitAnswer::Fenced) });
        }
        Ok(if !self.owns(partition, delivery.epoch) {
            Err(UnitAnswer::Fenced)
        } else if is_settled {
            Err(UnitAnswer::AlreadySettled)
        } else if position > given
            || position <= suspects_to
            || settle == Settle::Release
            || !self.exists(partition, position)?
        {
            Err(UnitAnswer::Unknown)
        } else if delivery.attempt != 1 {
            Err(UnitAnswer::Fenced)
        } else {
            Ok(Stands::InFlow)
        })
    }

    /// Carries out how a delivery ends.
    fn end(&mut self, delivery: &Delivery, settle: Settle<'_>, stands: Stands) -> Result<(), Stop> {
        let Some(index) = self.own_subscription(delivery.subscription) else {
            return Ok(());
        };
        let (partition, position) = (delivery.partition, delivery.position);
        match stands {
            Stands::InFlow => {
                self.state.cursor_mut(self.sql, index, partition)?.settle(position, position);
                if settle == Settle::Done {
                    return Ok(());
                }
                let Some(copied) = self.record_at(partition, position)? else {
                    return Ok(());
                };
                let place = self.state.place(partition, position);
                let message = Record::read(&copied.record, fallback_id(place));
                // As if it had been parked and handed out: one set of rules ends both.
                let mut row = Parked::waiting(position, message.lane(), self.now);
                row.hand_out(self.sender);
                let error = self.turn(index, &mut row, settle);
                self.park(index, partition, &row, error.unwrap_or_default(), &copied)?;
            }
            Stands::Parked(row) if settle == Settle::Done => self.delete_parked(index, &row)?,
            Stands::Parked(mut row) => {
                let error = self.turn(index, &mut row, settle);
                self.change_parked(index, &row, error)?;
            }
        }
        Ok(())
    }

    /// What a parked row becomes; the error text to keep, if there is one.
    fn turn<'s>(&self, index: usize, row: &mut Parked, settle: Settle<'s>) -> Option<&'s str> {
        let (now, limits) = (self.now, &self.service.limits);
        match settle {
            Settle::Done => None,
            Settle::Retry { after, error } => {
                row.fail(now.after(after), now, self.state.subscriptions[index].attempts_max);
                Some(limits.cut(error))
            }
            Settle::Dead { reason, error } => {
                row.end_dead(reason, now);
                Some(limits.cut(error))
            }
            Settle::Exhausted { error } => {
                row.die(DeadReason::AttemptsExhausted, now);
                Some(limits.cut(error))
            }
            Settle::Detach => {
                if let Standing::Running { mode, .. } = &mut row.state {
                    *mode = Mode::Detached;
                }
                None
            }
            Settle::Defer => {
                row.wait(now);
                None
            }
            Settle::Unroutable => {
                row.dies_at.get_or_insert(now.after(self.service.unroutable_after));
                row.state = Standing::Unroutable;
                None
            }
            Settle::Release => {
                row.hand_back();
                None
            }
        }
    }

    pub(crate) fn settled(&mut self, range: &Settled) -> Result<SettledAnswer, Stop> {
        let Some(index) = self.own_subscription(range.subscription) else {
            return Ok(SettledAnswer::Unknown);
        };
        if !self.owns(range.partition, range.epoch) {
            return Ok(SettledAnswer::Fenced);
        }
        let (first, last) = (range.first, range.last);
        let cursor = self.state.cursor(self.sql, index, range.partition)?;
        let suspects_to = cursor.suspects_to().min(last);
        Ok(if first > last {
            SettledAnswer::Unknown
        } else if cursor.covers(first, last) {
            SettledAnswer::AlreadySettled
        } else if last > cursor.given() || first <= suspects_to && !cursor.covers(first, suspects_to) {
            SettledAnswer::Unknown
        } else {
            self.state.cursor_mut(self.sql, index, range.partition)?.settle(first, last);
            SettledAnswer::Applied
        })
    }

    /// What was running when its partition was given back, and was named: it counts an attempt.
    pub(crate) fn fail_running(
        &mut self,
        index: usize,
        partition: Partition,
        position: Position,
    ) -> Result<(), Stop> {
        let attempts_max = self.state.subscriptions[index].attempts_max;
        if let Some(mut row) = self.find_parked(index, partition, position)? {
            if row.runs_at(self.sender) {
                row.fail(self.now, self.now, attempts_max);
                self.change_parked(index, &row, None)?;
            }
            return Ok(());
        }
        let cursor = self.state.cursor(self.sql, index, partition)?;
        let in_flow =
            !cursor.is_settled(position) && position <= cursor.given() && position > cursor.suspects_to();
        if !in_flow || !self.exists(partition, position)? {
            return Ok(());
        }
        if let Some(copied) = self.record_at(partition, position)? {
            self.state.cursor_mut(self.sql, index, partition)?.settle(position, position);
            let place = self.state.place(partition, position);
            let message = Record::read(&copied.record, fallback_id(place));
            let mut row = Parked::waiting(position, message.lane(), self.now);
            row.fail(self.now, self.now, attempts_max);
            self.park(index, partition, &row, "", &copied)?;
        }
        Ok(())
    }

    /// A subscription's place in the state, if it is one of the sender's group.
    pub(crate) fn own_subscription(&self, id: SubscriptionId) -> Option<usize> {
        let own = |index: &&usize| self.state.subscriptions[**index].id == id;
        self.subscriptions.iter().find(own).copied()
    }

    /// Whether the sender owns a partition for its group, under this epoch.
    pub(crate) fn owns(&self, partition: Partition, epoch: Epoch) -> bool {
        self.group.is_some_and(|group| {
            let owner = self.state.owner(group, partition);
            owner.instance == Some(self.sender) && owner.epoch == epoch
        })
    }

    fn revision(&self, projection: &Projection<'_>) -> Result<Option<i64>, Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/revision.sql"))?;
        let key = (self.state.service(), projection.perspective, projection.key);
        Ok(find.query_row(key, |row| row.get(0)).optional()?)
    }

    fn project(&self, projection: &Projection<'_>) -> Result<(), Stop> {
        let (service, perspective, key) = (self.state.service(), projection.perspective, projection.key);
        match projection.state {
            Some(state) => self.sql.prepare_cached(include_str!("sql/put_projection.sql"))?.execute((
                service,
                perspective,
                key,
                Revision::of(state).0 as i64,
                state,
            ))?,
            None => self.sql.prepare_cached(include_str!("sql/delete_projection.sql"))?.execute((
                service,
                perspective,
                key,
            ))?,
        };
        Ok(())
    }
}
