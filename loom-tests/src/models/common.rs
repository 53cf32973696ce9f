//! What the models have in common.

use loom::thread;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use whizbang_lockfree::{
    Consumer, Doorbell, DrainLimit, Fences, NoSink, Producers, Publisher, PushError, Rest, RingsConfig,
    Ticket, rings,
};

pub(super) type In = Producers<(), NoSink>;
pub(super) type Own = Publisher<(), NoSink>;
pub(super) type Out = Consumer<(), NoSink>;

/// Parks at once: the steps before it are the same looks without the danger.
pub(super) const AT_ONCE: Rest = Rest { looks: 0, pause: std::time::Duration::ZERO, until: None };

/// A record of `SMALL` bytes takes 32 in the ring.
pub(super) const SMALL: usize = 8;
/// A record of `WIDE` bytes takes 48 in the ring, so that 128 do not divide by it.
pub(super) const WIDE: usize = 32;

/// Rings for two small records. Nobody rests on their bell and nobody closes them, so a push may do without its
/// light fences, as it does where the kernel offers better; a checker that saw them would take them for more
/// order than there is.
pub(super) fn two_records(stripes: usize, publishers_max: usize) -> (In, Out) {
    rings_of(stripes, publishers_max, 64, &unheard())
}

pub(super) fn unheard() -> Doorbell {
    Doorbell::with_fences(Fences::Asymmetric)
}

/// Rings for two small records, with the bell and the fences of their handshakes.
pub(super) fn two_records_and_bell(stripes: usize, publishers_max: usize) -> (In, Out, Doorbell) {
    let bell = Doorbell::with_fences(Fences::Symmetric);
    let (producers, consumer) = rings_of(stripes, publishers_max, 64, &bell);
    (producers, consumer, bell)
}

pub(super) fn rings_of(
    stripes: usize,
    publishers_max: usize,
    ring_bytes: usize,
    bell: &Doorbell,
) -> (In, Out) {
    rings(RingsConfig { seats: 0, stripes, publishers_max, ring_bytes }, bell).expect("bounds that can be")
}

/// The payload that says it is the `n`th.
pub(super) fn payload(n: u8, bytes: usize) -> Vec<u8> {
    vec![n; bytes]
}

pub(super) trait Push {
    fn push(&mut self, n: u8, bytes: usize) -> Result<Ticket, PushError>;

    fn must_push(&mut self, n: u8) {
        self.push(n, SMALL).expect("there is room and nobody in the way");
    }
}

impl Push for In {
    fn push(&mut self, n: u8, bytes: usize) -> Result<Ticket, PushError> {
        self.try_push((), &payload(n, bytes))
    }
}

impl Push for Own {
    fn push(&mut self, n: u8, bytes: usize) -> Result<Ticket, PushError> {
        self.try_push((), &payload(n, bytes))
    }
}

/// Drains and finishes what is there; every payload must be whole.
pub(super) fn drain(consumer: &mut Out, into: &mut Vec<u8>) {
    let batch = consumer.drain(DrainLimit::NONE);
    for record in &batch {
        let bytes = record.bytes().expect("only bytes are pushed here");
        let n = *bytes.first().expect("no payload is empty");
        assert!(bytes.iter().all(|byte| *byte == n), "torn: {bytes:?}");
        assert!(bytes.len() == SMALL || bytes.len() == WIDE, "a length that nobody pushed: {}", bytes.len());
        into.push(n);
    }
    batch.finish();
}

/// A waker that unparks the thread that makes it.
pub(super) fn waker() -> Waker {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Arc::new(Unpark(thread::current())).into()
}

/// Runs a future on the calling thread. Unlike loom's own, no wake-up comes by chance.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = waker();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
