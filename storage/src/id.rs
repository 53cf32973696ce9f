//! Ids: sixteen bytes, never zero, printed as UUIDs; and the partition a stream belongs to.

use core::fmt;
use core::num::NonZeroU128;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3;

use crate::Timestamp;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text is not a UUID.
    #[error("not a UUID: {0:?}")]
    NotAUuid(String),
    /// The nil UUID: every id is non-zero.
    #[error("the nil UUID is not an id")]
    Nil,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU128);

        /// As text where people read it (JSON), as its sixteen bytes elsewhere (postcard).
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.to_bytes().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    Self::from_bytes(<[u8; 16]>::deserialize(deserializer)?)
                        .ok_or_else(|| D::Error::custom(ParseIdError::Nil))
                }
            }
        }

        impl $name {
            /// Takes 128 bits that are known not to be zero as an id.
            pub const fn from_bits(bits: NonZeroU128) -> Self {
                Self(bits)
            }

            /// The id as a number; ids of one generator grow with time.
            pub const fn bits(self) -> NonZeroU128 {
                self.0
            }

            /// The sixteen bytes as they are stored, most significant first.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.get().to_be_bytes()
            }

            /// Reads the sixteen bytes that [`to_bytes`](Self::to_bytes) wrote; `None` for sixteen zeroes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
                match NonZeroU128::new(u128::from_be_bytes(bytes)) {
                    Some(bits) => Some(Self(bits)),
                    None => None,
                }
            }

            /// When the id was made, by its maker's clock, to the millisecond (the UUIDv7 time field).
            ///
            /// Without meaning for a [`StreamId`] that was derived from a key.
            pub const fn timestamp(self) -> Timestamp {
                Timestamp::from_micros(((self.0.get() >> 80) as i64) * 1_000)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_u128(self.0.get()).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let uuid = uuid::Uuid::parse_str(text).map_err(|_| ParseIdError::NotAUuid(text.to_owned()))?;
                NonZeroU128::new(uuid.as_u128()).map(Self).ok_or(ParseIdError::Nil)
            }
        }
    };
}

id! {
    /// Names one message, for ever.
    ///
    /// ```
    /// # use whizbang_storage::MessageId;
    /// let id: MessageId = "01890a5d-ac96-774b-bcce-b302099a8057".parse()?;
    /// assert_eq!(id.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
    /// # Ok::<(), whizbang_storage::ParseIdError>(())
    /// ```
    MessageId
}

id! {
    /// Names a stream: messages that must be handled in order, such as those of one aggregate.
    ///
    /// ```
    /// # use whizbang_storage::StreamId;
    /// // The same key is the same stream, on every machine and in every version.
    /// assert_eq!(StreamId::from_key("acme/rockets"), StreamId::from_key("acme/rockets"));
    /// assert_ne!(StreamId::from_key("acme/rockets"), StreamId::from_key("acme/anvils"));
    /// ```
    StreamId
}

id! {
    /// Names the conversation a message belongs to; handed on to everything a handler emits.
    CorrelationId
}

id! {
    /// Names one running process of a service; fresh at each start.
    InstanceId
}

impl StreamId {
    /// The stream of a key of your own: a name, a number as text, any bytes.
    ///
    /// The id is `xxh3_128` of the key with seed 0 (zero, should it ever come out, becomes 1). It is part of the stored
    /// format: it never changes. Two keys share an id with a probability of 2⁻¹²⁸ a pair.
    pub fn from_key(key: impl AsRef<[u8]>) -> Self {
        let hash = xxh3::xxh3_128(key.as_ref());
        Self(NonZeroU128::new(hash).unwrap_or(NonZeroU128::MIN))
    }

    /// The partition of this stream where there are `partitions` of them: `xxh3_64(stream id) % P`.
    ///
    /// The hash is over the sixteen bytes, seed 0. It is part of the stored format: it never changes.
    ///
    /// # Panics
    /// When `partitions` is zero; a schema has at least one.
    pub fn partition(self, partitions: u32) -> Partition {
        assert!(partitions > 0, "a schema has at least one partition");
        let hash = xxh3::xxh3_64(&self.to_bytes());
        Partition((hash % u64::from(partitions)) as u32)
    }
}

impl From<MessageId> for StreamId {
    /// A message without a stream is a stream of one, named by the message itself.
    fn from(message: MessageId) -> Self {
        Self(message.0)
    }
}

