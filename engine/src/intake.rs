//! The first ring: messages on their way from producers to the pump.
//!
//! A message that owns nothing is moved into the ring as it is and encoded by the pump; one that owns memory is encoded
//! where it is published, because moving two strings to another core and freeing them there costs more than that.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use whizbang_lockfree::{Record, Sink, Visit};
use whizbang_storage::{Append, ContentType, HandOut, MessageId, MessageKind, StreamId};

use crate::codec::EncodeError;
use crate::message::Message;
use crate::replies::{Refused, Slot};

/// What every record of the intake says besides its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) what: What,
}

/// What a record's payload is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// One message, and nothing is to be said about it but what it is.
    Message(Envelope),
    /// A unit: several messages, or one with more to say, all stored or none.
    Group { slot: Slot },
}

/// A single message without its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) id: MessageId,
    pub(crate) stream: Option<StreamId>,
    pub(crate) kind: &'static TypeInfo,
}

/// What is the same for all messages of a type.
#[derive(Debug)]
pub(crate) struct TypeInfo {
    pub(crate) name: &'static str,
    pub(crate) version: u16,
    pub(crate) kind: MessageKind,
    pub(crate) content_type: ContentType,
}

impl TypeInfo {
    /// The one of this type; a constant in the program.
    pub(crate) const fn of<M: Message>() -> &'static Self {
        const { &Self { name: M::NAME, version: M::VERSION, kind: M::KIND, content_type: M::CONTENT_TYPE } }
    }
}

impl Envelope {
    /// The envelope of a new message.
    #[inline]
    pub(crate) fn of<M: Message>(message: &M, id: MessageId) -> Self {
        Self { id, stream: message.stream(), kind: TypeInfo::of::<M>() }
    }

    /// The message as the store gets it: the first of its conversation, with nothing else to be said.
    pub(crate) fn append<'a>(&self, payload: &'a [u8], hand_out: HandOut) -> Append<'a> {
        Append {
            id: self.id,
            stream: self.stream,
            kind: self.kind.kind,
            type_name: self.kind.name,
            type_version: self.kind.version,
            content_type: self.kind.content_type,
            payload,
            correlation: self.id.into(),
            causation: None,
            metadata: &[],
            dedup: None,
            due_in: None,
            hand_out,
        }
    }

    /// What orders it.
    pub(crate) fn lane(&self) -> StreamId {
        self.stream.unwrap_or_else(|| self.id.into())
    }
}

/// Plain messages are shown to an encoder.
#[derive(Debug)]
pub(crate) enum PlainSink {}

impl Sink for PlainSink {
    type At<'a> = PlainOut<'a>;
}

/// Where a plain message is encoded to.
pub(crate) struct PlainOut<'a> {
    out: BumpVec<'a, u8>,
    result: Result<(), EncodeError>,
}

/// Encodes a plain message of any type.
pub(crate) enum Encoding {}

impl<M: Message> Visit<ManuallyDrop<M>, PlainSink> for Encoding {
    fn visit(message: &ManuallyDrop<M>, at: &mut PlainOut<'_>) {
        at.result = message.encode(&mut at.out);
    }
}

/// The payload of a single message's record: as it lies in the ring, or encoded into the arena.
///
/// A message whose own `Serialize` fails or panics is refused alone; the ring and its neighbours do not notice.
pub(crate) fn payload<'a, H: Copy + Send + 'static>(
    arena: &'a Bump,
    record: &Record<'a, H, PlainSink>,
) -> Result<&'a [u8], Refused> {
    if let Some(bytes) = record.bytes() {
        return Ok(bytes);
    }
    let mut at =
        PlainOut { out: BumpVec::with_capacity_in(2 * record.payload_bytes(), arena), result: Ok(()) };
    match catch_unwind(AssertUnwindSafe(|| record.visit(&mut at))) {
        Err(panic) => Err(Refused::Encoding(format!("it panicked: {}", panic_text(&*panic)))),
        Ok(_) => match at.result {
            Ok(()) => Ok(at.out.into_bump_slice()),
            Err(error) => Err(Refused::Encoding(error.to_string())),
        },
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Memory that a thread keeps for encoding.
const SCRATCH_KEPT: usize = 64 << 10;

/// Lends this thread's encoding buffer, empty. Nested use gets a fresh one.
pub(crate) fn with_scratch<T>(encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = encode(&mut scratch);
    scratch.shrink_to(SCRATCH_KEPT);
    SCRATCH.set(scratch);
    result
}
