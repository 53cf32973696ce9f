//! How a message gets into a ring, whichever ring it is.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use tokio::sync::oneshot;
use whizbang_lockfree::{self as lockfree, Producers, PushError, Rejected, Room, Visit};

use crate::dispatch::Dispatcher;
use crate::engine::Engine;
use crate::intake::{Encoding, Envelope, Header, PlainSink, What, with_scratch};
use crate::message::{Message, is_plain, next_message_id};
use crate::receipt::{Receipt, Stored};
use crate::replies::{Fate, Refused, Replies, UnitReply};
use crate::send::{Accepted, NotStored, SendError, Ticket};
use crate::shared::Shared;
use crate::unit::{EmitError, EmitOptions, Unit};

/// The ring of this thread's seat, a stripe that is grabbed, or a ring of one's own.
pub(crate) trait Door {
    fn push(&mut self, header: Header, payload: &[u8]) -> Result<lockfree::Ticket, PushError>;
    fn push_plain<M: Send + 'static>(
        &mut self,
        header: Header,
        message: M,
    ) -> Result<lockfree::Ticket, Rejected<M>>
    where
        Encoding: Visit<M, PlainSink>;
    fn room(&self) -> Room<'_>;
}

impl Door for &Producers<Header, PlainSink> {
    #[inline]
    fn push(&mut self, header: Header, payload: &[u8]) -> Result<lockfree::Ticket, PushError> {
        self.try_push(header, payload)
    }

    #[inline]
    fn push_plain<M: Send + 'static>(
        &mut self,
        header: Header,
        message: M,
    ) -> Result<lockfree::Ticket, Rejected<M>>
    where
        Encoding: Visit<M, PlainSink>,
    {
        self.try_push_plain::<M, Encoding>(header, message)
    }

    fn room(&self) -> Room<'_> {
        Producers::room(self)
    }
}

impl Door for lockfree::Publisher<Header, PlainSink> {
    #[inline]
    fn push(&mut self, header: Header, payload: &[u8]) -> Result<lockfree::Ticket, PushError> {
        self.try_push(header, payload)
    }

    #[inline]
    fn push_plain<M: Send + 'static>(
        &mut self,
        header: Header,
        message: M,
    ) -> Result<lockfree::Ticket, Rejected<M>>
    where
        Encoding: Visit<M, PlainSink>,
    {
        self.try_push_plain::<M, Encoding>(header, message)
    }

    fn room(&self) -> Room<'_> {
        lockfree::Publisher::room(self)
    }
}

/// Puts a message into a ring: as it is when it owns nothing, encoded otherwise.
#[inline]
pub(crate) fn enter<M: Message>(
    door: &mut impl Door,
    payload_bytes_max: usize,
    message: M,
) -> Result<Ticket, SendError<M>> {
    let envelope = Envelope::of(&message, next_message_id());
    let header = Header { what: What::Message(envelope) };
    let Envelope { id, stream, .. } = envelope;
    if const { is_plain::<M>() } {
        // It has no destructor, so the wrapper withholds nothing; it is there for the types that never come here.
        return match door.push_plain(header, ManuallyDrop::new(message)) {
            Ok(ring) => Ok(Ticket { id, stream, ring }),
            Err(Rejected { message, reason, .. }) => Err(of_push(reason, ManuallyDrop::into_inner(message))),
        };
    }
    let pushed = with_scratch(|scratch| match message.encode(scratch) {
        Err(error) => Err(NotEntered::Encoding(error.to_string())),
        Ok(()) if scratch.len() > payload_bytes_max => {
            Err(NotEntered::Pushing(PushError::TooLarge { bytes_max: payload_bytes_max }))
        }
        Ok(()) => door.push(header, scratch).map_err(NotEntered::Pushing),
    });
    match pushed {
        Ok(ring) => Ok(Ticket { id, stream, ring }),
        Err(NotEntered::Pushing(reason)) => Err(of_push(reason, message)),
        Err(NotEntered::Encoding(text)) => Err(SendError::Refused(Refused::Encoding(text))),
    }
}

enum NotEntered {
    Encoding(String),
    Pushing(PushError),
}

pub(crate) async fn enter_waiting<M: Message>(
    door: &mut impl Door,
    payload_bytes_max: usize,
    message: M,
) -> Result<Ticket, SendError<M>> {
    let mut message = message;
    loop {
        match enter(door, payload_bytes_max, message) {
            Err(SendError::Full(back)) => message = back,
            entered => return entered,
        }
        door.room().await;
    }
}

/// Puts a message with options into a ring, as a unit of its own.
pub(crate) fn accept_with<D: Dispatcher, M: Message>(
    engine: &Engine<D>,
    door: &mut impl Door,
    message: M,
    options: EmitOptions<'_>,
) -> Result<Accepted, SendError<M>> {
    let shared = &engine.inner.shared;
    let mut unit = engine.unit();
    let emitted = unit.emit(&message, options);
    let entered = emitted.map(|id| (id, enter_unit(door, &shared.replies, &unit)));
    engine.keep(unit);
    match entered {
        Err(error) => Err(of_emit(error, message)),
        Ok((_, Err(reason))) => Err(of_push(reason, message)),
        Ok((id, Ok(answer))) => {
            Ok(Accepted { id, stream: message.stream(), answer, shared: Arc::clone(shared) })
        }
    }
}

pub(crate) async fn accept_waiting<D: Dispatcher, M: Message>(
    engine: &Engine<D>,
    door: &mut impl Door,
    message: M,
    options: EmitOptions<'_>,
) -> Result<Accepted, SendError<M>> {
    let mut message = message;
    loop {
        match accept_with(engine, door, message, options) {
            Err(SendError::Full(back)) => message = back,
            accepted => return accepted,
        }
        door.room().await;
    }
}

pub(crate) fn enter_unit(
    door: &mut impl Door,
    replies: &Replies,
    unit: &Unit,
) -> Result<oneshot::Receiver<UnitReply>, PushError> {
    let (slot, answer) = replies.open();
    match door.push(Header { what: What::Group { slot } }, unit.record()) {
        Ok(_) => Ok(answer),
        Err(reason) => {
            replies.close(slot);
            Err(reason)
        }
    }
}

pub(crate) async fn stored(shared: &Arc<Shared>, ticket: Ticket) -> Result<Receipt, NotStored> {
    let Ticket { id, stream, ring } = ticket;
    shared.intake.answered(ring).await.map_err(|_| NotStored::Unanswered)?;
    match shared.replies.fate(ring) {
        Fate::Stored => Ok(Receipt::new(id, stream, Stored::default(), Arc::clone(shared))),
        Fate::Refused(why) => Err(NotStored::Refused(why)),
        Fate::Unknown => Err(NotStored::Unanswered),
    }
}

pub(crate) fn of_push<M>(reason: PushError, message: M) -> SendError<M> {
    match reason {
        PushError::Full => SendError::Full(message),
        PushError::Closed => SendError::Closed(message),
        PushError::TooLarge { bytes_max } => SendError::TooLarge { message, bytes_max },
    }
}

pub(crate) fn of_emit<M>(error: EmitError, message: M) -> SendError<M> {
    use whizbang_storage::Refusal::PayloadTooLarge;
    match error {
        EmitError::Refused { refusal: PayloadTooLarge { max, .. }, .. } => {
            SendError::TooLarge { message, bytes_max: max }
        }
        EmitError::UnitFull { bytes_max, .. } => SendError::TooLarge { message, bytes_max },
        EmitError::Refused { refusal, .. } => SendError::Refused(Refused::ByStore(refusal)),
        other => SendError::Refused(Refused::Encoding(other.to_string())),
    }
}