impl From<MessageId> for CorrelationId {
    /// The first message of a conversation names it.
    fn from(message: MessageId) -> Self {
        Self(message.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One of the `P` parts of a service's log, 0 to `P` − 1.
    Partition(u32)
}
number! {
    /// Counts the owners of a (group, partition): 1 for the first, one more at every change.
    Epoch(u64)
}
number! {
    /// A place in a partition's log: 1, 2, 3 … in the order of commit; 0 stands before the first.
    Position(u64)
}
number! {
    /// An event's place in its stream: 1, 2, 3 …; 0 is the version of an empty stream.
    ///
    /// Written out, and not made with `into`: positions, epochs and revisions are numbers of the same sort, and none of
    /// them shall become a version unseen.
    ///
    /// ```
    /// # use whizbang_storage::Version;
    /// let last = Version(11);
    /// assert_eq!(last.0 + 1, 12);
    /// ```
    Version(u64)
}
number! {
    /// Names a state of a projection: [`Revision::of`] its bytes.
    Revision(u64)
}
number! {
    /// A subscription's number in this database, given by the store when the subscription is registered.
    SubscriptionId(u32)
}

impl Position {
    /// Before the first message.
    pub const START: Position = Position(0);

    /// The position after this one; the last that there can be has none, and stays.
    pub const fn next(self) -> Position {
        Position(self.0.saturating_add(1))
    }
}

impl Revision {
    /// The revision of a projection with this state: 63 bits of the state's hash, and never 0.
    ///
    /// It names the state, not the write that made it. So whoever computes a new state knows its revision before the store does, and
    /// what was computed from a state replaces that state alone, whatever became of the projection meanwhile: it may have been
    /// written by others, or deleted and made anew. Where the same state is there once more, what was computed from it still holds.
    ///
    /// The hash is xxh3: two states meet by accident once in 2⁶³ pairs, but whoever chooses states freely can make some that do.
    ///
    /// ```
    /// # use whizbang_storage::Revision;
    /// assert_eq!(Revision::of(b"42"), Revision::of(b"42"));
    /// assert_ne!(Revision::of(b"42"), Revision::of(b"43"));
    /// ```
    pub fn of(state: &[u8]) -> Self {
        // A database's numbers have a sign, and may keep 0 for none.
        Self((xxh3::xxh3_64(state) >> 1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_of_a_state_never_changes() {
        // Golden vectors: these are in people's databases.
        let of = |state: &[u8]| Revision::of(state).0;
        assert_eq!([of(b""), of(b"0"), of(&[0; 300])], GOLDEN_REVISIONS);
    }

    #[test]
    fn the_partition_of_a_key_never_changes() {
        // Golden vectors: these are in people's files.
        let of = |key: &str| StreamId::from_key(key);
        assert_eq!(of("").to_string(), "99aa06d3-0147-98d8-6001-c324468d497f");
        let orders = of("orders/4711");
        assert_eq!(orders.partition(1), Partition(0));
        let golden: Vec<u32> =
            ["", "a", "orders/4711", "ünï", "\0"].iter().map(|k| of(k).partition(128).0).collect();
        assert_eq!(golden, GOLDEN_PARTITIONS);
    }

    const GOLDEN_PARTITIONS: [u32; 5] = [5, 123, 14, 18, 15];

    const GOLDEN_REVISIONS: [u64; 3] =
        [1_622_210_670_741_801_569, 919_140_953_729_665_066, 3_127_814_905_005_354_952];

    #[test]
    fn ids_print_and_parse_and_refuse_zero() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        let id: MessageId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(MessageId::from_bytes(id.to_bytes()), Some(id));
        assert_eq!(MessageId::from_bytes([0; 16]), None);
        assert_eq!("00000000-0000-0000-0000-000000000000".parse::<MessageId>(), Err(ParseIdError::Nil));
        assert!(matches!("order 5".parse::<MessageId>(), Err(ParseIdError::NotAUuid(_))));
        assert_eq!(size_of::<Option<MessageId>>(), 16);
    }

    #[test]
    fn ids_go_through_serde_as_text_where_people_read_it_and_as_bytes_elsewhere() {
        let id: StreamId = StreamId::from_key("x");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<StreamId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<StreamId>("\"00000000-0000-0000-0000-000000000000\"").is_err());
        let bytes = postcard::to_allocvec(&id).unwrap();
        assert_eq!(bytes, id.to_bytes());
        assert_eq!(postcard::from_bytes::<StreamId>(&bytes).unwrap(), id);
        assert!(postcard::from_bytes::<StreamId>(&[0; 16]).is_err());
    }

    #[test]
    fn the_time_of_an_id_is_its_uuid_v7_field() {
        let id: MessageId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(id.timestamp(), Timestamp::from_micros(0x0189_0a5d_ac96 * 1_000));
    }
}
