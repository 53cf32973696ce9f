//! Which ring a thread pushes through: that of its seat, or a stripe.
#![cfg(not(lockfree_loom))]

use std::cell::Cell;
use std::sync::{OnceLock, mpsc};
use std::thread;
use whizbang_lockfree::*;

#[test]
fn a_thread_keeps_the_ring_of_its_seat_and_passes_it_on_when_it_ends() {
    let config = RingsConfig { seats: 64, stripes: 1, publishers_max: 0, ring_bytes: 65_536 };
    let (producers, mut consumer) = rings::<u32, NoSink>(config, &Doorbell::new()).unwrap();
    let push = |n| producers.try_push(n, b"").unwrap().ring();
    let mine = push(0);
    assert!(mine < 64, "this thread has a seat: there are more than tests run at once");
    let theirs = thread::scope(|scope| {
        let twice = scope.spawn(|| {
            let ring = push(1);
            assert_ne!(ring, mine);
            assert_eq!(push(2), ring, "a thread keeps its ring");
            ring
        });
        twice.join().unwrap()
    });
    assert_eq!(push(3), mine);
    // Seats are passed on: more threads than there are seats have come and gone, and each found one.
    // Fewer under Miri, where a thread takes long.
    let more = if cfg!(miri) { 4 } else { 200 };
    for n in 0..more {
        let ring = thread::scope(|scope| scope.spawn(|| push(4 + n)).join().unwrap());
        assert!(ring < 64, "thread {n} got no seat");
    }
    let batch = consumer.drain(DrainLimit::NONE);
    let of = |ring| batch.records().filter(move |r| r.ticket().ring() == ring).map(|r| *r.header());
    assert!(of(mine).eq([0, 3]));
    assert!(of(theirs).take(2).eq([1, 2]), "what a thread left is drained in order");
    assert_eq!(batch.len(), 4 + more as usize);
}

#[test]
fn a_thread_that_holds_a_claim_pushes_through_a_stripe() {
    let config = RingsConfig { seats: 64, stripes: 1, publishers_max: 0, ring_bytes: 4096 };
    let (producers, mut consumer) = rings::<u32, NoSink>(config, &Doorbell::new()).unwrap();
    let claim = producers.try_claim(8).unwrap();
    let beside = producers.try_push(1, b"beside").unwrap();
    assert_eq!(beside.ring(), 64, "the stripe lies behind the seats");
    let claimed = claim.commit(2);
    assert_ne!(claimed.ring(), 64);
    assert_eq!(producers.try_push(3, b"after").unwrap().ring(), claimed.ring());
    let batch = consumer.drain(DrainLimit::NONE);
    assert_eq!(batch.len(), 3);
    batch.finish();
}

/// Rust tears thread-local values down in the reverse order of their first use, so what was there before the seat outlives it.
#[test]
fn what_a_thread_still_says_while_it_is_torn_down_goes_round_its_seat() {
    type Ways = Producers<u32, NoSink>;
    struct Last {
        claim: Claim<'static, u32, NoSink>,
        ways: &'static Ways,
        seat_is_free: mpsc::Sender<()>,
        go_on: mpsc::Receiver<()>,
    }
    struct AtTheEnd(Cell<Option<Last>>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let Last { claim, ways, seat_is_free, go_on } = self.0.take().expect("left by the thread");
            ways.try_push(2, b"without a seat").unwrap();
            seat_is_free.send(()).unwrap();
            go_on.recv().unwrap();
            claim.commit(4);
        }
    }
    thread_local! {
        static AT_THE_END: AtTheEnd = const { AtTheEnd(Cell::new(None)) };
    }

    let config = RingsConfig { seats: 64, stripes: 1, publishers_max: 0, ring_bytes: 4096 };
    let (ways, mut consumer) = rings::<u32, NoSink>(config, &Doorbell::new()).unwrap();
    static WAYS: OnceLock<Ways> = OnceLock::new();
    let ways = WAYS.get_or_init(|| ways);
    let (seat_is_free, is_seat_free) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let ends = thread::spawn(move || {
        AT_THE_END.with(|at_the_end| {
            let first = ways.try_push(1, b"").unwrap().ring();
            let claim = ways.try_claim(0).unwrap();
            at_the_end.0.set(Some(Last { claim, ways, seat_is_free, go_on }));
            first
        })
    });
    is_seat_free.recv().unwrap();
    // Whoever has the seat now: the claim is still open.
    let beside: Vec<_> = thread::scope(|scope| {
        let others = (0..4).map(|_| scope.spawn(|| ways.try_push(3, b"").unwrap().ring()));
        others.map(|other| other.join().unwrap()).collect()
    });
    go.send(()).unwrap();
    let seat = ends.join().unwrap();
    assert!(
        beside.iter().all(|ring| *ring != seat),
        "the claim keeps its ring to itself: {beside:?}, {seat}"
    );
    let batch = consumer.drain(DrainLimit::NONE);
    let of_the_seat =
        batch.records().filter(|record| record.ticket().ring() == seat).map(|record| *record.header());
    assert!(of_the_seat.eq([1, 4]));
    assert_eq!(batch.len(), 7);
    let torn_down = batch.records().find(|record| *record.header() == 2).unwrap();
    assert_eq!(torn_down.ticket().ring(), 64, "who has no seat any more pushes through a stripe");
    batch.finish();
}

#[test]
fn without_a_seat_left_threads_share_the_stripes() {
    let config = RingsConfig { seats: 0, stripes: 2, publishers_max: 0, ring_bytes: 4096 };
    let (producers, mut consumer) = rings::<u32, NoSink>(config, &Doorbell::new()).unwrap();
    thread::scope(|scope| {
        for n in 0..4 {
            let producers = &producers;
            scope.spawn(move || producers.try_push(n, b"").unwrap());
        }
    });
    let batch = consumer.drain(DrainLimit::NONE);
    assert_eq!(batch.len(), 4);
    batch.finish();
}
