//! Resting and being woken, by threads and by tasks.
#![cfg(not(lockfree_loom))]

mod common;

use common::block_on;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};
use whizbang_lockfree::*;

/// Small, because Miri keeps books of every byte.
const SMALL: RingsConfig = RingsConfig { seats: 0, stripes: 2, publishers_max: 0, ring_bytes: 1024 };

/// Parks at once, so that every test goes through the last step.
const AT_ONCE: Rest = Rest { looks: 0, pause: Duration::ZERO, until: None };

#[test]
fn a_ring_while_awake_ends_the_next_rest_and_only_that() {
    let bell = Doorbell::new();
    bell.ring();
    bell.ring();
    assert_eq!(bell.rest(AT_ONCE, || false), Woken::Rung);
    let rest = Rest { until: Some(Instant::now()), ..AT_ONCE };
    assert_eq!(bell.rest(rest, || false), Woken::TimedOut);
}

#[test]
fn a_rest_ends_at_its_bound_and_not_before() {
    let bell = Doorbell::new();
    let until = Instant::now() + Duration::from_millis(20);
    assert_eq!(bell.rest(Rest { until: Some(until), ..Rest::default() }, || false), Woken::TimedOut);
    assert!(Instant::now() >= until);
}

#[test]
fn work_that_is_there_already_is_not_slept_upon() {
    let bell = Doorbell::new();
    assert_eq!(bell.rest(AT_ONCE, || true), Woken::Work);
    assert_eq!(bell.rest(Rest::default(), || true), Woken::Work);
    assert_eq!(block_on(bell.rested(|| true)), Woken::Work);
}

#[test]
fn a_push_wakes_a_thread_that_rests_and_a_dropped_claim_does_not() {
    let bell = Doorbell::new();
    let (producers, consumer) = rings::<u32, NoSink>(SMALL, &bell).unwrap();
    thread::scope(|scope| {
        let rested = scope.spawn(|| bell.rest(AT_ONCE, || consumer.has_news()));
        drop(producers.try_claim(8).unwrap());
        producers.try_push(1, b"").unwrap();
        assert!(matches!(rested.join().unwrap(), Woken::Rung | Woken::Work));
    });
    assert!(!consumer.is_empty());
    let mut resting = pin!(bell.rested(|| false));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(resting.as_mut().poll(cx).is_pending());
    drop(producers.try_claim(8).unwrap());
    assert!(resting.as_mut().poll(cx).is_pending());
    producers.try_push(2, b"").unwrap();
    assert_eq!(resting.as_mut().poll(cx), Poll::Ready(Woken::Rung));
}

#[test]
fn a_rest_that_is_dropped_keeps_the_ring_that_came_meanwhile() {
    let bell = Doorbell::new();
    let cx = &mut Context::from_waker(Waker::noop());
    {
        let mut resting = pin!(bell.rested(|| false));
        assert!(resting.as_mut().poll(cx).is_pending());
        bell.ring();
    }
    assert_eq!(pin!(bell.rested(|| false)).poll(cx), Poll::Ready(Woken::Rung));
    {
        let mut resting = pin!(bell.rested(|| false));
        assert!(resting.as_mut().poll(cx).is_pending());
    }
    assert!(pin!(bell.rested(|| false)).poll(cx).is_pending(), "nobody rang");
}

#[test]
#[should_panic(expected = "two consumers rest on one doorbell")]
fn a_second_sleeper_is_refused() {
    let bell = Doorbell::new();
    let cx = &mut Context::from_waker(Waker::noop());
    let mut first = pin!(bell.rested(|| false));
    assert!(first.as_mut().poll(cx).is_pending());
    let _ = pin!(bell.rested(|| false)).poll(cx);
}

#[test]
fn a_rest_that_is_over_has_left_its_seat_before_it_is_dropped() {
    let bell = Doorbell::new();
    let cx = &mut Context::from_waker(Waker::noop());
    let mut over = pin!(bell.rested(|| true));
    assert_eq!(over.as_mut().poll(cx), Poll::Ready(Woken::Work));
    assert_eq!(bell.rest(AT_ONCE, || true), Woken::Work);
}

#[test]
fn the_bound_of_a_rest_holds_for_the_looks_before_it_too() {
    let bell = Doorbell::new();
    let until = Some(Instant::now() + Duration::from_millis(2));
    let rest = Rest { looks: u32::MAX, pause: Duration::from_secs(3_600), until };
    assert_eq!(bell.rest(rest, || false), Woken::TimedOut);
}

#[test]
fn a_publisher_that_ends_after_the_close_lets_go_of_the_claim_it_forgot() {
    let bell = Doorbell::new();
    let config = RingsConfig { publishers_max: 1, ..SMALL };
    let (producers, consumer) = rings::<u32, NoSink>(config, &bell).unwrap();
    let mut publisher = producers.publisher().unwrap();
    std::mem::forget(publisher.try_claim(8).unwrap());
    producers.close();
    assert_eq!(bell.rest(AT_ONCE, || consumer.has_news()), Woken::Rung, "by the close");
    let cx = &mut Context::from_waker(Waker::noop());
    let mut resting = pin!(bell.rested(|| consumer.has_news()));
    assert!(resting.as_mut().poll(cx).is_pending(), "the claim may still be committed");
    drop(publisher);
    assert_eq!(resting.as_mut().poll(cx), Poll::Ready(Woken::Rung));
    assert!(consumer.is_closed_and_empty());
}

