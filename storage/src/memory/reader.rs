//! The reading side: the same data, under the same lock, for a moment.

use std::sync::{Arc, MutexGuard};

use super::Shared;
use super::data::{Data, number};
use super::parked::State;
use crate::{
    DeadLetter, Handed, MessageId, Page, ParkedKey, Partition, Position, ProjectionState, ReadError,
    Statistics, StoreReader, StreamId, SubscriptionStatistics, Version, Whereabouts,
};

/// The reading side of a [`MemoryStore`](crate::MemoryStore).
#[derive(Clone)]
pub struct MemoryReader {
    shared: Arc<Shared>,
}

impl MemoryReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn data(&self) -> Result<MutexGuard<'_, Data>, ReadError> {
        self.shared
            .data
            .lock()
            .map_err(|_| ReadError("a batch panicked before; its half of the data cannot be trusted".into()))
    }
}

impl StoreReader for MemoryReader {
    async fn history(
        &self,
        stream: StreamId,
        after: Version,
        messages_max: usize,
        page: &mut Page,
    ) -> Result<(), ReadError> {
        let data = self.data()?;
        let partition = stream.partition(data.partition_count());
        let log = &data.partitions[partition.0 as usize].log;
        for (entry, bytes) in log.history(stream, after).take(messages_max) {
            page.push(&Handed {
                partition,
                position: entry.position,
                ..entry.head.handed(bytes, &data.names)
            });
        }
        Ok(())
    }

    async fn projection(&self, perspective: &str, key: &[u8]) -> Result<Option<ProjectionState>, ReadError> {
        let data = self.data()?;
        let stored = data.projections.get(perspective).and_then(|keys| keys.get(key));
        Ok(stored.map(|stored| ProjectionState {
            key: key.to_vec(),
            revision: stored.revision,
            state: stored.state.to_vec(),
        }))
    }

    async fn projections(
        &self,
        perspective: &str,
        after: &[u8],
        count_max: usize,
    ) -> Result<Vec<ProjectionState>, ReadError> {
        let data = self.data()?;
        let keys = data.projections.get(perspective).into_iter().flatten();
        let behind = keys.filter(|(key, _)| &***key > after).take(count_max);
        Ok(behind
            .map(|(key, stored)| ProjectionState {
                key: key.to_vec(),
                revision: stored.revision,
                state: stored.state.to_vec(),
            })
            .collect())
    }

    async fn whereabouts(
        &self,
        message: MessageId,
        stream: Option<StreamId>,
    ) -> Result<Whereabouts, ReadError> {
        let data = self.data()?;
        let lane = stream.unwrap_or_else(|| message.into());
        let part = &data.partitions[lane.partition(data.partition_count()).0 as usize];
        if part.arrivals.messages().any(|arrival| arrival.head.id == message) {
            return Ok(Whereabouts::Waiting);
        }
        let in_log = part.log.after(Position::START).find(|(entry, _)| entry.head.id == message);
        let position = in_log.map(|(entry, _)| entry.position);
        let mut dead = None;
        for desk in part.desks.iter().flatten() {
            if position.is_some_and(|position| !desk.cursor.is_settled(position)) {
                return Ok(Whereabouts::Waiting);
            }
            for row in desk.parked.rows().values().filter(|row| row.message.head.id == message) {
                match row.state {
                    State::Dead { reason, .. } => dead = dead.or(Some((reason, row.error.to_string()))),
                    _ => return Ok(Whereabouts::Waiting),
                }
            }
        }
        Ok(dead.map_or(Whereabouts::NotWaiting, |(reason, error)| Whereabouts::Dead { reason, error }))
    }

    async fn dead_letters(
        &self,
        after: Option<ParkedKey>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let data = self.data()?;
        let mut letters = Vec::new();
        for (index, subscription) in data.subscriptions.iter().enumerate() {
            let Some(subscription) = subscription else {
                continue;
            };
            for (partition, part) in data.partitions.iter().enumerate() {
                let rows = part.desks[index].iter().flat_map(|desk| desk.parked.rows());
                for (position, row) in rows {
                    let key = ParkedKey {
                        subscription: number(index),
                        partition: Partition(partition as u32),
                        position: *position,
                    };
                    let State::Dead { reason, at } = row.state else {
                        continue;
                    };
                    if after.is_some_and(|after| key <= after) {
                        continue;
                    }
                    if letters.len() == count_max {
                        return Ok(letters);
                    }
                    let head = &row.message.head;
                    letters.push(DeadLetter {
                        key,
                        group: data.groups[subscription.group].name.to_string(),
                        subscription: subscription.name.to_string(),
                        message: head.id,
                        stream: head.stream,
                        type_name: data.names.name(head.name).to_owned(),
                        payload: row.message.bytes().payload.to_vec(),
                        reason,
                        error: row.error.to_string(),
                        attempts: row.attempts,
                        crashes: row.crashes,
                        first_failed_at: row.parked_at,
                        dead_at: at,
                    });
                }
            }
        }
        Ok(letters)
    }

    async fn statistics(&self) -> Result<Statistics, ReadError> {
        let data = self.data()?;
        let (others, events) = data.partitions.iter().fold((0, 0), |sum, part| {
            let (others, events) = part.log.counts();
            (sum.0 + others as u64, sum.1 + events as u64)
        });
        let known = data.subscriptions.iter().enumerate();
        Ok(Statistics {
            messages: others,
            events,
            arrivals: data.partitions.iter().map(|part| part.arrivals.len() as u64).sum(),
            dedup_keys: data.dedup.len() as u64,
            projections: data.projections.values().map(|keys| keys.len() as u64).sum(),
            instances: data.living().map(|(id, _)| id).collect(),
            subscriptions: known
                .filter_map(|(index, subscription)| {
                    let subscription = subscription.as_ref()?;
                    Some(SubscriptionStatistics {
                        group: data.groups[subscription.group].name.to_string(),
                        name: subscription.name.to_string(),
                        paused: subscription.paused,
                        ..data.counts(index)
                    })
                })
                .collect(),
        })
    }
}

impl Data {
    /// What a subscription has to do.
    fn counts(&self, index: usize) -> SubscriptionStatistics {
        let mut counts = SubscriptionStatistics {
            group: String::new(),
            name: String::new(),
            lag: 0,
            parked: 0,
            unroutable: 0,
            dead: 0,
            paused: false,
        };
        for part in &self.partitions {
            let Some(desk) = &part.desks[index] else {
                continue;
            };
            let above = desk.cursor.above().iter().map(|(first, last)| last.0 - first.0 + 1);
            counts.lag += part.log.head().0 - desk.cursor.low().0 - above.sum::<u64>();
            for row in desk.parked.rows().values() {
                match row.state {
                    State::Waiting { .. } | State::Orphaned | State::Running { .. } => counts.parked += 1,
                    State::Unroutable => counts.unroutable += 1,
                    State::Dead { .. } => counts.dead += 1,
                }
            }
        }
        counts
    }
}
