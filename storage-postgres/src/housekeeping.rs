//! Removing what nobody needs any more, in bounded steps.

use whizbang_storage::{Partition, Position, Timestamp, WorkBatch};

use crate::exchange::Exchange;
use crate::look_up::Need;

/// Where a batch clears up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everywhere.
    All,
    /// Where the sender writes: what it remembers of that is true, and what others have settled there only ever becomes more.
    Own,
}

impl Reach {
    pub(crate) fn of(batch: &WorkBatch<'_>) -> Self {
        if batch.units.len() + batch.appends.len() >= LARGE { Self::Own } else { Self::All }
    }
}

/// So many messages are a large batch.
const LARGE: usize = 128;

impl Exchange<'_, '_> {
    /// Removes at most `rows_max` messages, events and keys: of all partitions, or of those that the sender writes if the batch is
    /// a large one. To look what others have done takes reading everything again, and each of them sends large batches of its
    /// own, or small ones.
    pub(crate) fn housekeeping(&mut self, rows_max: usize, reach: Reach) {
        if rows_max == 0 {
            return;
        }
        let others = self.state.shared.living().any(|(id, _)| id != self.sender);
        if others && reach == Reach::All && !self.facts.is_fresh {
            // Others have settled and trimmed meanwhile.
            self.need(Need::Fresh);
            return;
        }
        let clears_up =
            |exchange: &Self, partition| !others || exchange.facts.has_all || exchange.writes(partition);
        let all: Vec<usize> = (0..self.state.shared.subscriptions.len()).collect();
        self.bury_unroutable(&all);
        if let Some(retention) = self.service.event_retention.filter(|_| self.facts.old_events.is_none()) {
            let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
            let until = Timestamp::from_micros(self.now.micros().saturating_sub(retention));
            let settled = (0..self.service.partitions)
                .map(Partition)
                .map(|partition| match clears_up(self, partition) {
                    true => self.settled_by_all(partition),
                    false => Position::START,
                })
                .collect();
            self.need(Need::OldEvents { until, settled, max: rows_max });
            return;
        }
        let mut left = rows_max;
        for partition in (0..self.service.partitions).map(Partition) {
            if !clears_up(self, partition) {
                continue;
            }
            let settled = self.settled_by_all(partition);
            self.trim_messages(partition, settled, &mut left);
            self.trim_events(partition, &mut left);
        }
        self.answer.removed = rows_max - left;
        if left > 0 {
            let retention = i64::try_from(self.service.dedup_retention.as_micros()).unwrap_or(i64::MAX);
            let youngest = self.now.micros().saturating_sub(retention);
            self.changes.old_keys = Some((left, Timestamp::from_micros(youngest)));
        }
    }

    /// Up to where every subscription of every group has settled; nowhere if there is none.
    fn settled_by_all(&self, partition: Partition) -> Position {
        let desks = &self.state.parts[partition.0 as usize].desks;
        let lows = desks.iter().flatten().map(|desk| desk.cursor.low());
        lows.min().unwrap_or(Position::START)
    }

    /// Removes messages that are not events: what is trimmed is a position, and the rows go whole tables at a time.
    fn trim_messages(&mut self, partition: Partition, settled: Position, left: &mut usize) {
        let part = &mut self.state.parts[partition.0 as usize];
        let before = part.trimmed;
        if settled <= before || *left == 0 {
            return;
        }
        // Without events every position in between is a message.
        let mut reached = before;
        let mut events = part.events.range(before.next()..=settled).copied().peekable();
        while reached < settled && *left > 0 {
            let stop = events.peek().map_or(settled, |event| Position(event.0 - 1));
            let messages = (stop.0 - reached.0).min(*left as u64);
            *left -= messages as usize;
            reached = Position(reached.0 + messages);
            if reached == stop && events.next().is_some() {
                reached = reached.next();
            }
        }
        // Nothing but events follows directly: they are passed as well.
        while events.peek() == Some(&reached.next()) {
            reached = reached.next();
            events.next();
        }
        part.trimmed = reached;
        self.changes.trimmed.entry(partition).or_insert(before);
        let kept = part.events.split_off(&reached.next());
        self.changes.passed.push((partition, core::mem::replace(&mut part.events, kept)));
    }

    /// Removes events that are old: what is gone is a position, and the rows go whole tables at a time.
    fn trim_events(&mut self, partition: Partition, left: &mut usize) {
        let old = self.facts.old_events.as_ref().and_then(|old| old.get(&partition));
        let going = old.map_or(0, Vec::len).min(*left);
        if let Some(last) = old.and_then(|old| old.get(going.checked_sub(1)?)) {
            self.changes.old_events.push((partition, *last));
            *left -= going;
        }
    }
}
