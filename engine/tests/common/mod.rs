//! Messages as a store hands them out.

use whizbang::dispatch::Handed;
use whizbang::{CorrelationId, Message, MessageId, StreamId};
use whizbang_storage::{Condition, Epoch, LaneState, Origin, Partition, Position, SubscriptionId};

/// A message, encoded.
pub(crate) struct Stored<M> {
    pub(crate) id: MessageId,
    pub(crate) correlation: CorrelationId,
    pub(crate) stream: Option<StreamId>,
    pub(crate) payload: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    message: std::marker::PhantomData<M>,
}

pub(crate) fn stored<M: Message>(message: &M) -> Stored<M> {
    let id: MessageId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let mut payload = Vec::new();
    message.encode(&mut payload).unwrap();
    Stored {
        id,
        correlation: id.into(),
        stream: message.stream(),
        payload,
        metadata: Vec::new(),
        message: std::marker::PhantomData,
    }
}

impl<M: Message> Stored<M> {
    pub(crate) fn handed(&self) -> Handed<'_> {
        Handed {
            id: self.id,
            stream: self.stream,
            version: None,
            kind: M::KIND,
            type_name: M::NAME,
            type_version: M::VERSION,
            content_type: M::CONTENT_TYPE,
            payload: &self.payload,
            metadata: &self.metadata,
            correlation: self.correlation,
            causation: None,
            subscription: SubscriptionId(1),
            partition: Partition(0),
            position: Position(1),
            epoch: Epoch(1),
            attempt: 1,
            origin: Origin::Log,
            lane: LaneState::Free,
            condition: Condition::Whole,
        }
    }
}
