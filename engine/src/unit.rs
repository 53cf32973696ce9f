//! Everything a handler did, collected in one reusable buffer: it becomes part of the log together with the fact that the
//! message is done, or not at all.

mod record;

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use whizbang_storage::{
    CorrelationId, Handed, Limits, MessageId, MessageKind, Origin, Refusal, StreamId, Version,
};

use self::record::{
    Counts, EMIT, EXPECT, HAS_DEDUP, HAS_DUE, HAS_REVISION, HAS_STATE, HAS_STREAM, HEADER_BYTES, UNDONE,
    UNDONE_PREFIX, WRITE,
};
pub use self::record::{UnitFormatError, UnitView};
use crate::codec::{DecodeError, EncodeError};
use crate::context::{Cancellation, Encode};
use crate::message::{Headers, Message, MetadataError, MetadataView, TraceParent, next_message_id};
use crate::projection::{Projections, Seen};

/// What a handler emitted, expects and saved, in one buffer that is used again and again.
///
/// The engine keeps units in a pool and gives each handler one through its [`Context`](crate::Context). Without an engine
/// a unit of your own collects what a receptor does, for instance in a test:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use whizbang::{Command, Context, Event, Failure, Receptor, Unit};
/// # #[derive(Serialize, Deserialize, Command)]
/// # #[message(name = "orders.create", version = 1)]
/// # struct CreateOrder;
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
/// # #[message(name = "orders.created", version = 1)]
/// # struct OrderCreated { number: u32 }
/// struct Orders;
///
/// impl Receptor<CreateOrder> for Orders {
///     async fn receive(&self, _: CreateOrder, mut cx: Context<'_>) -> Result<(), Failure> {
///         cx.publish(&OrderCreated { number: 7 })?;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Failure> {
/// let mut unit = Unit::default();
/// Orders.receive(CreateOrder, Context::collecting(&mut unit)).await?;
/// assert_eq!(unit.emitted::<OrderCreated>()?, [OrderCreated { number: 7 }]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Unit {
    // The record of `record.rs`, whole up to `end`. Behind it lies what a message left that failed or panicked while it
    // was encoded; the next one is written over it.
    record: Vec<u8>,
    end: usize,
    counts: Counts,
    pub(crate) seen: SmallVec<[Seen; 2]>,
    pub(crate) occasion: Occasion,
    metadata: Vec<u8>,
    traceparent: Option<TraceParent>,
    limits: Limits,
    bytes_max: usize,
    pub(crate) projections: Option<Projections>,
    pub(crate) cancellation: Option<Cancellation>,
}

/// Why a handler runs: the message it handles, and how often that was tried.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Occasion {
    pub(crate) message: Option<MessageId>,
    pub(crate) stream: Option<StreamId>,
    pub(crate) version: Option<Version>,
    pub(crate) correlation: Option<CorrelationId>,
    pub(crate) causation: Option<MessageId>,
    pub(crate) attempt: u32,
    pub(crate) replayed: bool,
    pub(crate) deadline: Option<Instant>,
}

/// What may be said of a message besides the message itself.
///
/// ```
/// # use std::time::Duration;
/// # use whizbang::EmitOptions;
/// let options = EmitOptions { due_in: Some(Duration::from_secs(60)), ..EmitOptions::default() };
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct EmitOptions<'a> {
    /// Wait so long, from the moment it is stored, before it is handled.
    pub due_in: Option<Duration>,
    /// The second message of the service with this key, within the retention, is dropped as a duplicate.
    pub once: Option<&'a [u8]>,
    /// Names and values of your own to carry along.
    pub headers: Option<&'a Headers>,
    /// The W3C trace it belongs to; that of the message being handled when there is none.
    pub traceparent: Option<TraceParent>,
}

