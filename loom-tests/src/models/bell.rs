//! No wake-up is lost: each model that loses one ends with all threads blocked.

use super::common::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::future::Future;
use std::pin::pin;
use std::task::Context;
use whizbang_lockfree::{Doorbell, Woken};

/// Rests until so many records came.
fn pump(mut consumer: Out, bell: &Doorbell, count: usize) -> Vec<u8> {
    let mut drained = Vec::new();
    while drained.len() < count {
        bell.rest(AT_ONCE, || consumer.has_news());
        drain(&mut consumer, &mut drained);
    }
    drained
}

/// A push against a consumer that is about to rest.
pub(super) fn push_wakes() {
    let (producers, consumer, bell) = two_records_and_bell(1, 1);
    let mut own = producers.publisher().expect("a free ring");
    let pusher = thread::spawn(move || own.must_push(1));
    let consumer = thread::spawn(move || pump(consumer, &bell, 1));
    pusher.join().unwrap();
    assert_eq!(consumer.join().unwrap(), [1]);
}

/// Two producers, a ring each, and one sleeper.
pub(super) fn two_push_and_one_sleeps() {
    let (producers, consumer, bell) = two_records_and_bell(1, 1);
    let mut own = producers.publisher().expect("a free ring");
    let mut shared = producers;
    let first = thread::spawn(move || own.must_push(1));
    let second = thread::spawn(move || shared.must_push(2));
    let consumer = thread::spawn(move || pump(consumer, &bell, 2));
    first.join().unwrap();
    second.join().unwrap();
    let mut drained = consumer.join().unwrap();
    drained.sort_unstable();
    assert_eq!(drained, [1, 2]);
}

/// Somebody does something and rings; whoever is woken sees what was done, also when it was not asleep yet.
pub(super) fn ring_is_remembered() {
    let bell = Doorbell::new();
    let done = Arc::new(UnsafeCell::new(0));
    let (ringing, doing) = (bell.clone(), Arc::clone(&done));
    let ringer = thread::spawn(move || {
        // SAFETY: checked by loom, which is the point.
        doing.with_mut(|done| unsafe { *done = 1 });
        ringing.ring();
    });
    let sleeper = thread::spawn(move || {
        assert_eq!(bell.rest(AT_ONCE, || false), Woken::Rung);
        // SAFETY: as above.
        done.with(|done| unsafe { *done })
    });
    ringer.join().unwrap();
    assert_eq!(sleeper.join().unwrap(), 1);
}

/// A handler settles in one set of rings, a caller publishes in another, and the pump rests on the bell of both.
pub(super) fn settle_and_intake_share_a_bell() {
    let bell = Doorbell::new();
    let (mut intake, mut from_intake) = rings_of(1, 0, 64, &bell);
    let (mut settle, mut from_settle) = rings_of(1, 0, 64, &bell);
    let caller = thread::spawn(move || intake.must_push(1));
    let handler = thread::spawn(move || settle.must_push(2));
    let pump = thread::spawn(move || {
        let mut drained = Vec::new();
        while drained.len() < 2 {
            bell.rest(AT_ONCE, || from_intake.has_news() || from_settle.has_news());
            drain(&mut from_settle, &mut drained);
            drain(&mut from_intake, &mut drained);
        }
        drained
    });
    caller.join().unwrap();
    handler.join().unwrap();
    let mut drained = pump.join().unwrap();
    drained.sort_unstable();
    assert_eq!(drained, [1, 2]);
}

/// A task gives up resting while somebody rings: the next rest ends at once.
pub(super) fn rest_is_dropped() {
    let bell = Doorbell::new();
    let ringing = bell.clone();
    let ringer = thread::spawn(move || ringing.ring());
    let sleeper = thread::spawn(move || {
        let waker = waker();
        {
            let mut rested = pin!(bell.rested(|| false));
            if rested.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                return;
            }
        }
        assert_eq!(bell.rest(AT_ONCE, || false), Woken::Rung);
    });
    ringer.join().unwrap();
    sleeper.join().unwrap();
}
