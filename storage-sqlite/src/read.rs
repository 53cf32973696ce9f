//! Reading for a subscription: what it has not settled, in order.

use core::ops::ControlFlow;

use whizbang_storage::pick::Measure;
use whizbang_storage::{LaneState, Origin, Partition, Position, Read, ReadAnswer, StreamId};

use crate::error::Stop;
use crate::exchange::Exchange;
use crate::log::Span;
use whizbang_storage::record::Placed;

impl Exchange<'_, '_> {
    pub(crate) fn read(&mut self, read: &Read) -> Result<ReadAnswer, Stop> {
        let subscription = self.own_subscription(read.subscription);
        let Some(index) = subscription.filter(|index| !self.state.subscriptions[*index].paused) else {
            return Ok(ReadAnswer::Paused);
        };
        if !self.owns(read.partition, read.epoch) {
            return Ok(ReadAnswer::Fenced);
        }
        let head = self.state.head(self.sql, read.partition)?;
        let cursor = self.state.cursor(self.sql, index, read.partition)?;
        let end = cursor.window_end(self.service.window, Position(head.position));
        let after = read.after.max(cursor.suspects_to()).max(cursor.low());
        let first = self.answer.page.len();
        let mut measure = Measure::new(read.limit);
        let mut last = read.after;
        let mut through = measure.is_full().then_some(read.after);
        if through.is_none() {
            let span = Span { partition: read.partition, after, last: end };
            self.visit(span, |exchange, found| {
                let position = found.position;
                if exchange.state.cursor(exchange.sql, index, read.partition)?.is_settled(position) {
                    return Ok(ControlFlow::Continue(()));
                }
                if !measure.admits(found.record.bytes()) {
                    through = Some(last);
                    return Ok(ControlFlow::Break(()));
                }
                last = position;
                let blocked =
                    exchange.is_lane_parked(index, read.partition, found.record.lane(), position)?;
                exchange.answer.page.push(&found.record.handed(&Placed {
                    version: found.version,
                    subscription: read.subscription,
                    partition: read.partition,
                    position,
                    epoch: read.epoch,
                    attempt: 1,
                    origin: Origin::Log,
                    lane: if blocked { LaneState::Parked } else { LaneState::Free },
                }));
                if measure.is_full() {
                    through = Some(last);
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        let through = through.unwrap_or(end);
        // A caller may say it has read what does not exist; that was not handed out.
        let given = through.min(end);
        if self.state.cursor(self.sql, index, read.partition)?.given() < given {
            self.state.cursor_mut(self.sql, index, read.partition)?.give(given);
        }
        Ok(ReadAnswer::Messages { messages: first..self.answer.page.len(), through })
    }

    /// Whether a message must wait because a smaller position of its lane is parked, or suspect.
    pub(crate) fn is_lane_parked(
        &mut self,
        index: usize,
        partition: Partition,
        lane: StreamId,
        position: Position,
    ) -> Result<bool, Stop> {
        Ok(self.is_behind_parked(index, lane, position)?
            || self.is_behind_suspect(index, partition, lane, position)?)
    }

    /// Whether a smaller position of the lane is suspect.
    pub(crate) fn is_behind_suspect(
        &mut self,
        index: usize,
        partition: Partition,
        lane: StreamId,
        position: Position,
    ) -> Result<bool, Stop> {
        if !self.state.cursor(self.sql, index, partition)?.has_suspects() {
            return Ok(false);
        }
        self.look_up_suspects(index, partition)?;
        let lanes = self.state.suspect_lanes(index, partition).take();
        let cursor = self.state.cursor(self.sql, index, partition)?;
        let suspects = lanes.as_ref().and_then(|lanes| lanes.get(&lane));
        let behind = suspects.is_some_and(|suspects| {
            suspects
                .iter()
                .take_while(|suspect| **suspect < position)
                .any(|suspect| cursor.is_suspect(*suspect))
        });
        *self.state.suspect_lanes(index, partition) = lanes;
        Ok(behind)
    }

    fn look_up_suspects(&mut self, index: usize, partition: Partition) -> Result<(), Stop> {
        if self.state.suspect_lanes(index, partition).is_some() {
            return Ok(());
        }
        let cursor = self.state.cursor(self.sql, index, partition)?;
        let span = Span { partition, after: cursor.low(), last: cursor.suspects_to() };
        let mut lanes = crate::state::SuspectLanes::new();
        self.visit(span, |exchange, found| {
            if exchange.state.cursor(exchange.sql, index, partition)?.is_suspect(found.position) {
                lanes.entry(found.record.lane()).or_default().push(found.position);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        *self.state.suspect_lanes(index, partition) = Some(lanes);
        Ok(())
    }
}
