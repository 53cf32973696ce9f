//! The end: nothing is both accepted and lost.

use super::common::*;
use loom::thread;
use whizbang_lockfree::PushError;

/// Looks once for the end; what it saw before, and whether it believed in it.
fn look_for_the_end(mut consumer: Out) -> (Out, Vec<u8>, bool) {
    let mut drained = Vec::new();
    drain(&mut consumer, &mut drained);
    let has_ended = consumer.is_closed_and_empty();
    (consumer, drained, has_ended)
}

fn close_against(mut producer: impl Push + Send + 'static, producers: In, consumer: Out) {
    let pusher = thread::spawn(move || producer.push(1, SMALL));
    let closer = thread::spawn(move || producers.close());
    let consumer = thread::spawn(move || look_for_the_end(consumer));
    let pushed = pusher.join().unwrap();
    closer.join().unwrap();
    let (mut consumer, mut drained, has_ended) = consumer.join().unwrap();
    if !has_ended {
        drain(&mut consumer, &mut drained);
        assert!(consumer.is_closed_and_empty(), "everybody has left");
    }
    match pushed {
        Ok(_) => assert_eq!(drained, [1], "accepted and lost"),
        Err(why) => assert!(drained.is_empty() && why == PushError::Closed),
    }
}

/// A publisher pushes while somebody closes and the consumer looks for the end.
pub(super) fn close_against_publisher() {
    let (producers, consumer, _) = two_records_and_bell(1, 1);
    let own = producers.publisher().expect("a free ring");
    close_against(own, producers, consumer);
}

/// The same through a stripe.
pub(super) fn close_against_stripe() {
    let (producers, consumer, _) = two_records_and_bell(1, 0);
    close_against(producers.clone(), producers, consumer);
}

/// A claim from before the close is dropped after it: the consumer that rests meanwhile learns of the end.
pub(super) fn close_waits_for_a_claim() {
    let (producers, consumer, bell) = two_records_and_bell(1, 1);
    let mut own = producers.publisher().expect("a free ring");
    let claimer = thread::spawn(move || drop(own.try_claim(SMALL)));
    let closer = thread::spawn(move || producers.close());
    let consumer = thread::spawn(move || {
        while !consumer.is_closed_and_empty() {
            bell.rest(AT_ONCE, || consumer.has_news());
        }
    });
    claimer.join().unwrap();
    closer.join().unwrap();
    consumer.join().unwrap();
}

/// Who waits for room in a full ring learns that there will be none.
pub(super) fn close_wakes_who_waits_for_room() {
    let (mut producers, consumer, _) = two_records_and_bell(1, 0);
    producers.push(1, SMALL).expect("room for two");
    producers.push(2, SMALL).expect("room for two");
    let closing = producers.clone();
    let waiter = thread::spawn(move || {
        if producers.push(3, SMALL) == Err(PushError::Full) {
            block_on(producers.room());
            assert_eq!(producers.push(3, SMALL), Err(PushError::Closed));
        }
    });
    let closer = thread::spawn(move || closing.close());
    waiter.join().unwrap();
    closer.join().unwrap();
    drop(consumer);
}
