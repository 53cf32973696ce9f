//! A message written by hand whose `KIND` is not that of its trait is found where it is used.
use whizbang::codec::{Buffer, DecodeError, EncodeError};
use whizbang::{Command, ContentType, Context, Failure, Message, MessageKind, Receptor, StreamId, dispatcher};

struct CreateOrder;

impl Message for CreateOrder {
    const NAME: &'static str = "orders.create";
    const VERSION: u16 = 1;
    const KIND: MessageKind = MessageKind::Event;
    const CONTENT_TYPE: ContentType = ContentType::JSON;
    type Reply = ();

    fn stream(&self) -> Option<StreamId> {
        None
    }

    fn encode(&self, _: &mut impl Buffer) -> Result<(), EncodeError> {
        Ok(())
    }

    fn decode(_: u16, _: ContentType, _: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Command for CreateOrder {}

struct Orders;

impl Receptor<CreateOrder> for Orders {
    async fn receive(&self, _: CreateOrder, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct Shop { orders: Orders }
    command CreateOrder => orders;
}

fn main() {}
