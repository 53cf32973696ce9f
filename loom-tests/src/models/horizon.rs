//! Waiting for room and for answers.

use super::common::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Wake, Waker};
use whizbang_lockfree::{ConsumerGone, DrainLimit, PushError};

/// A ring is full, its producer waits, the consumer frees and wakes.
pub(super) fn room_is_waited_for() {
    let (mut producers, mut consumer) = two_records(1, 0);
    producers.push(1, SMALL).expect("room for two");
    producers.push(2, SMALL).expect("room for two");
    let waiter = thread::spawn(move || {
        if producers.push(3, SMALL) == Err(PushError::Full) {
            block_on(producers.room());
            producers.push(3, SMALL).expect("all was freed");
        }
    });
    let consumer = thread::spawn(move || {
        let mut drained = Vec::new();
        drain(&mut consumer, &mut drained);
        consumer.wake();
        (consumer, drained)
    });
    waiter.join().unwrap();
    let (mut consumer, mut drained) = consumer.join().unwrap();
    drain(&mut consumer, &mut drained);
    assert_eq!(drained, [1, 2, 3]);
}

/// What the consumer does with a message before it answers, seen by who waited for the answer.
struct Effect(UnsafeCell<u32>);

// SAFETY: loom checks the accesses, which is the point.
unsafe impl Send for Effect {}
// SAFETY: as above.
unsafe impl Sync for Effect {}

impl Effect {
    fn new() -> Arc<Effect> {
        Arc::new(Effect(UnsafeCell::new(0)))
    }

    fn happens(&self) {
        // SAFETY: loom checks the access.
        self.0.with_mut(|effect| unsafe { *effect = 1 });
    }

    fn is_seen(&self) -> bool {
        // SAFETY: loom checks the access.
        self.0.with(|effect| unsafe { *effect == 1 })
    }
}

/// An answer comes, or has come, or comes while its waiter registers.
pub(super) fn answer_is_waited_for() {
    let (mut producers, mut consumer) = two_records(1, 0);
    let ticket = producers.push(1, SMALL).expect("room");
    let effect = Effect::new();
    let seen = Arc::clone(&effect);
    let waiter = thread::spawn(move || {
        assert_eq!(block_on(producers.answered(ticket)), Ok(()));
        assert!(seen.is_seen());
    });
    let consumer = thread::spawn(move || {
        let batch = consumer.drain(DrainLimit::NONE);
        effect.happens();
        batch.finish();
        consumer.wake();
        consumer
    });
    waiter.join().unwrap();
    consumer.join().unwrap();
}

/// Nobody waits; somebody looks.
pub(super) fn answer_is_looked_up() {
    let (mut producers, mut consumer) = two_records(1, 0);
    let ticket = producers.push(1, SMALL).expect("room");
    let effect = Effect::new();
    let seen = Arc::clone(&effect);
    let looker = thread::spawn(move || {
        if producers.passed(ticket) {
            assert!(seen.is_seen());
        }
    });
    let consumer = thread::spawn(move || {
        let batch = consumer.drain(DrainLimit::NONE);
        effect.happens();
        batch.finish();
        consumer
    });
    looker.join().unwrap();
    consumer.join().unwrap();
}

/// A waker that tells how many of it there are.
struct Counted;
impl Wake for Counted {
    fn wake(self: std::sync::Arc<Self>) {}
}

/// A waiter registers and is dropped while the consumer answers another: its waker is gone with it.
pub(super) fn waiter_is_dropped() {
    let (mut producers, mut consumer) = two_records(1, 0);
    producers.must_push(1);
    let ticket = producers.push(2, SMALL).expect("room");
    let counted = std::sync::Arc::new(Counted);
    let waker = Waker::from(std::sync::Arc::clone(&counted));
    let waiting = producers.clone();
    let waiter = thread::spawn(move || {
        let mut answered = pin!(waiting.answered(ticket));
        let _ = answered.as_mut().poll(&mut Context::from_waker(&waker));
    });
    let consumer = thread::spawn(move || {
        consumer.drain(DrainLimit { records: 1, ..DrainLimit::NONE }).finish();
        consumer.wake();
        consumer
    });
    waiter.join().unwrap();
    let consumer = consumer.join().unwrap();
    assert_eq!(std::sync::Arc::strong_count(&counted), 1, "a waker was left behind");
    drop(consumer);
}

/// The consumer answers and goes: who waits gets the answer, not the news that the consumer is gone.
pub(super) fn consumer_answers_and_goes() {
    let (mut producers, mut consumer) = two_records(1, 0);
    let ticket = producers.push(1, SMALL).expect("room");
    let waiter = thread::spawn(move || assert_eq!(block_on(producers.answered(ticket)), Ok(())));
    let consumer = thread::spawn(move || {
        drain(&mut consumer, &mut Vec::new());
        drop(consumer);
    });
    waiter.join().unwrap();
    consumer.join().unwrap();
}

/// The consumer goes without answering.
pub(super) fn consumer_goes_without_answering() {
    let (mut producers, consumer) = two_records(1, 0);
    let ticket = producers.push(1, SMALL).expect("room");
    let waiter = thread::spawn(move || assert_eq!(block_on(producers.answered(ticket)), Err(ConsumerGone)));
    let consumer = thread::spawn(move || drop(consumer));
    waiter.join().unwrap();
    consumer.join().unwrap();
}

/// The pump finishes its batch and tells another thread, which does the waking.
pub(super) fn herald_wakes_from_another_thread() {
    let (mut producers, mut consumer) = two_records(1, 0);
    let ticket = producers.push(1, SMALL).expect("room");
    let herald = consumer.herald();
    let waiter = thread::spawn(move || {
        let mut answered = pin!(producers.answered(ticket));
        let waker = waker();
        while answered.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            thread::park();
        }
    });
    let (tell, told) = loom::sync::mpsc::channel();
    let consumer = thread::spawn(move || {
        drain(&mut consumer, &mut Vec::new());
        tell.send(()).expect("the herald listens");
        consumer
    });
    let herald = thread::spawn(move || {
        told.recv().expect("the pump tells");
        herald.wake();
    });
    waiter.join().unwrap();
    consumer.join().unwrap();
    herald.join().unwrap();
}
