//! Arrivals: messages that are durable and wait for their time, or for the partition's writer.

use std::collections::{BTreeSet, HashSet};

use whizbang_storage::{Append, InstanceId, Partition, Position, StreamId, Timestamp};

use crate::error::Stop;
use crate::exchange::Exchange;
use whizbang_storage::record::{self, Record, fallback_id};

/// Arrivals are written into the log when so many bytes of them have come together, so that many large ones need little memory.
const COPIED_BYTES: usize = 1 << 20;

impl Exchange<'_, '_> {
    pub(crate) fn arrive(
        &mut self,
        append: &Append<'_>,
        partition: Partition,
        lane: StreamId,
    ) -> Result<(), Stop> {
        self.scratch.bytes.clear();
        record::encode(append, &mut self.scratch.bytes);
        let due = append.due_in.map(|due_in| self.now.after(due_in).micros());
        let put = self.statements.put_arrival.get(self.sql, include_str!("sql/put_arrival.sql"))?;
        put.execute((
            self.state.global(partition),
            due,
            self.sender.to_bytes(),
            lane.to_bytes(),
            &self.scratch.bytes[..],
        ))?;
        if let Some(arriving) = &mut self.arriving {
            arriving.insert(partition);
        }
        Ok(())
    }

    /// Whether an undelayed message of this lane waits, which later ones must not overtake.
    pub(crate) fn arrived_before(&mut self, partition: Partition, lane: StreamId) -> Result<bool, Stop> {
        if !self.arriving()?.contains(&partition) {
            return Ok(false);
        }
        let mut find = self.sql.prepare_cached(include_str!("sql/arrived_before.sql"))?;
        let key = (self.state.global(partition), lane.to_bytes());
        Ok(find.exists(key)?)
    }

    /// How many undelayed events of a stream wait, each of which gets a version before whatever comes now.
    pub(crate) fn arrived_events(&mut self, stream: StreamId) -> Result<u64, Stop> {
        let partition = stream.partition(self.state.partitions());
        if !self.arriving()?.contains(&partition) {
            return Ok(0);
        }
        let mut count = self.sql.prepare_cached(include_str!("sql/arrived_events.sql"))?;
        let key = (self.state.global(partition), stream.to_bytes());
        Ok(count.query_row(key, |row| row.get::<_, i64>(0))? as u64)
    }

    /// Moves at most `count_max` arrivals of the partitions that the sender writes into their logs: first scheduled ones
    /// whose time has come, by that time, then the others as they came.
    pub(crate) fn move_arrivals(&mut self, count_max: usize) -> Result<(), Stop> {
        let written = self.written()?;
        if written.is_empty() || count_max == 0 {
            return Ok(());
        }
        let mut moving = Vec::new();
        {
            let mut find = self.sql.prepare_cached(include_str!("sql/scheduled_arrivals.sql"))?;
            for &partition in &written {
                let key = (self.state.global(partition), self.now.micros(), count_max as i64);
                let mut rows = find.query(key)?;
                while let Some(row) = rows.next()? {
                    moving.push((row.get::<_, i64>(1)?, row.get::<_, i64>(0)?, partition));
                }
            }
            moving.sort_unstable();
            moving.truncate(count_max);
            let left = count_max - moving.len();
            let mut undelayed = Vec::new();
            let mut find = self.sql.prepare_cached(include_str!("sql/undelayed_arrivals.sql"))?;
            for &partition in written.iter().filter(|_| left > 0) {
                let mut rows = find.query((self.state.global(partition), left as i64))?;
                while let Some(row) = rows.next()? {
                    undelayed.push((0, row.get::<_, i64>(0)?, partition));
                }
            }
            undelayed.sort_unstable();
            undelayed.truncate(left);
            moving.append(&mut undelayed);
        }
        let mut moved = BTreeSet::new();
        let mut find = self.sql.prepare_cached(include_str!("sql/arrival.sql"))?;
        let mut delete = self.sql.prepare_cached(include_str!("sql/delete_arrival.sql"))?;
        for (_, id, partition) in moving {
            {
                let mut rows = find.query([id])?;
                let Some(row) = rows.next()? else {
                    continue;
                };
                let bytes = row.get_ref(0)?.as_blob().unwrap_or(&[]);
                let message = Record::read(bytes, fallback_id(id));
                self.append_record(partition, message.kind, message.stream, bytes)?;
            }
            delete.execute([id])?;
            moved.insert(partition);
            if self.scratch.copied.len() >= COPIED_BYTES {
                self.write_log()?;
            }
        }
        for partition in moved {
            let head = self.state.head(self.sql, partition)?;
            self.answer.moved.push((partition, Position(head.position)));
        }
        // What waits in which partition is asked anew.
        self.arriving = None;
        Ok(())
    }

    /// Arrivals of the partitions that the sender writes that may be moved now.
    pub(crate) fn arrivals_waiting(&mut self) -> Result<usize, Stop> {
        let mut waiting = 0;
        for partition in self.written()? {
            let mut count = self.sql.prepare_cached(include_str!("sql/count_arrivals.sql"))?;
            let key = (self.state.global(partition), self.now.micros());
            waiting += count.query_row(key, |row| row.get::<_, i64>(0))? as usize;
        }
        Ok(waiting)
    }

    /// When the next arrival may be moved.
    pub(crate) fn next_arrival(&mut self) -> Result<Option<Timestamp>, Stop> {
        let mut next: Option<Timestamp> = None;
        for partition in self.written()? {
            let mut find = self.sql.prepare_cached(include_str!("sql/next_arrival.sql"))?;
            let mut rows = find.query([self.state.global(partition)])?;
            if let Some(row) = rows.next()? {
                let due = row.get::<_, Option<i64>>(0)?.map_or(self.now, Timestamp::from_micros);
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        Ok(next)
    }

    /// The partitions with arrivals whose log the sender writes, ascending.
    fn written(&mut self) -> Result<Vec<Partition>, Stop> {
        let sender: InstanceId = self.sender;
        let arriving: BTreeSet<Partition> = self.arriving()?.iter().copied().collect();
        let is_written = |partition: &Partition| self.state.writer(*partition) == Some(sender);
        Ok(arriving.into_iter().filter(is_written).collect())
    }

    /// The partitions in which arrivals wait, found one by one along the index.
    fn arriving(&mut self) -> Result<&HashSet<Partition>, Stop> {
        if self.arriving.is_none() {
            let first = self.state.global(Partition(0));
            let end = first + i64::from(self.state.partitions());
            let mut arriving = HashSet::new();
            let mut find = self.sql.prepare_cached(include_str!("sql/arriving_partition_after.sql"))?;
            let mut after = first - 1;
            loop {
                let mut rows = find.query((after, end))?;
                match rows.next()? {
                    Some(row) => after = row.get(0)?,
                    None => break,
                }
                arriving.insert(Partition((after - first) as u32));
            }
            self.arriving = Some(arriving);
        }
        Ok(self.arriving.as_ref().expect("it was just put there"))
    }
}
