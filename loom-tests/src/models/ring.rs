//! Filling and freeing one ring, and who may be its producer.

use super::common::*;
use loom::thread;
use whizbang_lockfree::model::give_seat_back;
use whizbang_lockfree::{PushError, RingsConfig, rings};

/// A record does not fit before the wrap; it goes behind padding to the beginning, or is refused.
pub(super) fn ring_wraps() {
    let (mut producers, mut consumer) = rings_of(1, 0, 128, &unheard());
    producers.push(0, WIDE).expect("an empty ring");
    drain(&mut consumer, &mut Vec::new());
    let producer = thread::spawn(move || {
        let accepted = [1, 2, 3].into_iter().filter(|n| producers.push(*n, WIDE).is_ok());
        accepted.collect::<Vec<_>>()
    });
    let consumer = thread::spawn(move || {
        let mut drained = Vec::new();
        drain(&mut consumer, &mut drained);
        drain(&mut consumer, &mut drained);
        (consumer, drained)
    });
    let accepted = producer.join().unwrap();
    let (mut consumer, mut drained) = consumer.join().unwrap();
    drain(&mut consumer, &mut drained);
    assert!(accepted.starts_with(&[1, 2]), "there was room for two");
    assert_eq!(drained, accepted);
}

/// A full ring refuses until its batch is finished, and then takes as much as was freed.
pub(super) fn full_ring_is_freed() {
    let (mut producers, mut consumer) = two_records(1, 0);
    producers.push(1, SMALL).expect("room for two");
    producers.push(2, SMALL).expect("room for two");
    let producer = thread::spawn(move || {
        let first = producers.push(3, SMALL);
        let second = producers.push(4, SMALL);
        let closed_or_large =
            [first, second].into_iter().filter_map(Result::err).find(|why| *why != PushError::Full);
        assert_eq!(closed_or_large, None);
        [(3, first), (4, second)]
            .into_iter()
            .filter(|(_, pushed)| pushed.is_ok())
            .map(|(n, _)| n)
            .collect::<Vec<_>>()
    });
    let consumer = thread::spawn(move || {
        let mut drained = Vec::new();
        drain(&mut consumer, &mut drained);
        (consumer, drained)
    });
    let accepted = producer.join().unwrap();
    let (mut consumer, mut drained) = consumer.join().unwrap();
    drain(&mut consumer, &mut drained);
    assert_eq!(drained, [&[1, 2], &accepted[..]].concat());
}

/// A claim is written to and dropped while the consumer looks; the next record takes its place.
pub(super) fn claim_is_dropped() {
    let (mut producers, mut consumer) = two_records(1, 0);
    let producer = thread::spawn(move || {
        let mut claim = producers.try_claim(SMALL).expect("an empty ring");
        claim.extend_from_slice(&[0xDD; 3]).expect("within the claim");
        drop(claim);
        producers.push(1, SMALL).expect("the claim took no room");
    });
    let consumer = thread::spawn(move || {
        let mut drained = Vec::new();
        drain(&mut consumer, &mut drained);
        (consumer, drained)
    });
    producer.join().unwrap();
    let (mut consumer, mut drained) = consumer.join().unwrap();
    drain(&mut consumer, &mut drained);
    assert_eq!(drained, [1]);
}

/// Two threads, one stripe: one is inside at a time, the other is refused or comes after.
pub(super) fn stripe_is_shared() {
    let (producers, mut consumer) = two_records(1, 0);
    let pushers = [1, 2].map(|n| {
        let mut producers = producers.clone();
        thread::spawn(move || producers.push(n, SMALL).is_ok())
    });
    let accepted: Vec<_> =
        pushers.into_iter().zip([1, 2]).filter_map(|(t, n)| t.join().unwrap().then_some(n)).collect();
    let mut drained = Vec::new();
    drain(&mut consumer, &mut drained);
    drained.sort_unstable();
    assert!(!accepted.is_empty(), "somebody got in");
    assert_eq!(drained, accepted);
}

