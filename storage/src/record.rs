//! A message as bytes: the one form in which databases hold it, in log, events, arrivals and parked work alike.

use core::num::NonZeroU128;

use crate::{
    Append, Condition, ContentType, CorrelationId, Epoch, Handed, LaneState, MessageId, MessageKind, Origin,
    Partition, Position, StreamId, SubscriptionId, Version,
};
use xxhash_rust::xxh3::xxh3_64;

// checksum (4) · id (16) · flags (1) · content type (1) · type version (2) · length of the type's name and of the metadata
// (1 to 5 each) · stream, correlation, causation (16 each, where the flags say so) · type name · metadata · payload.
// The form is stored: a change of it is a new schema version.
const STREAM: u8 = 1;
const CORRELATION: u8 = 2;
const CAUSATION: u8 = 4;
const EVENT: u8 = 8;
const FIXED: usize = 24;

/// A message without its place in the log.
///
/// ```
/// # use whizbang_storage::record::{Record, fallback_id};
/// let nonsense = Record::read(b"no record", fallback_id(7));
/// assert_eq!(nonsense.condition, whizbang_storage::Condition::Damaged);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'r> {
    /// The message's id.
    pub id: MessageId,
    /// Its stream, if it has one.
    pub stream: Option<StreamId>,
    /// Command or event.
    pub kind: MessageKind,
    /// The wire name of its type.
    pub type_name: &'r str,
    /// The version of its type.
    pub type_version: u16,
    /// How the payload is encoded.
    pub content_type: ContentType,
    /// The payload.
    pub payload: &'r [u8],
    /// Headers and trace context, encoded.
    pub metadata: &'r [u8],
    /// The conversation.
    pub correlation: CorrelationId,
    /// The message whose handler emitted this one.
    pub causation: Option<MessageId>,
    /// Whether it could be read.
    pub condition: Condition,
}

/// Where a message stands and whom it is handed to: what [`Record::handed`] adds.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// Its version in its stream, if it is an event of one.
    pub version: Option<Version>,
    /// Whom it is handed to.
    pub subscription: SubscriptionId,
    /// Its partition.
    pub partition: Partition,
    /// Its position there.
    pub position: Position,
    /// The epoch to settle it under.
    pub epoch: Epoch,
    /// The attempt.
    pub attempt: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether its stream may go on with it.
    pub lane: LaneState,
}

/// Appends a message to `out` as a record.
pub fn encode(append: &Append<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let correlates = append.correlation != CorrelationId::from(append.id);
    let flags = if append.stream.is_some() { STREAM } else { 0 }
        | if correlates { CORRELATION } else { 0 }
        | if append.causation.is_some() { CAUSATION } else { 0 }
        | if append.kind == MessageKind::Event { EVENT } else { 0 };
    let version = append.type_version.to_le_bytes();
    let mut fixed = [0; FIXED];
    fixed[4..20].copy_from_slice(&append.id.to_bytes());
    fixed[20..].copy_from_slice(&[flags, append.content_type.0, version[0], version[1]]);
    out.extend_from_slice(&fixed);
    push_length(out, append.type_name.len());
    push_length(out, append.metadata.len());
    if let Some(stream) = append.stream {
        out.extend_from_slice(&stream.to_bytes());
    }
    if correlates {
        out.extend_from_slice(&append.correlation.to_bytes());
    }
    if let Some(causation) = append.causation {
        out.extend_from_slice(&causation.to_bytes());
    }
    out.extend_from_slice(append.type_name.as_bytes());
    out.extend_from_slice(append.metadata);
    out.extend_from_slice(append.payload);
    let checksum = checksum(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum);
}

/// Whether a record is of an event with a stream, which gets a version in the log; looks at nothing else of it.
pub fn gets_version(bytes: &[u8]) -> bool {
    bytes.get(20).is_some_and(|flags| flags & (EVENT | STREAM) == EVENT | STREAM)
}

impl<'r> Record<'r> {
    /// Reads a record; what cannot be read is a damaged one, under its id if that much is left, else under `fallback`.
    pub fn read(bytes: &'r [u8], fallback: MessageId) -> Self {
        decode(bytes).unwrap_or_else(|| Self::damaged(bytes, fallback))
    }

    fn damaged(bytes: &'r [u8], fallback: MessageId) -> Self {
        let id = bytes.get(4..20).and_then(|id| MessageId::from_bytes(id.try_into().ok()?));
        let id = id.unwrap_or(fallback);
        Self {
            id,
            stream: None,
            kind: MessageKind::Command,
            type_name: "",
            type_version: 0,
            content_type: ContentType(0),
            payload: &[],
            metadata: &[],
            correlation: id.into(),
            causation: None,
            condition: Condition::Damaged,
        }
    }

