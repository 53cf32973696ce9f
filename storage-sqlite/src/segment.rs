//! Where the log's messages lie: what one batch writes is packed together, and found by partition and position.
//!
//! A *run* is a range of positions of one partition that one batch wrote. The runs of a batch lie one after the other in
//! *segments*: a batch that writes a little into every partition still fills whole pages. A segment goes when its last run has
//! gone; one of which little is left for long is copied together, so that a partition that stands still does not keep what
//! the others have long done with. A small batch has no segment: the bytes of its runs lie in their rows, because a segment
//! of its own would be two more pages to be written than it needs.

use core::ops::Range;

use rusqlite::blob::Blob;
use rusqlite::{Connection, Row};
use whizbang_storage::Append;

use crate::error::Stop;
use crate::exchange::Exchange;
use whizbang_storage::record;

/// A segment is closed when it has reached so many bytes.
const SEGMENT_BYTES: usize = 64 << 10;

/// What a batch writes lies in the rows of its runs if it is no more than this.
const SMALL_BYTES: usize = 2 << 10;

/// Stands for a segment where a run's bytes lie in its row.
pub(crate) const IN_THE_ROW: i64 = 0;

/// A run is closed when it has reached so many bytes, so that reading one message does not read too many others.
const RUN_BYTES: usize = 32 << 10;

/// Positions without a message in the log (events) that a run may skip, at four bytes each.
const HOLES_MAX: i64 = 64;

/// The newest segments are left alone: most of what is in them will have gone soon anyway. 32 MiB at most.
const YOUNG: i64 = 512;

/// Old segments looked at in each housekeeping.
const LOOKED_AT: i64 = 16;

/// A message with its place, that is written when somebody reads, or at the end of the batch.
pub(crate) struct Pending<'b> {
    pub(crate) place: i64,
    pub(crate) source: Source<'b>,
}

pub(crate) enum Source<'b> {
    Append(&'b Append<'b>),
    /// Of the scratch's copied bytes.
    Record(Range<usize>),
}

/// A run as its row describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) place: i64,
    pub(crate) span: i64,
    pub(crate) messages: usize,
    pub(crate) segment: i64,
    start: usize,
    length: usize,
}

/// What of a segment is not needed any more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Freed {
    runs: i64,
    bytes: i64,
}

impl Freed {
    pub(crate) fn add(&mut self, run: &Placed) {
        self.runs += 1;
        self.bytes += run.length as i64;
    }
}

