//! Whatever is written comes back, and whatever is read never panics.

use core::num::NonZeroU128;
use std::time::Duration;

use proptest::prelude::*;

use super::{Borrowed, Malformed, Wire};
use crate::*;

fn id(number: u128) -> MessageId {
    MessageId::from_bits(NonZeroU128::new(number).unwrap())
}

fn append(number: u128) -> Append<'static> {
    Append {
        id: id(number),
        stream: Some(StreamId::from_key("s")),
        kind: MessageKind::Event,
        type_name: "test.type",
        type_version: 300,
        content_type: ContentType::POSTCARD,
        payload: b"payload\0",
        correlation: id(7).into(),
        causation: Some(id(8)),
        metadata: b"metadata",
        dedup: Some(b"key"),
        due_in: Some(Duration::from_micros(1_000_001)),
        hand_out: HandOut::Now,
    }
}

/// Batches in which every field of everything is there, and every variant once.
fn batches(mut with: impl FnMut(&WorkBatch<'_>)) {
    let from =
        Sender { instance: InstanceId::from_bits(NonZeroU128::MAX), start_token: u64::MAX, number: 1 << 40 };
    let (subscription, partition, position) = (SubscriptionId(3), Partition(4_095), Position(u64::MAX));
    let running = [Running { subscription, partition, position }];
    let spec =
        SubscriptionSpec { name: "späte", start: StartAt::End, on_dead: OnDead::Halt, attempts_max: 10 };
    let releases = [Release { partition, epoch: Epoch(9), running: &running }];
    let memberships = [
        Membership::Join(Join {
            group: Some("g"),
            subscriptions: &[spec, SubscriptionSpec { start: StartAt::First, on_dead: OnDead::Skip, ..spec }],
            types: &[KnownType { name: "test.type", version_max: 2 }],
        }),
        Membership::Join(Join { group: None, subscriptions: &[], types: &[] }),
        Membership::Heartbeat,
        Membership::Release(&releases),
        Membership::Leave { running: &running },
    ];
    let lane = StreamId::from_key("lane");
    let delivery = Delivery { subscription, partition, position, lane, epoch: Epoch(1), attempt: 2 };
    let emits = [append(1), Append { stream: None, causation: None, dedup: None, due_in: None, ..append(2) }];
    let projections = [
        Projection { perspective: "p", key: b"k", based_on: Some(Revision(3)), state: Some(b"state") },
        Projection { perspective: "p", key: b"k", based_on: None, state: None },
    ];
    let expects = [Expected { stream: lane, version: Version(5) }];
    let settles = [
        Settle::Done,
        Settle::Retry { after: Duration::from_secs(5), error: "later" },
        Settle::Dead { reason: DeadReason::Undecodable, error: "" },
        Settle::Detach,
        Settle::Defer,
        Settle::Unroutable,
        Settle::Release,
        Settle::Exhausted { error: "spent" },
    ];
    let units = settles.map(|settle| Unit {
        delivery: Some(delivery),
        settle,
        emits: &emits,
        expects: &expects,
        projections: &projections,
    });
    let key = ParkedKey { subscription, partition, position };
    let operations = [
        Operation::Requeue(key),
        Operation::Discard(key),
        Operation::Pause(subscription),
        Operation::Resume(subscription),
        Operation::Register { group: "g", subscription: spec },
        Operation::Drop(subscription),
    ];
    let limit = Limit { messages: 5, bytes: usize::MAX };
    let full = WorkBatch {
        from,
        membership: None,
        units: &units,
        settled: &[Settled { subscription, partition, epoch: Epoch(1), first: Position(1), last: position }],
        appends: &emits,
        arrivals: Some(3),
        operations: &operations,
        due: Some(limit),
        reads: &[Read { subscription, partition, epoch: Epoch(1), after: position, limit }],
        housekeeping: Some(0),
    };
    with(&WorkBatch::empty(from));
    with(&full);
    for said in memberships {
        with(&WorkBatch { membership: Some(said), ..full });
    }
}

#[test]
fn a_batch_comes_back_as_it_was() {
    batches(|batch| {
        let mut bytes = Vec::new();
        Borrowed::put(batch, &mut bytes);
        let mut from = &bytes[..];
        let read = Borrowed::get(&mut from).unwrap();
        assert!(from.is_empty());
        read.lend(|again| {
            assert_eq!(format!("{again:?}"), format!("{batch:?}"));
            assert_eq!(again.digest(), batch.digest());
        });
    });
}

#[test]
fn a_batch_that_is_cut_off_is_none() {
    batches(|batch| {
        let mut bytes = Vec::new();
        Borrowed::put(batch, &mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(Borrowed::get(&mut &bytes[..length]).map(drop), Err(Malformed), "{length}");
        }
    });
}

#[test]
fn a_service_comes_back_as_it_was() {
    for event_retention in [None, Some(Duration::from_secs(7))] {
        let service = Service { event_retention, ..Service::named("läden") };
        let mut bytes = Vec::new();
        service.put(&mut bytes);
        assert_eq!(Service::get(&mut &bytes[..]), Ok(service));
    }
}

#[test]
fn a_time_that_is_longer_than_any_clock_stays_so() {
    let mut bytes = Vec::new();
    Duration::MAX.put(&mut bytes);
    let read = Duration::get(&mut &bytes[..]).unwrap();
    let now = Timestamp::from_micros(5);
    assert_eq!(now.after(read), now.after(Duration::MAX));
}

proptest! {
    #[test]
    fn numbers_come_back(number in any::<u64>()) {
        let mut bytes = Vec::new();
        number.put(&mut bytes);
        prop_assert_eq!(u64::get(&mut &bytes[..]), Ok(number));
    }

    #[test]
    fn reading_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Borrowed::get(&mut &bytes[..]);
        let _ = Service::get(&mut &bytes[..]);
    }
}
