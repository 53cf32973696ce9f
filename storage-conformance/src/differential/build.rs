//! Makes batches of the generator's parts, from what a process was told.

use std::time::Duration;

use whizbang_storage::{
    DeadReason, Epoch, Expected, Limit, OnDead, Partition, Position, Revision, Running, Sender, Settled,
    StartAt, StreamId, SubscriptionId, Version,
};

use super::generate::Part;
use super::world::{PARTITIONS, Pair};
use crate::{
    Fixture, Message, OwnedBatch, OwnedMembership, OwnedOperation, OwnedProjection, OwnedSettle,
    OwnedSubscription, OwnedUnit, stream_in,
};

const NAMES: [&str; 4] = ["all", "halt", "late", "end"];

impl<A: Fixture, B: Fixture> Pair<A, B> {
    pub(super) fn batch(&mut self, index: usize, parts: &[Part]) -> OwnedBatch {
        let from = self.processes[index].from;
        let mut batch = OwnedBatch::empty(Sender { number: from.number + 1, ..from });
        for part in parts {
            self.part(index, part, &mut batch);
        }
        batch
    }

    fn part(&mut self, index: usize, part: &Part, batch: &mut OwnedBatch) {
        match part {
            Part::Heartbeat => {
                batch.membership = batch.membership.take().or(Some(OwnedMembership::Heartbeat))
            }
            Part::Leave { running } => {
                batch.membership = Some(OwnedMembership::Leave(self.running(index, *running)));
            }
            Part::Release { count, running } => {
                let running = self.running(index, *running);
                let owned = self.processes[index].owned.iter().take(usize::from(*count));
                let releases =
                    owned.map(|(partition, epoch)| (*partition, *epoch, running.clone())).collect();
                batch.membership = Some(OwnedMembership::Release(releases));
            }
            Part::Append { .. } => {
                let message = self.append(part);
                batch.appends.push(message);
            }
            Part::Move(count) => batch.arrivals = Some(usize::from(*count)),
            Part::Read { subscription, partition, after, messages, bytes, wrong } => {
                let Some(subscription) = self.own_subscription(index, *subscription, *wrong) else {
                    return;
                };
                let partition = self.partition(index, *partition, *wrong);
                let process = &self.processes[index];
                let place = process.places.get(&(subscription, partition)).copied().unwrap_or_default();
                batch.reads.push(whizbang_storage::Read {
                    subscription,
                    partition,
                    epoch: epoch(process.owned.get(&partition), *wrong),
                    after: after.map_or(place, |after| Position(u64::from(after)).min(place)),
                    limit: Limit { messages: usize::from(*messages), bytes: usize::from(*bytes) },
                });
            }
            Part::Settle { subscription, partition, first, more, wrong } => {
                let process = &self.processes[index];
                // Where something was handed out, if anything was.
                let mut known = process.places.iter().filter(|(_, place)| place.0 > 0 && !*wrong);
                let count = known.clone().count().max(1);
                let nth = usize::from(*subscription + *partition / 2) % count;
                let Some((subscription, partition, place)) = known
                    .nth(nth)
                    .map(|((subscription, partition), place)| (*subscription, *partition, *place))
                    .or_else(|| {
                        let partition = self.partition(index, *partition, *wrong);
                        Some((self.subscription(*subscription)?, partition, Position::START))
                    })
                else {
                    return;
                };
                let first = Position((place.0 + 2).saturating_sub(u64::from(*first)).max(1));
                batch.settled.push(Settled {
                    subscription,
                    partition,
                    epoch: epoch(process.owned.get(&partition), *wrong),
                    first,
                    last: Position((first.0 + u64::from(*more)).saturating_sub(1)),
                });
            }
            Part::Unit { .. } | Part::Group { .. } => {
                if let Some(unit) = self.unit(index, part) {
                    batch.units.push(unit);
                }
            }
            Part::Due { messages } => {
                batch.due = Some(Limit { messages: usize::from(*messages), bytes: 600 })
            }
            Part::Requeue(n) => batch.operations.extend(self.letter(*n).map(OwnedOperation::Requeue)),
            Part::Discard(n) => batch.operations.extend(self.letter(*n).map(OwnedOperation::Discard)),
            Part::Pause(n) => batch.operations.extend(self.subscription(*n).map(OwnedOperation::Pause)),
            Part::Resume(n) => batch.operations.extend(self.subscription(*n).map(OwnedOperation::Resume)),
            Part::Drop(n) => batch.operations.extend(self.subscription(*n).map(OwnedOperation::Drop)),
            Part::Register(n) => batch
                .operations
                .push(OwnedOperation::Register { group: "group".to_owned(), subscription: spec(*n) }),
            Part::Housekeep => batch.housekeeping = Some(10_000),
        }
    }

    fn append(&mut self, part: &Part) -> Message {
        let Part::Append { stream, event, key, due_in, now, kind, bytes } = part else {
            unreachable!("only called for appends")
        };
        self.messages += 1;
        let message = self.message(*stream, *event);
        let mut message = Message {
            metadata: vec![3; usize::from(*bytes / 4)],
            dedup: key.map(|key| vec![key]),
            due_in: due_in.map(|ms| Duration::from_millis(u64::from(ms))),
            ..message.with(vec![*bytes; usize::from(*bytes)])
        };
        if *now {
            message = message.now();
        }
        match kind {
            1 => (message.type_name, message.type_version) = ("test.new".to_owned(), 2),
            2 if *bytes == 7 => message.type_name = String::new(),
            3 if *event => message.stream = None,
            _ => {}
        }
        self.sent.push((message.id, message.stream));
        message
    }

