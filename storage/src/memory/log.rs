//! One partition's log: positions 1, 2, 3 … in commit order, events and other messages on shelves of their own.

use std::collections::{HashMap, VecDeque};

use super::hash::IdHash;
use super::message::{Bytes, Head};
use crate::{MessageKind, Position, StreamId, Timestamp, Version};

/// The log of one partition. Events stay when other messages are trimmed, so the two lie apart and share the positions.
#[derive(Debug, Default)]
pub(super) struct Log {
    head: Position,
    others: Shelf,
    events: Shelf,
    streams: HashMap<StreamId, Stream, IdHash>,
}

/// One message in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) head: Head,
    pub(super) position: Position,
    pub(super) at: Timestamp,
    place: Place,
}

/// An event stream: its version, and where the events that are still kept are.
#[derive(Debug, Default)]
struct Stream {
    version: u64,
    kept: VecDeque<Position>,
}

impl Log {
    /// The last position there is.
    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// The position of the oldest message that is kept.
    pub(super) fn first(&self) -> Option<Position> {
        let (others, events) = (self.others.front(), self.events.front());
        [others, events].into_iter().flatten().map(|entry| entry.position).min()
    }

    /// The version a stream is at; 0 when it has no event.
    pub(super) fn version(&self, stream: StreamId) -> Version {
        Version(self.streams.get(&stream).map_or(0, |stream| stream.version))
    }

    /// The version of each stream that ever had an event, in any order.
    pub(super) fn versions(&self) -> impl Iterator<Item = (StreamId, Version)> {
        self.streams.iter().map(|(id, stream)| (*id, Version(stream.version)))
    }

    /// A log that has come to a position, and holds nothing yet of what is kept of it.
    pub(super) fn at(head: Position, versions: impl IntoIterator<Item = (StreamId, Version)>) -> Self {
        let stream =
            |(id, version): (StreamId, Version)| (id, Stream { version: version.0, kept: VecDeque::new() });
        Self { head, streams: versions.into_iter().map(stream).collect(), ..Self::default() }
    }

    /// Puts a message back to where it was, behind all that were put back before.
    pub(super) fn put_back(&mut self, head: Head, position: Position, at: Timestamp, bytes: Bytes<'_>) {
        if head.kind != MessageKind::Event {
            self.others.push(head, position, at, bytes);
            return;
        }
        if let Some(stream) = head.stream.and_then(|id| self.streams.get_mut(&id)) {
            stream.kept.push_back(position);
        }
        self.events.push(head, position, at, bytes);
    }

    /// Messages that are not events, and events.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.others.entries.len(), self.events.entries.len())
    }

    /// Puts a message behind all others; says where, and the version it gave its stream, which is 0 when it gave none.
    ///
    /// Everything here stays in registers until it is stored in its place. What is passed through memory instead, the head by
    /// reference or an `Option<Version>` beside the position, is read at another width than it was written, and so waits for all
    /// stores of the messages before: together a third of the pump's time.
    #[inline(always)]
    pub(super) fn push(&mut self, head: Head, bytes: Bytes<'_>, now: Timestamp) -> (Position, Version) {
        let position = self.head.next();
        self.head = position;
        let is_event = head.kind == MessageKind::Event;
        let version = match head.stream {
            Some(stream) if is_event => self.next_version(stream, position),
            _ => 0,
        };
        let shelf = if is_event { &mut self.events } else { &mut self.others };
        shelf.push(Head { version, ..head }, position, now, bytes);
        (position, Version(version))
    }

    /// Counts an event of a stream.
    fn next_version(&mut self, stream: StreamId, position: Position) -> u64 {
        let stream = self.streams.entry(stream).or_default();
        stream.version += 1;
        stream.kept.push_back(position);
        stream.version
    }

    /// The message at a position, if there is one.
    pub(super) fn get(&self, position: Position) -> Option<(&Entry, Bytes<'_>)> {
        self.others.get(position).or_else(|| self.events.get(position))
    }

    /// The messages behind a position, in order.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = (&Entry, Bytes<'_>)> {
        let mut others = self.others.after(position).peekable();
        let mut events = self.events.after(position).peekable();
        std::iter::from_fn(move || {
            let is_event = match (others.peek(), events.peek()) {
                (Some(other), Some(event)) => event.position < other.position,
                (other, _) => other.is_none(),
            };
            let (entry, shelf) =
                if is_event { (events.next()?, &self.events) } else { (others.next()?, &self.others) };
            Some((entry, shelf.bytes.get(entry.place)))
        })
    }

    /// The events of a stream that are kept and have a version above `after`, in order.
    pub(super) fn history(
        &self,
        stream: StreamId,
        after: Version,
    ) -> impl Iterator<Item = (&Entry, Bytes<'_>)> {
        let kept = self.streams.get(&stream).into_iter().flat_map(move |stream| {
            let gone = stream.version - stream.kept.len() as u64;
            let skip = usize::try_from(after.0.saturating_sub(gone)).unwrap_or(usize::MAX);
            stream.kept.iter().skip(skip)
        });
        kept.filter_map(|position| self.events.get(*position))
    }

    /// Removes at most `max` messages that are not events, from the oldest on, up to `last`; says how many.
    pub(super) fn trim_others(&mut self, last: Position, max: usize) -> usize {
        let mut removed = 0;
        while removed < max && self.others.front().is_some_and(|entry| entry.position <= last) {
            self.others.pop_front();
            removed += 1;
        }
        removed
    }

    /// Removes at most `max` events, from the oldest on, up to `last` and while `old` says so; says how many.
    pub(super) fn trim_events(
        &mut self,
        last: Position,
        max: usize,
        old: impl Fn(Timestamp) -> bool,
    ) -> usize {
        let mut removed = 0;
        while removed < max {
            let Some(entry) = self.events.front().filter(|e| e.position <= last && old(e.at)) else {
                break;
            };
            if let Some(stream) = entry.head.stream.and_then(|id| self.streams.get_mut(&id)) {
                stream.kept.pop_front();
            }
            self.events.pop_front();
            removed += 1;
        }
        removed
    }
}

