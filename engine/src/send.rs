//! The ways in: single messages, and those of which more is to be said.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use whizbang_lockfree::{self as lockfree, NoRing, Producers, PushError};
use whizbang_storage::{MessageId, StreamId};

use crate::dispatch::{Dispatcher, HasOneReceptorIn};
use crate::door::{accept_waiting, accept_with, enter, enter_unit, enter_waiting, of_emit, of_push, stored};
use crate::engine::Engine;
use crate::intake::{Header, PlainSink};
use crate::message::{Event, Message};
use crate::publisher::Publisher;
use crate::receipt::{Receipt, Stored};
use crate::replies::{Refused, UnitReply};
use crate::shared::Shared;
use crate::unit::{EmitOptions, Unit};

/// Why a message was not accepted, or not stored. What the caller would lose comes back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError<M> {
    /// There is no room now; the message comes back. Only from the `try_` forms: the others wait for room.
    #[error("no room now: wait, or try again later")]
    Full(M),
    /// The engine has stopped; the message comes back.
    #[error("the engine has stopped and takes no more messages")]
    Closed(M),
    /// It is larger than the service or the rings allow; the message comes back.
    #[error("the message is larger than the {bytes_max} bytes that are allowed")]
    TooLarge {
        /// The message.
        message: M,
        /// The limit.
        bytes_max: usize,
    },
    /// It cannot be stored, whatever is tried.
    #[error("the message was refused: {0}")]
    Refused(Refused),
    /// The engine ended before the message was durable: it may be stored or not.
    #[error("the engine ended before it could say whether the message was stored")]
    Unanswered,
}

// Without a bound on the message: `unwrap` works for messages that have no `Debug`.
impl<M> std::fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(_)"),
            Self::Closed(_) => f.write_str("Closed(_)"),
            Self::TooLarge { bytes_max, .. } => {
                f.debug_struct("TooLarge").field("bytes_max", bytes_max).finish_non_exhaustive()
            }
            Self::Refused(why) => f.debug_tuple("Refused").field(why).finish(),
            Self::Unanswered => f.write_str("Unanswered"),
        }
    }
}

impl<M> SendError<M> {
    /// The message, where it comes back.
    pub fn into_message(self) -> Option<M> {
        match self {
            Self::Full(message) | Self::Closed(message) | Self::TooLarge { message, .. } => Some(message),
            Self::Refused(_) | Self::Unanswered => None,
        }
    }
}

/// Why an accepted message is not stored, as far as the engine can say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStored {
    /// It cannot be stored, whatever is tried.
    #[error("the message was refused: {0}")]
    Refused(#[from] Refused),
    /// The engine ended before the message was durable: it may be stored or not.
    #[error("the engine ended before it could say whether the message was stored")]
    Unanswered,
}

impl<M> From<NotStored> for SendError<M> {
    fn from(error: NotStored) -> Self {
        match error {
            NotStored::Refused(why) => Self::Refused(why),
            NotStored::Unanswered => Self::Unanswered,
        }
    }
}

/// An accepted message: not durable yet, but on its way. Copied freely; [`Engine::stored`] waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(crate) id: MessageId,
    pub(crate) stream: Option<StreamId>,
    pub(crate) ring: lockfree::Ticket,
}

impl Ticket {
    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }
}

/// Single messages, from anywhere.
impl<D: Dispatcher> Engine<D> {
    /// Sends a command to its receptor; returns when it is durable.
    ///
    /// Waits for room when there is none. Two sends are stored in order when the first was awaited before the second.
    ///
    /// While the store stores nothing (the disk is full, the server is away) this waits as long as that lasts, and goes
    /// on by itself when it is over: what was accepted waits in the rings and is tried again and again, and when they are
    /// full, further sends wait for room. [`Engine::health`] says since when and why, as does a warning by `tracing`. Put a
    /// time-out around it where a caller cannot wait; whether the command was stored is not known then, so send it again
    /// under a key ([`send_once`](Self::send_once)) if twice is too often. [`try_send`](Self::try_send) waits for nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use serde::{Deserialize, Serialize};
    /// # use whizbang::*;
    /// # #[derive(Serialize, Deserialize, Command)]
    /// # #[message(name = "greet", version = 1)]
    /// # struct Greet;
    /// # struct Greeter;
    /// # impl PlainReceptor<Greet> for Greeter {
    /// #     fn receive_now(&self, _: Greet, _: Context<'_>) -> Result<(), Failure> { Ok(()) }
    /// # }
    /// # dispatcher! { struct App { greeter: Greeter } command Greet => greeter; }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = MemoryStore::new(Service::default())?;
    /// # let engine = Engine::builder(App { greeter: Greeter }).storage(store).start().await?;
    /// match tokio::time::timeout(Duration::from_secs(5), engine.send(Greet)).await {
    ///     Ok(sent) => drop(sent?),
    ///     Err(_) => eprintln!("not stored within five seconds: {:?}", engine.health().storage_away),
    /// }
    /// # engine.stop(Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be stored or not.
    pub async fn send<C: HasOneReceptorIn<D>>(&self, command: C) -> Result<Receipt, SendError<C>> {
        self.accept(command).await
    }

