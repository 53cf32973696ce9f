//! Parked and suspect work that may run now.

use std::time::Duration;

use whizbang_storage::parked::{Mode, Row, State};
use whizbang_storage::pick::{Candidate, Company, RUN_MAX, SUSPECTS_MAX, pick, suspects};
use whizbang_storage::record::{Placed, Record, fallback_id};
use whizbang_storage::{LaneState, Limit, Origin, Partition, Position, Timestamp};

use crate::exchange::Exchange;
use crate::look_up::Need;
use crate::settle::copied;
use crate::state::{Desk, ParkedRow, number};

/// What a candidate is picked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Parked,
    /// Still in the log.
    Suspect,
}

/// What was picked: a parked row now, running under the sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked {
    index: usize,
    partition: Partition,
    position: Position,
}

/// Suspects are due since ever.
const EVER: Timestamp = Timestamp::from_micros(i64::MIN);
const END_OF_TIME: Timestamp = Timestamp::from_micros(i64::MAX);

impl Exchange<'_, '_> {
    /// Picks what is due and marks it as running; [`hand_out_picked`](Self::hand_out_picked) puts it into the page.
    pub(crate) fn due(&mut self, limit: Limit) {
        if limit.messages == 0 || self.group.is_none() || self.is_gone() {
            return;
        }
        self.bury_unroutable(&self.subscriptions.clone());
        let subscriptions = self.unpaused();
        let owned = self.owned_partitions();
        if !self.know_all_suspects(&owned) {
            return;
        }
        for &partition in &owned {
            if self.running_suspects(partition).next().is_none() {
                self.defer_blocked_suspects(partition, &subscriptions);
            }
        }
        let candidates = self.candidates(self.now, &subscriptions, &owned, limit.messages);
        for candidate in pick(candidates, limit) {
            self.mark(&candidate);
        }
        self.close_suspects(&owned, &subscriptions);
    }

    /// Puts what was picked into the page, behind what was read.
    pub(crate) fn hand_out_picked(&mut self) {
        let first = self.answer.page.len();
        for picked in core::mem::take(&mut self.picked) {
            let Picked { index, partition, position } = picked;
            let epoch = self.group.map(|group| self.state.shared.owner(group, partition).epoch);
            let Some(row) = self.state.desk(index, partition).and_then(|desk| desk.parked.get(position))
            else {
                continue;
            };
            let Some(bytes) = &row.message.record else {
                self.need(Need::Record { index, partition, position });
                continue;
            };
            let is_suspect = matches!(row.state, State::Running { mode: Mode::Suspect, .. });
            let placed = Placed {
                version: row.message.version,
                subscription: number(index),
                partition,
                position,
                epoch: epoch.unwrap_or_default(),
                attempt: row.attempt(),
                origin: match (row.replay, is_suspect) {
                    (true, _) => Origin::Replay,
                    (false, true) => Origin::Suspect,
                    (false, false) => Origin::Parked,
                },
                lane: LaneState::Free,
            };
            self.answer.page.push(&Record::read(bytes, fallback_id(position.0 as i64)).handed(&placed));
        }
        self.answer.due = first..self.answer.page.len();
    }

