//! Waking a consumer that rests, without a lost wake-up and without paying for it while it is awake.
//!
//! One word says whether the consumer is awake, resting, or rung for. A producer commits, passes its light fence
//! and looks at the word: one load, and nothing more while the consumer is awake. A consumer that wants to rest
//! leaves its waker, says that it rests, passes its heavy fence, and looks for work once more. Whichever fence
//! comes second, its side sees what the other wrote: the producer sees the sleeper, or the consumer the work.

use crate::fence::Fences;
use crate::sync::{
    Arc, AtomicBool, AtomicU32, Mutex, Ordering, edge, park, park_timeout, spin, step, thread_waker,
};
use crossbeam_utils::CachePadded;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A bell for one consumer, which may serve several sets of rings.
///
/// A cloneable handle. Pushes ring it by themselves; [`ring`](Self::ring) is for everything else that the consumer should get
/// up for. One thread or task at a time may rest on it.
///
/// ```
/// use whizbang_lockfree::{Doorbell, Rest, Woken};
///
/// let bell = Doorbell::new();
/// bell.ring(); // remembered: the consumer was not resting
/// assert_eq!(bell.rest(Rest::default(), || false), Woken::Rung);
/// ```
#[derive(Debug, Clone)]
pub struct Doorbell {
    bell: Arc<Bell>,
}

/// Why a rest is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Somebody rang, or pushed while the consumer was resting.
    Rung,
    /// There was work before the consumer fell asleep.
    Work,
    /// The bound was reached.
    TimedOut,
}

/// The steps in which a thread comes to rest: look and pause a few times, then park.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// How often to look for work before parking. Default 4. Parking and being woken costs tens of microseconds,
    /// some of them the producer's; looking costs the processor that a producer may need. In a model of loom: 0.
    pub looks: u32,
    /// The pause before each look. Default 2 µs. Too short and the looks take the producers' lines away from them.
    pub pause: Duration,
    /// When to get up at the latest. Default never; nor does it come in a model of loom, which has no clock.
    pub until: Option<Instant>,
}

impl Default for Rest {
    fn default() -> Self {
        Rest { looks: 4, pause: Duration::from_micros(2), until: None }
    }
}

impl Doorbell {
    /// A bell with the cheapest fences that this machine offers.
    #[expect(clippy::new_without_default, reason = "it asks the kernel")]
    pub fn new() -> Doorbell {
        Doorbell::with_fences(Fences::detect())
    }

    /// A bell with the given fences, which all rings that share it use too. For measurements and for tests of both kinds.
    ///
    /// [`Fences::Asymmetric`] falls back to what [`Fences::detect`] finds.
    pub fn with_fences(fences: Fences) -> Doorbell {
        let is_certain = fences == Fences::Symmetric || cfg!(lockfree_loom);
        let fences = if is_certain { fences } else { Fences::detect() };
        Doorbell { bell: Arc::new(Bell::new(fences)) }
    }

    /// Gets the consumer up; if it is awake, its next rest ends at once.
    ///
    /// Whatever the caller did before is visible to the consumer that gets up. Costs a locked exchange, and some
    /// microseconds when a thread has to be woken (row `wake-cost` of the benchmarks).
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Rests on the calling thread until somebody rings, pushes, or `rest.until` is reached.
    ///
    /// `is_there_work` is asked before each step. It must see everything that pushes may bring, so usually it is
    /// [`Consumer::has_news`](crate::Consumer::has_news) of every consumer that shares the bell.
    ///
    /// # Panics
    ///
    /// When another thread or task rests on the same bell.
    pub fn rest(&self, rest: Rest, mut is_there_work: impl FnMut() -> bool) -> Woken {
        for _ in 0..rest.looks {
            let left = rest.until.map(|until| until.saturating_duration_since(Instant::now()));
            if self.bell.was_rung() || left.is_some_and(|left| left.is_zero()) {
                break;
            }
            if is_there_work() {
                return Woken::Work;
            }
            pause(left.map_or(rest.pause, |left| left.min(rest.pause)));
        }
        let waker = thread_waker();
        let mut resting = self.rested(is_there_work);
        loop {
            if let Poll::Ready(woken) = Pin::new(&mut resting).poll(&mut Context::from_waker(&waker)) {
                return woken;
            }
            match rest.until {
                None => park(),
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => park_timeout(left),
                    _ => return Woken::TimedOut,
                },
            }
        }
    }

    /// As [`rest`](Self::rest), for a task; combine it with the runtime's timer for a bound. Never [`Woken::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the rest. A ring that came meanwhile is kept for the next one.
    ///
    /// # Panics
    ///
    /// When polled while another thread or task rests on the same bell.
    pub fn rested<F: FnMut() -> bool>(&self, is_there_work: F) -> Rested<'_, F> {
        Rested { bell: &self.bell, is_there_work, is_seated: false }
    }

    /// The fences in use.
    pub fn fences(&self) -> Fences {
        self.bell.fences
    }

    pub(crate) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }
}

/// A rest under way. Made by [`Doorbell::rested`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Rested<'a, F> {
    bell: &'a Bell,
    is_there_work: F,
    is_seated: bool,
}

