//! Reading the log: messages and events of a partition, in order of position.

use core::ops::ControlFlow;

use rusqlite::Rows;
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use whizbang_storage::{Condition, Partition, Position, Version};

use crate::error::Stop;
use crate::exchange::Exchange;
use crate::segment::{Placed, Segments};
use crate::state::position_of;
use whizbang_storage::record::{Record, fallback_id};

/// A message where it stands in a partition.
pub(crate) struct Found<'r> {
    pub(crate) position: Position,
    /// Its version in its stream, if it is an event of one.
    pub(crate) version: Option<Version>,
    /// Its record as it is stored.
    pub(crate) bytes: &'r [u8],
    pub(crate) record: Record<'r>,
}

/// A message's own copy of its record, with its version in its stream if it is an event of one.
pub(crate) struct Copied {
    pub(crate) record: Vec<u8>,
    pub(crate) version: Option<Version>,
}

/// Positions to look at: those behind `after`, up to `last`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) partition: Partition,
    pub(crate) after: Position,
    pub(crate) last: Position,
}

impl Exchange<'_, '_> {
    /// Shows every message of a span that exists, in order, until it has seen enough.
    pub(crate) fn visit(
        &mut self,
        span: Span,
        mut see: impl FnMut(&mut Self, Found<'_>) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        if span.after >= span.last {
            return Ok(());
        }
        self.write_log()?;
        let trimmed = self.state.head(self.sql, span.partition)?.trimmed;
        let start = self.state.place(span.partition, Position::START);
        let first = self.state.place(span.partition, span.after.next());
        let last = self.state.place(span.partition, span.last);
        // Taken out and put back, so that `see` may use everything else.
        let mut runs = core::mem::take(&mut self.statements.runs);
        let mut events = core::mem::take(&mut self.statements.events);
        let mut bytes = core::mem::take(&mut self.scratch.run);
        let seen = (|| {
            let mut runs =
                runs.get(self.sql, include_str!("sql/runs_between.sql"))?.query((start, first, last))?;
            let mut segments = Segments::new(self.sql);
            let mut events = Events::start(
                events.get(self.sql, include_str!("sql/events_between.sql"))?.query((first, last))?,
            )?;
            while let Some(row) = runs.next()? {
                let run = segments.read(&Placed::of(row)?, row, &mut bytes)?;
                for (place, bytes) in run.records() {
                    if place < first {
                        continue;
                    }
                    if place > last {
                        break;
                    }
                    if events.show_before(place, self, &mut see)?.is_break() {
                        return Ok(());
                    }
                    let is_hole = bytes.is_empty() && !run.is_damaged() || events.next == place;
                    if is_hole || position_of(place).0 <= trimmed {
                        continue;
                    }
                    let found = Found {
                        position: position_of(place),
                        version: None,
                        bytes,
                        record: Record::read(bytes, fallback_id(place)),
                    };
                    if see(self, found)?.is_break() {
                        return Ok(());
                    }
                }
            }
            events.show_before(i64::MAX, self, &mut see).map(drop)
        })();
        self.statements.runs = runs;
        self.statements.events = events;
        self.scratch.run = bytes;
        seen
    }

    /// The record at a position, copied, if there is one; what must be there and is not is an empty record, which reads as a
    /// damaged one.
    pub(crate) fn record_at(
        &mut self,
        partition: Partition,
        position: Position,
    ) -> Result<Option<Copied>, Stop> {
        let head = self.state.head(self.sql, partition)?;
        if position == Position::START || position.0 > head.position {
            return Ok(None);
        }
        let mut copy = None;
        let span = Span { partition, after: Position(position.0 - 1), last: position };
        self.visit(span, |_, found| {
            copy = Some(Copied { record: found.bytes.to_vec(), version: found.version });
            Ok(ControlFlow::Break(()))
        })?;
        let missing = Copied { record: Vec::new(), version: None };
        Ok(copy.or_else(|| (position.0 > head.trimmed).then_some(missing)))
    }

    /// Whether there is a message at a position that was handed out once.
    pub(crate) fn exists(&mut self, partition: Partition, position: Position) -> Result<bool, Stop> {
        let head = self.state.head(self.sql, partition)?;
        if position.0 > head.trimmed {
            return Ok(position.0 <= head.position);
        }
        // What was trimmed is gone, but for events.
        let place = self.state.place(partition, position);
        let mut find = self.sql.prepare_cached(include_str!("sql/is_event.sql"))?;
        Ok(find.exists([place])?)
    }
}

/// Events in order, beside the runs.
struct Events<'s> {
    rows: Rows<'s>,
    /// The place of the event that comes next; beyond all when there is none.
    next: i64,
}

impl<'s> Events<'s> {
    fn start(rows: Rows<'s>) -> Result<Self, Stop> {
        let mut events = Self { rows, next: i64::MIN };
        events.advance()?;
        Ok(events)
    }

    fn advance(&mut self) -> Result<(), Stop> {
        self.next = match self.rows.next()? {
            Some(row) => row.get(0)?,
            None => i64::MAX,
        };
        Ok(())
    }

    fn show_before<E>(
        &mut self,
        place: i64,
        exchange: &mut E,
        see: &mut impl FnMut(&mut E, Found<'_>) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<ControlFlow<()>, Stop> {
        while self.next < place {
            if let Some(row) = self.rows.get() {
                let bytes = row.get_ref(3)?.as_blob().unwrap_or(&[]);
                let mut record = Record::read(bytes, fallback_id(self.next));
                if record.condition == Condition::Damaged {
                    // The stream stands beside the record, so its order survives.
                    record.stream =
                        row.get_ref(1)?.as_blob().ok().and_then(|stream| {
                            whizbang_storage::StreamId::from_bytes(stream.try_into().ok()?)
                        });
                }
                let found = Found {
                    position: position_of(self.next),
                    version: row.get::<_, Option<i64>>(2)?.map(|version| Version(version as u64)),
                    bytes,
                    record,
                };
                if see(exchange, found)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            self.advance()?;
        }
        Ok(ControlFlow::Continue(()))
    }
}
