//! Removing what nobody needs any more, in bounded steps.

use rusqlite::Row;
use whizbang_storage::{Partition, Position, Timestamp};

use crate::dedup;
use crate::error::Stop;
use crate::exchange::Exchange;
use crate::segment::{IN_THE_ROW, Placed, Segments};

impl Exchange<'_, '_> {
    /// Removes at most `rows_max` messages, events and keys.
    pub(crate) fn housekeeping(&mut self, rows_max: usize) -> Result<(), Stop> {
        if rows_max == 0 {
            return Ok(());
        }
        for index in 0..self.state.subscriptions.len() {
            self.bury_unroutable(index)?;
        }
        self.write_log()?;
        let mut left = rows_max;
        for partition in (0..self.state.partitions()).map(Partition) {
            let settled = self.settled_by_all(partition)?;
            self.trim_messages(partition, settled, &mut left)?;
            self.trim_events(partition, settled, &mut left)?;
        }
        self.free_segments()?;
        self.trim_keys(&mut left)?;
        self.answer.removed = rows_max - left;
        Ok(())
    }

    /// Up to where every subscription of every group has settled; nowhere if there is none.
    fn settled_by_all(&mut self, partition: Partition) -> Result<Position, Stop> {
        let mut settled = None;
        for index in 0..self.state.subscriptions.len() {
            let low = self.state.cursor(self.sql, index, partition)?.low();
            settled = Some(settled.map_or(low, |settled: Position| settled.min(low)));
        }
        Ok(settled.unwrap_or(Position::START))
    }

    /// Removes messages that are not events. Whole runs go; of one that reaches further, the front counts as gone.
    fn trim_messages(
        &mut self,
        partition: Partition,
        settled: Position,
        left: &mut usize,
    ) -> Result<(), Stop> {
        let head = self.state.head(self.sql, partition)?;
        if settled.0 <= head.trimmed || *left == 0 {
            return Ok(());
        }
        let start = self.state.place(partition, Position::START);
        let last = self.state.place(partition, settled);
        let trimmed = start + head.trimmed as i64;
        let (mut gone, mut reached) = (None, last);
        {
            let mut find = self.sql.prepare_cached(include_str!("sql/runs_to_trim.sql"))?;
            let mut rows = find.query((start, last))?;
            while let Some(row) = rows.next()? {
                let run = Placed::of(row)?;
                let ends_at = run.place + run.span - 1;
                if run.place > trimmed && ends_at <= last && run.messages <= *left {
                    *left -= run.messages;
                } else {
                    // It begins before what is trimmed, or reaches behind what is settled, or what may be removed now.
                    let cut = self.count_front(&run, row, trimmed, last, left)?;
                    if cut < ends_at {
                        if cut < last {
                            reached = cut;
                            break;
                        }
                        continue;
                    }
                }
                gone = Some(run.place);
                if run.segment != IN_THE_ROW {
                    self.freed_bytes.entry(run.segment).or_default().add(&run);
                }
            }
        }
        if let Some(gone) = gone {
            self.sql.prepare_cached(include_str!("sql/delete_runs.sql"))?.execute((start, gone))?;
        }
        self.state.trim_to(self.sql, partition, (reached - start) as u64)
    }

    /// Counts messages of a run behind `trimmed` and up to `last`, as many as are `left`; says up to which place that is.
    fn count_front(
        &mut self,
        placed: &Placed,
        row: &Row<'_>,
        trimmed: i64,
        last: i64,
        left: &mut usize,
    ) -> Result<i64, Stop> {
        let run = Segments::new(self.sql).read(placed, row, &mut self.scratch.run)?;
        let mut reached = trimmed.max(placed.place - 1);
        for (place, record) in run.records() {
            if place > last {
                break;
            }
            if place <= trimmed {
                continue;
            }
            if !record.is_empty() || run.is_damaged() {
                if *left == 0 {
                    return Ok(reached);
                }
                *left -= 1;
            }
            reached = place;
        }
        Ok(reached)
    }

    fn trim_events(&mut self, partition: Partition, settled: Position, left: &mut usize) -> Result<(), Stop> {
        let Some(retention) = self.service.event_retention.filter(|_| *left > 0) else {
            return Ok(());
        };
        let first = self.state.place(partition, Position::START);
        let last = self.state.place(partition, settled);
        let mut gone = None;
        {
            let mut find = self.sql.prepare_cached(include_str!("sql/events_to_trim.sql"))?;
            let mut keep = self.sql.prepare_cached(include_str!("sql/put_trimmed_stream.sql"))?;
            let mut rows = find.query((first, last, *left as i64))?;
            while let Some(row) = rows.next()? {
                let at = Timestamp::from_micros(row.get(3)?);
                if self.now.since(at) < retention {
                    break;
                }
                if let (Some(stream), Some(version)) =
                    (row.get::<_, Option<[u8; 16]>>(1)?, row.get::<_, Option<i64>>(2)?)
                {
                    keep.execute((self.state.service(), stream, version))?;
                }
                gone = Some(row.get::<_, i64>(0)?);
                *left -= 1;
            }
        }
        if let Some(gone) = gone {
            self.sql.prepare_cached(include_str!("sql/delete_events.sql"))?.execute((first, gone))?;
        }
        Ok(())
    }

    fn trim_keys(&mut self, left: &mut usize) -> Result<(), Stop> {
        if *left == 0 {
            return Ok(());
        }
        let (first, last) = dedup::ids(self.state.service());
        let mut gone = None;
        {
            let mut find = self.sql.prepare_cached(include_str!("sql/oldest_dedup.sql"))?;
            let mut rows = find.query((first, last, *left as i64))?;
            while let Some(row) = rows.next()? {
                let at = Timestamp::from_micros(row.get(1)?);
                if self.now.since(at) < self.service.dedup_retention {
                    break;
                }
                gone = Some(row.get::<_, i64>(0)?);
                *left -= 1;
            }
        }
        if let Some(gone) = gone {
            self.sql.prepare_cached(include_str!("sql/delete_dedup.sql"))?.execute((first, gone))?;
        }
        Ok(())
    }
}