/// Two threads, two stripes, and the consumer sweeping meanwhile: nobody is refused.
pub(super) fn stripes_are_two() {
    let (producers, mut consumer) = two_records(2, 0);
    let pushers = [1, 2].map(|n| {
        let mut producers = producers.clone();
        thread::spawn(move || producers.must_push(n))
    });
    let consumer = thread::spawn(move || {
        let mut drained = Vec::new();
        drain(&mut consumer, &mut drained);
        (consumer, drained)
    });
    pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
    let (mut consumer, mut drained) = consumer.join().unwrap();
    drain(&mut consumer, &mut drained);
    drained.sort_unstable();
    assert_eq!(drained, [1, 2]);
}

/// Two threads push and end, one seat: who has it pushes through its ring, also after the other, who leaves it when its thread ends.
pub(super) fn seat_is_passed_on() {
    let config = RingsConfig { seats: 1, stripes: 1, publishers_max: 0, ring_bytes: 64 };
    let (producers, mut consumer) = rings(config, &unheard()).expect("bounds that can be");
    let pushers = [1, 2].map(|n| {
        let mut producers: In = producers.clone();
        thread::spawn(move || producers.must_push(n))
    });
    pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
    let mut drained = Vec::new();
    drain(&mut consumer, &mut drained);
    drained.sort_unstable();
    assert_eq!(drained, [1, 2]);
}

/// A thread gives its seat back, as it does when it ends, and commits what it had claimed only then: the seat's next thread
/// goes round the ring until that has happened.
pub(super) fn claim_outlives_its_seat() {
    let config = RingsConfig { seats: 1, stripes: 1, publishers_max: 0, ring_bytes: 128 };
    let (producers, mut consumer) = rings(config, &unheard()).expect("bounds that can be");
    let claimer = {
        let producers: In = producers.clone();
        thread::spawn(move || {
            let mut claim = producers.try_claim(SMALL).expect("an empty ring");
            claim.extend_from_slice(&payload(1, SMALL)).expect("as much as was claimed");
            give_seat_back();
            claim.commit(());
        })
    };
    let pusher = {
        let mut producers = producers.clone();
        thread::spawn(move || producers.must_push(2))
    };
    claimer.join().unwrap();
    pusher.join().unwrap();
    let mut drained = Vec::new();
    drain(&mut consumer, &mut drained);
    drained.sort_unstable();
    assert_eq!(drained, [1, 2]);
}

/// A publisher pushes and ends; another takes its ring over, drained or not, and goes on behind it.
pub(super) fn publisher_ends_and_ring_is_reused() {
    let (producers, mut consumer) = two_records(1, 1);
    let pushers = [1, 2].map(|n| {
        let producers = producers.clone();
        thread::spawn(move || match producers.publisher() {
            Ok(mut own) => own.push(n, SMALL).is_ok(),
            Err(_) => false,
        })
    });
    let accepted: Vec<_> =
        pushers.into_iter().zip([1, 2]).filter_map(|(t, n)| t.join().unwrap().then_some(n)).collect();
    let mut drained = Vec::new();
    drain(&mut consumer, &mut drained);
    drained.sort_unstable();
    assert!(!accepted.is_empty(), "somebody got the ring");
    assert_eq!(drained, accepted);
}

/// The ring passes from one publisher to the next while the consumer sweeps it: drained or not, nothing is lost,
/// doubled or torn.
pub(super) fn ring_is_reused_while_drained() {
    let (producers, mut consumer) = two_records(1, 1);
    let pushers = [1, 2].map(|n| {
        let producers = producers.clone();
        thread::spawn(move || producers.publisher().is_ok_and(|mut own| own.push(n, SMALL).is_ok()))
    });
    let consumer = thread::spawn(move || {
        let mut drained = Vec::new();
        drain(&mut consumer, &mut drained);
        (consumer, drained)
    });
    let accepted: Vec<_> =
        pushers.into_iter().zip([1, 2]).filter_map(|(t, n)| t.join().unwrap().then_some(n)).collect();
    let (mut consumer, mut drained) = consumer.join().unwrap();
    drain(&mut consumer, &mut drained);
    drained.sort_unstable();
    assert!(!accepted.is_empty(), "somebody got the ring");
    assert_eq!(drained, accepted);
}
