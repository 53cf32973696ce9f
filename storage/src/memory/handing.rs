//! What is handed out: parked and suspect work that is due, and the log's flow.

use std::time::Duration;

use super::call::Call;
use super::data::{Desk, Instance, Part, number};
use super::message::Message;
use super::parked::{Row, State};
use crate::pick::{Candidate, Measure, pick};
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
        let mut candidates = Vec::new();
        for partition in 0..self.data.partitions.len() {
            if self.data.partitions[partition].is_owned(group, self.sender) {
                self.defer_blocked_suspects(partition, &subscriptions);
            }
            self.candidates(group, partition, &subscriptions, limit.messages, &mut candidates);
        }
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
            let alone = matches!(row.state, State::Running { mode: super::parked::Mode::Alone, .. });
            let handed = row.message.head.handed(row.message.bytes(), &self.data.names);
            answer.page.push(&Handed {
                subscription: number(picked.subscription),
                partition: picked.partition,
                position: picked.position,
                epoch: Epoch(self.group.map_or(0, |group| part.owners[group].epoch)),
                attempt: row.attempt(),
                origin: match (row.replay, alone) {
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
            let mut candidates = Vec::new();
            for partition in 0..self.data.partitions.len() {
                self.candidates_until(END_OF_TIME, group, partition, &subscriptions, 1, &mut candidates);
            }
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

    fn candidates(
        &self,
        group: usize,
        partition: usize,
        subscriptions: &[usize],
        max: usize,
        candidates: &mut Vec<Candidate<Found>>,
    ) {
        self.candidates_until(self.now, group, partition, subscriptions, max, candidates);
    }

    /// What may be handed out of one partition when it is `until`: at most `max` waiting ones of each subscription, one
    /// suspect, and unroutable ones that the sender knows.
    fn candidates_until(
        &self,
        until: Timestamp,
        group: usize,
        partition: usize,
        subscriptions: &[usize],
        max: usize,
        candidates: &mut Vec<Candidate<Found>>,
    ) {
        let part = &self.data.partitions[partition];
        let is_owned = part.is_owned(group, self.sender);
        let desks = || subscriptions.iter().filter_map(|index| Some((*index, part.desks[*index].as_ref()?)));
        let candidate = |index: usize, position, due_at, bytes, key| Candidate {
            due_at,
            partition: Partition(partition as u32),
            position,
            subscription: number(index),
            bytes,
            key,
        };
        for (index, desk) in desks() {
            let knows = |row: &Row| {
                let name = self.data.names.name(row.message.head.name);
                self.me().is_some_and(|me| me.knows(name, row.message.head.type_version))
            };
            let unroutable = desk.parked.unroutable().filter_map(|position| {
                let row = desk.parked.get(position)?;
                let runs = !desk.blocks(row.message.head.lane(), position) && knows(row);
                runs.then_some((row.parked_at, position))
            });
            let waiting = desk.parked.ready().take_while(|(due_at, _)| *due_at <= until);
            let waiting = waiting.filter(|(_, position)| {
                let row = desk.parked.get(*position);
                row.is_some_and(|row| !desk.suspects.blocks(row.message.head.lane(), *position))
            });
            for (due_at, position) in unroutable.chain(waiting.filter(|_| is_owned).take(max)) {
                let bytes = desk.parked.get(position).map_or(0, |row| row.message.bytes().len());
                candidates.push(candidate(index, position, due_at, bytes, Found::Parked));
            }
        }
        // All of the group's, paused or not: what runs alone was handed out before the pause.
        let one_runs_alone = self.data.groups[group]
            .subscriptions
            .iter()
            .any(|index| part.desks[*index].as_ref().is_some_and(|desk| desk.parked.one_runs_alone()));
        if is_owned && !one_runs_alone {
            let suspect = desks()
                .filter_map(|(index, desk)| {
                    let (position, found) = next_suspect(desk)?;
                    Some((position, index, found))
                })
                .min_by_key(|(position, index, _)| (*position, *index));
            if let Some((position, index, found)) = suspect {
                let bytes = bytes_of(part, index, position, found);
                candidates.push(candidate(index, position, EVER, bytes, found));
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
        desk.cursor.give(through);
        ReadAnswer::Messages { messages: first..answer.page.len(), through }
    }
}

/// The next suspect of a subscription: the first in the log or the first that is parked, whichever is smaller.
fn next_suspect(desk: &Desk) -> Option<(Position, Found)> {
    let in_log = desk.suspects.first().map(|(position, _)| (position, Found::Suspect));
    let parked = desk.parked.orphaned().find(|position| {
        let row = desk.parked.get(*position);
        row.is_some_and(|row| !desk.suspects.blocks(row.message.head.lane(), *position))
    });
    let parked = parked.map(|position| (position, Found::Parked));
    in_log.into_iter().chain(parked).min_by_key(|(position, _)| *position)
}

/// Takes a suspect out of the log's flow; what lies before it is settled or was never there.
fn take_suspect(desk: &mut Desk, position: Position, row: Row) {
    desk.cursor.settle(desk.cursor.low().next(), position);
    desk.suspects.remove(position);
    desk.parked.insert(position, row);
}

fn bytes_of(part: &Part, index: usize, position: Position, found: Found) -> usize {
    match found {
        Found::Suspect => part.log.get(position).map_or(0, |(_, bytes)| bytes.len()),
        Found::Parked => part.desks[index]
            .as_ref()
            .and_then(|desk| desk.parked.get(position))
            .map_or(0, |row| row.message.bytes().len()),
    }
}
