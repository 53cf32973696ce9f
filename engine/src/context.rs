//! What a receptor knows about the message it handles, and what it can do.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use whizbang_storage::{CorrelationId, MessageId, MessageKind, StreamId, Version};

use crate::codec;
use crate::message::{Command, Event, HeadersView, Message, TraceParent};
use crate::projection::{Key, Projection, ProjectionError, Seen};
use crate::unit::{EmitError, EmitOptions, Occasion, Unit, assert_kind, check_key};

/// What a receptor knows about the message it handles, and what it can do: publish, send, load and save.
///
/// Everything it does becomes part of the log together with the fact that the message is handled, when the receptor
/// returns `Ok`; otherwise nothing of it ever existed.
///
/// It is one pointer wide and handed over by value; that keeps a call as cheap as one without it.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use whizbang::{Command, Context, Event, Failure, Receptor};
///
/// # #[derive(Serialize, Deserialize, Command)]
/// # #[message(name = "orders.create", version = 1)]
/// # struct CreateOrder { number: u32 }
/// # #[derive(Serialize, Deserialize, Event)]
/// # #[message(name = "orders.created", version = 1)]
/// # struct OrderCreated { number: u32 }
/// struct Orders;
///
/// impl Receptor<CreateOrder> for Orders {
///     async fn receive(&self, order: CreateOrder, mut cx: Context<'_>) -> Result<(), Failure> {
///         cx.publish(&OrderCreated { number: order.number })?;
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Context<'u> {
    unit: Option<&'u mut Unit>,
}

const _: () =
    assert!(size_of::<Context<'_>>() == size_of::<usize>(), "a wider context makes every call slower");

impl<'u> Context<'u> {
    /// The context of a direct call: nothing can be emitted or loaded, and trying to is an error that says so.
    #[inline]
    pub const fn none() -> Context<'static> {
        Context { unit: None }
    }

    /// A context that collects what is emitted in this unit.
    #[inline]
    pub fn collecting(unit: &'u mut Unit) -> Self {
        Self { unit: Some(unit) }
    }

    /// The same context for a shorter time: for handing it to a function and going on with it afterwards.
    #[inline]
    pub fn reborrow(&mut self) -> Context<'_> {
        Context { unit: self.unit.as_deref_mut() }
    }

    fn occasion(&self) -> Occasion {
        match &self.unit {
            Some(unit) => unit.occasion,
            None => Occasion::default(),
        }
    }
}

/// What is known about the message.
impl Context<'_> {
    /// Its id. None in a direct call.
    pub fn message_id(&self) -> Option<MessageId> {
        self.occasion().message
    }

    /// Its stream, if it has one.
    pub fn stream(&self) -> Option<StreamId> {
        self.occasion().stream
    }

    /// Its version in its stream, if it is an event of one.
    pub fn version(&self) -> Option<Version> {
        self.occasion().version
    }

    /// The conversation it belongs to, and with it everything that is emitted here.
    pub fn correlation(&self) -> Option<CorrelationId> {
        self.occasion().correlation
    }

    /// The message whose receptor emitted this one.
    pub fn causation(&self) -> Option<MessageId> {
        self.occasion().causation
    }

    /// The trace it belongs to.
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.unit.as_ref().and_then(|unit| unit.metadata().traceparent)
    }

    /// The headers it was sent with.
    pub fn headers(&self) -> HeadersView<'_> {
        self.unit.as_ref().map(|unit| unit.metadata().headers).unwrap_or_default()
    }

    /// 1 when it is handled for the first time, one more after each failure or crash. 1 in a direct call.
    pub fn attempt(&self) -> u32 {
        self.occasion().attempt.max(1)
    }

    /// Whether it was a dead letter and an operator sent it again.
    pub fn is_replay(&self) -> bool {
        self.occasion().replayed
    }

    /// When the handler is cancelled, if that is decided.
    pub fn deadline(&self) -> Option<Instant> {
        self.occasion().deadline
    }

    /// Whether the handler should stop: the engine is closing or giving its partition away, or the deadline has passed.
    ///
    /// An async receptor is cancelled by itself, at an `.await`; this is for loops that compute.
    pub fn is_cancelled(&self) -> bool {
        let told = self.cancellation().is_some_and(Cancellation::is_cancelled);
        told || self.deadline().is_some_and(|deadline| crate::host::now() >= deadline)
    }

    /// Waits until the engine wants the handler to stop; for ever in a direct call. The deadline is not waited for: a
    /// handler that is over it is dropped.
    ///
    /// # Cancel safety
    /// It may be dropped and called again at any time.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        let cancellation = self.cancellation().cloned();
        async move {
            match cancellation {
                Some(cancellation) => cancellation.cancelled().await,
                None => core::future::pending().await,
            }
        }
    }

    fn cancellation(&self) -> Option<&Cancellation> {
        self.unit.as_ref().and_then(|unit| unit.cancellation.as_ref())
    }
}

