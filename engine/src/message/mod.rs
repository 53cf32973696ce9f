//! Messages: types with a stable wire name and version, an optional stream, and a codec.

mod headers;
mod id;
mod metadata;
mod stream_key;
mod trace;

use whizbang_storage::{ContentType, MessageKind, StreamId};

pub use self::headers::{HeaderError, Headers, HeadersView};
pub(crate) use self::id::next_message_id;
pub(crate) use self::metadata::MetadataView;
pub use self::metadata::{Metadata, MetadataError};
pub use self::stream_key::StreamKey;
pub use self::trace::{TraceParent, TraceParentError};
use crate::codec::{Buffer, DecodeError, EncodeError};

/// Something that can be stored and handled: a command or an event.
///
/// `#[derive(Command)]` and `#[derive(Event)]` write the implementation:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use whizbang::{Command, Event, Message};
///
/// #[derive(Serialize, Deserialize, Command)]
/// #[message(name = "orders.create", version = 1, reply = u64)]
/// struct CreateOrder {
///     #[stream]
///     order: String,
///     amount: u32,
/// }
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[message(name = "orders.created", version = 1, codec = postcard)]
/// struct OrderCreated {
///     #[stream]
///     order: u64,
/// }
///
/// assert_eq!(CreateOrder::NAME, "orders.create");
/// ```
///
/// By hand it is this:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use whizbang::codec::{self, Buffer, DecodeError, EncodeError};
/// use whizbang::{Command, ContentType, Message, MessageKind, StreamId, StreamKey};
///
/// #[derive(Serialize, Deserialize)]
/// struct CreateOrder {
///     order: String,
///     amount: u32,
/// }
///
/// impl Message for CreateOrder {
///     const NAME: &'static str = "orders.create";
///     const VERSION: u16 = 1;
///     const KIND: MessageKind = MessageKind::Command;
///     const CONTENT_TYPE: ContentType = ContentType::JSON;
///     type Reply = u64;
///
///     fn stream(&self) -> Option<StreamId> {
///         Some(self.order.stream_id())
///     }
///
///     fn encode(&self, out: &mut impl Buffer) -> Result<(), EncodeError> {
///         codec::encode(Self::NAME, Self::CONTENT_TYPE, self, out)
///     }
///
///     fn decode(version: u16, content_type: ContentType, bytes: &[u8]) -> Result<Self, DecodeError> {
///         whizbang::message::decode_current(version, content_type, bytes)
///     }
/// }
///
/// impl Command for CreateOrder {}
///
/// let mut bytes = Vec::new();
/// let order = CreateOrder { order: "4711".into(), amount: 3 };
/// order.encode(&mut bytes)?;
/// assert_eq!(bytes, br#"{"order":"4711","amount":3}"#);
/// assert_eq!(CreateOrder::decode(1, ContentType::JSON, &bytes)?.amount, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "not a message",
    note = "a message has a wire name and a version: write `#[derive(Serialize, Deserialize, Command)]` (or `Event`) \
            and `#[message(name = \"…\", version = 1)]` above `{Self}`"
)]
pub trait Message: Sized + Send + 'static {
    /// The name it is stored under. It never changes, whatever the Rust type is called; 1 to 200 bytes without NUL.
    const NAME: &'static str;

    /// The version of its shape, 1 for the first.
    const VERSION: u16;

    /// Command or event.
    const KIND: MessageKind;

    /// How it is encoded. Stored with each message, so it may change: what was written before is still read.
    const CONTENT_TYPE: ContentType;

    /// What its receptor answers. An event's is `()`.
    type Reply: Send + 'static;

    /// The stream it belongs to, if it has one: messages of a stream are handled in order.
    fn stream(&self) -> Option<StreamId>;

    /// Appends its payload to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] when it has no encoded form. What was appended before stays in `out`; the caller removes it.
    fn encode(&self, out: &mut impl Buffer) -> Result<(), EncodeError>;

    /// Reads a payload that was stored with this version and content type.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes do not fit, or the version or content type is not known.
    fn decode(version: u16, content_type: ContentType, bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A message that asks for something; exactly one receptor handles it and replies.
///
/// Use `#[derive(Command)]`; see [`Message`] for an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command",
    label = "a command is needed here",
    note = "a command asks for something and has one receptor: `#[derive(Command)]`",
    note = "an event says what has happened and may have any number of receptors: `#[derive(Event)]`"
)]
pub trait Command: Message {}

