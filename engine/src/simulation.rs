//! The engine as a set of futures, for a simulation that runs all of it on one thread. Not for services.
//!
//! [`begin`] makes the calling thread a simulated one: time is that of the tokio runtime entered there (paused, so that it
//! moves only when nothing can run), ids are counted, and maps have the order of their contents. [`Builder::start_in`](crate::Builder::start_in)
//! then gives the pump, the workers and the herald away as futures instead of starting a thread. What is polled, in which
//! order, and what is dropped in between as if its process had died, is the caller's choice; so one seed of the caller is
//! one run.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::num::NonZeroU128;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;

thread_local! {
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    static IDS: Cell<u64> = const { Cell::new(0) };
    static PLANTED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes this thread a simulated one, whose ids are the same after each call. `planted` names the defect that the engine
/// shall have on this thread.
///
/// The thread's `fastrand` generator is the engine's source of randomness: seed that, too.
pub fn begin(planted: Option<&str>) {
    IS_SIMULATED.set(true);
    IDS.set(0);
    PLANTED.set(planted.map(str::to_owned));
}

/// Makes this thread an ordinary one again.
pub fn end() {
    IS_SIMULATED.set(false);
    PLANTED.set(None);
}

/// One of the futures that an engine consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The pump; it ends with its engine.
    Pump,
    /// A worker by its number; it ends when its pump is gone.
    Worker(u32),
    /// It wakes who waits for receipts while the pump is busy.
    Herald,
}

/// Takes a part of an engine, to poll it until it ends or its process dies.
pub type Spawn<'s> = &'s mut dyn FnMut(Part, Pin<Box<dyn Future<Output = ()>>>);

/// What a worker holds in memory. Zero when it has nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Lanes, handlers that run beside theirs, and units that are not answered.
    pub lanes: usize,
    /// Handlers that wait.
    pub waiting: usize,
    /// Handouts that were not worked off.
    pub handouts: usize,
}

/// What each worker of one engine holds, by its number; it is brought up to date before the worker comes to rest.
#[derive(Debug, Clone, Default)]
pub struct Gauges(Arc<Mutex<Vec<Holding>>>);

impl Gauges {
    pub(crate) fn set(&self, worker: u32, holding: Holding) {
        let mut gauges = self.0.lock();
        let count = gauges.len().max(worker as usize + 1);
        gauges.resize(count, Holding::default());
        gauges[worker as usize] = holding;
    }

    /// What they hold now.
    pub fn read(&self) -> Vec<Holding> {
        self.0.lock().clone()
    }
}

pub(crate) fn is_simulated() -> bool {
    IS_SIMULATED.get()
}

pub(crate) fn is_planted(defect: &str) -> bool {
    PLANTED.with_borrow(|planted| planted.as_deref() == Some(defect))
}

/// Counted, with the counter's bits spread over the id, so that partitions are hit as evenly as by real ones.
pub(crate) fn next_id() -> NonZeroU128 {
    let count = IDS.get() + 1;
    IDS.set(count);
    // The layout of a UUID of version 7, in the order of the counter.
    let mut mixed = count.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 31;
    let (version, variant) = (7_u128 << 76, 2_u128 << 62);
    let bits = (u128::from(count) << 80) | version | variant | u128::from(mixed >> 2);
    NonZeroU128::new(bits).expect("the version's bits are set")
}

/// Runnable again at once: the one who polls decides when.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