/// Why a message could not be emitted. Nothing of it is in the unit then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The receptor was called directly, and nothing collects what it emits.
    #[error(
        "no engine: `{name}` cannot be stored by a receptor that was called with `dispatcher.invoke`; \
         call it with `engine.invoke`, or with `dispatcher.invoke_with` and a unit that collects what it emits"
    )]
    NoEngine {
        /// The wire name of what was to be emitted.
        name: &'static str,
    },
    /// It is larger than the service allows, or one of its names or keys cannot be stored.
    #[error("`{name}` cannot be stored: {refusal}")]
    Refused {
        /// The wire name of what was to be emitted.
        name: &'static str,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// It has no encoded form.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Everything the handler did would no longer fit into one batch.
    #[error("with `{name}` the handler's unit is larger than {bytes_max} bytes or {messages_max} messages")]
    UnitFull {
        /// The wire name of what was one too many.
        name: &'static str,
        /// Bytes a unit may have.
        bytes_max: usize,
        /// Messages a unit may have.
        messages_max: usize,
    },
}

impl Default for Unit {
    /// An empty unit with the default limits.
    fn default() -> Self {
        let limits = Limits::default();
        Self::new(limits, limits.batch_bytes_max)
    }
}

impl Unit {
    /// An empty unit. What is put into it is checked against `limits`; its record never exceeds `bytes_max` bytes, which
    /// is what a ring takes as one record.
    pub fn new(limits: Limits, bytes_max: usize) -> Self {
        Self {
            record: vec![0; HEADER_BYTES], // no conversation, no items: an empty record
            end: HEADER_BYTES,
            counts: Counts::default(),
            seen: SmallVec::new(),
            occasion: Occasion::default(),
            metadata: Vec::new(),
            traceparent: None,
            limits,
            bytes_max: bytes_max.min(limits.batch_bytes_max).min(u32::MAX as usize),
            projections: None,
            cancellation: None,
        }
    }

    /// Whether nothing was emitted, expected or saved.
    pub fn is_empty(&self) -> bool {
        self.counts == Counts::default()
    }

    /// Messages that were emitted.
    pub fn len(&self) -> usize {
        self.counts.emits as usize
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.start(Occasion::default());
        self.seal();
    }

    /// Empties it for this occasion; to be sealed.
    fn start(&mut self, occasion: Occasion) {
        self.record.truncate(HEADER_BYTES);
        self.counts = Counts::default();
        self.seen.clear();
        self.occasion = occasion;
        self.metadata.clear();
        self.traceparent = None;
    }

    /// Gives memory above so many bytes back.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.record.shrink_to(bytes.max(HEADER_BYTES));
        self.metadata.shrink_to(bytes);
    }

    /// The emitted messages of this type, decoded, in order: what a test of a receptor looks at.
    ///
    /// # Errors
    /// [`DecodeError`] when one of them cannot be read back.
    pub fn emitted<M: Message>(&self) -> Result<Vec<M>, DecodeError> {
        self.view()
            .emits()
            .filter(|emit| emit.type_name == M::NAME)
            .map(|emit| M::decode(emit.type_version, emit.content_type, emit.payload))
            .collect()
    }

    /// Everything it carries, borrowed.
    pub fn view(&self) -> UnitView<'_> {
        UnitView::decode(self.record()).expect("a unit writes records that can be read")
    }

    /// The record in which it travels to the pump; [`UnitView::decode`] reads it.
    pub fn record(&self) -> &[u8] {
        &self.record[..self.end]
    }

    /// Appends the unit's record to `out`; [`UnitView::decode`] reads it.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.record());
    }

    /// Makes what was written part of the record; after every change.
    fn seal(&mut self) {
        self.end = self.record.len();
        let header = self.header();
        self.record[..HEADER_BYTES].copy_from_slice(&header);
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..16].copy_from_slice(&self.occasion.correlation.map_or([0; 16], CorrelationId::to_bytes));
        header[16..32].copy_from_slice(&self.occasion.message.map_or([0; 16], MessageId::to_bytes));
        header[32..36].copy_from_slice(&self.counts.emits.to_le_bytes());
        header[36..40].copy_from_slice(&self.counts.expects.to_le_bytes());
        header[40..].copy_from_slice(&self.counts.writes.to_le_bytes());
        header
    }
}

