//! Units and settled ranges: how deliveries end, and what their handlers produced.

use whizbang_storage::parked::{Mode, Row, State};
use whizbang_storage::record::{Record, fallback_id};
use whizbang_storage::{
    DeadReason, Delivery, Partition, Position, Projection, Revision, Settle, Settled, SettledAnswer, Unit,
    UnitAnswer, refuse,
};

use crate::changes::Written;
use crate::exchange::Exchange;
use crate::look_up::Need;
use crate::state::{Copied, ParkedRow};
use crate::tail::Entry;

/// Where a delivery stands that may be settled.
enum Standing {
    /// In the log's flow, handed out.
    InFlow,
    /// Parked, and running under the sender with this attempt.
    Parked,
}

impl<'b> Exchange<'_, 'b> {
    pub(crate) fn unit(&mut self, unit: &'b Unit<'b>) -> UnitAnswer {
        let lane = unit.delivery.map(|delivery| (delivery.subscription, delivery.lane));
        if lane.is_some_and(|lane| self.stuck.contains(&lane)) {
            return UnitAnswer::Skipped;
        }
        let answer = self.try_unit(unit);
        if !matches!(answer, UnitAnswer::Applied { .. }) {
            self.stuck.extend(lane);
        }
        answer
    }

    fn try_unit(&mut self, unit: &'b Unit<'b>) -> UnitAnswer {
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
            let actual = self.version_with_arrivals(expected.stream, expected.version);
            if actual != expected.version {
                return UnitAnswer::StreamConflict { stream: expected.stream, actual };
            }
        }
        for (index, projection) in unit.projections.iter().enumerate() {
            let based_on = projection.based_on.map_or(0, |revision| revision.0);
            // No state has revision 0, which stands for none here.
            let is_none = projection.based_on == Some(Revision(0));
            if is_none || self.revision(projection, based_on) != based_on {
                return UnitAnswer::ProjectionConflict { index };
            }
        }
        let first = self.answer.emits.len();
        for emit in unit.emits {
            let answer = self.append_one(emit);
            self.answer.emits.push(answer);
        }
        unit.projections.iter().for_each(|projection| self.project(projection));
        if let (Some(delivery), Some(standing)) = (&unit.delivery, standing) {
            self.end(delivery, unit.settle, standing);
        }
        UnitAnswer::Applied { emits: first..self.answer.emits.len() }
    }

    fn standing(&mut self, delivery: &Delivery, settle: Settle<'_>) -> Result<Standing, UnitAnswer> {
        let index = self.own_subscription(delivery.subscription).ok_or(UnitAnswer::Unknown)?;
        let (partition, position) = (delivery.partition, delivery.position);
        if partition.0 >= self.service.partitions {
            return Err(UnitAnswer::Fenced);
        }
        let desk = self.state.desk(index, partition).ok_or(UnitAnswer::Unknown)?;
        if let Some(row) = desk.parked.get(position).filter(|row| !row.is_dead()) {
            let is_it = row.runs_at(self.sender) && row.attempt() == delivery.attempt;
            return if is_it { Ok(Standing::Parked) } else { Err(UnitAnswer::Fenced) };
        }
        let cursor = &desk.cursor;
        let (is_settled, given, suspects_to) =
            (cursor.is_settled(position), cursor.given(), cursor.suspects_to());
        if !self.owns(partition, delivery.epoch) {
            Err(UnitAnswer::Fenced)
        } else if is_settled {
            Err(UnitAnswer::AlreadySettled)
        } else if position > given
            || position <= suspects_to
            || settle == Settle::Release
            || !self.exists(partition, position)
        {
            Err(UnitAnswer::Unknown)
        } else if delivery.attempt != 1 {
            Err(UnitAnswer::Fenced)
        } else {
            Ok(Standing::InFlow)
        }
    }

    /// Whether there is a message at a position.
    fn exists(&mut self, partition: Partition, position: Position) -> bool {
        let part = &self.state.parts[partition.0 as usize];
        if position > part.trimmed {
            return position <= part.head;
        }
        // What was trimmed is gone, but for events.
        let is_event = self.facts.is_event.get(&(partition, position)).copied();
        is_event.unwrap_or_else(|| {
            self.need(Need::IsEvent { partition, position });
            true
        })
    }

    /// Carries out how a delivery ends.
    fn end(&mut self, delivery: &Delivery, settle: Settle<'_>, standing: Standing) {
        let (now, sender, limits) = (self.now, self.sender, self.service.limits);
        let dies_at = now.after(self.service.unroutable_after);
        let (partition, position) = (delivery.partition, delivery.position);
        let Some(index) = self.own_subscription(delivery.subscription) else {
            return;
        };
        let attempts_max =
            self.state.shared.subscription(index).map_or(1, |subscription| subscription.attempts_max);
        if matches!(standing, Standing::InFlow) {
            if settle == Settle::Done {
                if let Some(cursor) = self.cursor_mut(index, partition) {
                    cursor.settle(position, position);
                }
                return;
            }
            let Some(copied) = self.copy(index, partition, position) else {
                return;
            };
            if let Some(cursor) = self.cursor_mut(index, partition) {
                cursor.settle(position, position);
            }
            // As if it had been parked and handed out: one set of rules ends both.
            let mut row = Row::waiting(copied, now, now);
            row.hand_out(sender);
            self.insert_parked(index, partition, position, row);
        }
        if settle == Settle::Done {
            self.remove_parked(index, partition, position);
            return;
        }
        if let Settle::Retry { error, .. } | Settle::Dead { error, .. } | Settle::Exhausted { error } = settle
        {
            self.changes.errors.insert((index, partition, position), limits.cut(error).into());
        }
        self.change_parked(index, partition, position, |row| match settle {
            Settle::Done => {}
            Settle::Retry { after, .. } => row.fail(now.after(after), now, attempts_max),
            Settle::Dead { reason, .. } => row.end_dead(reason, now),
            Settle::Exhausted { .. } => row.die(DeadReason::AttemptsExhausted, now),
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

    /// The message at a position of the log, copied to be parked; none when it has to be fetched first.
    pub(crate) fn copy(&mut self, index: usize, partition: Partition, position: Position) -> Option<Copied> {
        let found = self.entry(index, partition, position).map(copied);
        if found.is_none() {
            self.need(Need::Message { partition, position });
        }
        found
    }

    /// A message of the log that is in memory.
    fn entry(&self, index: usize, partition: Partition, position: Position) -> Option<&Entry> {
        let part = self.state.part(partition)?;
        let desk = part.desks.get(index)?.as_ref()?;
        let kept = part
            .tail
            .get(position)
            .or_else(|| desk.ahead.get(position))
            .or_else(|| desk.suspected.get(position));
        kept.or_else(|| self.facts.messages.get(&(partition, position)))
    }

    pub(crate) fn settled(&mut self, range: &Settled) -> SettledAnswer {
        let Some(index) = self.own_subscription(range.subscription) else {
            return SettledAnswer::Unknown;
        };
        if !self.owns(range.partition, range.epoch) {
            return SettledAnswer::Fenced;
        }
        let Some(desk) = self.state.desk(index, range.partition) else {
            return SettledAnswer::Unknown;
        };
        let (first, last, cursor) = (range.first, range.last, &desk.cursor);
        let suspects_to = cursor.suspects_to().min(last);
        if first > last {
            SettledAnswer::Unknown
        } else if cursor.covers(first, last) {
            SettledAnswer::AlreadySettled
        } else if last > cursor.given() || first <= suspects_to && !cursor.covers(first, suspects_to) {
            SettledAnswer::Unknown
        } else {
            if let Some(cursor) = self.cursor_mut(index, range.partition) {
                cursor.settle(first, last);
            }
            SettledAnswer::Applied
        }
    }

    /// The revision of a projection; 0 when there is none. Where nobody knows, it is assumed to be `or_else`, and the
    /// database compares.
    fn revision(&mut self, projection: &Projection<'b>, or_else: u64) -> u64 {
        let key = (projection.perspective, projection.key);
        if let Some(written) = self.changes.projections.get(&key) {
            return if written.state.is_some() { written.revision } else { 0 };
        }
        let found = || self.facts.revisions.get(&(key.0.into(), key.1.into())).copied();
        *self.changes.assumed_revisions.entry(key).or_insert_with(|| found().unwrap_or(or_else))
    }

    fn project(&mut self, projection: &Projection<'b>) {
        let now = self.revision(projection, 0);
        let key = (projection.perspective, projection.key);
        let before = self.changes.projections.get(&key).map_or(now, |written| written.before);
        let revision = projection.state.map_or(0, |state| Revision::of(state).0);
        self.changes.projections.insert(key, Written { before, revision, state: projection.state });
    }

    /// What was running when its partition was given back, and was named: it counts an attempt.
    pub(crate) fn fail_running(&mut self, index: usize, partition: Partition, position: Position) {
        let (now, sender) = (self.now, self.sender);
        let Some(attempts_max) = self.state.shared.subscription(index).map(|one| one.attempts_max) else {
            return;
        };
        let Some(desk) = self.state.desk(index, partition) else {
            return;
        };
        if let Some(row) = desk.parked.get(position) {
            if row.runs_at(sender) {
                self.change_parked(index, partition, position, |row| row.fail(now, now, attempts_max));
            }
            return;
        }
        let cursor = &desk.cursor;
        let in_flow =
            !cursor.is_settled(position) && position <= cursor.given() && position > cursor.suspects_to();
        if !in_flow || !self.exists(partition, position) {
            return;
        }
        let Some(copied) = self.copy(index, partition, position) else {
            return;
        };
        if let Some(cursor) = self.cursor_mut(index, partition) {
            cursor.settle(position, position);
        }
        let mut row = Row::waiting(copied, now, now);
        row.fail(now, now, attempts_max);
        self.insert_parked(index, partition, position, row);
    }

    /// Buries unroutable messages of these subscriptions whose time is up.
    pub(crate) fn bury_unroutable(&mut self, subscriptions: &[usize]) {
        let now = self.now;
        for partition in (0..self.service.partitions).map(Partition) {
            for &index in subscriptions {
                let Some(desk) = self.state.desk(index, partition) else {
                    continue;
                };
                let is_late = |row: &ParkedRow| row.dies_at.is_some_and(|dies_at| dies_at <= now);
                let late: Vec<Position> = desk
                    .parked
                    .unroutable()
                    .filter(|position| desk.parked.get(*position).is_some_and(is_late))
                    .collect();
                for position in late {
                    self.change_parked(index, partition, position, |row| {
                        row.die(DeadReason::Unroutable, now)
                    });
                }
            }
        }
    }
}

/// A message of the log as it is parked.
pub(crate) fn copied(entry: &Entry) -> Copied {
    let record = Record::read(entry.bytes.get(), fallback_id(entry.position.0 as i64));
    Copied {
        id: record.id,
        lane: record.lane(),
        version: entry.version,
        type_name: record.type_name.into(),
        type_version: record.type_version,
        bytes: record.bytes(),
        record: Some(entry.bytes.get().into()),
    }
}
