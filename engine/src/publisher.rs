//! Publishers: a ring of one's own, for hot loops.

use whizbang_lockfree as lockfree;

use crate::dispatch::{Dispatcher, HasOneReceptorIn};
use crate::door::{accept_waiting, accept_with, enter, enter_waiting};
use crate::engine::Engine;
use crate::intake::{Header, PlainSink};
use crate::message::Event;
use crate::send::{Accepted, SendError, Ticket};
use crate::unit::EmitOptions;

/// A ring of one's own. Made by [`Engine::publisher`].
///
/// Its messages are stored in the order in which they were accepted. Dropped, what it accepted is still stored.
///
/// ```no_run
/// # async fn example<D: whizbang::Dispatcher, E: whizbang::Event>(
/// #     engine: whizbang::Engine<D>,
/// #     events: Vec<E>,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let mut publisher = engine.publisher()?;
/// let mut last = None;
/// for event in events {
///     last = publisher.publish(event).await.ok(); // waits only for room
/// }
/// if let Some(ticket) = last {
///     engine.stored(ticket).await?; // the last one is durable, and all before it are answered
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Publisher<D> {
    pub(crate) ring: lockfree::Publisher<Header, PlainSink>,
    pub(crate) engine: Engine<D>,
}

impl<D: Dispatcher> Publisher<D> {
    /// Accepts a command, waiting for room if there is none.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the command was not accepted.
    pub async fn send<C: HasOneReceptorIn<D>>(&mut self, command: C) -> Result<Ticket, SendError<C>> {
        let bytes_max = self.engine.payload_bytes_max();
        enter_waiting(&mut self.ring, bytes_max, command).await
    }

    /// Accepts an event, waiting for room if there is none.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the event was not accepted.
    pub async fn publish<E: Event>(&mut self, event: E) -> Result<Ticket, SendError<E>> {
        let bytes_max = self.engine.payload_bytes_max();
        enter_waiting(&mut self.ring, bytes_max, event).await
    }

    /// Accepts a command without waiting for anything.
    ///
    /// # Errors
    /// [`SendError`]; the command comes back.
    #[inline]
    pub fn try_send<C: HasOneReceptorIn<D>>(&mut self, command: C) -> Result<Ticket, SendError<C>> {
        enter(&mut self.ring, self.engine.inner.shared.limits.payload_bytes_max, command)
    }

    /// Accepts an event without waiting for anything.
    ///
    /// # Errors
    /// [`SendError`]; the event comes back.
    #[inline]
    pub fn try_publish<E: Event>(&mut self, event: E) -> Result<Ticket, SendError<E>> {
        enter(&mut self.ring, self.engine.inner.shared.limits.payload_bytes_max, event)
    }

    /// Accepts a command with options (a key, a delay, headers) without waiting for anything.
    ///
    /// # Errors
    /// [`SendError`]; the command comes back.
    pub fn try_send_with<C: HasOneReceptorIn<D>>(
        &mut self,
        command: C,
        options: EmitOptions<'_>,
    ) -> Result<Accepted, SendError<C>> {
        accept_with(&self.engine, &mut self.ring, command, options)
    }

    /// Accepts an event with options (a key, a delay, headers) without waiting for anything.
    ///
    /// # Errors
    /// [`SendError`]; the event comes back.
    pub fn try_publish_with<E: Event>(
        &mut self,
        event: E,
        options: EmitOptions<'_>,
    ) -> Result<Accepted, SendError<E>> {
        accept_with(&self.engine, &mut self.ring, event, options)
    }

    /// Accepts a command with options, waiting for room if there is none; the [`Accepted`] waits until it is durable.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the command was not accepted.
    pub async fn send_with<C: HasOneReceptorIn<D>>(
        &mut self,
        command: C,
        options: EmitOptions<'_>,
    ) -> Result<Accepted, SendError<C>> {
        accept_waiting(&self.engine, &mut self.ring, command, options).await
    }

    /// Accepts an event with options, waiting for room if there is none; the [`Accepted`] waits until it is durable.
    ///
    /// # Errors
    /// [`SendError`], never `Full`.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the event was not accepted.
    pub async fn publish_with<E: Event>(
        &mut self,
        event: E,
        options: EmitOptions<'_>,
    ) -> Result<Accepted, SendError<E>> {
        accept_waiting(&self.engine, &mut self.ring, event, options).await
    }
}
