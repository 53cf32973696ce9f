//! A unit as one run of bytes: what travels from a handler to the pump in a single ring record.
//!
//! ```text
//! header   correlation 16 · causation 16 (zero: none) · emits 4 · expects 4 · writes 4
//! emit     1 · kind 1 · content type 1 · has 1 · type version 2 · four lengths 16 · id 16 · [stream 16] · [due 8]
//!          · type name · dedup key · metadata · payload
//! expect   2 · stream 16 · version 8
//! write    3 · has 1 · three lengths 12 · [revision 8] · perspective · key · state
//! undone   0 · length 4 · that many bytes: a write that a later one of the same unit replaced
//! ```
//!
//! Numbers are little-endian, ids big-endian as everywhere. The form lives only between two threads of one process, so it
//! has no version.

use std::time::Duration;

use whizbang_storage::{
    Append, ContentType, CorrelationId, Expected, HandOut, MessageId, MessageKind, Projection, Revision,
    StreamId, Version,
};

/// Bytes that are not a unit's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a unit's record: {what} at byte {at}")]
pub struct UnitFormatError {
    what: &'static str,
    at: usize,
}

/// Everything a unit carries, borrowed from its record; what the pump builds a batch from.
///
/// The iterators know their length, so that an arena can take them as slices.
#[derive(Debug, Clone, Copy)]
pub struct UnitView<'r> {
    correlation: Option<CorrelationId>,
    causation: Option<MessageId>,
    counts: Counts,
    items: &'r [u8],
}

/// How many items of each sort a record holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) emits: u32,
    pub(super) expects: u32,
    pub(super) writes: u32,
}

pub(super) const HEADER_BYTES: usize = 44;
pub(super) const EMIT: u8 = 1;
pub(super) const EXPECT: u8 = 2;
pub(super) const WRITE: u8 = 3;
pub(super) const UNDONE: u8 = 0;
/// Tag and length.
pub(super) const UNDONE_PREFIX: usize = 5;

pub(super) const HAS_STREAM: u8 = 1;
pub(super) const HAS_DEDUP: u8 = 2;
pub(super) const HAS_DUE: u8 = 4;
pub(super) const HAS_STATE: u8 = 1;
pub(super) const HAS_REVISION: u8 = 2;

impl<'r> UnitView<'r> {
    /// Reads a record that [`Unit::encode_into`](super::Unit::encode_into) wrote.
    ///
    /// The whole record is looked through once, so that the iterators cannot fail.
    ///
    /// # Errors
    /// [`UnitFormatError`] when the bytes are anything else.
    pub fn decode(record: &'r [u8]) -> Result<Self, UnitFormatError> {
        let mut read = Reader { record, at: 0 };
        let correlation = CorrelationId::from_bytes(read.array()?);
        let causation = MessageId::from_bytes(read.array()?);
        let counts = Counts { emits: read.u32()?, expects: read.u32()?, writes: read.u32()? };
        let mut seen = Counts::default();
        while read.at < record.len() {
            match read.item()? {
                Item::Emit(_) if correlation.is_none() => {
                    return read.wrong("a message without a conversation");
                }
                Item::Emit(_) => seen.emits += 1,
                Item::Expect(_) => seen.expects += 1,
                Item::Write(_) => seen.writes += 1,
                Item::Undone => {}
            }
        }
        if seen != counts {
            return read.wrong("another number of items");
        }
        Ok(Self { correlation, causation, counts, items: &record[HEADER_BYTES..] })
    }

    /// Whether it carries nothing.
    pub fn is_empty(&self) -> bool {
        self.counts == Counts::default()
    }

    /// The messages to append, in the order in which they were emitted.
    pub fn emits(&self) -> impl ExactSizeIterator<Item = Append<'r>> + use<'r> {
        let ids = self.correlation.map(|correlation| (correlation, self.causation));
        self.items(self.counts.emits, move |item| match (item, ids) {
            (Item::Emit(emit), Some((correlation, causation))) => Some(emit.append(correlation, causation)),
            _ => None,
        })
    }

    /// The versions that streams must be at.
    pub fn expects(&self) -> impl ExactSizeIterator<Item = Expected> + use<'r> {
        self.items(self.counts.expects, |item| match item {
            Item::Expect(expected) => Some(expected),
            _ => None,
        })
    }

    /// The projections to write or delete: no two of the same perspective and key.
    pub fn projections(&self) -> impl ExactSizeIterator<Item = Projection<'r>> + use<'r> {
        self.items(self.counts.writes, |item| match item {
            Item::Write(projection) => Some(projection),
            _ => None,
        })
    }

    fn items<T, F: FnMut(Item<'r>) -> Option<T>>(&self, left: u32, pick: F) -> Items<'r, F> {
        Items { read: Reader { record: self.items, at: 0 }, left: left as usize, pick }
    }
}

struct Items<'r, F> {
    read: Reader<'r>,
    left: usize,
    pick: F,
}