    /// In how long `due` or `arrivals` will have something for the sender.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let now = self.now;
        let arrivals = self.written().into_iter().filter_map(|partition| {
            let arrivals = &self.state.parts[partition.0 as usize].arrivals;
            let scheduled = arrivals.scheduled.first_key_value().map(|((due, _), _)| *due);
            arrivals.undelayed.first_key_value().map(|_| now).or(scheduled)
        });
        let parked = self.group.filter(|_| !self.is_gone()).and_then(|_| {
            let candidates = self.candidates(END_OF_TIME, &self.unpaused(), &self.owned_partitions(), 1);
            candidates.iter().map(|candidate| candidate.due_at).min()
        });
        arrivals.chain(parked).min().map(|next| next.since(now))
    }

    /// Whether the suspects of all these partitions are known; if not, they will be.
    pub(crate) fn know_all_suspects(&mut self, partitions: &[Partition]) -> bool {
        let mut all = true;
        for &partition in partitions {
            for at in 0..self.subscriptions.len() {
                all &= self.knows_suspects(self.subscriptions[at], partition);
            }
        }
        all
    }

    /// The group's subscriptions that are not paused.
    fn unpaused(&self) -> Vec<usize> {
        let runs = |index: &usize| self.state.shared.subscription(*index).is_some_and(|one| !one.paused);
        self.subscriptions.iter().copied().filter(runs).collect()
    }

    /// Suspects behind a parked message of their lane cannot run before it: they wait like everything else of the lane.
    fn defer_blocked_suspects(&mut self, partition: Partition, subscriptions: &[usize]) {
        let now = self.now;
        for &index in subscriptions {
            while let Some(desk) = self.state.desk(index, partition)
                && let Some((position, lane)) = desk.suspects.as_ref().and_then(|suspects| suspects.first())
                && desk.parked.blocks(lane, position)
                && let Some(entry) = desk.suspected.get(position)
            {
                let row = Row::waiting(copied(entry), now, now);
                self.take_suspect(index, partition, position, row);
            }
        }
    }

    /// What may be handed out when it is `until`: of each subscription and partition at most `max` waiting ones, unroutable
    /// ones that the sender knows, and those suspects whose turn it is.
    fn candidates(
        &self,
        until: Timestamp,
        subscriptions: &[usize],
        owned: &[Partition],
        max: usize,
    ) -> Vec<Candidate<Found>> {
        let (mut candidates, mut found, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for partition in (0..self.service.partitions).map(Partition) {
            let is_owned = owned.binary_search(&partition).is_ok();
            for &index in subscriptions {
                let Some(desk) = self.state.desk(index, partition) else {
                    continue;
                };
                self.unroutable(desk, index, partition, &mut candidates);
                if is_owned {
                    waiting(desk, index, partition, until, max, &mut candidates);
                    self.suspects(desk, index, partition, &mut found);
                }
            }
            if is_owned {
                running.extend(self.running_suspects(partition).map(|company| (partition, company)));
            }
        }
        candidates.extend(suspects(found, &running));
        candidates
    }

    /// The suspects that run in a partition, in all of the group's subscriptions, paused or not: what runs was handed out
    /// before the pause.
    fn running_suspects(&self, partition: Partition) -> impl Iterator<Item = Company> {
        let desks = self
            .subscriptions
            .iter()
            .filter_map(move |index| Some((*index, self.state.desk(*index, partition)?)));
        desks.flat_map(move |(index, desk)| {
            desk.parked.running_suspects().map(move |row| self.company(index, row.crashes))
        })
    }

    fn company(&self, index: usize, crashes: u32) -> Company {
        Company::of(crashes, self.state.shared.subscription(index).map_or(1, |one| one.attempts_max))
    }

    fn unroutable(
        &self,
        desk: &Desk,
        index: usize,
        partition: Partition,
        candidates: &mut Vec<Candidate<Found>>,
    ) {
        let me = self.state.shared.instances.get(&self.sender);
        for position in desk.parked.unroutable() {
            let Some(row) = desk.parked.get(position) else {
                continue;
            };
            let knows = me.is_some_and(|me| me.knows(&row.message.type_name, row.message.type_version));
            if knows && !desk.blocks(row.message.lane, position) {
                candidates.push(parked(row, index, partition, position, row.parked_at));
            }
        }
    }

    /// The suspects of one subscription in one partition that nothing of their lanes stands before: those in the log up to
    /// the first that is behind a parked one, and the orphaned ones with those behind them in their lanes.
    fn suspects(
        &self,
        desk: &Desk,
        index: usize,
        partition: Partition,
        found: &mut Vec<(Company, Candidate<Found>)>,
    ) {
        let in_log = desk.suspects.iter().flat_map(|suspects| suspects.iter());
        let in_log = in_log.take_while(|(position, lane)| !desk.parked.blocks(*lane, *position));
        let company = self.company(index, 0);
        for (position, _) in in_log.take(SUSPECTS_MAX) {
            let bytes = desk.suspected.get(position).map_or(0, |entry| entry.record().bytes());
            let (subscription, key) = (number(index), Found::Suspect);
            found.push((company, Candidate { due_at: EVER, partition, position, subscription, bytes, key }));
        }
        for first in desk.parked.orphaned() {
            let head = desk.parked.get(first).map(|row| (first, row));
            let run = head.into_iter().chain(desk.parked.behind(first));
            let run = run.take_while(|(position, row)| {
                row.state == State::Orphaned && !desk.is_behind_suspect(row.message.lane, *position)
            });
            let mut company = Company::Others;
            for (position, row) in run.take(SUSPECTS_MAX) {
                // Nothing comes before what it stands behind, and that alone stays alone.
                company = company.max(self.company(index, row.crashes));
                if company != Company::Others && position != first {
                    break;
                }
                found.push((company, parked(row, index, partition, position, EVER)));
            }
        }
    }

    fn mark(&mut self, candidate: &Candidate<Found>) {
        let (now, sender) = (self.now, self.sender);
        let (position, partition) = (candidate.position, candidate.partition);
        let index = (candidate.subscription.0 - 1) as usize;
        match candidate.key {
            Found::Parked => self.change_parked(index, partition, position, |row| row.hand_out(sender)),
            Found::Suspect => {
                let Some(entry) =
                    self.state.desk(index, partition).and_then(|desk| desk.suspected.get(position))
                else {
                    return;
                };
                let mut row = Row::waiting(copied(entry), now, now);
                row.state = State::Orphaned;
                row.hand_out(sender);
                self.take_suspect(index, partition, position, row);
            }
        }
        self.picked.push(Picked { index, partition, position });
    }

    /// Takes a suspect out of the log's flow; what lies before it is settled or was never there.
    fn take_suspect(&mut self, index: usize, partition: Partition, position: Position, row: ParkedRow) {
        if let Some(cursor) = self.cursor_mut(index, partition) {
            let low = cursor.low();
            cursor.settle(low.next(), position);
        }
        if let Some(Some(suspects)) = self.suspects_mut(index, partition) {
            suspects.remove(position);
        }
        self.insert_parked(index, partition, position, row);
    }

    /// Where no suspect is left, what lies between was trimmed or never there: it counts as settled.
    fn close_suspects(&mut self, owned: &[Partition], subscriptions: &[usize]) {
        for &partition in owned {
            for &index in subscriptions {
                let is_over = |desk: &Desk| {
                    desk.cursor.has_suspects()
                        && desk.suspects.as_ref().is_some_and(|suspects| suspects.is_empty())
                };
                if self.state.desk(index, partition).is_some_and(is_over)
                    && let Some(cursor) = self.cursor_mut(index, partition)
                {
                    let (low, last) = (cursor.low(), cursor.suspects_to());
                    cursor.settle(low.next(), last);
                }
            }
        }
    }
}

