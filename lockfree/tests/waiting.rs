//! Waiting for an answer, and for room.
#![cfg(not(lockfree_loom))]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use whizbang_lockfree::*;

type Header = (u64, u32);

fn small() -> (Producers<Header, NoSink>, Consumer<Header, NoSink>) {
    let config = RingsConfig { seats: 0, stripes: 1, publishers_max: 2, ring_bytes: 256 };
    rings(config, &Doorbell::new()).unwrap()
}

/// Counts how often it was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);
impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn an_answer_is_waited_for_and_the_waking_is_left_to_who_asks_for_it() {
    let (producers, mut consumer) = small();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let cx = &mut Context::from_waker(&waker);
    let ticket = producers.try_push((1, 0), b"").unwrap();
    let later = producers.try_push((2, 0), b"").unwrap();
    let mut answered = pin!(producers.answered(ticket));
    let mut owned = pin!(producers.answered_owned(later));
    assert!(answered.as_mut().poll(cx).is_pending() && owned.as_mut().poll(cx).is_pending());
    assert!(answered.as_mut().poll(cx).is_pending(), "asked again, it is still one waiter");
    consumer.wake();
    assert_eq!(wakes.count(), 0, "nothing has been answered");
    consumer.drain(DrainLimit { records: 1, ..DrainLimit::NONE }).finish();
    assert_eq!(wakes.count(), 0, "finish wakes nobody");
    consumer.herald().wake();
    assert_eq!(wakes.count(), 1, "only the first was answered");
    assert_eq!(answered.as_mut().poll(cx), Poll::Ready(Ok(())));
    assert!(owned.as_mut().poll(cx).is_pending());
    consumer.drain(DrainLimit::NONE).finish();
    producers.herald().wake();
    assert_eq!(wakes.count(), 2);
    assert_eq!(owned.as_mut().poll(cx), Poll::Ready(Ok(())));
    assert_eq!(pin!(producers.answered(ticket)).poll(cx), Poll::Ready(Ok(())), "answered already");
}

#[test]
fn a_waiter_that_is_dropped_leaves_nothing_behind() {
    let (producers, mut consumer) = small();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let ticket = producers.try_push((1, 0), b"").unwrap();
    {
        let mut answered = pin!(producers.answered(ticket));
        assert!(answered.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&wakes), 3);
    }
    assert_eq!(Arc::strong_count(&wakes), 2, "its waker is gone with it");
    consumer.drain(DrainLimit::NONE).finish();
    consumer.wake();
    assert_eq!(wakes.count(), 0);
}

#[test]
fn more_waiters_than_are_woken_at_once_are_all_woken() {
    let (producers, mut consumer) = small();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let ticket = producers.try_push((1, 0), b"").unwrap();
    // They are woken 32 at a time.
    let count = if cfg!(miri) { 33 } else { 100 };
    let mut waiting: Vec<_> = (0..count).map(|_| Box::pin(producers.answered(ticket))).collect();
    for answered in &mut waiting {
        assert!(answered.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    consumer.drain(DrainLimit::NONE).finish();
    consumer.wake();
    assert_eq!(wakes.count(), count);
}

#[test]
fn who_waits_for_an_answer_learns_that_the_consumer_is_gone() {
    let (producers, mut consumer) = small();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let cx = &mut Context::from_waker(&waker);
    let first = producers.try_push((1, 0), b"").unwrap();
    let second = producers.try_push((1, 0), b"").unwrap();
    let mut answered = pin!(producers.answered(second));
    assert!(answered.as_mut().poll(cx).is_pending());
    consumer.drain(DrainLimit { records: 1, ..DrainLimit::NONE }).finish();
    drop(consumer);
    assert_eq!(wakes.count(), 1);
    assert_eq!(answered.as_mut().poll(cx), Poll::Ready(Err(ConsumerGone)));
    assert_eq!(pin!(producers.answered(first)).poll(cx), Poll::Ready(Ok(())), "this one was answered");
    assert_eq!(producers.try_push((0, 0), b"").unwrap_err(), PushError::Closed);
}

#[test]
fn who_waits_for_room_is_woken_by_room_and_by_the_close() {
    let (producers, mut consumer) = small();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let cx = &mut Context::from_waker(&waker);
    let mut publisher = producers.publisher().unwrap();
    while producers.try_push((0, 0), b"").is_ok() {}
    while publisher.try_push((0, 0), b"").is_ok() {}
    {
        let mut room = pin!(producers.room());
        let mut own = pin!(publisher.room());
        assert!(room.as_mut().poll(cx).is_pending() && own.as_mut().poll(cx).is_pending());
        assert_eq!(wakes.count(), 0);
        // One turn of the consumer each: the stripe's ring and the publisher's.
        consumer.drain(DrainLimit { records: 2, ..DrainLimit::NONE }).finish();
        consumer.wake();
        assert_eq!(wakes.count(), 2);
        assert!(room.as_mut().poll(cx).is_ready() && own.as_mut().poll(cx).is_ready());
    }
    // Freed between the refusal and the question: nothing to wait for.
    while producers.try_push((0, 0), b"").is_ok() {}
    consumer.drain(DrainLimit::NONE).finish();
    assert!(pin!(producers.room()).poll(cx).is_ready());
    while producers.try_push((0, 0), b"").is_ok() {}
    let mut room = pin!(producers.room());
    assert!(room.as_mut().poll(cx).is_pending());
    producers.close();
    assert_eq!(wakes.count(), 3);
    assert!(room.as_mut().poll(cx).is_ready());
}

#[test]
fn waiting_for_room_while_all_stripes_are_taken_gives_others_a_turn() {
    let (producers, _consumer) = small();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let cx = &mut Context::from_waker(&waker);
    let claim = producers.try_claim(8).unwrap();
    assert_eq!(producers.try_push((0, 0), b"").unwrap_err(), PushError::Full);
    let mut room = pin!(producers.room());
    assert!(room.as_mut().poll(cx).is_pending());
    assert_eq!(wakes.count(), 1, "it asked to be polled again");
    assert!(room.as_mut().poll(cx).is_ready());
    drop(claim);
}