/// What the engine says before a handler runs.
impl Unit {
    /// Empties it and prepares it for the handler of this message.
    ///
    /// What is emitted belongs to the message's conversation and trace, with the message as its cause.
    ///
    /// # Errors
    /// [`MetadataError`] when the message's metadata are damaged or from a newer program.
    pub fn begin(&mut self, message: &Handed<'_>, deadline: Option<Instant>) -> Result<(), MetadataError> {
        self.start(Occasion {
            message: Some(message.id),
            stream: message.stream,
            version: message.version,
            correlation: Some(message.correlation),
            causation: message.causation,
            attempt: message.attempt,
            replayed: message.origin == Origin::Replay,
            deadline,
        });
        self.seal();
        if !message.metadata.is_empty() {
            self.traceparent = MetadataView::decode(message.metadata)?.traceparent;
            self.metadata.extend_from_slice(message.metadata);
        }
        Ok(())
    }

    /// Empties it and prepares it for a receptor that is called directly, or for a group of messages.
    ///
    /// Without a conversation, the first message that is emitted names it.
    pub fn begin_alone(&mut self, correlation: Option<CorrelationId>, deadline: Option<Instant>) {
        self.start(Occasion { correlation, attempt: 1, deadline, ..Occasion::default() });
        self.seal();
    }

    /// Where projections come from; kept until it is set again.
    pub fn set_projections(&mut self, projections: &Projections) {
        if !self.projections.as_ref().is_some_and(|kept| kept.is_same(projections)) {
            self.projections = Some(projections.clone());
        }
    }

    /// Forgets every projection that was read: the next handler of this unit reads them anew.
    pub(crate) fn forget_projections(&self) {
        if let Some(projections) = &self.projections {
            projections.forget_all();
        }
    }

    /// What tells handlers to stop; kept until it is set again.
    pub fn set_cancellation(&mut self, cancellation: Cancellation) {
        self.cancellation = Some(cancellation);
    }

    /// The trace of what is emitted from now on, in place of the message's own.
    pub fn set_traceparent(&mut self, traceparent: Option<TraceParent>) {
        self.traceparent = traceparent;
    }

    pub(crate) fn metadata(&self) -> MetadataView<'_> {
        MetadataView::decode(&self.metadata).unwrap_or_default()
    }
}

/// What a handler puts in.
impl Unit {
    /// Takes in a message, encoded. Its id is fresh, its conversation and cause are those of the message being handled.
    ///
    /// # Errors
    /// [`EmitError`] when it cannot be encoded or is too large; the unit is as it was then.
    pub fn emit<M: Message>(
        &mut self,
        message: &M,
        options: EmitOptions<'_>,
    ) -> Result<MessageId, EmitError> {
        let id = next_message_id();
        self.emit_as(id, message, options)?;
        Ok(id)
    }