    /// Publishes an event; returns when it is durable. As [`send`](Self::send) otherwise: while the store stores nothing,
    /// it waits.
    ///
    /// The dispatcher should know the event, if only by a line without receptors: `event OrderCreated => ;`. An unknown one
    /// is kept for an instance that knows it, and is a dead letter after the service's `unroutable_after`.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event may be stored or not.
    pub async fn publish<E: Event>(&self, event: E) -> Result<Receipt, SendError<E>> {
        self.accept(event).await
    }

    /// Accepts a command without waiting for anything; [`stored`](Self::stored) waits until it is durable.
    ///
    /// # Errors
    /// [`SendError`]; the command comes back.
    #[inline]
    pub fn try_send<C: HasOneReceptorIn<D>>(&self, command: C) -> Result<Ticket, SendError<C>> {
        enter(&mut self.door(), self.payload_bytes_max(), command)
    }

    /// Accepts an event without waiting for anything; [`stored`](Self::stored) waits until it is durable.
    ///
    /// # Errors
    /// [`SendError`]; the event comes back.
    #[inline]
    pub fn try_publish<E: Event>(&self, event: E) -> Result<Ticket, SendError<E>> {
        enter(&mut self.door(), self.payload_bytes_max(), event)
    }

    /// Waits until an accepted message is durable.
    ///
    /// # Errors
    /// [`NotStored`] when it was refused, or the engine ended before. Of the refused only the newest 1,024 are remembered;
    /// of a ticket that is older than what was forgotten, nobody can say more than `Unanswered`.
    ///
    /// # Cancel safety
    /// It may be dropped and called again at any time.
    pub async fn stored(&self, ticket: Ticket) -> Result<Receipt, NotStored> {
        stored(&self.inner.shared, ticket).await
    }

    /// A ring of one's own, for hot loops: cheaper than [`try_send`](Self::try_send), and its messages are stored in order.
    ///
    /// # Errors
    /// [`NoRing`] when `publishers_max` of them exist.
    pub fn publisher(&self) -> Result<Publisher<D>, NoRing> {
        let ring = self.inner.shared.intake.publisher()?;
        Ok(Publisher { ring, engine: self.clone() })
    }

    async fn accept<M: Message>(&self, message: M) -> Result<Receipt, SendError<M>> {
        let ticket = enter_waiting(&mut self.door(), self.payload_bytes_max(), message).await?;
        Ok(stored(&self.inner.shared, ticket).await?)
    }

    fn door(&self) -> &Producers<Header, PlainSink> {
        &self.inner.shared.intake
    }

    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.inner.shared.limits.payload_bytes_max
    }
}

/// Messages of which more is to be said, and groups. Each is one atomic unit with an answer of its own.
impl<D: Dispatcher> Engine<D> {
    /// Sends a command unless one message of the service had this key before, within the retention.
    ///
    /// [`Receipt::duplicate_of`] says which it was then.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be stored or not.
    pub async fn send_once<C: HasOneReceptorIn<D>>(
        &self,
        key: impl AsRef<[u8]>,
        command: C,
    ) -> Result<Receipt, SendError<C>> {
        self.send_with(command, EmitOptions { once: Some(key.as_ref()), ..EmitOptions::default() }).await
    }

    /// Publishes an event unless one message of the service had this key before. As [`send_once`](Self::send_once).
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event may be stored or not.
    pub async fn publish_once<E: Event>(
        &self,
        key: impl AsRef<[u8]>,
        event: E,
    ) -> Result<Receipt, SendError<E>> {
        self.publish_with(event, EmitOptions { once: Some(key.as_ref()), ..EmitOptions::default() }).await
    }

    /// Sends a command that is handled so long after it was stored. Durable when this returns.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be stored or not.
    pub async fn send_in<C: HasOneReceptorIn<D>>(
        &self,
        after: Duration,
        command: C,
    ) -> Result<Receipt, SendError<C>> {
        self.send_with(command, EmitOptions { due_in: Some(after), ..EmitOptions::default() }).await
    }

    /// Publishes an event that is handled so long after it was stored. Durable when this returns.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event may be stored or not.
    pub async fn publish_in<E: Event>(&self, after: Duration, event: E) -> Result<Receipt, SendError<E>> {
        self.publish_with(event, EmitOptions { due_in: Some(after), ..EmitOptions::default() }).await
    }

    /// Sends a command with options: a key, a delay, headers.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be stored or not.
    pub async fn send_with<C: HasOneReceptorIn<D>>(
        &self,
        command: C,
        options: EmitOptions<'_>,
    ) -> Result<Receipt, SendError<C>> {
        self.accept_with(command, options).await
    }

