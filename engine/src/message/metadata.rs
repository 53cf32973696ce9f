//! What every stored message carries beside its payload.

use whizbang_storage::{CorrelationId, Handed, MessageId, Timestamp};

use super::headers::{Headers, HeadersView};
use super::trace::{TraceParent, TraceParentError};
use crate::codec::Buffer;

/// What a message carries beside its payload: who it is, what it belongs to, and the user's headers.
///
/// ```
/// use whizbang::{Headers, Metadata};
/// # use whizbang::MessageId;
/// # let id: MessageId = "01890a5d-ac96-774b-bcce-b302099a8057".parse()?;
/// let mut metadata = Metadata::first(id);
/// metadata.headers.set("tenant", "acme")?;
/// assert_eq!(metadata.time(), id.timestamp());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The message's id.
    pub id: MessageId,
    /// The conversation it belongs to.
    pub correlation: CorrelationId,
    /// The message whose handler emitted this one.
    pub causation: Option<MessageId>,
    /// The trace it belongs to.
    pub traceparent: Option<TraceParent>,
    /// The user's own names and values.
    pub headers: Headers,
}

/// Stored metadata that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A newer program wrote it.
    #[error("the metadata have format {0}, this program knows format {FORMAT}")]
    Format(u8),
    /// It ends too early, or is not what its lengths say.
    #[error("the metadata are damaged")]
    Damaged,
    /// The trace context in it is not one.
    #[error("the metadata are damaged: {0}")]
    Trace(#[from] TraceParentError),
}

/// The one stored form there is.
const FORMAT: u8 = 1;
/// Set in the second byte when a trace context follows.
const HAS_TRACE: u8 = 1;

impl Metadata {
    /// The metadata of the first message of a conversation, which it names.
    pub fn first(id: MessageId) -> Self {
        Self { id, correlation: id.into(), causation: None, traceparent: None, headers: Headers::new() }
    }

    /// When the message was made, by its maker's clock, to the millisecond.
    pub fn time(&self) -> Timestamp {
        self.id.timestamp()
    }

    /// The metadata of a message that was handed out by a store.
    ///
    /// # Errors
    /// [`MetadataError`] when the stored bytes cannot be read.
    pub fn of(message: &Handed<'_>) -> Result<Self, MetadataError> {
        let MetadataView { traceparent, headers } = MetadataView::decode(message.metadata)?;
        Ok(Self {
            id: message.id,
            correlation: message.correlation,
            causation: message.causation,
            traceparent,
            headers: headers.to_owned(),
        })
    }

    /// Appends the stored form of what is not stored in fields of its own: trace context and headers. That is nothing
    /// at all when there are neither.
    pub fn encode_into(&self, out: &mut impl Buffer) {
        MetadataView { traceparent: self.traceparent, headers: self.headers.view() }.encode_into(out);
    }
}

/// The part of the metadata that is stored encoded, borrowed from where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MetadataView<'m> {
    pub(crate) traceparent: Option<TraceParent>,
    pub(crate) headers: HeadersView<'m>,
}

impl<'m> MetadataView<'m> {
    pub(crate) fn encode_into(&self, out: &mut impl Buffer) {
        match self.traceparent {
            None if self.headers.is_empty() => return,
            None => out.put(&[FORMAT, 0]),
            Some(trace) => {
                out.put(&[FORMAT, HAS_TRACE]);
                out.put(&trace.to_bytes());
            }
        }
        out.put(self.headers.packed());
    }

    pub(crate) fn decode(bytes: &'m [u8]) -> Result<Self, MetadataError> {
        let Some((format, rest)) = bytes.split_first() else {
            return Ok(Self::default());
        };
        if *format != FORMAT {
            return Err(MetadataError::Format(*format));
        }
        let (flags, rest) = rest.split_first().ok_or(MetadataError::Damaged)?;
        let (traceparent, packed) = match *flags {
            0 => (None, rest),
            HAS_TRACE => {
                let (trace, rest) = rest.split_first_chunk().ok_or(MetadataError::Damaged)?;
                (Some(TraceParent::from_bytes(trace)?), rest)
            }
            _ => return Err(MetadataError::Damaged),
        };
        let headers = HeadersView::of_packed(packed).ok_or(MetadataError::Damaged)?;
        Ok(Self { traceparent, headers })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whizbang_storage::{
        Condition, ContentType, Epoch, LaneState, MessageKind, Origin, Partition, Position, SubscriptionId,
    };

    use super::*;

    fn handed<'m>(metadata: &Metadata, bytes: &'m [u8]) -> Handed<'m> {
        Handed {
            id: metadata.id,
            stream: None,
            version: None,
            kind: MessageKind::Event,
            type_name: "a",
            type_version: 1,
            content_type: ContentType::JSON,
            payload: &[],
            metadata: bytes,
            correlation: metadata.correlation,
            causation: metadata.causation,
            subscription: SubscriptionId(0),
            partition: Partition(0),
            position: Position(1),
            epoch: Epoch(1),
            attempt: 1,
            origin: Origin::Log,
            lane: LaneState::Free,
            condition: Condition::Whole,
        }
    }

    fn id(number: u128) -> MessageId {
        MessageId::from_bits(number.max(1).try_into().unwrap())
    }

    prop_compose! {
        fn any_metadata()(
            own in any::<u128>(),
            correlation in any::<u128>(),
            causation in proptest::option::of(any::<u128>()),
            trace in proptest::option::of((1..u128::MAX, 1..u64::MAX, any::<u8>())),
            headers in proptest::collection::btree_map("[a-zü]{1,20}", "\\PC{0,30}", 0..20),
        ) -> Metadata {
            let mut metadata = Metadata {
                correlation: id(correlation).into(),
                causation: causation.map(id),
                traceparent: trace.map(|(trace, parent, flags)| {
                    TraceParent::new(trace.try_into().unwrap(), parent.try_into().unwrap(), flags)
                }),
                ..Metadata::first(id(own))
            };
            for (name, value) in headers {
                metadata.headers.set(&name, &value).unwrap();
            }
            metadata
        }
    }

    proptest! {
        #[test]
        fn every_field_comes_back(metadata in any_metadata()) {
            let mut bytes = Vec::new();
            metadata.encode_into(&mut bytes);
            prop_assert_eq!(Metadata::of(&handed(&metadata, &bytes)).unwrap(), metadata);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(view) = MetadataView::decode(&bytes) {
                let mut again = Vec::new();
                view.encode_into(&mut again);
                prop_assert!(again == bytes || again.is_empty());
            }
        }
    }

    #[test]
    fn nothing_is_stored_for_nothing() {
        let mut bytes = Vec::new();
        Metadata::first(id(5)).encode_into(&mut bytes);
        assert!(bytes.is_empty());
    }

    #[test]
    fn what_a_newer_program_wrote_is_an_error_that_says_so() {
        assert_eq!(MetadataView::decode(&[2, 0]), Err(MetadataError::Format(2)));
        assert_eq!(MetadataView::decode(&[1]), Err(MetadataError::Damaged));
        assert_eq!(MetadataView::decode(&[1, 4]), Err(MetadataError::Damaged));
        assert_eq!(MetadataView::decode(&[1, 1, 0]), Err(MetadataError::Damaged));
        let no_trace = [&[1, 1][..], &[0; 25]].concat();
        assert_eq!(MetadataView::decode(&no_trace), Err(MetadataError::Trace(TraceParentError::ZeroId)));
    }
}