    /// As [`emit`](Self::emit), with an id that was given out before.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn emit_as<M: Message>(
        &mut self,
        id: MessageId,
        message: &M,
        options: EmitOptions<'_>,
    ) -> Result<(), EmitError> {
        self.record.truncate(self.end);
        self.put_emit(id, message, options)?;
        self.counts.emits += 1;
        self.occasion.correlation.get_or_insert(id.into());
        self.seal();
        Ok(())
    }

    fn put_emit<M: Message>(
        &mut self,
        id: MessageId,
        message: &M,
        options: EmitOptions<'_>,
    ) -> Result<(), EmitError> {
        let name = M::NAME;
        let refused = |refusal| EmitError::Refused { name, refusal };
        let limits = self.limits;
        if self.counts.emits as usize >= limits.batch_messages_max {
            return Err(self.full(name));
        }
        whizbang_storage::refuse::name("type", name, &limits).map_err(refused)?;
        if let Some(key) = options.once {
            check_key(key, &limits).map_err(refused)?;
        }
        let stream = message.stream();
        let has = [
            (stream.is_some(), HAS_STREAM),
            (options.once.is_some(), HAS_DEDUP),
            (options.due_in.is_some(), HAS_DUE),
        ];
        let has = has.iter().filter(|(present, _)| *present).fold(0, |all, (_, bit)| all | bit);

        self.record.extend_from_slice(&[EMIT, M::KIND as u8, M::CONTENT_TYPE.0, has]);
        self.record.extend_from_slice(&M::VERSION.to_le_bytes());
        let lengths = self.record.len();
        self.record.extend_from_slice(&[0; 16]);
        self.record.extend_from_slice(&id.to_bytes());
        if let Some(stream) = stream {
            self.record.extend_from_slice(&stream.to_bytes());
        }
        if let Some(due_in) = options.due_in {
            let micros = u64::try_from(due_in.as_micros()).unwrap_or(u64::MAX);
            self.record.extend_from_slice(&micros.to_le_bytes());
        }
        self.record.extend_from_slice(name.as_bytes());
        let dedup = options.once.unwrap_or_default();
        self.record.extend_from_slice(dedup);

        let metadata_start = self.record.len();
        let headers = options.headers.map(Headers::view).unwrap_or_default();
        MetadataView { traceparent: options.traceparent.or(self.traceparent), headers }
            .encode_into(&mut self.record);
        let metadata_bytes = self.record.len() - metadata_start;
        if metadata_bytes > limits.metadata_bytes_max {
            let max = limits.metadata_bytes_max;
            return Err(refused(Refusal::MetadataTooLarge { bytes: metadata_bytes, max }));
        }

        let payload_start = self.record.len();
        message.encode(&mut self.record)?;
        let payload_bytes = self.record.len() - payload_start;
        if payload_bytes > limits.payload_bytes_max {
            let max = limits.payload_bytes_max;
            return Err(refused(Refusal::PayloadTooLarge { bytes: payload_bytes, max }));
        }
        if self.record.len() > self.bytes_max {
            return Err(self.full(name));
        }
        self.set_lengths(lengths, [name.len(), dedup.len(), metadata_bytes, payload_bytes]);
        Ok(())
    }

    /// Makes the unit depend on the version of a stream.
    ///
    /// # Errors
    /// [`EmitError::UnitFull`].
    pub fn expect_version(&mut self, stream: StreamId, version: Version) -> Result<(), EmitError> {
        self.record.truncate(self.end);
        if self.record.len() + EXPECT_BYTES > self.bytes_max {
            return Err(self.full("an expected version"));
        }
        self.record.push(EXPECT);
        self.record.extend_from_slice(&stream.to_bytes());
        self.record.extend_from_slice(&version.0.to_le_bytes());
        self.counts.expects += 1;
        self.seal();
        Ok(())
    }

    /// Where a projection that was loaded stands in `seen`.
    pub(crate) fn place_of(&self, perspective: &str, key: &[u8]) -> Option<usize> {
        self.seen.iter().position(|seen| seen.perspective == perspective && *seen.key == *key)
    }

    /// Puts in a write of the projection that stands at this place of `seen`, instead of an earlier one. Without an
    /// `encode` it is a delete.
    pub(crate) fn write_projection(
        &mut self,
        place: usize,
        encode: Option<Encode<'_>>,
    ) -> Result<(), EmitError> {
        self.record.truncate(self.end);
        let mut write = None;
        // What does not exist needs no delete, but what this handler saved itself goes.
        if encode.is_some() || self.seen[place].revision.is_some() {
            self.put_write(place, encode)?;
            self.counts.writes += 1;
            write = Some(self.end);
        }
        if let Some(earlier) = core::mem::replace(&mut self.seen[place].write, write) {
            self.undo_write(earlier);
        }
        self.seal();
        Ok(())
    }

    fn put_write(&mut self, place: usize, encode: Option<Encode<'_>>) -> Result<(), EmitError> {
        let Seen { perspective, key, revision: based_on, .. } = &self.seen[place];
        let (perspective, based_on, key_bytes) = (*perspective, *based_on, key.len());
        let has = (u8::from(encode.is_some()) * HAS_STATE) | (u8::from(based_on.is_some()) * HAS_REVISION);
        self.record.extend_from_slice(&[WRITE, has]);
        let lengths = self.record.len();
        self.record.extend_from_slice(&[0; 12]);
        if let Some(revision) = based_on {
            self.record.extend_from_slice(&revision.0.to_le_bytes());
        }
        self.record.extend_from_slice(perspective.as_bytes());
        self.record.extend_from_slice(&self.seen[place].key);
        let state_start = self.record.len();
        if let Some(encode) = encode {
            encode(&mut self.record)?;
        }
        let bytes = self.record.len() - state_start;
        let max = self.limits.state_bytes_max;
        if bytes > max {
            return Err(EmitError::Refused {
                name: perspective,
                refusal: Refusal::StateTooLarge { bytes, max },
            });
        }
        if self.record.len() > self.bytes_max {
            return Err(self.full(perspective));
        }
        self.set_lengths(lengths, [perspective.len(), key_bytes, bytes]);
        Ok(())
    }

    /// Takes the write that starts here back out: a later one replaces it.
    fn undo_write(&mut self, start: usize) {
        let (state_start, state_bytes) = self.state_of_write(start);
        let all = state_start + state_bytes - start;
        self.record[start] = UNDONE;
        let rest = u32::try_from(all - UNDONE_PREFIX).expect("a record is shorter than 4 GiB");
        self.record[start + 1..start + UNDONE_PREFIX].copy_from_slice(&rest.to_le_bytes());
        self.counts.writes -= 1;
    }

    /// The state in the write that starts here: `None` inside for a delete.
    pub(crate) fn written_state(&self, start: usize) -> Option<&[u8]> {
        let (state_start, bytes) = self.state_of_write(start);
        (self.record[start + 1] & HAS_STATE != 0).then(|| &self.record[state_start..state_start + bytes])
    }

    /// Where the state of the write that starts here lies, and how long it is; it is the last part of the write.
    fn state_of_write(&self, start: usize) -> (usize, usize) {
        let length = |number: usize| {
            let at = start + 2 + 4 * number;
            let bytes = self.record[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes) as usize
        };
        let revision = usize::from(self.record[start + 1] & HAS_REVISION != 0) * 8;
        (start + 14 + revision + length(0) + length(1), length(2))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn set_lengths<const N: usize>(&mut self, at: usize, lengths: [usize; N]) {
        for (number, length) in lengths.into_iter().enumerate() {
            let length = u32::try_from(length).expect("a record is shorter than 4 GiB");
            self.record[at + 4 * number..at + 4 * number + 4].copy_from_slice(&length.to_le_bytes());
        }
    }

    #[cold]
    fn full(&self, name: &'static str) -> EmitError {
        EmitError::UnitFull { name, bytes_max: self.bytes_max, messages_max: self.limits.batch_messages_max }
    }
}

/// Bytes of an expected version in the record.
const EXPECT_BYTES: usize = 1 + 16 + 8;

pub(crate) fn check_key(key: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let (bytes, max) = (key.len(), limits.key_bytes_max);
    if bytes == 0 || bytes > max { Err(Refusal::Key { bytes, max }) } else { Ok(()) }
}

/// Whether a type says of itself what the method it is given to needs.
#[track_caller]
pub(crate) const fn assert_kind<M: Message>(kind: MessageKind) {
    assert!(
        M::KIND as u8 == kind as u8,
        "this message's `KIND` contradicts its trait: a `Command` has `MessageKind::Command`, an `Event` `MessageKind::Event`"
    );
}

#[cfg(test)]
mod tests;