/// Entries in order of position, their bytes in segments that are freed from the front.
#[derive(Debug, Default)]
struct Shelf {
    entries: VecDeque<Entry>,
    bytes: Segments,
}

impl Shelf {
    #[inline(always)]
    fn push(&mut self, head: Head, position: Position, at: Timestamp, bytes: Bytes<'_>) {
        let place = self.bytes.push(bytes);
        self.entries.push_back(Entry { head, position, at, place });
    }

    fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    fn pop_front(&mut self) {
        if self.entries.pop_front().is_some() {
            match self.entries.front() {
                Some(front) => self.bytes.free_before(front.place),
                None => self.bytes.free_all(),
            }
        }
    }

    /// The index of the first entry at or behind a position.
    fn index(&self, position: Position) -> usize {
        let Some(front) = self.entries.front() else {
            return 0;
        };
        // Without holes the distance is the index.
        let distance = position.0.saturating_sub(front.position.0) as usize;
        match self.entries.get(distance) {
            Some(entry) if entry.position == position => distance,
            _ => self.entries.partition_point(|entry| entry.position < position),
        }
    }

    fn get(&self, position: Position) -> Option<(&Entry, Bytes<'_>)> {
        let entry = self.entries.get(self.index(position)).filter(|entry| entry.position == position)?;
        Some((entry, self.bytes.get(entry.place)))
    }

    fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.index(position.next())..)
    }
}

/// Bytes of consecutive messages: appended at the back, freed segment by segment at the front.
#[derive(Debug, Default)]
struct Segments {
    segments: VecDeque<Vec<u8>>,
    // The number of `segments[0]`; numbers wrap around.
    first: u32,
    // The segment freed last: still in the processor's cache, and the next to be used.
    spare: Vec<u8>,
}

/// Where a message's bytes lie: the payload first, the metadata behind it.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u32,
    start: u32,
    payload: u32,
    metadata: u32,
}

/// Small while little is kept, so that a quiet partition costs little and what is trimmed as fast as it comes stays in the
/// processor's cache; large when much is kept, so that there are few.
const SEGMENT_BYTES_MIN: usize = 4 << 10;
const SEGMENT_BYTES_MAX: usize = 64 << 10;

impl Segments {
    #[inline(always)]
    fn push(&mut self, bytes: Bytes<'_>) -> Place {
        let fits = self.segments.back().is_some_and(|last| last.capacity() - last.len() >= bytes.len());
        if !fits {
            self.open_segment(bytes.len());
        }
        let index = self.segments.len() - 1;
        let segment = &mut self.segments[index];
        let start = segment.len() as u32;
        segment.extend_from_slice(bytes.payload);
        segment.extend_from_slice(bytes.metadata);
        Place {
            segment: self.first.wrapping_add(index as u32),
            start,
            // A service's limits are checked to be below 1 GiB when it is opened.
            payload: bytes.payload.len() as u32,
            metadata: bytes.metadata.len() as u32,
        }
    }