impl<F: FnMut() -> bool> Future for Rested<'_, F> {
    type Output = Woken;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Woken> {
        let this = self.get_mut();
        if !this.is_seated {
            this.bell.sit_down();
            this.is_seated = true;
        }
        let polled = this.bell.poll_rest(cx.waker(), &mut this.is_there_work);
        if polled.is_ready() {
            // The rest is over, also for who keeps the future a little longer.
            this.leave_seat();
        }
        polled
    }
}

impl<F> Rested<'_, F> {
    fn leave_seat(&mut self) {
        if std::mem::take(&mut self.is_seated) {
            self.bell.stand_up();
        }
    }
}

// The closure is called, never pinned.
impl<F> Unpin for Rested<'_, F> {}

impl<F> Drop for Rested<'_, F> {
    fn drop(&mut self) {
        self.leave_seat();
    }
}

impl<F> std::fmt::Debug for Rested<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rested").field("is_seated", &self.is_seated).finish_non_exhaustive()
    }
}

/// What the handles share.
#[derive(Debug)]
pub(crate) struct Bell {
    fences: Fences,
    state: CachePadded<AtomicU32>,
    /// Whether somebody is resting or about to.
    seat: AtomicBool,
    sleeper: Mutex<Option<Waker>>,
}

/// The consumer works. A push pays its look at the state and nothing else.
const AWAKE: u32 = 0;
/// The consumer rests, or has said so and looks around once more. Whoever moves it on wakes the sleeper.
const RESTING: u32 = 1;
/// The consumer is to get up, or not to lie down.
const RUNG: u32 = 2;

impl Bell {
    fn new(fences: Fences) -> Bell {
        Bell {
            fences,
            state: CachePadded::new(AtomicU32::new(AWAKE)),
            seat: AtomicBool::new(false),
            sleeper: Mutex::new(None),
        }
    }

    pub(crate) fn fences(&self) -> Fences {
        self.fences
    }

    /// A producer's look, after its commit and its light fence.
    #[inline(always)]
    pub(crate) fn ring_if_resting(&self) {
        // Relaxed: the fences of bell.heard order it; who sees AWAKE is seen by the consumer's last look.
        if step::BELL_LOOK.is_taken() && self.state.load(Ordering::Relaxed) == RESTING {
            self.ring_sleeper();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring_sleeper(&self) {
        self.ring();
    }

    pub(crate) fn ring(&self) {
        if !step::BELL_STICKS.is_taken() && self.state.load(Ordering::Relaxed) == AWAKE {
            return;
        }
        // Release bell.rung: pairs with the acquire in `get_up`. Of many who ring, one sees RESTING and wakes.
        if self.state.swap(RUNG, edge::BELL_RUNG.release()) == RESTING {
            let sleeper = self.sleeper.lock().take();
            if let Some(waker) = sleeper {
                waker.wake();
            }
        }
    }

    fn was_rung(&self) -> bool {
        // Relaxed: a hint to skip the looks; `poll_rest` finds out.
        self.state.load(Ordering::Relaxed) == RUNG
    }

    fn sit_down(&self) {
        // Relaxed: it only tells two that rest at once, which is a mistake; nothing is ordered by it.
        let is_taken = self.seat.swap(true, Ordering::Relaxed);
        assert!(!is_taken, "two consumers rest on one doorbell: give each its own");
    }

    fn stand_up(&self) {
        // A ring that nobody has answered stays for the next rest. Relaxed: the sleeper's own word, taken back.
        let _ = self.state.compare_exchange(RESTING, AWAKE, Ordering::Relaxed, Ordering::Relaxed);
        let left = self.sleeper.lock().take();
        drop(left);
        self.seat.store(false, Ordering::Relaxed);
    }

    fn poll_rest(&self, waker: &Waker, is_there_work: &mut impl FnMut() -> bool) -> Poll<Woken> {
        if step::BELL_WAKER_FIRST.is_taken() {
            self.leave_waker(waker);
        }
        // Relaxed: the fences of bell.heard order it against the commits, and `get_up` takes what a ring gives.
        match self.state.compare_exchange(AWAKE, RESTING, Ordering::Relaxed, Ordering::Relaxed) {
            Err(RUNG) => return Poll::Ready(self.get_up(Woken::Rung)),
            // Still the same rest: since its fence every producer sees it.
            Err(_) => {}
            Ok(_) => self.fences.heavy(edge::BELL_HEARD),
        }
        if step::BELL_LOOKS_AGAIN.is_taken() && is_there_work() {
            return Poll::Ready(self.get_up(Woken::Work));
        }
        if !step::BELL_WAKER_FIRST.is_taken() {
            self.leave_waker(waker);
        }
        Poll::Pending
    }

    fn leave_waker(&self, waker: &Waker) {
        // A waker's clone and drop are somebody else's code: not under our lock.
        let waker = waker.clone();
        let before = self.sleeper.lock().replace(waker);
        drop(before);
    }

    fn get_up(&self, why: Woken) -> Woken {
        // Acquire bell.rung: pairs with the release in `ring`; a swap, so that the last ring is seen with the first.
        match self.state.swap(AWAKE, edge::BELL_RUNG.acquire()) {
            RUNG => Woken::Rung,
            _ => why,
        }
    }
}

fn pause(length: Duration) {
    let begin = Instant::now();
    loop {
        spin();
        if begin.elapsed() >= length {
            return;
        }
    }
}