/// Waiting messages whose time has come: the first of its lane, and those that follow it there. None is due before the one
/// it stands behind.
fn waiting(
    desk: &Desk,
    index: usize,
    partition: Partition,
    until: Timestamp,
    max: usize,
    candidates: &mut Vec<Candidate<Found>>,
) {
    let mut left = max;
    for (_, first) in desk.parked.ready().take_while(|(due_at, _)| *due_at <= until) {
        if left == 0 {
            break;
        }
        let head = desk.parked.get(first).map(|row| (first, row));
        let mut due_at = EVER;
        for (position, row) in head.into_iter().chain(desk.parked.behind(first)).take(1 + RUN_MAX) {
            let State::Waiting { due_at: own } = row.state else {
                break;
            };
            if left == 0 || own > until || desk.is_behind_suspect(row.message.lane, position) {
                break;
            }
            due_at = due_at.max(own);
            left -= 1;
            candidates.push(parked(row, index, partition, position, due_at));
        }
    }
}

fn parked(
    row: &ParkedRow,
    index: usize,
    partition: Partition,
    position: Position,
    due_at: Timestamp,
) -> Candidate<Found> {
    let bytes = row.message.bytes;
    Candidate { due_at, partition, position, subscription: number(index), bytes, key: Found::Parked }
}