/// What it can emit.
impl Context<'_> {
    /// Publishes an event; gives its id.
    ///
    /// # Errors
    /// [`EmitError`] when there is no engine, or the event cannot be encoded or is too large.
    #[inline]
    pub fn publish<E: Event>(&mut self, event: &E) -> Result<MessageId, EmitError> {
        self.publish_with(event, EmitOptions::default())
    }

    /// Publishes an event so long after it is stored.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_in<E: Event>(&mut self, due_in: Duration, event: &E) -> Result<MessageId, EmitError> {
        self.publish_with(event, EmitOptions { due_in: Some(due_in), ..EmitOptions::default() })
    }

    /// Publishes an event, unless one of the service had this key before, within the retention.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and when the key is empty or too long.
    pub fn publish_once<E: Event>(
        &mut self,
        key: impl AsRef<[u8]>,
        event: &E,
    ) -> Result<MessageId, EmitError> {
        self.publish_with(event, EmitOptions { once: Some(key.as_ref()), ..EmitOptions::default() })
    }

    /// Publishes an event with any of the options.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and when one of the options cannot be stored.
    #[inline]
    pub fn publish_with<E: Event>(
        &mut self,
        event: &E,
        options: EmitOptions<'_>,
    ) -> Result<MessageId, EmitError> {
        const { assert_kind::<E>(MessageKind::Event) }
        self.emit(event, options)
    }

    /// Sends a command; gives its id. Another service may be the one that handles it.
    ///
    /// # Errors
    /// [`EmitError`] when there is no engine, or the command cannot be encoded or is too large.
    #[inline]
    pub fn send<C: Command>(&mut self, command: &C) -> Result<MessageId, EmitError> {
        self.send_with(command, EmitOptions::default())
    }

    /// Sends a command that is handled so long after it is stored.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_in<C: Command>(&mut self, due_in: Duration, command: &C) -> Result<MessageId, EmitError> {
        self.send_with(command, EmitOptions { due_in: Some(due_in), ..EmitOptions::default() })
    }

    /// Sends a command, unless one of the service had this key before, within the retention.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the key is empty or too long.
    pub fn send_once<C: Command>(
        &mut self,
        key: impl AsRef<[u8]>,
        command: &C,
    ) -> Result<MessageId, EmitError> {
        self.send_with(command, EmitOptions { once: Some(key.as_ref()), ..EmitOptions::default() })
    }

    /// Sends a command with any of the options.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when one of the options cannot be stored.
    #[inline]
    pub fn send_with<C: Command>(
        &mut self,
        command: &C,
        options: EmitOptions<'_>,
    ) -> Result<MessageId, EmitError> {
        const { assert_kind::<C>(MessageKind::Command) }
        self.emit(command, options)
    }

    /// Lets everything this handler does depend on a stream being at this version when it is written; 0: it is empty.
    /// Otherwise nothing of it is written, and the message is handled again.
    ///
    /// Events of the stream count that are committed and still on their way into the log, where no history shows them.
    ///
    /// # Errors
    /// [`EmitError`] when there is no engine, or the unit is full.
    pub fn expect_version(&mut self, stream: StreamId, version: Version) -> Result<(), EmitError> {
        match &mut self.unit {
            Some(unit) => unit.expect_version(stream, version),
            None => Err(EmitError::NoEngine { name: "an expected version" }),
        }
    }

    #[inline]
    fn emit<M: Message>(&mut self, message: &M, options: EmitOptions<'_>) -> Result<MessageId, EmitError> {
        match &mut self.unit {
            Some(unit) => unit.emit(message, options),
            None => Err(EmitError::NoEngine { name: M::NAME }),
        }
    }
}

