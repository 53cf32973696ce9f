//! A use of your own, modelled: a worker that adds up what callers push.
//!
//! Copy this file into `tests/` of your crate and put your own use into it; "Model your own use" in the README says what else
//! that needs.
#![cfg(lockfree_loom)]

use loom::thread;
use std::time::Duration;
use whizbang_lockfree::{Consumer, Doorbell, DrainLimit, NoSink, Rest, RingsConfig, rings};

/// Straight to sleep: the looks before it only hide a lost wake-up.
const AT_ONCE: Rest = Rest { looks: 0, pause: Duration::ZERO, until: None };

/// Adds up so many numbers.
///
/// Make a mistake to see it found: with `|| false` in place of `has_news` no assertion fails, but in some interleaving
/// all threads sleep, and loom stops with `deadlock`.
fn add_up(mut numbers: Consumer<u64, NoSink>, bell: &Doorbell, count: usize) -> u64 {
    let (mut seen, mut sum) = (0, 0);
    while seen < count {
        bell.rest(AT_ONCE, || numbers.has_news());
        let batch = numbers.drain(DrainLimit::NONE);
        seen += batch.len();
        sum += batch.records().map(|record| *record.header()).sum::<u64>();
        batch.finish();
    }
    sum
}

/// Two callers and the worker. loom runs this once for every interleaving.
fn two_callers_and_a_worker() {
    let bell = Doorbell::new();
    let config = RingsConfig { seats: 0, stripes: 2, publishers_max: 0, ring_bytes: 128 };
    let (producers, numbers) = rings(config, &bell).expect("bounds that can be");
    let callers = [1, 2].map(|number| {
        let producers = producers.clone();
        thread::spawn(move || producers.try_push(number, b"").map(drop).expect("a free stripe with room"))
    });
    let worker = thread::spawn(move || add_up(numbers, &bell, 2));
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(worker.join().unwrap(), 3);
}

#[test]
fn every_number_is_added_up() {
    let mut model = loom::model::Builder::new();
    // LOOM_MAX_PREEMPTIONS asks for more.
    model.preemption_bound = model.preemption_bound.or(Some(2));
    model.check(two_callers_and_a_worker);
}