    fn message(&self, stream: u8, event: bool) -> Message {
        let stream = stream_of(stream);
        if event { Message::event(self.messages, stream) } else { Message::command(self.messages).of(stream) }
    }

    fn unit(&mut self, index: usize, part: &Part) -> Option<OwnedUnit> {
        let (delivery, settle, emits, stream, key, expects, projection) = match part {
            Part::Group { emits, stream, key, expects, projection } => {
                (None, OwnedSettle::Done, *emits, *stream, *key, *expects, *projection)
            }
            Part::Unit { pick, stale, wrong, how, after, emits, stream, expects, projection } => {
                let process = &mut self.processes[index];
                let from = if *stale { &process.stale } else { &process.got };
                let at = (!from.is_empty()).then(|| usize::from(*pick) % from.len())?;
                let mut delivery = from[at];
                if !*stale {
                    process.stale.push(process.got.remove(at));
                }
                if *wrong {
                    match pick % 4 {
                        0 => delivery.attempt += 1,
                        1 => delivery.epoch.0 += 1,
                        2 => delivery.position.0 += 20,
                        _ => delivery.subscription = SubscriptionId(90),
                    }
                }
                (Some(delivery), settle(*how, *after), *emits, *stream, None, *expects, *projection)
            }
            _ => unreachable!("only called for units"),
        };
        let carries = settle == OwnedSettle::Done;
        let emits = (0..if carries { emits } else { 0 })
            .map(|n| {
                self.messages += 1;
                let message = self.message(stream.wrapping_add(n), n % 2 == 0);
                self.sent.push((message.id, message.stream));
                Message { dedup: key.map(|key| vec![key]), ..message }
            })
            .collect();
        let stream = stream_of(stream);
        let version = |version: u8| Expected { stream, version: Version(u64::from(version)) };
        Some(OwnedUnit {
            delivery,
            settle,
            emits,
            expects: expects.filter(|_| carries).map(version).into_iter().collect(),
            projections: projection
                .filter(|_| carries)
                .map(|(key, based_on, delete)| OwnedProjection {
                    perspective: "totals".to_owned(),
                    key: vec![key],
                    // So few states that a guess is often right.
                    based_on: based_on.map(|state| Revision::of(&[state % 2])),
                    state: (!delete).then(|| vec![(self.messages % 2) as u8]),
                })
                .into_iter()
                .collect(),
        })
    }

    /// Some of what a process has, as still running.
    fn running(&self, index: usize, every: u8) -> Vec<Running> {
        let got = self.processes[index].got.iter().step_by(usize::from(every.max(1)));
        got.filter(|_| every > 0)
            .map(|delivery| Running {
                subscription: delivery.subscription,
                partition: delivery.partition,
                position: delivery.position,
            })
            .collect()
    }

    fn subscription(&self, number: u8) -> Option<SubscriptionId> {
        let count = self.subscriptions.len();
        (count > 0).then(|| self.subscriptions[usize::from(number) % count])
    }

    /// One that the process owns, if it owns any and nothing else is asked for.
    fn partition(&self, index: usize, number: u8, wrong: bool) -> Partition {
        let owned = &self.processes[index].owned;
        let nth = usize::from(number) % owned.len().max(1);
        match owned.keys().nth(nth) {
            Some(partition) if !wrong => *partition,
            _ => Partition(u32::from(number) % (PARTITIONS + 1)),
        }
    }

    /// One of which the process knows a place, or any if it knows none or something else is asked for.
    fn own_subscription(&self, index: usize, number: u8, wrong: bool) -> Option<SubscriptionId> {
        let mut own: Vec<SubscriptionId> = self.processes[index].places.keys().map(|(id, _)| *id).collect();
        own.dedup();
        match own.get(usize::from(number) % own.len().max(1)) {
            Some(id) if !wrong => Some(*id),
            _ => self.subscription(number),
        }
    }

    fn letter(&self, number: u8) -> Option<whizbang_storage::ParkedKey> {
        let count = self.letters.len();
        (count > 0).then(|| self.letters[usize::from(number) % count].key)
    }
}

pub(super) fn spec(number: u8) -> OwnedSubscription {
    let number = usize::from(number) % NAMES.len();
    OwnedSubscription {
        name: NAMES[number].to_owned(),
        start: if number == 3 { StartAt::End } else { StartAt::First },
        on_dead: if number == 1 { OnDead::Halt } else { OnDead::Skip },
        attempts_max: 3,
    }
}

pub(super) fn stream_of(number: u8) -> StreamId {
    let number = u32::from(number) % 8;
    stream_in(PARTITIONS, Partition(number % PARTITIONS), number)
}

fn epoch(owned: Option<&Epoch>, wrong: bool) -> Epoch {
    let epoch = owned.copied().unwrap_or(Epoch(1));
    if wrong { Epoch(epoch.0 + 1) } else { epoch }
}

fn settle(how: u8, after: u16) -> OwnedSettle {
    match how {
        1 | 2 => OwnedSettle::Retry {
            after: Duration::from_millis(u64::from(after)),
            error: format!("after {after} ms"),
        },
        3 => {
            let reasons = [DeadReason::Rejected, DeadReason::Undecodable, DeadReason::AttemptsExhausted];
            let reason = reasons[usize::from(after) % reasons.len()];
            OwnedSettle::Dead { reason, error: format!("number {after}") }
        }
        4 => OwnedSettle::Detach,
        5 => OwnedSettle::Defer,
        6 => OwnedSettle::Unroutable,
        7 => OwnedSettle::Release,
        8 => OwnedSettle::Exhausted { error: format!("number {after}") },
        _ => OwnedSettle::Done,
    }
}