/// The state it keeps.
impl Context<'_> {
    /// The projection of the message's stream, with what this handler and earlier ones saved; none if there is none yet.
    ///
    /// While the store cannot be read, for whatever reason, it is asked again, until shortly before the handler's
    /// [`deadline`](Self::deadline): an outage costs no attempt as long as it is shorter. A direct call without a deadline is told at once.
    ///
    /// # Errors
    /// [`ProjectionError`] when there is no engine, the message has no stream, or the state cannot be read.
    ///
    /// # Cancel safety
    /// Nothing has changed when it is dropped.
    pub async fn load<T: Projection>(&mut self) -> Result<Option<T>, ProjectionError> {
        let key = self.stream_key::<T>()?;
        self.load_key(key).await
    }

    /// Saves the projection of the message's stream, which must have been loaded before.
    ///
    /// # Errors
    /// [`ProjectionError`] when it was not loaded, or the state cannot be encoded or is too large.
    pub fn save<T: Projection>(&mut self, state: &T) -> Result<(), ProjectionError> {
        let key = self.stream_key::<T>()?;
        self.save_key(key, state)
    }

    /// Deletes the projection of the message's stream, which must have been loaded before.
    ///
    /// # Errors
    /// [`ProjectionError`] when it was not loaded.
    pub fn delete<T: Projection>(&mut self) -> Result<(), ProjectionError> {
        let key = self.stream_key::<T>()?;
        self.delete_key::<T>(key)
    }

    /// As [`load`](Self::load), of a key of your own.
    ///
    /// Messages of several streams may use one key: when another handler saved it in between, nothing of this handler's
    /// unit is written, and the message is handled again.
    ///
    /// # Errors
    /// As [`load`](Self::load), and when the key is empty or too long.
    ///
    /// # Cancel safety
    /// As [`load`](Self::load).
    pub async fn load_key<T: Projection>(
        &mut self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, ProjectionError> {
        let name = T::NAME;
        let key = Key::from_slice(key.as_ref());
        let unit = self.unit.as_deref_mut().ok_or(ProjectionError::NoEngine { name })?;
        let seen = unit.place_of(name, &key);
        if let Some(write) = seen.and_then(|place| unit.seen[place].write) {
            let state = unit.written_state(write).map(|state| decode::<T>(state));
            return state.transpose();
        }
        let refused = |refusal| ProjectionError::Refused { name, refusal };
        whizbang_storage::refuse::name("perspective", name, unit.limits()).map_err(refused)?;
        check_key(&key, unit.limits()).map_err(refused)?;
        let projections = unit.projections.clone().ok_or(ProjectionError::NoEngine { name })?;
        let found = projections.load_until(unit.occasion.deadline, name, &key).await?;
        let revision = found.as_ref().map(|(revision, _)| *revision);
        match seen {
            Some(place) => unit.seen[place].revision = revision,
            None => unit.seen.push(Seen { perspective: name, key, revision, write: None }),
        }
        found.map(|(_, state)| decode::<T>(&state)).transpose()
    }

    /// As [`save`](Self::save), of a key of your own.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_key<T: Projection>(
        &mut self,
        key: impl AsRef<[u8]>,
        state: &T,
    ) -> Result<(), ProjectionError> {
        let mut encode = |out: &mut Vec<u8>| codec::encode(T::NAME, T::CONTENT_TYPE, state, out);
        self.write::<T>(key.as_ref(), Some(&mut encode))
    }

    /// As [`delete`](Self::delete), of a key of your own.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_key<T: Projection>(&mut self, key: impl AsRef<[u8]>) -> Result<(), ProjectionError> {
        self.write::<T>(key.as_ref(), None)
    }

    fn write<T: Projection>(
        &mut self,
        key: &[u8],
        encode: Option<Encode<'_>>,
    ) -> Result<(), ProjectionError> {
        let name = T::NAME;
        let unit = self.unit.as_deref_mut().ok_or(ProjectionError::NoEngine { name })?;
        let place = unit.place_of(name, key).ok_or(ProjectionError::NotLoaded { name })?;
        unit.write_projection(place, encode)?;
        Ok(())
    }

    fn stream_key<T: Projection>(&self) -> Result<[u8; 16], ProjectionError> {
        let name = T::NAME;
        if self.unit.is_none() {
            return Err(ProjectionError::NoEngine { name });
        }
        self.stream().map(StreamId::to_bytes).ok_or(ProjectionError::NoStream { name })
    }
}

