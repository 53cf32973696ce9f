//! Removing what nobody needs any more, in bounded steps.

use super::call::Call;
use crate::Position;

impl Call<'_> {
    /// Removes at most `max` rows; says how many.
    pub(super) fn trim(&mut self, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        self.bury_unroutable(None);
        let (now, service) = (self.now, self.service);
        let mut left = max;
        for part in &mut self.data.partitions {
            let lows = part.desks.iter().flatten().map(|desk| desk.cursor.low());
            // Without any subscription nothing was settled by all.
            let settled: Position = lows.min().unwrap_or(Position::START);
            left -= part.log.trim_others(settled, left);
            if let Some(retention) = service.event_retention {
                left -= part.log.trim_events(settled, left, |at| now.since(at) >= retention);
            }
        }
        let retention = service.dedup_retention;
        left -= self.data.dedup.forget(left, |at| now.since(at) >= retention);
        max - left
    }
}
