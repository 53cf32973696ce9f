//! What is handed out: parked and suspect work that is due, and the log's flow.

use std::time::Duration;

use super::call::Call;
use super::data::{Desk, Instance, Part, number};
use super::message::Message;
use super::parked::{Mode, Row, State};
use crate::pick::{Candidate, Company, Measure, RUN_MAX, SUSPECTS_MAX, pick, suspects};
use crate::{
    Answer, Epoch, Handed, LaneState, Limit, Origin, Partition, Position, Read, ReadAnswer, Timestamp,
};

/// What a candidate is picked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Parked,
    /// Still in the log.
    Suspect,
}

/// What was picked: a parked row now, running under the sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picked {
    subscription: usize,
    partition: Partition,
    position: Position,
}

/// Suspects are due since ever.
const EVER: Timestamp = Timestamp::from_micros(i64::MIN);
const END_OF_TIME: Timestamp = Timestamp::from_micros(i64::MAX);

impl Call<'_> {
    /// Picks what is due and marks it as running; [`hand_out_due`](Self::hand_out_due) puts it into the page.
    pub(super) fn due(&mut self, limit: Limit) -> Vec<Picked> {
        let Some(group) = self.group.filter(|_| limit.messages > 0 && !self.is_gone()) else {
            return Vec::new();
        };
        self.bury_unroutable(Some(group));
        let subscriptions = self.running_subscriptions();
        for partition in 0..self.data.partitions.len() {
            let part = &self.data.partitions[partition];
            if part.is_owned(group, self.sender) && self.running_suspects(group, part).next().is_none() {
                self.defer_blocked_suspects(partition, &subscriptions);
            }
        }
        let candidates = self.candidates(self.now, group, &subscriptions, limit.messages);
        let picked = pick(candidates, limit);
        let picked = picked.iter().map(|candidate| self.mark(candidate)).collect();
        self.close_suspects(group, &subscriptions);
        picked
    }

    pub(super) fn hand_out_due(&mut self, picked: &[Picked], answer: &mut Answer) {
        let first = answer.page.len();
        for picked in picked {
            let part = &self.data.partitions[picked.partition.0 as usize];
            let desk = part.desks[picked.subscription].as_ref();
            let Some(row) = desk.and_then(|desk| desk.parked.get(picked.position)) else {
                continue;
            };
            let is_suspect = matches!(row.state, State::Running { mode: Mode::Suspect, .. });
            let handed = row.message.head.handed(row.message.bytes(), &self.data.names);
            answer.page.push(&Handed {
                subscription: number(picked.subscription),
                partition: picked.partition,
                position: picked.position,
                epoch: Epoch(self.group.map_or(0, |group| part.owners[group].epoch)),
                attempt: row.attempt(),
                origin: match (row.replay, is_suspect) {
                    (true, _) => Origin::Replay,
                    (false, true) => Origin::Suspect,
                    (false, false) => Origin::Parked,
                },
                ..handed
            });
        }
        answer.due = first..answer.page.len();
    }

    /// In how long `due` or `arrivals` will have something for the sender.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let now = self.now;
        let arrivals = self.written().filter_map(|(_, part)| {
            let scheduled = part.arrivals.scheduled.first_key_value();
            let undelayed = part.arrivals.undelayed.front().map(|_| now);
            undelayed.or(scheduled.map(|((due_at, _), _)| *due_at))
        });
        let parked = self.group.filter(|_| !self.is_gone()).and_then(|group| {
            let subscriptions = self.running_subscriptions();
            let candidates = self.candidates(END_OF_TIME, group, &subscriptions, 1);
            candidates.iter().map(|candidate| candidate.due_at).min()
        });
        let next = arrivals.chain(parked).min()?;
        Some(next.since(now))
    }

    fn is_gone(&self) -> bool {
        self.me().is_none_or(|me| me.known.gone)
    }

    fn me(&self) -> Option<&Instance> {
        self.data.instances.get(&self.sender)
    }

    /// The group's subscriptions that are not paused.
    fn running_subscriptions(&self) -> Vec<usize> {
        let all = self.group.map(|group| &self.data.groups[group].subscriptions);
        let runs = |index: &&usize| matches!(&self.data.subscriptions[**index], Some(subscription) if !subscription.paused);
        all.into_iter().flatten().filter(runs).copied().collect()
    }

    /// Suspects behind a parked message of their lane cannot run before it: they wait like everything else of the lane.
    fn defer_blocked_suspects(&mut self, partition: usize, subscriptions: &[usize]) {
        let now = self.now;
        let part = &mut self.data.partitions[partition];
        for index in subscriptions {
            let Some(desk) = &mut part.desks[*index] else {
                continue;
            };
            while let Some((position, lane)) = desk.suspects.first() {
                if !desk.parked.blocks(lane, position) {
                    break;
                }
                let Some((entry, bytes)) = part.log.get(position) else {
                    break;
                };
                let row = Row::waiting(Message::new(entry.head, bytes), now, now);
                take_suspect(desk, position, row);
            }
        }
    }

    /// What may be handed out when it is `until`: of each subscription and partition at most `max` waiting ones, unroutable
    /// ones that the sender knows, and those suspects whose turn it is.
    fn candidates(
        &self,
        until: Timestamp,
        group: usize,
        subscriptions: &[usize],
        max: usize,
    ) -> Vec<Candidate<Found>> {
        let (mut candidates, mut found, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..self.data.partitions.len() {
            let partition = Partition(number as u32);
            let part = &self.data.partitions[number];
            let is_owned = part.is_owned(group, self.sender);
            for index in subscriptions {
                let Some(desk) = &part.desks[*index] else {
                    continue;
                };
                self.unroutable(desk, *index, partition, &mut candidates);
                if is_owned {
                    waiting(desk, *index, partition, until, max, &mut candidates);
                    self.suspects(part, desk, *index, partition, &mut found);
                }
            }
            if is_owned {
                running.extend(self.running_suspects(group, part).map(|company| (partition, company)));
            }
        }
        candidates.extend(suspects(found, &running));
        candidates
    }

    /// The suspects that run in a partition, in all of the group's subscriptions, paused or not: what runs was handed out
    /// before the pause.
    fn running_suspects(&self, group: usize, part: &Part) -> impl Iterator<Item = Company> {
        let desks = self.data.groups[group].subscriptions.iter().filter_map(|index| {
            let desk = part.desks[*index].as_ref()?;
            Some((*index, desk))
        });
        desks.flat_map(move |(index, desk)| {
            desk.parked.running_suspects().map(move |row| self.company(index, row.crashes))
        })
    }

    fn company(&self, index: usize, crashes: u32) -> Company {
        let attempts_max = self.data.subscriptions[index].as_ref().map_or(1, |one| one.attempts_max);
        Company::of(crashes, attempts_max)
    }

    fn unroutable(
        &self,
        desk: &Desk,
        index: usize,
        partition: Partition,
        candidates: &mut Vec<Candidate<Found>>,
    ) {
        for position in desk.parked.unroutable() {
            let Some(row) = desk.parked.get(position) else {
                continue;
            };
            let name = self.data.names.name(row.message.head.name);
            let knows = self.me().is_some_and(|me| me.knows(name, row.message.head.type_version));
            if knows && !desk.blocks(row.message.head.lane(), position) {
                candidates.push(parked(row, index, partition, position, row.parked_at));
            }
        }
    }

    /// The suspects of one subscription in one partition that nothing of their lanes stands before: those in the log up to
    /// the first that is behind a parked one, and the orphaned ones with those behind them in their lanes.
    fn suspects(
        &self,
        part: &Part,
        desk: &Desk,
        index: usize,
        partition: Partition,
        found: &mut Vec<(Company, Candidate<Found>)>,
    ) {
        let in_log =
            desk.suspects.iter().take_while(|(position, lane)| !desk.parked.blocks(*lane, *position));
        let company = self.company(index, 0);
        for (position, _) in in_log.take(SUSPECTS_MAX) {
            let bytes = part.log.get(position).map_or(0, |(_, bytes)| bytes.len());
            let subscription = number(index);
            let key = Found::Suspect;
            found.push((company, Candidate { due_at: EVER, partition, position, subscription, bytes, key }));
        }
        for first in desk.parked.orphaned() {
            let head = desk.parked.get(first).map(|row| (first, row));
            let run = head.into_iter().chain(desk.parked.behind(first));
            let run = run.take_while(|(position, row)| {
                row.state == State::Orphaned && !desk.suspects.blocks(row.message.head.lane(), *position)
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

    fn mark(&mut self, candidate: &Candidate<Found>) -> Picked {
        let (now, sender) = (self.now, self.sender);
        let (position, partition) = (candidate.position, candidate.partition);
        let subscription = (candidate.subscription.0 - 1) as usize;
        let part = &mut self.data.partitions[partition.0 as usize];
        if let Some(desk) = &mut part.desks[subscription] {
            match candidate.key {
                Found::Parked => desk.parked.change(position, |row| row.hand_out(sender)),
                Found::Suspect => {
                    if let Some((entry, bytes)) = part.log.get(position) {
                        let mut row = Row::waiting(Message::new(entry.head, bytes), now, now);
                        row.state = State::Orphaned;
                        row.hand_out(sender);
                        take_suspect(desk, position, row);
                    }
                }
            }
        }
        Picked { subscription, partition, position }
    }

    /// Where no suspect is left, what lies between was trimmed or never there: it counts as settled.
    fn close_suspects(&mut self, group: usize, subscriptions: &[usize]) {
        for part in &mut self.data.partitions {
            if !part.is_owned(group, self.sender) {
                continue;
            }
            for index in subscriptions {
                if let Some(desk) = &mut part.desks[*index]
                    && desk.suspects.is_empty()
                    && desk.cursor.has_suspects()
                {
                    desk.cursor.settle(desk.cursor.low().next(), desk.cursor.suspects_to());
                }
            }
        }
    }

    pub(super) fn read(&mut self, reads: &[Read], answer: &mut Answer) {
        for read in reads {
            let found = self.read_one(read, answer);
            answer.reads.push(found);
        }
    }

    fn read_one(&mut self, read: &Read, answer: &mut Answer) -> ReadAnswer {
        let subscription = self.own_subscription(read.subscription);
        let paused = |index: usize| self.data.subscriptions[index].as_ref().is_none_or(|s| s.paused);
        let Some(index) = subscription.filter(|index| !paused(*index)) else {
            return ReadAnswer::Paused;
        };
        if !self.owns(read.partition, read.epoch) {
            return ReadAnswer::Fenced;
        }
        let window = self.service.window;
        let part = &mut self.data.partitions[read.partition.0 as usize];
        let Some(desk) = &mut part.desks[index] else {
            return ReadAnswer::Paused;
        };
        let end = desk.cursor.window_end(window, part.log.head());
        let after = read.after.max(desk.cursor.suspects_to());
        let (first, mut measure) = (answer.page.len(), Measure::new(read.limit));
        let mut through = if measure.is_full() { Some(read.after) } else { None };
        let mut last = read.after;
        for (entry, bytes) in part.log.after(after) {
            let position = entry.position;
            if position > end || through.is_some() {
                break;
            }
            if desk.cursor.is_settled(position) {
                continue;
            }
            if !measure.admits(bytes.len()) {
                through = Some(last);
                break;
            }
            last = position;
            if measure.is_full() {
                through = Some(last);
            }
            let blocked = desk.blocks(entry.head.lane(), position);
            answer.page.push(&Handed {
                subscription: read.subscription,
                partition: read.partition,
                position,
                epoch: read.epoch,
                lane: if blocked { LaneState::Parked } else { LaneState::Free },
                ..entry.head.handed(bytes, &self.data.names)
            });
        }
        let through = through.unwrap_or(end);
        // A caller may say it has read what does not exist; that was not handed out.
        desk.cursor.give(through.min(end));
        ReadAnswer::Messages { messages: first..answer.page.len(), through }
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
            if left == 0 || own > until || desk.suspects.blocks(row.message.head.lane(), position) {
                break;
            }
            due_at = due_at.max(own);
            left -= 1;
            candidates.push(parked(row, index, partition, position, due_at));
        }
    }
}

fn parked(
    row: &Row,
    index: usize,
    partition: Partition,
    position: Position,
    due_at: Timestamp,
) -> Candidate<Found> {
    let bytes = row.message.bytes().len();
    Candidate { due_at, partition, position, subscription: number(index), bytes, key: Found::Parked }
}

/// Takes a suspect out of the log's flow; what lies before it is settled or was never there.
fn take_suspect(desk: &mut Desk, position: Position, row: Row) {
    desk.cursor.settle(desk.cursor.low().next(), position);
    desk.suspects.remove(position);
    desk.parked.insert(position, row);
}