impl Exchange<'_, '_> {
    /// Writes what is pending into the log.
    pub(crate) fn write_log(&mut self) -> Result<(), Stop> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = core::mem::take(&mut self.pending);
        pending.sort_unstable_by_key(|message| message.place);
        let mut bytes = core::mem::take(&mut self.scratch.bytes);
        bytes.clear();
        let mut runs = Vec::new();
        let mut rest = &pending[..];
        while !rest.is_empty() {
            let start = bytes.len();
            let run = self.encode_run(rest, &mut bytes);
            rest = &rest[run.messages..];
            runs.push(Placed { start, length: bytes.len() - start, ..run });
            if bytes.len() >= SEGMENT_BYTES || rest.is_empty() {
                if bytes.len() <= SMALL_BYTES {
                    self.put_runs(&runs, &bytes)?;
                    break;
                }
                self.put_segment(&mut runs, &bytes, include_str!("sql/put_run.sql"))?;
                bytes.clear();
            }
        }
        self.scratch.bytes = bytes;
        self.scratch.copied.clear();
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    /// Appends the next run to a segment's bytes: its records, then where they end.
    fn encode_run(&mut self, pending: &[Pending<'_>], bytes: &mut Vec<u8>) -> Placed {
        let scratch = &mut *self.scratch;
        scratch.ends.clear();
        let (place, start) = (pending[0].place, bytes.len());
        let (mut next, mut messages) = (place, 0);
        for message in pending {
            let holes = message.place - next;
            if holes > HOLES_MAX || messages > 0 && bytes.len() - start >= RUN_BYTES {
                break;
            }
            for _ in 0..holes {
                push_end(&mut scratch.ends, bytes.len() - start);
            }
            match &message.source {
                Source::Append(append) => record::encode(append, bytes),
                Source::Record(range) => bytes.extend_from_slice(&scratch.copied[range.clone()]),
            }
            push_end(&mut scratch.ends, bytes.len() - start);
            next = message.place + 1;
            messages += 1;
        }
        bytes.extend_from_slice(&scratch.ends);
        Placed { place, span: next - place, messages, segment: 0, start, length: 0 }
    }

    /// Writes runs with their bytes.
    fn put_runs(&mut self, runs: &[Placed], bytes: &[u8]) -> Result<(), Stop> {
        let mut put = self.sql.prepare_cached(include_str!("sql/put_run_with_bytes.sql"))?;
        for run in runs {
            let own = &bytes[run.start..run.start + run.length];
            put.execute((run.place, run.span, run.messages as i64, own.len() as i64, own))?;
        }
        Ok(())
    }

    /// Writes a segment, and by the given statement where its runs are.
    fn put_segment(&mut self, runs: &mut Vec<Placed>, bytes: &[u8], put: &str) -> Result<(), Stop> {
        self.sql.prepare_cached(include_str!("sql/put_segment.sql"))?.execute([bytes])?;
        let segment = self.sql.last_insert_rowid();
        let places = &mut self.scratch.places;
        places.clear();
        let mut put = self.sql.prepare_cached(put)?;
        for run in runs.iter() {
            places.extend_from_slice(&run.place.to_le_bytes());
            put.execute((
                run.place,
                run.span,
                run.messages as i64,
                segment,
                run.start as i64,
                run.length as i64,
            ))?;
        }
        self.sql.prepare_cached(include_str!("sql/put_segment_use.sql"))?.execute((
            segment,
            runs.len() as i64,
            bytes.len() as i64,
            &places[..],
        ))?;
        runs.clear();
        Ok(())
    }

    /// Gives back what this batch's housekeeping freed, and looks after a few of the old segments.
    pub(crate) fn free_segments(&mut self) -> Result<(), Stop> {
        {
            let mut whole = self.sql.prepare_cached(include_str!("sql/delete_segment_use.sql"))?;
            let mut part = self.sql.prepare_cached(include_str!("sql/free_segment_part.sql"))?;
            let mut delete = self.sql.prepare_cached(include_str!("sql/delete_segment.sql"))?;
            for (segment, freed) in self.freed_bytes.drain() {
                if whole.execute((segment, freed.runs))? == 1 {
                    delete.execute([segment])?;
                } else {
                    part.execute((segment, freed.runs, freed.bytes))?;
                }
            }
        }
        self.copy_sparse()
    }

    /// Copies what is left of old segments of which less than half is needed.
    fn copy_sparse(&mut self) -> Result<(), Stop> {
        let sparse = {
            let mut find = self.sql.prepare_cached(include_str!("sql/old_segments.sql"))?;
            let mut rows = find.query((self.state.looked_at, YOUNG, LOOKED_AT))?;
            let mut sparse = Vec::new();
            let mut last = 0;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                let (needed, bytes): (i64, i64) = (row.get(1)?, row.get(2)?);
                if needed * 2 < bytes {
                    sparse.push((last, row.get::<_, Vec<u8>>(3)?));
                }
            }
            // Behind the last one it begins again.
            self.state.looked_at = last;
            sparse
        };
        let mut together = Vec::new();
        let mut runs = Vec::new();
        for (segment, places) in &sparse {
            for place in places.as_chunks::<8>().0 {
                let mut find = self.sql.prepare_cached(include_str!("sql/run.sql"))?;
                let mut rows = find.query((i64::from_le_bytes(*place), segment))?;
                let Some(row) = rows.next()? else {
                    continue;
                };
                let run = Placed::of(row)?;
                let start = together.len();
                Segments::new(self.sql).read_bytes(&run, row, &mut self.scratch.run)?;
                together.extend_from_slice(&self.scratch.run);
                let length = self.scratch.run.len();
                runs.push(Placed { start, length, ..run });
            }
            self.sql
                .prepare_cached(include_str!("sql/delete_segment_use.sql"))?
                .execute((segment, i64::MAX))?;
            self.sql.prepare_cached(include_str!("sql/delete_segment.sql"))?.execute([segment])?;
            if together.len() >= SEGMENT_BYTES {
                self.put_segment(&mut runs, &together, include_str!("sql/move_run.sql"))?;
                together.clear();
            }
        }
        if runs.is_empty() {
            return Ok(());
        }
        self.put_segment(&mut runs, &together, include_str!("sql/move_run.sql"))
    }
}

