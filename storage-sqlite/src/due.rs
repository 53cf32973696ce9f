//! Parked and suspect work that may run now.

use core::ops::ControlFlow;

use rusqlite::OptionalExtension;
use whizbang_storage::pick::{Candidate, Company, RUN_MAX, SUSPECTS_MAX, pick, suspects};
use whizbang_storage::{
    DeadReason, LaneState, Limit, OnDead, Origin, Partition, Position, StreamId, SubscriptionId, Timestamp,
    Version,
};

use crate::error::Stop;
use crate::exchange::Exchange;
use crate::log::Span;
use crate::parked::{Mode, Parked, Standing};
use whizbang_storage::record::{Placed, Record, fallback_id};

/// What was picked: a parked row, running under the sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked {
    id: i64,
    subscription: SubscriptionId,
    partition: Partition,
    position: Position,
    attempt: u32,
    origin: Origin,
}

/// What a candidate is picked from.
#[derive(Debug, Clone)]
enum Source {
    Parked(usize, Parked),
    /// Still in the log.
    Suspect(usize, StreamId),
}

/// How far ahead candidates are looked for.
#[derive(Debug, Clone, Copy)]
struct Horizon {
    until: Timestamp,
    /// Waiting ones of each subscription and partition.
    count_max: usize,
}

/// Suspects are due since ever.
const EVER: Timestamp = Timestamp::from_micros(i64::MIN);

impl Exchange<'_, '_> {
    /// Picks what is due and marks it as running; [`hand_out_picked`](Self::hand_out_picked) puts it into the page.
    pub(crate) fn due(&mut self, limit: Limit) -> Result<(), Stop> {
        if limit.messages == 0 || self.is_gone() {
            return Ok(());
        }
        for index in self.subscriptions.clone() {
            self.bury_unroutable(index)?;
        }
        let subscriptions = self.unpaused();
        let running = self.running_suspects()?;
        self.defer_blocked_suspects(&subscriptions, &running)?;
        let horizon = Horizon { until: self.now, count_max: limit.messages };
        let candidates = self.candidates(&subscriptions, horizon, &running)?;
        for candidate in pick(candidates, limit) {
            let picked = self.mark(candidate)?;
            self.picked.push(picked);
        }
        self.close_suspects(&subscriptions)
    }

    /// When `due` would next have something for the sender.
    pub(crate) fn next_parked(&mut self) -> Result<Option<Timestamp>, Stop> {
        if self.is_gone() {
            return Ok(None);
        }
        let subscriptions = self.unpaused();
        let running = self.running_suspects()?;
        let horizon = Horizon { until: Timestamp::from_micros(i64::MAX), count_max: 1 };
        let candidates = self.candidates(&subscriptions, horizon, &running)?;
        Ok(candidates.iter().map(|candidate| candidate.due_at).min())
    }

    /// Puts what was picked into the page, behind what was read.
    pub(crate) fn hand_out_picked(&mut self) -> Result<(), Stop> {
        let first = self.answer.page.len();
        let picked = core::mem::take(&mut self.picked);
        if !picked.is_empty() {
            let mut find = self.sql.prepare_cached(include_str!("sql/parked_record.sql"))?;
            for picked in picked {
                let mut rows = find.query([picked.id])?;
                let Some(row) = rows.next()? else {
                    continue;
                };
                let place = self.state.place(picked.partition, picked.position);
                let bytes = row.get_ref(0)?.as_blob().unwrap_or(&[]);
                let version: Option<i64> = row.get(1)?;
                let epoch = self.group.map(|group| self.state.owner(group, picked.partition).epoch);
                self.answer.page.push(&Record::read(bytes, fallback_id(place)).handed(&Placed {
                    version: version.map(|version| Version(version as u64)),
                    subscription: picked.subscription,
                    partition: picked.partition,
                    position: picked.position,
                    epoch: epoch.unwrap_or_default(),
                    attempt: picked.attempt,
                    origin: picked.origin,
                    lane: LaneState::Free,
                }));
            }
        }
        self.answer.due = first..self.answer.page.len();
        Ok(())
    }

