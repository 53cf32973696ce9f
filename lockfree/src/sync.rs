//! The one door to atomics, cells, locks, threads and fences.
//!
//! Built as usual the door opens onto the machine; built with `--cfg lockfree_loom` it opens onto
//! the model checker, and the very same protocol code is explored in every interleaving. No other file of this
//! crate names the machine's primitives: `tests/door.rs` sees to it.

pub(crate) use crate::edges::{End, edge, step};

#[cfg(not(lockfree_loom))]
mod machine {
    use crate::seat::{STANDING, Seated, Seats, UNSEATED};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use std::thread::{park, park_timeout};

    /// `std`'s cell behind the closures of loom's.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        /// Runs `look` on a pointer that may be written through.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, look: impl FnOnce(*mut T) -> R) -> R {
            look(self.0.get())
        }
    }

    /// A small lock off the hot path.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Mutex(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            self.0.lock()
        }
    }

    /// A bounded queue in which something waits for its next user.
    #[derive(Debug)]
    pub(crate) struct Shelf<T>(crossbeam_queue::ArrayQueue<T>);

    impl<T> Shelf<T> {
        pub(crate) fn new(count: usize) -> Self {
            Shelf(crossbeam_queue::ArrayQueue::new(count))
        }

        pub(crate) fn take(&self) -> Option<T> {
            self.0.pop()
        }

        /// Drops what does not fit.
        pub(crate) fn put(&self, value: T) {
            drop(self.0.push(value));
        }
    }

    /// Tells the processor that this thread spins.
    #[inline(always)]
    pub(crate) fn spin() {
        std::hint::spin_loop();
    }

    /// The waker that unparks the calling thread, made once per thread.
    pub(crate) fn thread_waker() -> std::task::Waker {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
            fn wake_by_ref(self: &Arc<Self>) {
                self.0.unpark();
            }
        }
        thread_local! {
            static WAKER: std::task::Waker = Arc::new(Unpark(std::thread::current())).into();
        }
        // A thread that is being torn down gets a waker of its own; it costs one allocation.
        WAKER
            .try_with(std::task::Waker::clone)
            .unwrap_or_else(|_| Arc::new(Unpark(std::thread::current())).into())
    }

    thread_local! {
        // Without a destructor: a look costs one load, also while the thread is being torn down.
        static SEAT: std::cell::Cell<u32> = const { std::cell::Cell::new(UNSEATED) };
        static SEATED: Seated = Seated::take(&SEATS);
        static HOME: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    static SEATS: std::sync::LazyLock<Arc<Seats>> = std::sync::LazyLock::new(|| Arc::new(Seats::new()));

    /// The calling thread's seat; [`UNSEATED`] before it has one, [`STANDING`] when it no longer has.
    #[inline(always)]
    pub(crate) fn seat() -> u32 {
        SEAT.get()
    }

    /// Gives the calling thread a seat.
    #[cold]
    pub(crate) fn sit_down() -> u32 {
        let seat = SEATED.try_with(|seated| seated.seat).unwrap_or(STANDING);
        SEAT.set(seat);
        // Threads that share stripes begin spread out.
        HOME.set(seat);
        seat
    }

    /// The calling thread has no seat any more, and gets no other.
    pub(crate) fn stand_up() {
        SEAT.set(STANDING);
    }

    /// The stripe this thread used last.
    pub(crate) fn home() -> u32 {
        HOME.get()
    }

    pub(crate) fn move_home(to: u32) {
        HOME.set(to);
    }
}

#[cfg(lockfree_loom)]
mod machine {
    use crate::seat::{STANDING, Seated, Seats, UNSEATED};
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use loom::thread::park;