    /// Payload and metadata bytes.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.metadata.len()
    }

    /// What orders it.
    pub fn lane(&self) -> StreamId {
        self.stream.unwrap_or_else(|| self.id.into())
    }

    /// The message as it is handed out.
    pub fn handed(&self, placed: &Placed) -> Handed<'r> {
        Handed {
            id: self.id,
            stream: self.stream,
            version: placed.version,
            kind: self.kind,
            type_name: self.type_name,
            type_version: self.type_version,
            content_type: self.content_type,
            payload: self.payload,
            metadata: self.metadata,
            correlation: self.correlation,
            causation: self.causation,
            subscription: placed.subscription,
            partition: placed.partition,
            position: placed.position,
            epoch: placed.epoch,
            attempt: placed.attempt,
            origin: placed.origin,
            lane: placed.lane,
            condition: self.condition,
        }
    }
}

/// The id under which a message is handed out whose own cannot be read.
pub fn fallback_id(place: i64) -> MessageId {
    MessageId::from_bits(NonZeroU128::new(u128::from(place.unsigned_abs())).unwrap_or(NonZeroU128::MIN))
}

fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let (sum, rest) = bytes.split_at_checked(4)?;
    if sum != checksum(rest) {
        return None;
    }
    let mut rest = rest;
    let id = MessageId::from_bytes(take(&mut rest)?)?;
    let [flags, content_type, version @ ..] = take::<4>(&mut rest)?;
    let name_bytes = pull_length(&mut rest)?;
    let metadata_bytes = pull_length(&mut rest)?;
    let mut wide = |flag: u8| -> Option<Option<[u8; 16]>> {
        if flags & flag == 0 { Some(None) } else { take(&mut rest).map(Some) }
    };
    let (stream, correlation, causation) = (wide(STREAM)?, wide(CORRELATION)?, wide(CAUSATION)?);
    let (type_name, rest) = rest.split_at_checked(name_bytes)?;
    let (metadata, payload) = rest.split_at_checked(metadata_bytes)?;
    Some(Record {
        id,
        stream: stream.map_or(Some(None), |bytes| StreamId::from_bytes(bytes).map(Some))?,
        kind: if flags & EVENT == 0 { MessageKind::Command } else { MessageKind::Event },
        type_name: core::str::from_utf8(type_name).ok()?,
        type_version: u16::from_le_bytes(version),
        content_type: ContentType(content_type),
        payload,
        metadata,
        correlation: correlation.map_or(Some(id.into()), CorrelationId::from_bytes)?,
        causation: causation.map_or(Some(None), |bytes| MessageId::from_bytes(bytes).map(Some))?,
        condition: Condition::Whole,
    })
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    (xxh3_64(bytes) as u32).to_le_bytes()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (front, back) = rest.split_first_chunk::<N>()?;
    *rest = back;
    Some(*front)
}

fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn pull_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in (0..35).step_by(7) {
        let [byte] = take(rest)?;
        length |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::HandOut;

    use super::*;

    fn append<'a>(payload: &'a [u8], metadata: &'a [u8], type_name: &'a str) -> Append<'a> {
        let id = MessageId::from_bits(NonZeroU128::new(0x0189_0a5d_ac96_774b).unwrap());
        Append {
            id,
            stream: Some(StreamId::from_key("a")),
            kind: MessageKind::Event,
            type_name,
            type_version: 513,
            content_type: ContentType::POSTCARD,
            payload,
            correlation: CorrelationId::from_bits(NonZeroU128::new(7).unwrap()),
            causation: Some(fallback_id(9)),
            metadata,
            dedup: None,
            due_in: None,
            hand_out: HandOut::Later,
        }
    }

    fn read_back(written: &Append<'_>) {
        let mut bytes = Vec::new();
        encode(written, &mut bytes);
        let read = Record::read(&bytes, fallback_id(1));
        let expected = Record {
            id: written.id,
            stream: written.stream,
            kind: written.kind,
            type_name: written.type_name,
            type_version: written.type_version,
            content_type: written.content_type,
            payload: written.payload,
            metadata: written.metadata,
            correlation: written.correlation,
            causation: written.causation,
            condition: Condition::Whole,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn every_field_comes_back() {
        let name = "n".repeat(300);
        let full = append(b"payload\0\xff", &[7; 200], &name);
        read_back(&full);
        read_back(&Append { stream: None, kind: MessageKind::Command, ..full });
        read_back(&Append { causation: None, correlation: full.id.into(), ..full });
        read_back(&append(b"", b"", "t"));
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed_and_the_id_survives() {
        let mut bytes = Vec::new();
        let written = append(b"payload", b"m", "type");
        encode(&written, &mut bytes);
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            let read = Record::read(&broken, fallback_id(1));
            assert_eq!(read.condition, Condition::Damaged, "byte {at}");
            assert_eq!(read.id == written.id, !(4..20).contains(&at), "byte {at}");
            let cut = Record::read(&bytes[..at], fallback_id(1));
            assert_eq!(cut.condition, Condition::Damaged, "{at} bytes");
        }
    }
}