    /// Buries unroutable messages of a subscription whose time is up.
    pub(crate) fn bury_unroutable(&mut self, index: usize) -> Result<(), Stop> {
        let subscription = self.state.subscriptions[index].id.0;
        let late = {
            let mut find = self.sql.prepare_cached(include_str!("sql/late_unroutable.sql"))?;
            let mut rows = find.query((subscription, self.now.micros()))?;
            let mut late = Vec::new();
            while let Some(row) = rows.next()? {
                late.push(Parked::of(row)?);
            }
            late
        };
        for mut row in late {
            row.die(DeadReason::Unroutable, self.now);
            self.change_parked(index, &row, None)?;
        }
        Ok(())
    }

    /// The group's subscriptions that are not paused.
    fn unpaused(&self) -> Vec<usize> {
        let unpaused = |index: &usize| !self.state.subscriptions[*index].paused;
        self.subscriptions.iter().copied().filter(unpaused).collect()
    }

    fn owned_partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        let owners = self.group.and_then(|group| self.state.group(group)).map(|group| &group.owners);
        let own: Vec<Partition> = owners
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, owner)| owner.instance == Some(self.sender))
            .map(|(partition, _)| Partition(partition as u32))
            .collect();
        own.into_iter()
    }

    /// Suspects behind a parked message of their lane cannot run before it: they wait like everything else of the lane.
    fn defer_blocked_suspects(
        &mut self,
        subscriptions: &[usize],
        running: &[(Partition, Company)],
    ) -> Result<(), Stop> {
        for partition in self.owned_partitions() {
            if running.iter().any(|(one, _)| *one == partition) {
                continue;
            }
            for &index in subscriptions {
                while let Some(suspect) = self.first_suspect(index, partition)? {
                    if !self.is_behind_parked(index, suspect.lane, suspect.position)? {
                        break;
                    }
                    let row = Parked::waiting(suspect.position, suspect.lane, self.now);
                    self.take_suspect(index, partition, &row)?;
                }
            }
        }
        Ok(())
    }

    /// Where no suspect is left, what lies between was trimmed or never there: it counts as settled.
    fn close_suspects(&mut self, subscriptions: &[usize]) -> Result<(), Stop> {
        for partition in self.owned_partitions() {
            for &index in subscriptions {
                if self.state.cursor(self.sql, index, partition)?.has_suspects()
                    && self.first_suspect(index, partition)?.is_none()
                {
                    let cursor = self.state.cursor_mut(self.sql, index, partition)?;
                    let (low, last) = (cursor.low(), cursor.suspects_to());
                    cursor.settle(low.next(), last);
                }
            }
        }
        Ok(())
    }

    fn candidates(
        &mut self,
        subscriptions: &[usize],
        horizon: Horizon,
        running: &[(Partition, Company)],
    ) -> Result<Vec<Candidate<Source>>, Stop> {
        let mut candidates = Vec::new();
        for &index in subscriptions {
            self.waiting(index, horizon, &mut candidates)?;
            self.unroutable(index, &mut candidates)?;
        }
        candidates.extend(suspects(self.suspects(subscriptions, running)?, running));
        Ok(candidates)
    }

    /// Parked work of owned partitions whose time has come: the first of its lane, and what follows it there. None is due
    /// before the one it stands behind.
    fn waiting(
        &mut self,
        index: usize,
        horizon: Horizon,
        candidates: &mut Vec<Candidate<Source>>,
    ) -> Result<(), Stop> {
        for partition in self.partitions_with(index, include_str!("sql/waiting_partition_after.sql"))? {
            if !self.is_own(partition) {
                continue;
            }
            let mut find = self.sql.prepare_cached(include_str!("sql/waiting_until.sql"))?;
            let mut rows =
                find.query((self.state.subscriptions[index].id.0, partition.0, horizon.until.micros()))?;
            let mut left = horizon.count_max;
            while left > 0
                && let Some(row) = rows.next()?
            {
                let (first, bytes) = (Parked::of(row)?, row.get::<_, i64>(14)? as usize);
                if self.is_lane_parked(index, partition, first.lane, first.position)? {
                    continue;
                }
                let (lane, position, mut due) = (first.lane, first.position, first.due);
                candidates.push(self.candidate(index, partition, due, bytes, first));
                left -= 1;
                let run = left.min(RUN_MAX);
                for (row, bytes) in self.behind(index, partition, lane, position, run)? {
                    if row.state != Standing::Waiting || row.due > horizon.until {
                        break;
                    }
                    due = due.max(row.due);
                    candidates.push(self.candidate(index, partition, due, bytes, row));
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    /// What stands behind a parked message of a lane, in order, at most so many, as far as no dead one halts the lane and
    /// no suspect stands before it; with the bytes of each.
    fn behind(
        &mut self,
        index: usize,
        partition: Partition,
        lane: StreamId,
        position: Position,
        count_max: usize,
    ) -> Result<Vec<(Parked, usize)>, Stop> {
        let mut behind = Vec::new();
        let subscription = &self.state.subscriptions[index];
        let key = (subscription.id.0, lane.to_bytes(), position.0 as i64);
        let mut end = i64::MAX;
        if count_max > 0 && subscription.on_dead == OnDead::Halt {
            let mut find = self.sql.prepare_cached(include_str!("sql/dead_behind.sql"))?;
            end = find.query_row(key, |row| row.get(0)).optional()?.unwrap_or(end);
        }
        let mut find = self.sql.prepare_cached(include_str!("sql/parked_behind.sql"))?;
        let mut rows = find.query(key)?;
        while behind.len() < count_max
            && let Some(row) = rows.next()?
        {
            let (parked, bytes) = (Parked::of(row)?, row.get::<_, i64>(14)? as usize);
            if parked.position.0 as i64 > end
                || self.is_behind_suspect(index, partition, lane, parked.position)?
            {
                break;
            }
            behind.push((parked, bytes));
        }
        Ok(behind)
    }

    /// Parked work of types that nobody who had it knew, and that the sender knows, in any partition.
    fn unroutable(&mut self, index: usize, candidates: &mut Vec<Candidate<Source>>) -> Result<(), Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/unroutable.sql"))?;
        let mut rows = find.query([self.state.subscriptions[index].id.0])?;
        let mut types = None;
        while let Some(row) = rows.next()? {
            let types = match &types {
                Some(types) => types,
                None => types.insert(self.known_types()?),
            };
            let knows = knows(types, row.get_ref(17)?.as_str().unwrap_or(""), row.get(18)?);
            let parked = Parked::of(row)?;
            let partition = Partition(row.get(16)?);
            if knows && !self.is_lane_parked(index, partition, parked.lane, parked.position)? {
                let since = Timestamp::from_micros(row.get(15)?);
                let bytes = row.get::<_, i64>(14)? as usize;
                candidates.push(self.candidate(index, partition, since, bytes, parked));
            }
        }
        Ok(())
    }

    /// The suspects that nothing of their lanes stands before, of owned partitions in which none runs.
    fn suspects(
        &mut self,
        subscriptions: &[usize],
        running: &[(Partition, Company)],
    ) -> Result<Vec<(Company, Candidate<Source>)>, Stop> {
        let mut orphaned = Vec::new();
        for &index in subscriptions {
            orphaned.push(self.partitions_with(index, include_str!("sql/orphaned_partition_after.sql"))?);
        }
        let mut found = Vec::new();
        for partition in self.owned_partitions() {
            let runs = running.iter().any(|(one, _)| *one == partition);
            for (at, &index) in subscriptions.iter().enumerate() {
                if !runs && self.state.cursor(self.sql, index, partition)?.has_suspects() {
                    self.in_log(index, partition, &mut found)?;
                }
                // Where one runs, it is enough to know that there are others.
                if orphaned[at].contains(&partition) {
                    self.orphaned(index, partition, &mut found)?;
                }
            }
        }
        Ok(found)
    }

    /// The suspects that are still in the log, up to the first that is behind a parked message.
    fn in_log(
        &mut self,
        index: usize,
        partition: Partition,
        found: &mut Vec<(Company, Candidate<Source>)>,
    ) -> Result<(), Stop> {
        let company = self.company(index, 0);
        let mut left = SUSPECTS_MAX;
        self.visit_suspects(index, partition, |exchange, suspect| {
            if exchange.is_behind_parked(index, suspect.lane, suspect.position)? {
                return Ok(ControlFlow::Break(()));
            }
            let candidate = Candidate {
                due_at: EVER,
                partition,
                position: suspect.position,
                subscription: exchange.state.subscriptions[index].id,
                bytes: suspect.bytes,
                key: Source::Suspect(index, suspect.lane),
            };
            found.push((company, candidate));
            left -= 1;
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }

    /// The orphaned messages that are the first of their lanes, with those behind them.
    fn orphaned(
        &mut self,
        index: usize,
        partition: Partition,
        found: &mut Vec<(Company, Candidate<Source>)>,
    ) -> Result<(), Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/orphaned.sql"))?;
        let mut rows = find.query((self.state.subscriptions[index].id.0, partition.0))?;
        while let Some(row) = rows.next()? {
            let (first, bytes) = (Parked::of(row)?, row.get::<_, i64>(14)? as usize);
            if self.is_lane_parked(index, partition, first.lane, first.position)? {
                continue;
            }
            let (lane, position) = (first.lane, first.position);
            let company = self.company(index, first.crashes);
            found.push((company, self.candidate(index, partition, EVER, bytes, first)));
            if company != Company::Others {
                continue;
            }
            for (row, bytes) in self.behind(index, partition, lane, position, SUSPECTS_MAX - 1)? {
                let company = self.company(index, row.crashes);
                if row.state != Standing::Orphaned || company != Company::Others {
                    break;
                }
                found.push((company, self.candidate(index, partition, EVER, bytes, row)));
            }
        }
        Ok(())
    }

    fn company(&self, index: usize, crashes: u32) -> Company {
        Company::of(crashes, self.state.subscriptions[index].attempts_max)
    }

    /// The suspects that the sender has in hand, of all subscriptions, paused or not: what runs was handed out before the
    /// pause.
    fn running_suspects(&self) -> Result<Vec<(Partition, Company)>, Stop> {
        let mut running = Vec::new();
        let mut find = self.sql.prepare_cached(include_str!("sql/running_suspects.sql"))?;
        let mut rows = find.query([self.sender.to_bytes()])?;
        while let Some(row) = rows.next()? {
            let id = SubscriptionId(row.get(0)?);
            if let Some(index) = self.own_subscription(id) {
                running.push((Partition(row.get(1)?), self.company(index, row.get(2)?)));
            }
        }
        Ok(running)
    }

    fn candidate(
        &self,
        index: usize,
        partition: Partition,
        due_at: Timestamp,
        bytes: usize,
        parked: Parked,
    ) -> Candidate<Source> {
        Candidate {
            due_at,
            partition,
            position: parked.position,
            subscription: self.state.subscriptions[index].id,
            bytes,
            key: Source::Parked(index, parked),
        }
    }

    /// Marks a candidate as running under the sender.
    fn mark(&mut self, candidate: Candidate<Source>) -> Result<Picked, Stop> {
        let (index, row, id) = match candidate.key {
            Source::Parked(index, mut row) => {
                row.hand_out(self.sender);
                self.change_parked(index, &row, None)?;
                let id = row.id;
                (index, row, id)
            }
            Source::Suspect(index, lane) => {
                let mut row = Parked::waiting(candidate.position, lane, self.now);
                row.state = Standing::Orphaned;
                row.hand_out(self.sender);
                let id = self.take_suspect(index, candidate.partition, &row)?;
                (index, row, id)
            }
        };
        let is_suspect = matches!(row.state, Standing::Running { mode: Mode::Suspect, .. });
        Ok(Picked {
            id,
            subscription: self.state.subscriptions[index].id,
            partition: candidate.partition,
            position: candidate.position,
            attempt: row.attempt(),
            origin: match (row.replay, is_suspect) {
                (true, _) => Origin::Replay,
                (false, true) => Origin::Suspect,
                (false, false) => Origin::Parked,
            },
        })
    }

    /// Takes a suspect out of the log's flow; what lies before it is settled or was never there.
    fn take_suspect(&mut self, index: usize, partition: Partition, row: &Parked) -> Result<i64, Stop> {
        let copied = self.record_at(partition, row.position)?.ok_or(Stop::Damaged("a suspect is gone"))?;
        let cursor = self.state.cursor_mut(self.sql, index, partition)?;
        let low = cursor.low();
        cursor.settle(low.next(), row.position);
        self.park(index, partition, row, "", &copied)
    }

    fn first_suspect(&mut self, index: usize, partition: Partition) -> Result<Option<Suspect>, Stop> {
        let mut first = None;
        self.visit_suspects(index, partition, |_, suspect| {
            first = Some(suspect);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    /// Shows the suspects of a subscription that are still in the log, in order.
    fn visit_suspects(
        &mut self,
        index: usize,
        partition: Partition,
        mut see: impl FnMut(&mut Self, Suspect) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        let cursor = self.state.cursor(self.sql, index, partition)?;
        if !cursor.has_suspects() {
            return Ok(());
        }
        let span = Span { partition, after: cursor.low(), last: cursor.suspects_to() };
        self.visit(span, |exchange, found| {
            if !exchange.state.cursor(exchange.sql, index, partition)?.is_suspect(found.position) {
                return Ok(ControlFlow::Continue(()));
            }
            let (position, lane, bytes) = (found.position, found.record.lane(), found.record.bytes());
            see(exchange, Suspect { position, lane, bytes })
        })
    }

    /// Partitions of which a subscription has rows of some state, found one by one along an index.
    fn partitions_with(&self, index: usize, next: &str) -> Result<Vec<Partition>, Stop> {
        let mut find = self.sql.prepare_cached(next)?;
        let mut partitions = Vec::new();
        let mut after = -1;
        loop {
            let mut rows = find.query((self.state.subscriptions[index].id.0, after))?;
            match rows.next()? {
                Some(row) => after = row.get(0)?,
                None => return Ok(partitions),
            }
            partitions.push(Partition(after as u32));
        }
    }

    fn known_types(&self) -> Result<Vec<u8>, Stop> {
        let mut find = self.sql.prepare_cached(include_str!("sql/known_types.sql"))?;
        let mut rows = find.query((self.state.service(), self.sender.to_bytes()))?;
        match rows.next()? {
            Some(row) => Ok(row.get(0)?),
            None => Ok(Vec::new()),
        }
    }

    fn is_own(&self, partition: Partition) -> bool {
        self.group.is_some_and(|group| self.state.owner(group, partition).instance == Some(self.sender))
    }

    /// Whether the sender has left with this very batch.
    fn is_gone(&self) -> bool {
        self.group.is_none() || self.state.instance(self.sender).is_none()
    }
}

/// A message in the log that was handed to an owner that died.
struct Suspect {
    position: Position,
    lane: StreamId,
    bytes: usize,
}

/// Whether a list of known types (name, NUL, newest version, NUL, and so on) has this one.
fn knows(types: &[u8], name: &str, version: u16) -> bool {
    let mut fields = types.split(|byte| *byte == 0);
    while let (Some(known), Some(version_max)) = (fields.next(), fields.next()) {
        let version_max = core::str::from_utf8(version_max).ok().and_then(|max| max.parse::<u16>().ok());
        if known == name.as_bytes() && version_max.is_some_and(|max| version <= max) {
            return true;
        }
    }
    false
}