    /// Publishes an event with options: a key, a delay, headers.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event may be stored or not.
    pub async fn publish_with<E: Event>(
        &self,
        event: E,
        options: EmitOptions<'_>,
    ) -> Result<Receipt, SendError<E>> {
        self.accept_with(event, options).await
    }

    /// Accepts a command with options without waiting for anything; the [`Accepted`] waits until it is durable.
    ///
    /// # Errors
    /// [`SendError`]; the command comes back.
    pub fn try_send_with<C: HasOneReceptorIn<D>>(
        &self,
        command: C,
        options: EmitOptions<'_>,
    ) -> Result<Accepted, SendError<C>> {
        accept_with(self, &mut self.door(), command, options)
    }

    /// Accepts an event with options without waiting for anything; the [`Accepted`] waits until it is durable.
    ///
    /// # Errors
    /// [`SendError`]; the event comes back.
    pub fn try_publish_with<E: Event>(
        &self,
        event: E,
        options: EmitOptions<'_>,
    ) -> Result<Accepted, SendError<E>> {
        accept_with(self, &mut self.door(), event, options)
    }

    /// Sends several commands as one: all of them are stored, or none. Returns when they are durable, with a receipt each.
    ///
    /// # Errors
    /// [`SendError`], never `Full`; the commands come back together.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the commands may be stored or not, all of them alike.
    pub async fn send_all<C: HasOneReceptorIn<D>>(
        &self,
        commands: impl IntoIterator<Item = C>,
    ) -> Result<Vec<Receipt>, SendError<Vec<C>>> {
        self.accept_all(commands.into_iter().collect()).await
    }

    /// Publishes several events as one: all of them are stored, or none. As [`send_all`](Self::send_all).
    ///
    /// # Errors
    /// [`SendError`], never `Full`; the events come back together.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the events may be stored or not, all of them alike.
    pub async fn publish_all<E: Event>(
        &self,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Vec<Receipt>, SendError<Vec<E>>> {
        self.accept_all(events.into_iter().collect()).await
    }

    async fn accept_with<M: Message>(
        &self,
        message: M,
        options: EmitOptions<'_>,
    ) -> Result<Receipt, SendError<M>> {
        Ok(accept_waiting(self, &mut self.door(), message, options).await?.await?)
    }

    async fn accept_all<M: Message>(&self, messages: Vec<M>) -> Result<Vec<Receipt>, SendError<Vec<M>>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut unit = self.unit();
        let mut receipts = Vec::with_capacity(messages.len());
        for message in &messages {
            match unit.emit(message, EmitOptions::default()) {
                Ok(id) => receipts.push((id, message.stream())),
                Err(error) => {
                    self.keep(unit);
                    return Err(of_emit(error, messages));
                }
            }
        }
        let entered = self.enter_unit(&unit).await;
        self.keep(unit);
        match entered {
            Err(reason) => Err(of_push(reason, messages)),
            Ok(answer) => {
                let answers = answer.await.map_err(|_| SendError::Unanswered)?.map_err(SendError::Refused)?;
                let shared = &self.inner.shared;
                let receipt = |((id, stream), answer): ((MessageId, Option<StreamId>), _)| {
                    Receipt::new(id, stream, Stored::of(&answer), Arc::clone(shared))
                };
                Ok(receipts.into_iter().zip(answers).map(receipt).collect())
            }
        }
    }

    /// Puts a unit into the intake, waiting for room; what comes back is its answer to come.
    pub(crate) async fn enter_unit(&self, unit: &Unit) -> Result<oneshot::Receiver<UnitReply>, PushError> {
        loop {
            match enter_unit(&mut self.door(), &self.inner.shared.replies, unit) {
                Err(PushError::Full) => self.door().room().await,
                other => return other,
            }
        }
    }
}

/// A message with options that was accepted: a future of its receipt.
///
/// Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "the message is accepted, not durable yet: await this to know"]
pub struct Accepted {
    pub(crate) id: MessageId,
    pub(crate) stream: Option<StreamId>,
    pub(crate) answer: oneshot::Receiver<UnitReply>,
    pub(crate) shared: Arc<Shared>,
}

impl Accepted {
    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }
}

impl Future for Accepted {
    type Output = Result<Receipt, NotStored>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) else {
            return Poll::Pending;
        };
        let answers = match answer {
            Ok(Ok(answers)) => answers,
            Ok(Err(why)) => return Poll::Ready(Err(NotStored::Refused(why))),
            Err(_) => return Poll::Ready(Err(NotStored::Unanswered)),
        };
        let stored = answers.first().map_or(Stored::default(), Stored::of);
        Poll::Ready(Ok(Receipt::new(self.id, self.stream, stored, Arc::clone(&self.shared))))
    }
}
