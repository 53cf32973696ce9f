//! A message as it lies in memory: a fixed head, and bytes elsewhere.

use std::collections::HashMap;

use crate::{
    Append, Condition, ContentType, CorrelationId, Epoch, Handed, LaneState, MessageId, MessageKind, Origin,
    Partition, Position, StreamId, SubscriptionId, Version,
};

/// Everything of a message but its bytes and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) id: MessageId,
    pub(super) stream: Option<StreamId>,
    pub(super) correlation: CorrelationId,
    pub(super) causation: Option<MessageId>,
    // 0: none.
    pub(super) version: u64,
    pub(super) name: NameId,
    pub(super) type_version: u16,
    pub(super) kind: MessageKind,
    pub(super) content_type: ContentType,
}

impl Head {
    pub(super) fn of(append: &Append<'_>, name: NameId) -> Self {
        Self {
            id: append.id,
            stream: append.stream,
            correlation: append.correlation,
            causation: append.causation,
            version: 0,
            name,
            type_version: append.type_version,
            kind: append.kind,
            content_type: append.content_type,
        }
    }

    /// What orders it.
    pub(super) fn lane(&self) -> StreamId {
        self.stream.unwrap_or_else(|| self.id.into())
    }

    /// Whether it is an event of a stream, which gets a version in the log.
    pub(super) fn gets_version(&self) -> bool {
        self.kind == MessageKind::Event && self.stream.is_some()
    }

    /// The message as it is handed out from the log; the caller changes what is different.
    pub(super) fn handed<'p>(&self, bytes: Bytes<'p>, names: &'p Names) -> Handed<'p> {
        Handed {
            id: self.id,
            stream: self.stream,
            version: (self.version > 0).then_some(Version(self.version)),
            kind: self.kind,
            type_name: names.name(self.name),
            type_version: self.type_version,
            content_type: self.content_type,
            payload: bytes.payload,
            metadata: bytes.metadata,
            correlation: self.correlation,
            causation: self.causation,
            subscription: SubscriptionId(0),
            partition: Partition(0),
            position: Position::START,
            epoch: Epoch(0),
            attempt: 1,
            origin: Origin::Log,
            lane: LaneState::Free,
            condition: Condition::Whole,
        }
    }
}

/// A message's bytes, wherever they lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'p> {
    pub(super) payload: &'p [u8],
    pub(super) metadata: &'p [u8],
}

impl Bytes<'_> {
    pub(super) fn len(&self) -> usize {
        self.payload.len() + self.metadata.len()
    }
}

/// A copy of its own, for messages that are not in the log's flow: arrivals and parked ones.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) head: Head,
    payload: Box<[u8]>,
    metadata: Box<[u8]>,
}

impl Message {
    pub(super) fn new(head: Head, bytes: Bytes<'_>) -> Self {
        Self { head, payload: bytes.payload.into(), metadata: bytes.metadata.into() }
    }

    pub(super) fn bytes(&self) -> Bytes<'_> {
        Bytes { payload: &self.payload, metadata: &self.metadata }
    }
}

/// The number of a type's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NameId(u32);

/// The names of all types seen, each stored once.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<Box<str>>,
    ids: HashMap<Box<str>, NameId>,
    last: Option<NameId>,
}

impl Names {
    pub(super) fn name(&self, id: NameId) -> &str {
        &self.names[id.0 as usize]
    }

    pub(super) fn id(&mut self, name: &str) -> NameId {
        // Messages of one type come in runs.
        if let Some(last) = self.last
            && self.name(last) == name
        {
            return last;
        }
        let id = match self.ids.get(name) {
            Some(id) => *id,
            None => {
                let id = NameId(u32::try_from(self.names.len()).expect("fewer than 4 G type names"));
                self.names.push(name.into());
                self.ids.insert(name.into(), id);
                id
            }
        };
        self.last = Some(id);
        id
    }
}