/// A waker that holds something, as that of a task which nobody else holds any more.
struct Holds<T>(#[allow(dead_code, reason = "held to be dropped")] Mutex<T>);

impl<T: Send> Wake for Holds<T> {
    fn wake(self: Arc<Self>) {}
}

/// Registers twice; with the second waker the last holder of the first, and so of `held`, is gone.
fn replaces_a_waker_that_holds<T: Send + 'static>(waiting: impl Future, held: T) {
    let mut waiting = pin!(waiting);
    let holds = Waker::from(Arc::new(Holds(Mutex::new(held))));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&holds)).is_pending());
    drop(holds);
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn a_waker_that_is_replaced_may_drop_another_waiter_of_the_same_ring() {
    let (producers, _consumer) = rings::<u32, NoSink>(SMALL, &Doorbell::new()).unwrap();
    let ticket = producers.try_push(1, b"").unwrap();
    let mut other = Box::pin(producers.answered_owned(ticket));
    assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    replaces_a_waker_that_holds(producers.answered(ticket), other);
}

#[test]
fn a_waker_that_is_replaced_may_ring_the_bell_it_waited_at() {
    struct RingsWhenDropped(Doorbell);
    impl Drop for RingsWhenDropped {
        fn drop(&mut self) {
            self.0.ring();
        }
    }
    let bell = Doorbell::new();
    let mut resting = pin!(bell.rested(|| false));
    let holds = Waker::from(Arc::new(Holds(Mutex::new(RingsWhenDropped(bell.clone())))));
    assert!(resting.as_mut().poll(&mut Context::from_waker(&holds)).is_pending());
    drop(holds);
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(resting.as_mut().poll(cx), Poll::Ready(Woken::Rung));
}

/// One message at a time there and back: whichever wake-up is lost, both sides sleep for ever.
fn ping_pong(fences: Fences, rounds: u32, rest: Rest) {
    let bell = Doorbell::with_fences(fences);
    let config = RingsConfig { seats: 0, stripes: 1, publishers_max: 1, ring_bytes: 128 };
    let (producers, mut consumer) = rings::<u32, NoSink>(config, &bell).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                let ticket = producers.try_push(round, b"").unwrap();
                block_on(producers.answered(ticket)).unwrap();
            }
            producers.close();
        });
        let mut expected = 0;
        while !consumer.is_closed_and_empty() {
            let batch = consumer.drain(DrainLimit::NONE);
            for record in &batch {
                assert_eq!(*record.header(), expected);
                expected += 1;
            }
            batch.finish();
            consumer.wake();
            bell.rest(rest, || consumer.has_news());
        }
        assert_eq!(expected, rounds);
    });
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no membarrier: this would be the next one again")]
fn no_wake_up_is_lost_with_the_fences_of_this_machine() {
    ping_pong(Fences::detect(), 20_000, AT_ONCE);
}

#[test]
fn no_wake_up_is_lost_with_symmetric_fences() {
    ping_pong(Fences::Symmetric, if cfg!(miri) { 4 } else { 20_000 }, AT_ONCE);
}

#[test]
fn no_wake_up_is_lost_when_the_consumer_looks_a_few_times_first() {
    ping_pong(Fences::detect(), if cfg!(miri) { 2 } else { 20_000 }, Rest::default());
}

#[test]
fn two_sets_of_rings_share_a_bell() {
    let bell = Doorbell::new();
    let (one, mut from_one) = rings::<u32, NoSink>(SMALL, &bell).unwrap();
    let (two, mut from_two) = rings::<u32, NoSink>(SMALL, &bell).unwrap();
    let rounds = if cfg!(miri) { 4 } else { 5_000 };
    thread::scope(|scope| {
        scope.spawn(move || {
            for round in 0..rounds {
                let producers = if round % 2 == 0 { &one } else { &two };
                let ticket = producers.try_push(round, b"").unwrap();
                block_on(producers.answered(ticket)).unwrap();
            }
            one.close();
            two.close();
        });
        let mut count = 0;
        while !(from_one.is_closed_and_empty() && from_two.is_closed_and_empty()) {
            for consumer in [&mut from_one, &mut from_two] {
                let batch = consumer.drain(DrainLimit::NONE);
                count += batch.len() as u32;
                batch.finish();
                consumer.wake();
            }
            // One of the two may be at its end while the other is not: its news is no news then.
            let is_there_work = || {
                let ended = [&from_one, &from_two].map(|consumer| consumer.is_closed_and_empty());
                !from_one.is_empty() || !from_two.is_empty() || ended == [true, true]
            };
            block_on(async {
                let mut rested = pin!(bell.rested(is_there_work));
                poll_fn(|cx| rested.as_mut().poll(cx)).await
            });
        }
        assert_eq!(count, rounds);
    });
}
