//! Appending: a message goes into its partition's log, or waits as an arrival.

use rusqlite::params;
use whizbang_storage::{
    Append, AppendAnswer, HandOut, MessageKind, Partition, Position, StreamId, Version, refuse,
};

use crate::dedup;
use crate::error::Stop;
use crate::exchange::Exchange;
use crate::segment::{Pending, Source};
use whizbang_storage::record;

impl<'b> Exchange<'_, 'b> {
    pub(crate) fn append(&mut self, append: &'b Append<'b>) -> Result<AppendAnswer, Stop> {
        if let Err(refusal) = refuse::append(append, &self.service.limits) {
            return Ok(AppendAnswer::Refused(refusal));
        }
        if let Some(key) = append.dedup
            && let Some((first, body)) = self.remember_key(key, append)?
        {
            return Ok(AppendAnswer::Duplicate { first, body });
        }
        let lane = append.lane();
        let partition = lane.partition(self.state.partitions());
        if append.due_in.is_some()
            || self.state.writer(partition) != Some(self.sender)
            || self.arrived_before(partition, lane)?
        {
            self.arrive(append, partition, lane)?;
            return Ok(AppendAnswer::Arrived);
        }
        let position = self.state.next_position(self.sql, partition)?;
        let version = match append.kind {
            MessageKind::Event => {
                let version = self.next_version(append.stream)?;
                self.scratch.bytes.clear();
                record::encode(append, &mut self.scratch.bytes);
                self.put_event(partition, position, append.stream, version)?;
                version
            }
            MessageKind::Command => {
                let place = self.state.place(partition, position);
                self.pending.push(Pending { place, source: Source::Append(append) });
                None
            }
        };
        let handed_out = append.hand_out == HandOut::Now && self.hand_out_now(partition, position, lane)?;
        Ok(AppendAnswer::Stored { position, version, handed_out })
    }

    /// Puts a record that arrived behind the partition's log.
    pub(crate) fn append_record(
        &mut self,
        partition: Partition,
        kind: MessageKind,
        stream: Option<StreamId>,
        record: &[u8],
    ) -> Result<Position, Stop> {
        let position = self.state.next_position(self.sql, partition)?;
        match kind {
            MessageKind::Event => {
                let version = self.next_version(stream)?;
                self.scratch.bytes.clear();
                self.scratch.bytes.extend_from_slice(record);
                self.put_event(partition, position, stream, version)?;
            }
            MessageKind::Command => {
                let start = self.scratch.copied.len();
                self.scratch.copied.extend_from_slice(record);
                self.pending.push(Pending {
                    place: self.state.place(partition, position),
                    source: Source::Record(start..self.scratch.copied.len()),
                });
            }
        }
        Ok(position)
    }

    /// The version a stream is at.
    pub(crate) fn version(&mut self, stream: StreamId) -> Result<Version, Stop> {
        if let Some(version) = self.state.versions.get(&stream) {
            return Ok(*version);
        }
        let partition = stream.partition(self.state.partitions());
        let first = self.state.place(partition, Position::START);
        let last = self.state.place(partition, Position(u64::MAX));
        let find = self.statements.stream_version.get(self.sql, include_str!("sql/stream_version.sql"))?;
        let version: i64 =
            find.query_row((self.state.service(), stream.to_bytes(), first, last), |row| row.get(0))?;
        let version = Version(version as u64);
        // Only what nobody but this instance changes may be remembered.
        if self.state.writer(partition) == Some(self.sender) {
            self.state.versions.insert(stream, version);
        }
        Ok(version)
    }

    /// The version a stream is at when what has arrived is in the log: what a unit expects is compared with this.
    pub(crate) fn version_with_arrivals(&mut self, stream: StreamId) -> Result<Version, Stop> {
        Ok(Version(self.version(stream)?.0 + self.arrived_events(stream)?))
    }

    fn next_version(&mut self, stream: Option<StreamId>) -> Result<Option<Version>, Stop> {
        let Some(stream) = stream else {
            return Ok(None);
        };
        let version = Version(self.version(stream)?.0 + 1);
        self.state.versions.insert(stream, version);
        Ok(Some(version))
    }

    /// Writes the event whose record lies in the scratch.
    fn put_event(
        &mut self,
        partition: Partition,
        position: Position,
        stream: Option<StreamId>,
        version: Option<Version>,
    ) -> Result<(), Stop> {
        let place = self.state.place(partition, position);
        self.statements.put_event.get(self.sql, include_str!("sql/put_event.sql"))?.execute(params![
            place,
            stream.map(StreamId::to_bytes),
            version.map(|version| version.0 as i64),
            self.now.micros(),
            &self.scratch.bytes[..],
        ])?;
        Ok(())
    }

    /// Marks a message as handed out to every subscription of the group, if it is the next one of each.
    fn hand_out_now(
        &mut self,
        partition: Partition,
        position: Position,
        lane: StreamId,
    ) -> Result<bool, Stop> {
        let window = self.service.window;
        for at in 0..self.subscriptions.len() {
            let index = self.subscriptions[at];
            if self.state.subscriptions[index].paused {
                return Ok(false);
            }
            let cursor = self.state.cursor(self.sql, index, partition)?;
            let next = cursor.given().next() == position && cursor.window_end(window, position) == position;
            if !next || self.is_lane_parked(index, partition, lane, position)? {
                return Ok(false);
            }
        }
        for at in 0..self.subscriptions.len() {
            let index = self.subscriptions[at];
            self.state.cursor_mut(self.sql, index, partition)?.give(position);
        }
        Ok(!self.subscriptions.is_empty())
    }

    /// Remembers a message's key; or says who had it first.
    fn remember_key(
        &mut self,
        key: &[u8],
        append: &Append<'_>,
    ) -> Result<Option<(whizbang_storage::MessageId, whizbang_storage::SameBody)>, Stop> {
        let service = self.state.service();
        let entry = dedup::Entry::of(service, key, append);
        let find = self.statements.find_dedup.get(self.sql, dedup::FIND)?;
        if let Some(seen) = entry.find(find)? {
            return Ok(Some(seen));
        }
        let (id, at) = match self.next_dedup {
            Some(next) => next,
            None => dedup::next(self.sql, service, self.now)?,
        };
        let put = self.statements.put_dedup.get(self.sql, dedup::PUT)?;
        entry.put(put, id, at)?;
        self.next_dedup = Some((id + 1, at));
        Ok(None)
    }
}
