//! The message derives: what they write is what is stored.

use serde::{Deserialize, Serialize};
use whizbang::codec::DecodeError;
use whizbang::message::is_plain;
use whizbang::{Command, ContentType, Event, Message, MessageKind, StreamId, StreamKey, Upcast};

#[derive(Debug, PartialEq, Serialize, Deserialize, Command)]
#[message(name = "orders.create", version = 7, reply = Vec<u64>, codec = postcard)]
struct CreateOrder {
    #[stream]
    customer: String,
    amount: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 1)]
struct OrderCreated(#[stream] u64, u32);

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "orders.settled", version = 1, codec = json)]
enum OrderSettled {
    Paid { cents: u64 },
    Cancelled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Command)]
#[message(name = "ping", version = 65535)]
struct Ping;

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "in.stream", version = 1)]
struct InStream {
    #[stream]
    stream: StreamId,
}

#[test]
fn the_attribute_says_what_is_stored() {
    assert_eq!((CreateOrder::NAME, CreateOrder::VERSION), ("orders.create", 7));
    assert_eq!((CreateOrder::KIND, CreateOrder::CONTENT_TYPE), (MessageKind::Command, ContentType::POSTCARD));
    assert_eq!((OrderCreated::KIND, OrderCreated::CONTENT_TYPE), (MessageKind::Event, ContentType::JSON));
    assert_eq!(Ping::VERSION, u16::MAX);
    fn replies<C: Command<Reply = R>, R>() {}
    replies::<CreateOrder, Vec<u64>>();
    replies::<Ping, ()>();
}

#[test]
fn the_stream_is_that_of_the_marked_field() {
    let order = CreateOrder { customer: "ann".into(), amount: 1 };
    assert_eq!(order.stream(), Some(StreamId::from_key("ann")));
    assert_eq!(OrderCreated(12, 1).stream(), Some(StreamId::from_key("12")));
    assert_eq!(Ping.stream(), None);
    let stream = "a".stream_id();
    assert_eq!(InStream { stream }.stream(), Some(stream), "a stream's id is that stream");
}

#[test]
fn every_shape_comes_back() {
    fn comes_back<M: Message + PartialEq + std::fmt::Debug>(message: M) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        assert_eq!(M::decode(M::VERSION, M::CONTENT_TYPE, &bytes).unwrap(), message);
    }
    comes_back(CreateOrder { customer: "ünï\0".into(), amount: u32::MAX });
    comes_back(OrderCreated(u64::MAX, 0));
    comes_back(OrderSettled::Paid { cents: 1 });
    comes_back(OrderSettled::Cancelled);
    comes_back(Ping);
}

#[test]
fn what_was_stored_with_another_codec_is_still_read() {
    let json = br#"{"customer":"ann","amount":3}"#;
    let order = CreateOrder::decode(7, ContentType::JSON, json).unwrap();
    assert_eq!(order, CreateOrder { customer: "ann".into(), amount: 3 });
}

#[test]
fn plain_is_what_owns_nothing() {
    assert!(is_plain::<OrderCreated>() && !is_plain::<CreateOrder>());
    #[repr(align(32))]
    struct Wide;
    assert!(!is_plain::<Wide>());
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "prices.set", version = 1)]
struct PriceSetV1 {
    price: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "prices.set", version = 3, upcast_from = PriceSetV1)]
struct PriceSetV3 {
    cents: u64,
}

impl Upcast for PriceSetV3 {
    type Previous = PriceSetV1;

    fn upcast(previous: PriceSetV1) -> Self {
        Self { cents: u64::from(previous.price) * 100 }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "prices.set", version = 4, upcast_from = PriceSetV3)]
struct PriceSet {
    cents: u64,
    currency: String,
}

impl Upcast for PriceSet {
    type Previous = PriceSetV3;

    fn upcast(previous: PriceSetV3) -> Self {
        Self { cents: previous.cents, currency: "EUR".to_owned() }
    }
}

#[test]
fn older_versions_are_read_through_the_chain() {
    let euros = |cents| PriceSet { cents, currency: "EUR".into() };
    let decode = |version, json: &str| PriceSet::decode(version, ContentType::JSON, json.as_bytes());
    assert_eq!(decode(1, r#"{"price":3}"#).unwrap(), euros(300));
    assert_eq!(decode(3, r#"{"cents":301}"#).unwrap(), euros(301));
    let own = r#"{"cents":302,"currency":"USD"}"#;
    assert_eq!(decode(4, own).unwrap(), PriceSet { cents: 302, currency: "USD".into() });
}

#[test]
fn versions_outside_of_the_chain_are_errors() {
    let decode = |version| PriceSet::decode(version, ContentType::JSON, b"{}").unwrap_err();
    assert!(matches!(decode(5), DecodeError::TooNew { version: 5, newest: 4, name: "prices.set" }));
    assert!(matches!(decode(0), DecodeError::TooOld { version: 0, oldest: 1, name: "prices.set" }));
    // Version 2 never existed: nothing in the chain reads it.
    assert!(matches!(decode(2), DecodeError::TooNew { version: 2, newest: 1, .. }));
    assert!(matches!(decode(1), DecodeError::Payload { .. }), "known, but not its bytes");
}
