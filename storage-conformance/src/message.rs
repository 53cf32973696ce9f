//! Messages that own what they are made of: to be sent, and as they came back.

use std::num::NonZeroU128;
use std::time::Duration;

use whizbang_storage::{
    Append, Condition, ContentType, CorrelationId, Delivery, Epoch, HandOut, Handed, LaneState, MessageId,
    MessageKind, Origin, Page, Partition, Position, Projection, Revision, Settle, StreamId, SubscriptionId,
    Unit, Version,
};

/// A message to send; every field can be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its stream.
    pub stream: Option<StreamId>,
    /// Command or event.
    pub kind: MessageKind,
    /// The name of its type.
    pub type_name: String,
    /// The version of its type.
    pub type_version: u16,
    /// How its payload is encoded.
    pub content_type: ContentType,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its metadata.
    pub metadata: Vec<u8>,
    /// Its conversation.
    pub correlation: CorrelationId,
    /// What caused it.
    pub causation: Option<MessageId>,
    /// Its deduplication key.
    pub dedup: Option<Vec<u8>>,
    /// Its delay.
    pub due_in: Option<Duration>,
    /// Whether the sender wants it at once.
    pub hand_out: HandOut,
}

impl Message {
    /// A command without a stream, whose number says everything.
    pub fn command(number: u64) -> Self {
        let id = MessageId::from_bits(NonZeroU128::MIN.saturating_add(u128::from(number) + (1 << 100)));
        Self {
            id,
            stream: None,
            kind: MessageKind::Command,
            type_name: "test.command".to_owned(),
            type_version: 1,
            content_type: ContentType::JSON,
            payload: format!("{{\"number\":{number}}}").into_bytes(),
            metadata: Vec::new(),
            correlation: id.into(),
            causation: None,
            dedup: None,
            due_in: None,
            hand_out: HandOut::Later,
        }
    }

    /// An event of a stream.
    pub fn event(number: u64, stream: StreamId) -> Self {
        Self {
            kind: MessageKind::Event,
            type_name: "test.event".to_owned(),
            ..Self::command(number).of(stream)
        }
    }

    /// The same in a stream.
    #[must_use]
    pub fn of(mut self, stream: StreamId) -> Self {
        self.stream = Some(stream);
        self
    }

    /// The same with a deduplication key.
    #[must_use]
    pub fn once(mut self, key: &[u8]) -> Self {
        self.dedup = Some(key.to_vec());
        self
    }

    /// The same, scheduled.
    #[must_use]
    pub fn due_in(mut self, after: Duration) -> Self {
        self.due_in = Some(after);
        self
    }

    /// The same, to be handed out by the call that appends it.
    #[must_use]
    pub fn now(mut self) -> Self {
        self.hand_out = HandOut::Now;
        self
    }

    /// The same with another payload.
    #[must_use]
    pub fn with(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// What the contract takes.
    pub fn append(&self) -> Append<'_> {
        Append {
            id: self.id,
            stream: self.stream,
            kind: self.kind,
            type_name: &self.type_name,
            type_version: self.type_version,
            content_type: self.content_type,
            payload: &self.payload,
            correlation: self.correlation,
            causation: self.causation,
            metadata: &self.metadata,
            dedup: self.dedup.as_deref(),
            due_in: self.due_in,
            hand_out: self.hand_out,
        }
    }
}

/// A message as it was handed out.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `Handed`")]
pub struct Got {
    pub id: MessageId,
    pub stream: Option<StreamId>,
    pub version: Option<Version>,
    pub kind: MessageKind,
    pub type_name: String,
    pub type_version: u16,
    pub content_type: ContentType,
    pub payload: Vec<u8>,
    pub metadata: Vec<u8>,
    pub correlation: CorrelationId,
    pub causation: Option<MessageId>,
    pub subscription: SubscriptionId,
    pub partition: Partition,
    pub position: Position,
    pub epoch: Epoch,
    pub attempt: u32,
    pub origin: Origin,
    pub lane: LaneState,
    pub condition: Condition,
}

impl Got {
    /// All messages of a page.
    pub fn all(page: &Page) -> Vec<Self> {
        page.iter().map(Self::from).collect()
    }

    /// What a unit names it by.
    pub fn delivery(&self) -> Delivery {
        Delivery {
            subscription: self.subscription,
            partition: self.partition,
            position: self.position,
            lane: self.stream.unwrap_or_else(|| self.id.into()),
            epoch: self.epoch,
            attempt: self.attempt,
        }
    }

    /// A unit that ends it and carries nothing.
    pub fn ends<'a>(&self, settle: Settle<'a>) -> Unit<'a> {
        Unit { delivery: Some(self.delivery()), settle, emits: &[], expects: &[], projections: &[] }
    }

    /// A unit that ends it well and carries nothing.
    pub fn done(&self) -> Unit<'static> {
        self.ends(Settle::Done)
    }

    /// A unit that asks for another attempt.
    pub fn retry_in(&self, after: Duration) -> Unit<'static> {
        self.ends(Settle::Retry { after, error: "it failed" })
    }
}

impl From<Handed<'_>> for Got {
    fn from(handed: Handed<'_>) -> Self {
        Self {
            id: handed.id,
            stream: handed.stream,
            version: handed.version,
            kind: handed.kind,
            type_name: handed.type_name.to_owned(),
            type_version: handed.type_version,
            content_type: handed.content_type,
            payload: handed.payload.to_vec(),
            metadata: handed.metadata.to_vec(),
            correlation: handed.correlation,
            causation: handed.causation,
            subscription: handed.subscription,
            partition: handed.partition,
            position: handed.position,
            epoch: handed.epoch,
            attempt: handed.attempt,
            origin: handed.origin,
            lane: handed.lane,
            condition: handed.condition,
        }
    }
}

/// A unit without a delivery: a group of messages sent whole.
pub fn group<'a>(emits: &'a [Append<'a>]) -> Unit<'a> {
    Unit { delivery: None, settle: Settle::Done, emits, expects: &[], projections: &[] }
}

/// A projection to write, computed from this state; none: there was none.
pub fn projection<'a>(key: &'a [u8], from: Option<&[u8]>, state: Option<&'a [u8]>) -> Projection<'a> {
    Projection { perspective: "totals", key, based_on: from.map(Revision::of), state }
}

/// The numbers in the ids of messages, for short assertions.
pub fn numbers<'g>(got: impl IntoIterator<Item = &'g Got>) -> Vec<u64> {
    let base = Message::command(0).id.bits().get();
    got.into_iter().map(|got| (got.id.bits().get() - base) as u64).collect()
}

/// The positions of messages.
pub fn positions<'g>(got: impl IntoIterator<Item = &'g Got>) -> Vec<u64> {
    got.into_iter().map(|got| got.position.0).collect()
}

impl From<&Got> for Message {
    fn from(got: &Got) -> Self {
        Self {
            id: got.id,
            stream: got.stream,
            kind: got.kind,
            type_name: got.type_name.clone(),
            type_version: got.type_version,
            content_type: got.content_type,
            payload: got.payload.clone(),
            metadata: got.metadata.clone(),
            correlation: got.correlation,
            causation: got.causation,
            dedup: None,
            due_in: None,
            hand_out: HandOut::Later,
        }
    }
}
