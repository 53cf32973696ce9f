//! What the threaded tests share.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

struct Unpark(Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the calling thread; a lost wake-up hangs it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(std::thread::current())).into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// The bytes that the `nth` message of `producer` carries.
pub fn content(producer: u32, nth: u32, length: usize) -> impl Iterator<Item = u8> {
    let mut random = fastrand::Rng::with_seed(u64::from(producer) << 32 | u64::from(nth));
    (0..length).map(move |_| random.u8(..))
}