    /// loom's cell: every access is checked against the happens-before relation.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            UnsafeCell(loom::cell::UnsafeCell::new(value))
        }

        #[track_caller]
        pub(crate) fn with_mut<R>(&self, look: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(look)
        }

        #[track_caller]
        pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
            self.0.with(look)
        }
    }

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    /// What `crossbeam_queue::ArrayQueue` promises, in a form that can be explored: a value is given to at most one
    /// taker, who sees what its giver did before. The queue itself is its authors' to prove.
    pub(crate) struct Shelf<T> {
        slots: Vec<(AtomicU32, UnsafeCell<Option<T>>)>,
    }

    // SAFETY: a slot's value is touched by who moved the slot's state to BUSY, one at a time.
    unsafe impl<T: Send> Send for Shelf<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for Shelf<T> {}

    impl<T> Shelf<T> {
        const EMPTY: u32 = 0;
        const BUSY: u32 = 1;
        const FULL: u32 = 2;

        pub(crate) fn new(count: usize) -> Self {
            Shelf {
                slots: (0..count).map(|_| (AtomicU32::new(Self::EMPTY), UnsafeCell::new(None))).collect(),
            }
        }

        pub(crate) fn take(&self) -> Option<T> {
            self.slots.iter().find_map(|(state, value)| {
                Self::seize(state, Self::FULL).then(|| {
                    // SAFETY: the state is BUSY, and we made it so.
                    let value = value.with_mut(|value| unsafe { (*value).take() });
                    state.store(Self::EMPTY, crate::edges::edge::ARENA_RETURNED.release());
                    value
                })?
            })
        }

        pub(crate) fn put(&self, value: T) {
            if let Some((state, place)) = self.slots.iter().find(|(state, _)| Self::seize(state, Self::EMPTY))
            {
                // SAFETY: as above.
                place.with_mut(|place| unsafe { *place = Some(value) });
                // Release arena.returned: pairs with the acquire in `seize`.
                state.store(Self::FULL, crate::edges::edge::ARENA_RETURNED.release());
            }
        }

        fn seize(state: &AtomicU32, from: u32) -> bool {
            let acquire = crate::edges::edge::ARENA_RETURNED.acquire();
            if !crate::edges::step::ARENA_SWAP.is_taken() {
                let found = state.load(acquire) == from;
                if found {
                    state.store(Self::BUSY, Ordering::Relaxed);
                }
                return found;
            }
            state.compare_exchange(from, Self::BUSY, acquire, Ordering::Relaxed).is_ok()
        }
    }

    /// A model has no clock: a bounded park is an unbounded one, so that a lost wake-up shows as a deadlock.
    pub(crate) fn park_timeout(_bound: std::time::Duration) {
        park();
    }

    pub(crate) fn spin() {
        loom::thread::yield_now();
    }

    pub(crate) fn thread_waker() -> std::task::Waker {
        struct Unpark(loom::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        std::sync::Arc::new(Unpark(loom::thread::current())).into()
    }

    loom::thread_local! {
        static SEAT: std::cell::Cell<u32> = std::cell::Cell::new(UNSEATED);
        static SEATED: std::cell::RefCell<Option<Seated>> = std::cell::RefCell::new(Some(Seated::take(&SEATS)));
        static HOME: std::cell::Cell<u32> = std::cell::Cell::new(0);
    }

    loom::lazy_static! {
        static ref SEATS: Arc<Seats> = Arc::new(Seats::new());
    }

    pub(crate) fn seat() -> u32 {
        SEAT.with(std::cell::Cell::get)
    }

    /// No thread of a model pushes while it is torn down; see [`give_seat_back`].
    pub(crate) fn stand_up() {}

    /// What happens to a thread's seat while it is torn down, with the thread going on: whatever it still holds outlives its seat.
    pub fn give_seat_back() {
        SEAT.with(|cell| cell.set(STANDING));
        let seated = SEATED.with(std::cell::RefCell::take);
        drop(seated);
    }

    pub(crate) fn sit_down() -> u32 {
        let seat = SEATED.with(|seated| seated.borrow().as_ref().map_or(STANDING, |seated| seated.seat));
        SEAT.with(|cell| cell.set(seat));
        seat
    }

    pub(crate) fn home() -> u32 {
        HOME.with(std::cell::Cell::get)
    }

    pub(crate) fn move_home(to: u32) {
        HOME.with(|home| home.set(to));
    }
}

#[cfg(lockfree_loom)]
pub use machine::give_seat_back;
pub(crate) use machine::*;

/// Keeps the compiler, and nothing else, from moving memory accesses across.
#[inline(always)]
pub(crate) fn compiler_fence() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// Atomics in statics, which no model touches: nothing is ordered by them.
pub(crate) mod unmodelled {
    pub(crate) use std::sync::atomic::{AtomicU32, Ordering};
}