/// A message that says what has happened; any number of receptors handle it.
///
/// Use `#[derive(Event)]`; see [`Message`] for an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "an event is needed here",
    note = "an event says what has happened and may have any number of receptors: `#[derive(Event)]`",
    note = "a command asks for something and has one receptor: `#[derive(Command)]`"
)]
pub trait Event: Message<Reply = ()> {}

/// Reads messages that an older version of the program stored, by way of the type that version had.
///
/// Named in the derive by `upcast_from`. Chains are followed: version 3 may come from 2, and 2 from 1.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use whizbang::{ContentType, Event, Message, Upcast};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[message(name = "orders.created", version = 1)]
/// struct OrderCreatedV1 {
///     price: u64,
/// }
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[message(name = "orders.created", version = 2, upcast_from = OrderCreatedV1)]
/// struct OrderCreated {
///     cents: u64,
/// }
///
/// impl Upcast for OrderCreated {
///     type Previous = OrderCreatedV1;
///
///     fn upcast(previous: OrderCreatedV1) -> Self {
///         Self { cents: previous.price * 100 }
///     }
/// }
///
/// let stored = br#"{"price":3}"#;
/// assert_eq!(OrderCreated::decode(1, ContentType::JSON, stored)?.cents, 300);
/// # Ok::<(), whizbang::codec::DecodeError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is made from its older version",
    label = "`impl Upcast for {Self}` is missing",
    note = "write `impl Upcast for {Self} {{ type Previous = …; fn upcast(previous: …) -> Self {{ … }} }}`"
)]
pub trait Upcast: Message {
    /// The type of the version before this one: the same wire name, a lower version.
    type Previous: Message;

    /// This version of what the older one says.
    fn upcast(previous: Self::Previous) -> Self;
}

/// Whether messages of this type own nothing: they are moved to the pump as they are and encoded there, not where they
/// are published. Decided while compiling.
///
/// ```
/// # use whizbang::message::is_plain;
/// const { assert!(is_plain::<[u64; 8]>() && !is_plain::<String>()) }
/// ```
pub const fn is_plain<M>() -> bool {
    !core::mem::needs_drop::<M>() && align_of::<M>() <= 16
}

/// What [`Message::decode`] is for a type that reads only its own version.
///
/// # Errors
/// [`DecodeError`] for any other version, an unknown content type, and bytes that do not fit.
pub fn decode_current<M: Message + serde::de::DeserializeOwned>(
    version: u16,
    content_type: ContentType,
    bytes: &[u8],
) -> Result<M, DecodeError> {
    let name = M::NAME;
    match version {
        _ if version == M::VERSION => crate::codec::decode(name, content_type, bytes),
        _ if version > M::VERSION => Err(DecodeError::TooNew { name, version, newest: M::VERSION }),
        _ => Err(DecodeError::TooOld { name, version, oldest: M::VERSION }),
    }
}

/// What [`Message::decode`] is for a type that also reads older versions, through [`Upcast`].
///
/// # Errors
/// [`DecodeError`] for a newer version or one that no type of the chain reads, an unknown content type, and bytes that
/// do not fit.
pub fn decode_upcasting<M: Upcast + serde::de::DeserializeOwned>(
    version: u16,
    content_type: ContentType,
    bytes: &[u8],
) -> Result<M, DecodeError> {
    const { assert_upcast::<M, M::Previous>() }
    if version < M::VERSION {
        let previous = <M::Previous as Message>::decode(version, content_type, bytes)?;
        Ok(M::upcast(previous))
    } else {
        decode_current(version, content_type, bytes)
    }
}

/// Checks that `Previous` can be an older version of `M`.
///
/// # Panics
/// While compiling: when the names differ, or its version is not lower.
#[track_caller] // The error stands at `upcast_from`, not in here.
pub const fn assert_upcast<M: Upcast<Previous = Previous>, Previous: Message>() {
    assert!(
        same(M::NAME, Previous::NAME),
        "`upcast_from` names a type with another wire name: an older version has the same name"
    );
    assert!(
        Previous::VERSION < M::VERSION,
        "`upcast_from` names a type whose version is not lower than this one's"
    );
}

/// Whether two texts are the same, also while compiling.
pub(crate) const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}