impl Placed {
    /// Reads the columns place, span, messages, segment, start, length.
    pub(crate) fn of(row: &Row<'_>) -> Result<Self, Stop> {
        Ok(Self {
            place: row.get(0)?,
            span: row.get(1)?,
            messages: row.get::<_, i64>(2)? as usize,
            segment: row.get(3)?,
            start: row.get::<_, i64>(4)? as usize,
            length: row.get::<_, i64>(5)? as usize,
        })
    }
}

/// Reads runs out of their segments, without reading the segments whole.
pub(crate) struct Segments<'c> {
    sql: &'c Connection,
    open: Option<(i64, Blob<'c>)>,
}

impl<'c> Segments<'c> {
    pub(crate) fn new(sql: &'c Connection) -> Self {
        Self { sql, open: None }
    }

    /// Reads the run that a row with the columns place, span, messages, segment, start, length, bytes describes.
    pub(crate) fn read<'r>(
        &mut self,
        placed: &Placed,
        row: &Row<'_>,
        bytes: &'r mut Vec<u8>,
    ) -> Result<Run<'r>, Stop> {
        self.read_bytes(placed, row, bytes)?;
        Ok(Run::of(placed, bytes))
    }

    /// Fills `bytes` with a run's bytes; with nothing if they are not where they should be.
    fn read_bytes(&mut self, placed: &Placed, row: &Row<'_>, bytes: &mut Vec<u8>) -> Result<(), Stop> {
        bytes.clear();
        if placed.segment == IN_THE_ROW {
            bytes.extend_from_slice(row.get_ref(6)?.as_blob().unwrap_or(&[]));
            return Ok(());
        }
        let Some(blob) = self.open(placed.segment)? else {
            return Ok(());
        };
        let end = placed.start.saturating_add(placed.length);
        if end <= blob.len() {
            bytes.resize(placed.length, 0);
            blob.read_at_exact(bytes, placed.start)?;
        }
        Ok(())
    }

    fn open(&mut self, segment: i64) -> Result<Option<&Blob<'c>>, Stop> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != segment) {
            self.open = match self.sql.blob_open("main", "whizbang_segment", "bytes", segment, true) {
                Ok(blob) => Some((segment, blob)),
                // There is no such segment, or no blob in it: somebody damaged the file by hand.
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => None,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(self.open.as_ref().map(|(_, blob)| blob))
    }
}

/// A run with its bytes.
pub(crate) struct Run<'r> {
    place: i64,
    span: i64,
    ends: &'r [[u8; 4]],
    records: &'r [u8],
    damaged: bool,
}

impl<'r> Run<'r> {
    fn of(placed: &Placed, bytes: &'r [u8]) -> Self {
        let ends = usize::try_from(placed.span).unwrap_or(usize::MAX).saturating_mul(4);
        let (records, ends) = bytes.split_at(bytes.len().saturating_sub(ends));
        let mut run = Self {
            place: placed.place,
            span: placed.span,
            ends: ends.as_chunks().0,
            records,
            damaged: false,
        };
        run.damaged = !run.is_whole();
        run
    }

    /// Whether the ends are as many as the positions, grow, and lead to the end of the records.
    fn is_whole(&self) -> bool {
        let mut last = 0;
        self.ends.len() as i64 == self.span
            && self.ends.iter().all(|end| {
                let end = u32::from_le_bytes(*end) as usize;
                let grows = end >= last;
                last = end;
                grows
            })
            && last == self.records.len()
    }

    /// Whether nobody can tell where its records begin and end.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Every position with its record; an empty one is a position that is not a message of the log. In a damaged run every
    /// record is empty.
    pub(crate) fn records(&self) -> impl Iterator<Item = (i64, &'r [u8])> {
        let (place, ends, records, damaged) = (self.place, self.ends, self.records, self.damaged);
        let mut start = 0;
        (0..self.span).map(move |index| {
            let bytes = match ends.get(index as usize).filter(|_| !damaged) {
                Some(end) => {
                    let end = u32::from_le_bytes(*end) as usize;
                    let bytes = &records[start..end];
                    start = end;
                    bytes
                }
                None => &[][..],
            };
            (place + index, bytes)
        })
    }
}

fn push_end(ends: &mut Vec<u8>, end: usize) {
    // A run is at most RUN_BYTES and one message, which the limits keep below 4 GiB.
    ends.extend_from_slice(&(end as u32).to_le_bytes());
}