/// Appends a state to a unit's record.
pub(crate) type Encode<'e> = &'e mut dyn FnMut(&mut Vec<u8>) -> Result<(), codec::EncodeError>;

fn decode<T: Projection>(state: &[u8]) -> Result<T, ProjectionError> {
    Ok(codec::decode(T::NAME, T::CONTENT_TYPE, state)?)
}

/// Tells handlers to stop; the engine keeps it. Dropping it tells them too.
#[derive(Debug)]
pub struct Cancel(watch::Sender<bool>);

/// What a handler learns of a [`Cancel`].
#[derive(Debug, Clone)]
pub struct Cancellation(watch::Receiver<bool>);

impl Cancel {
    /// Nobody is told yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Tells everybody to stop, for good.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// What handlers are given.
    pub fn cancellation(&self) -> Cancellation {
        Cancellation(self.0.subscribe())
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancellation {
    /// Whether handlers should stop.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until handlers should stop.
    ///
    /// # Cancel safety
    /// It may be dropped and called again at any time.
    pub async fn cancelled(mut self) {
        // An error means that the engine is gone, which is as good as being told.
        let _ = self.0.wait_for(|told| *told).await;
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use whizbang_storage::{
        Condition, ContentType, Epoch, Handed, LaneState, Origin, Partition, Position, SubscriptionId,
    };

    use super::*;
    use crate::message::{Headers, MetadataView, StreamKey};
    use crate::{Command, Event};

    #[derive(Serialize, Deserialize, Event)]
    #[message(name = "happened", version = 1)]
    struct Happened;

    #[derive(Serialize, Deserialize, Command)]
    #[message(name = "do", version = 1)]
    struct Do;

    fn id(number: u128) -> MessageId {
        MessageId::from_bits(number.try_into().unwrap())
    }

    fn unit() -> Unit {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let mut headers = Headers::new();
        headers.set("tenant", "acme").unwrap();
        let mut metadata = Vec::new();
        MetadataView { traceparent: Some(trace), headers: headers.view() }.encode_into(&mut metadata);
        let handed = Handed {
            id: id(7),
            stream: Some(5_u8.stream_id()),
            version: Some(Version(12)),
            kind: MessageKind::Event,
            type_name: "happened",
            type_version: 1,
            content_type: ContentType::JSON,
            payload: b"null",
            metadata: &metadata,
            correlation: id(8).into(),
            causation: Some(id(9)),
            subscription: SubscriptionId(1),
            partition: Partition(2),
            position: Position(3),
            epoch: Epoch(4),
            attempt: 6,
            origin: Origin::Replay,
            lane: LaneState::Free,
            condition: Condition::Whole,
        };
        let mut unit = Unit::default();
        unit.begin(&handed, None).unwrap();
        unit
    }

    #[test]
    fn a_receptor_learns_everything_about_its_message() {
        let mut unit = unit();
        let deadline = Instant::now() + Duration::from_secs(60);
        unit.occasion.deadline = Some(deadline);
        let cx = Context::collecting(&mut unit);
        assert_eq!((cx.message_id(), cx.stream()), (Some(id(7)), Some(5_u8.stream_id())));
        assert_eq!((cx.correlation(), cx.causation()), (Some(id(8).into()), Some(id(9))));
        assert_eq!((cx.version(), cx.attempt(), cx.is_replay()), (Some(Version(12)), 6, true));
        assert_eq!(cx.headers().value_of("tenant"), Some("acme"));
        assert_eq!(cx.traceparent().unwrap().parent_id().get(), 0x00f0_67aa_0ba9_02b7);
        assert_eq!((cx.deadline(), cx.is_cancelled()), (Some(deadline), false));
    }

    #[test]
    fn a_direct_call_has_no_message_and_its_first_attempt() {
        let mut cx = Context::none();
        assert_eq!(
            (cx.message_id(), cx.stream(), cx.correlation(), cx.traceparent()),
            (None, None, None, None)
        );
        assert_eq!((cx.attempt(), cx.is_replay(), cx.deadline(), cx.is_cancelled()), (1, false, None, false));
        assert!(cx.headers().is_empty());
        assert!(matches!(cx.send(&Do), Err(EmitError::NoEngine { name: "do" })));
        assert!(matches!(cx.expect_version(1_u8.stream_id(), Version(1)), Err(EmitError::NoEngine { .. })));
    }

    #[test]
    fn each_way_to_emit_says_what_it_is_called_for() {
        let mut unit = unit();
        let mut cx = Context::collecting(&mut unit);
        let hour = Duration::from_secs(3_600);
        cx.publish(&Happened).unwrap();
        cx.publish_in(hour, &Happened).unwrap();
        cx.publish_once("p", &Happened).unwrap();
        cx.send(&Do).unwrap();
        cx.send_in(hour, &Do).unwrap();
        let last = cx.send_once(b"s", &Do).unwrap();
        let view = unit.view();
        let said: Vec<_> = view.emits().map(|emit| (emit.type_name, emit.due_in, emit.dedup)).collect();
        assert_eq!(
            said,
            [
                ("happened", None, None),
                ("happened", Some(hour), None),
                ("happened", None, Some(&b"p"[..])),
                ("do", None, None),
                ("do", Some(hour), None),
                ("do", None, Some(b"s")),
            ]
        );
        assert_eq!(view.emits().last().unwrap().id, last);
    }

    #[tokio::test]
    async fn a_handler_is_told_to_stop() {
        let cancel = Cancel::new();
        let mut unit = unit();
        unit.set_cancellation(cancel.cancellation());
        let cx = Context::collecting(&mut unit);
        let told = cx.cancelled();
        assert!(!cx.is_cancelled());
        cancel.cancel();
        assert!(cx.is_cancelled());
        told.await;
        cx.cancelled().await;
    }

    #[tokio::test]
    async fn an_engine_that_is_gone_tells_handlers_to_stop() {
        let mut unit = unit();
        unit.set_cancellation(Cancel::new().cancellation());
        let cx = Context::collecting(&mut unit);
        assert!(cx.is_cancelled());
        cx.cancelled().await;
    }

    #[test]
    fn a_deadline_that_has_passed_is_seen_by_those_who_ask() {
        let mut unit = unit();
        unit.occasion.deadline = Some(Instant::now());
        assert!(Context::collecting(&mut unit).is_cancelled());
    }

    #[test]
    fn a_context_that_was_lent_goes_on_afterwards() {
        let mut unit = unit();
        let mut cx = Context::collecting(&mut unit);
        let helper = |mut cx: Context<'_>| cx.publish(&Happened).map(drop);
        helper(cx.reborrow()).unwrap();
        cx.publish(&Happened).unwrap();
        assert_eq!(unit.len(), 2);
    }

    #[test]
    fn units_and_contexts_may_cross_threads() {
        fn crosses<T: Send>() {}
        crosses::<Unit>();
        crosses::<Context<'_>>();
    }
}