    fn get(&self, place: Place) -> Bytes<'_> {
        let segment = &self.segments[place.segment.wrapping_sub(self.first) as usize];
        let middle = (place.start + place.payload) as usize;
        Bytes {
            payload: &segment[place.start as usize..middle],
            metadata: &segment[middle..middle + place.metadata as usize],
        }
    }

    #[cold]
    fn open_segment(&mut self, least: usize) {
        let size = (self.segments.len() * 1_024).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).max(least);
        let mut segment = std::mem::take(&mut self.spare);
        if segment.capacity() < size {
            segment = Vec::with_capacity(size);
        }
        self.segments.push_back(segment);
    }

    /// Frees what lies before a message.
    fn free_before(&mut self, place: Place) {
        while self.first != place.segment {
            self.free_first();
        }
    }

    /// Nothing is left.
    fn free_all(&mut self) {
        while !self.segments.is_empty() {
            self.free_first();
        }
    }

    fn free_first(&mut self) {
        self.first = self.first.wrapping_add(1);
        // What one large message made is not kept.
        if let Some(mut freed) =
            self.segments.pop_front().filter(|freed| freed.capacity() <= SEGMENT_BYTES_MAX)
        {
            freed.clear();
            self.spare = freed;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU128;

    use super::*;
    use crate::memory::message::Names;
    use crate::{ContentType, MessageId};

    fn head(number: u64, kind: MessageKind, stream: Option<StreamId>) -> Head {
        let id = MessageId::from_bits(NonZeroU128::new(u128::from(number) + 1).expect("above zero"));
        Head {
            id,
            stream,
            correlation: id.into(),
            causation: None,
            version: 0,
            name: Names::default().id("test"),
            type_version: 1,
            kind,
            content_type: ContentType::JSON,
        }
    }

    #[test]
    fn what_was_pushed_comes_back_in_order_also_around_trimmed_holes() {
        let mut log = Log::default();
        let stream = StreamId::from_key("s");
        let payload = |n: u64| vec![n as u8; (n as usize * 37) % 9_000];
        for n in 1..=1_000u64 {
            let kind = if n % 3 == 0 { MessageKind::Event } else { MessageKind::Command };
            let payload = payload(n);
            let bytes = Bytes { payload: &payload, metadata: &[7; 3] };
            let (position, version) =
                log.push(head(n, kind, Some(stream)), bytes, Timestamp::from_micros(n as i64));
            assert_eq!(position, Position(n));
            assert_eq!(version, Version(if n.is_multiple_of(3) { n / 3 } else { 0 }));
        }
        assert_eq!(log.trim_others(Position(500), usize::MAX), 334);
        let first: Vec<u64> = log.after(Position(0)).take(3).map(|(e, _)| e.position.0).collect();
        assert_eq!(first, [3, 6, 9]);
        let around: Vec<u64> = log.after(Position(496)).take(6).map(|(e, _)| e.position.0).collect();
        assert_eq!(around, [498, 501, 502, 503, 504, 505]);
        for (entry, bytes) in log.after(Position(0)) {
            assert_eq!(bytes.payload, payload(entry.position.0));
            assert_eq!(bytes.metadata, [7; 3]);
        }
        assert!(log.get(Position(499)).is_none() && log.get(Position(1_001)).is_none());
        assert_eq!(log.trim_events(Position(1_000), 10, |at| at.micros() <= 30), 10);
        let versions: Vec<u64> =
            log.history(stream, Version(3)).take(2).map(|(e, _)| e.head.version).collect();
        assert_eq!(versions, [11, 12]);
        let versions: Vec<u64> = log.history(stream, Version(331)).map(|(e, _)| e.head.version).collect();
        assert_eq!(versions, [332, 333]);
        assert_eq!(log.history(stream, Version(400)).count(), 0);
    }

    #[test]
    fn a_log_that_is_trimmed_as_it_grows_stays_small() {
        let mut log = Log::default();
        for n in 1..=100_000u64 {
            let bytes = Bytes { payload: &[1; 120], metadata: &[] };
            log.push(head(n, MessageKind::Command, None), bytes, Timestamp::default());
            if n % 100 == 0 {
                log.trim_others(Position(n - 50), usize::MAX);
            }
        }
        assert!(log.others.bytes.segments.len() <= 3);
        assert_eq!(log.trim_others(Position(100_000), usize::MAX), 50);
        assert_eq!(log.others.bytes.segments.len(), 0);
        // One segment is kept, to be used again.
        assert_eq!(log.others.bytes.spare.capacity(), SEGMENT_BYTES_MIN);
        assert_eq!(log.first(), None);
    }
}