impl<'r, T, F: FnMut(Item<'r>) -> Option<T>> Iterator for Items<'r, F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        loop {
            let item = self.read.item().expect("the record was looked through when the view was made");
            if let Some(picked) = (self.pick)(item) {
                self.left -= 1;
                return Some(picked);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'r, T, F: FnMut(Item<'r>) -> Option<T>> ExactSizeIterator for Items<'r, F> {}

enum Item<'r> {
    Emit(EmitItem<'r>),
    Expect(Expected),
    Write(Projection<'r>),
    Undone,
}

struct EmitItem<'r> {
    id: MessageId,
    stream: Option<StreamId>,
    kind: MessageKind,
    type_name: &'r str,
    type_version: u16,
    content_type: ContentType,
    payload: &'r [u8],
    metadata: &'r [u8],
    dedup: Option<&'r [u8]>,
    due_in: Option<Duration>,
}

impl<'r> EmitItem<'r> {
    fn append(self, correlation: CorrelationId, causation: Option<MessageId>) -> Append<'r> {
        Append {
            id: self.id,
            stream: self.stream,
            kind: self.kind,
            type_name: self.type_name,
            type_version: self.type_version,
            content_type: self.content_type,
            payload: self.payload,
            correlation,
            causation,
            metadata: self.metadata,
            dedup: self.dedup,
            due_in: self.due_in,
            hand_out: HandOut::Later,
        }
    }
}

struct Reader<'r> {
    record: &'r [u8],
    at: usize,
}

impl<'r> Reader<'r> {
    fn item(&mut self) -> Result<Item<'r>, UnitFormatError> {
        match self.u8()? {
            EMIT => self.emit().map(Item::Emit),
            EXPECT => {
                let stream = self.id(StreamId::from_bytes)?;
                Ok(Item::Expect(Expected { stream, version: Version(self.u64()?) }))
            }
            WRITE => self.write().map(Item::Write),
            UNDONE => {
                let bytes = self.u32()?;
                self.bytes(bytes)?;
                Ok(Item::Undone)
            }
            _ => self.wrong("an unknown item"),
        }
    }

    fn emit(&mut self) -> Result<EmitItem<'r>, UnitFormatError> {
        let [kind, content_type, has] = self.array()?;
        let Some(kind) = MessageKind::from_number(kind) else {
            return self.wrong("an unknown kind");
        };
        let type_version = u16::from_le_bytes(self.array()?);
        let [name, dedup, metadata, payload] = [self.u32()?, self.u32()?, self.u32()?, self.u32()?];
        let id = self.id(MessageId::from_bytes)?;
        let stream = if has & HAS_STREAM == 0 { None } else { Some(self.id(StreamId::from_bytes)?) };
        let due_in = if has & HAS_DUE == 0 { None } else { Some(Duration::from_micros(self.u64()?)) };
        let type_name = self.text(name)?;
        let dedup = self.bytes(dedup)?;
        Ok(EmitItem {
            id,
            stream,
            kind,
            type_name,
            type_version,
            content_type: ContentType(content_type),
            dedup: (has & HAS_DEDUP != 0).then_some(dedup),
            metadata: self.bytes(metadata)?,
            payload: self.bytes(payload)?,
            due_in,
        })
    }

    fn write(&mut self) -> Result<Projection<'r>, UnitFormatError> {
        let has = self.u8()?;
        let [perspective, key, state] = [self.u32()?, self.u32()?, self.u32()?];
        let based_on = if has & HAS_REVISION == 0 { None } else { Some(Revision(self.u64()?)) };
        let perspective = self.text(perspective)?;
        let key = self.bytes(key)?;
        let state = self.bytes(state)?;
        Ok(Projection { perspective, key, based_on, state: (has & HAS_STATE != 0).then_some(state) })
    }

    fn bytes(&mut self, count: u32) -> Result<&'r [u8], UnitFormatError> {
        let end = self.at.checked_add(count as usize);
        match end.and_then(|end| self.record.get(self.at..end)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => self.wrong("an end too early"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UnitFormatError> {
        match self.record[self.at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => self.wrong("an end too early"),
        }
    }

    fn text(&mut self, count: u32) -> Result<&'r str, UnitFormatError> {
        match core::str::from_utf8(self.bytes(count)?) {
            Ok(text) => Ok(text),
            Err(_) => self.wrong("a name that is not UTF-8"),
        }
    }

    fn id<T>(&mut self, of: impl FnOnce([u8; 16]) -> Option<T>) -> Result<T, UnitFormatError> {
        match of(self.array()?) {
            Some(id) => Ok(id),
            None => self.wrong("an id of zero"),
        }
    }

    fn u8(&mut self) -> Result<u8, UnitFormatError> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, UnitFormatError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, UnitFormatError> {
        self.array().map(u64::from_le_bytes)
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, UnitFormatError> {
        Err(UnitFormatError { what, at: self.at })
    }
}
