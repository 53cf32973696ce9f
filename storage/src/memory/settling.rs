//! Units and settled ranges: how deliveries end.

use std::collections::HashSet;

use super::call::Call;
use super::data::Stored;
use super::message::Message;
use super::parked::{Mode, Row, State};
use crate::{
    Answer, DeadReason, Delivery, Epoch, Partition, Position, Projection, Revision, Settle, Settled,
    SettledAnswer, StreamId, SubscriptionId, Unit, UnitAnswer, refuse,
};

/// Where a delivery stands that may be settled.
enum Standing {
    /// In the log's flow, handed out.
    InFlow,
    /// Parked, and running under the sender with this attempt.
    Parked,
}

impl Call<'_> {
    pub(super) fn units(&mut self, units: &[Unit<'_>], answer: &mut Answer) {
        let mut skipped: HashSet<(SubscriptionId, StreamId)> = HashSet::new();
        for unit in units {
            let lane = unit.delivery.map(|delivery| (delivery.subscription, delivery.lane));
            let done = if lane.is_some_and(|lane| skipped.contains(&lane)) {
                UnitAnswer::Skipped
            } else {
                self.unit(unit, answer)
            };
            if !matches!(done, UnitAnswer::Applied { .. }) {
                skipped.extend(lane);
            }
            answer.units.push(done);
        }
    }

    fn unit(&mut self, unit: &Unit<'_>, answer: &mut Answer) -> UnitAnswer {
        // Everything is looked at before anything is written.
        if let Err(refusal) = refuse::unit(unit, &self.service.limits) {
            return UnitAnswer::Refused(refusal);
        }
        let standing = match unit.delivery.map(|delivery| self.standing(&delivery, unit.settle)) {
            Some(Err(why)) => return why,
            Some(Ok(standing)) => Some(standing),
            None => None,
        };
        for expected in unit.expects {
            let partition = expected.stream.partition(self.data.partition_count());
            let actual = self.data.partitions[partition.0 as usize].version(expected.stream);
            if actual != expected.version {
                return UnitAnswer::StreamConflict { stream: expected.stream, actual };
            }
        }
        let stale = |projection: &Projection<'_>| self.revision(projection) != projection.based_on;
        if let Some(index) = unit.projections.iter().position(stale) {
            return UnitAnswer::ProjectionConflict { index };
        }

        let first = answer.emits.len();
        for emit in unit.emits {
            self.append_one(emit, &mut answer.emits);
        }
        unit.projections.iter().for_each(|projection| self.project(projection));
        if let (Some(delivery), Some(standing)) = (&unit.delivery, standing) {
            self.end(delivery, unit.settle, standing);
        }
        UnitAnswer::Applied { emits: first..answer.emits.len() }
    }

    fn standing(&self, delivery: &Delivery, settle: Settle<'_>) -> Result<Standing, UnitAnswer> {
        let index = self.own_subscription(delivery.subscription).ok_or(UnitAnswer::Unknown)?;
        let part = self.data.part(delivery.partition).ok_or(UnitAnswer::Fenced)?;
        let desk = part.desks[index].as_ref().ok_or(UnitAnswer::Unknown)?;
        let position = delivery.position;
        if let Some(row) = desk.parked.get(position).filter(|row| !row.is_dead()) {
            let is_it = row.runs_at(self.sender) && row.attempt() == delivery.attempt;
            return if is_it { Ok(Standing::Parked) } else { Err(UnitAnswer::Fenced) };
        }
        if !self.owns(delivery.partition, delivery.epoch) {
            Err(UnitAnswer::Fenced)
        } else if desk.cursor.is_settled(position) {
            Err(UnitAnswer::AlreadySettled)
        } else if position > desk.cursor.given()
            || position <= desk.cursor.suspects_to()
            || part.log.get(position).is_none()
            || settle == Settle::Release
        {
            Err(UnitAnswer::Unknown)
        } else if delivery.attempt != 1 {
            Err(UnitAnswer::Fenced)
        } else {
            Ok(Standing::InFlow)
        }
    }

    /// Carries out how a delivery ends.
    fn end(&mut self, delivery: &Delivery, settle: Settle<'_>, standing: Standing) {
        let (now, sender, limits) = (self.now, self.sender, self.service.limits);
        let dies_at = now.after(self.service.unroutable_after);
        let Some(index) = self.own_subscription(delivery.subscription) else {
            return;
        };
        let attempts_max =
            self.data.subscriptions[index].as_ref().map_or(1, |subscription| subscription.attempts_max);
        let part = &mut self.data.partitions[delivery.partition.0 as usize];
        let Some(desk) = &mut part.desks[index] else {
            return;
        };
        let position = delivery.position;
        if matches!(standing, Standing::InFlow) {
            desk.cursor.settle(position, position);
            if settle == Settle::Done {
                return;
            }
            let Some((entry, bytes)) = part.log.get(position) else {
                return;
            };
            // As if it had been parked and handed out: one set of rules ends both.
            let mut row = Row::waiting(Message::new(entry.head, bytes), now, now);
            row.hand_out(sender);
            desk.parked.insert(position, row);
        }
        if settle == Settle::Done {
            desk.parked.remove(position);
            return;
        }
        desk.parked.change(position, |row| match settle {
            Settle::Done => {}
            Settle::Retry { after, error } => {
                row.error = limits.cut(error).into();
                row.fail(now.after(after), now, attempts_max);
            }
            Settle::Dead { reason, error } => {
                row.error = limits.cut(error).into();
                row.end_dead(reason, now);
            }
            Settle::Exhausted { error } => {
                row.error = limits.cut(error).into();
                row.die(DeadReason::AttemptsExhausted, now);
            }
            Settle::Detach => {
                if let State::Running { mode, .. } = &mut row.state {
                    *mode = Mode::Detached;
                }
            }
            Settle::Defer => row.state = State::Waiting { due_at: now },
            Settle::Unroutable => {
                row.dies_at.get_or_insert(dies_at);
                row.state = State::Unroutable;
            }
            Settle::Release => row.hand_back(),
        });
    }

    pub(super) fn settle(&mut self, ranges: &[Settled], answer: &mut Answer) {
        for range in ranges {
            let done = self.settle_one(range);
            answer.settled.push(done);
        }
    }

    fn settle_one(&mut self, range: &Settled) -> SettledAnswer {
        let Some(index) = self.own_subscription(range.subscription) else {
            return SettledAnswer::Unknown;
        };
        if !self.owns(range.partition, range.epoch) {
            return SettledAnswer::Fenced;
        }
        let part = &mut self.data.partitions[range.partition.0 as usize];
        let Some(desk) = &mut part.desks[index] else {
            return SettledAnswer::Unknown;
        };
        let (first, last) = (range.first, range.last);
        let suspects_to = desk.cursor.suspects_to().min(last);
        if first > last {
            SettledAnswer::Unknown
        } else if desk.cursor.covers(first, last) {
            SettledAnswer::AlreadySettled
        } else if last > desk.cursor.given()
            || first <= suspects_to && !desk.cursor.covers(first, suspects_to)
        {
            SettledAnswer::Unknown
        } else {
            desk.cursor.settle(first, last);
            SettledAnswer::Applied
        }
    }

    /// Whether the sender owns a partition for its group, under this epoch.
    pub(super) fn owns(&self, partition: Partition, epoch: Epoch) -> bool {
        let (Some(group), Some(part)) = (self.group, self.data.part(partition)) else {
            return false;
        };
        part.is_owned(group, self.sender) && part.owners[group].epoch == epoch.0
    }

    fn revision(&self, projection: &Projection<'_>) -> Option<Revision> {
        let stored = self.data.projections.get(projection.perspective)?.get(projection.key)?;
        Some(stored.revision)
    }

    fn project(&mut self, projection: &Projection<'_>) {
        let Some(state) = projection.state else {
            if let Some(keys) = self.data.projections.get_mut(projection.perspective) {
                keys.remove(projection.key);
            }
            return;
        };
        let stored = Stored { revision: Revision::of(state), state: state.into() };
        let keys = self.data.projections.entry(projection.perspective.into()).or_default();
        keys.insert(projection.key.into(), stored);
    }

    /// What was running when its partition was given back, and was named: it counts an attempt.
    pub(super) fn fail_running(&mut self, index: usize, partition: Partition, position: Position) {
        let (now, sender) = (self.now, self.sender);
        let Some(attempts_max) = self.data.subscriptions[index].as_ref().map(|s| s.attempts_max) else {
            return;
        };
        let part = &mut self.data.partitions[partition.0 as usize];
        let Some(desk) = &mut part.desks[index] else {
            return;
        };
        if let Some(row) = desk.parked.get(position) {
            if row.runs_at(sender) {
                desk.parked.change(position, |row| row.fail(now, now, attempts_max));
            }
            return;
        }
        let cursor = &mut desk.cursor;
        let in_flow =
            !cursor.is_settled(position) && position <= cursor.given() && position > cursor.suspects_to();
        if let Some((entry, bytes)) = part.log.get(position).filter(|_| in_flow) {
            cursor.settle(position, position);
            let mut row = Row::waiting(Message::new(entry.head, bytes), now, now);
            row.fail(now, now, attempts_max);
            desk.parked.insert(position, row);
        }
    }

    /// Buries unroutable messages whose time is up: of one group, or of all.
    pub(super) fn bury_unroutable(&mut self, group: Option<usize>) {
        let now = self.now;
        let subscriptions: Vec<usize> = match group {
            Some(group) => self.data.groups[group].subscriptions.clone(),
            None => (0..self.data.subscriptions.len()).collect(),
        };
        for part in &mut self.data.partitions {
            for index in &subscriptions {
                let Some(desk) = &mut part.desks[*index] else {
                    continue;
                };
                let late: Vec<Position> = desk
                    .parked
                    .unroutable()
                    .filter(|position| {
                        let row = desk.parked.get(*position);
                        row.and_then(|row| row.dies_at).is_some_and(|dies_at| dies_at <= now)
                    })
                    .collect();
                for position in late {
                    let die = |row: &mut Row| row.die(DeadReason::Unroutable, now);
                    desk.parked.change(position, die);
                }
            }
        }
    }
}
