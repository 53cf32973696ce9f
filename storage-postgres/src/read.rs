//! Reading for a subscription: what it has not settled, in order.

use whizbang_storage::pick::Measure;
use whizbang_storage::record::Placed;
use whizbang_storage::{LaneState, Origin, Position, Read, ReadAnswer};

use crate::exchange::Exchange;
use crate::look_up::Need;
use crate::state::{Desk, Part};
use crate::tail::Entry;

impl Exchange<'_, '_> {
    pub(crate) fn read(&mut self, read: &Read) -> ReadAnswer {
        let subscription = self.own_subscription(read.subscription);
        let is_paused = |index: usize| self.state.shared.subscription(index).is_none_or(|one| one.paused);
        let Some(index) = subscription.filter(|index| !is_paused(*index)) else {
            return ReadAnswer::Paused;
        };
        if !self.owns(read.partition, read.epoch) {
            return ReadAnswer::Fenced;
        }
        let first = self.answer.page.len();
        if !self.knows_suspects(index, read.partition) {
            return ReadAnswer::Messages { messages: first..first, through: read.after };
        }
        let part = &self.state.parts[read.partition.0 as usize];
        let Some(desk) = part.desks.get(index).and_then(Option::as_ref) else {
            return ReadAnswer::Paused;
        };
        let end = desk.cursor.window_end(self.service.window, part.head);
        let after = read.after.max(desk.cursor.suspects_to());
        let mut measure = Measure::new(read.limit);
        let mut through = measure.is_full().then_some(read.after);
        let mut last = read.after;
        let mut missing = None;
        if through.is_none() {
            let (entries, rest) = kept(part, desk, after.max(desk.cursor.low()), end);
            missing = rest;
            for entry in entries {
                let position = entry.position;
                if position > end {
                    missing = None;
                    break;
                }
                if desk.cursor.is_settled(position) {
                    continue;
                }
                let record = entry.record();
                if !measure.admits(record.bytes()) {
                    (through, missing) = (Some(last), None);
                    break;
                }
                last = position;
                let is_blocked = desk.blocks(record.lane(), position);
                self.answer.page.push(&record.handed(&Placed {
                    version: entry.version,
                    subscription: read.subscription,
                    partition: read.partition,
                    position,
                    epoch: read.epoch,
                    attempt: 1,
                    origin: Origin::Log,
                    lane: if is_blocked { LaneState::Parked } else { LaneState::Free },
                }));
                if measure.is_full() {
                    (through, missing) = (Some(last), None);
                    break;
                }
            }
        }
        let through = through.unwrap_or(end);
        // A caller may say it has read what does not exist; that was not handed out.
        let given = through.min(end);
        let moves = desk.cursor.given() < given;
        if let Some(after) = missing {
            self.need(Need::Ahead { index, partition: read.partition, after, last: end });
        } else if moves && let Some(cursor) = self.cursor_mut(index, read.partition) {
            cursor.give(given);
        }
        ReadAnswer::Messages { messages: first..self.answer.page.len(), through }
    }
}

/// What is in memory behind a position, in order; and behind which position the rest has to be fetched.
fn kept<'s>(
    part: &'s Part,
    desk: &'s Desk,
    after: Position,
    end: Position,
) -> (impl Iterator<Item = &'s Entry>, Option<Position>) {
    let is_in_tail = part.tail.covers(after, end);
    // What was read ahead, and what follows it in the tail.
    let ahead_to = if is_in_tail { after } else { desk.ahead.reaches(after).unwrap_or(after) };
    let goes_on = part.tail.covers(ahead_to, end);
    let ahead = desk.ahead.after(after).take_while(move |entry| entry.position <= ahead_to);
    let tail = part.tail.after(ahead_to).take_while(move |_| goes_on);
    (ahead.chain(tail), (!goes_on && ahead_to < end).then_some(ahead_to))
}
