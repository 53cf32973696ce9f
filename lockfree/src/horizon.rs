//! Waiting until a ring's horizon has passed a position.
//!
//! The horizon is the ring's head: one store answers a whole batch. Who has to wait registers its waker under
//! the ring's own small lock, and only then; a receipt that is already answered costs one load. Waiting for
//! room is waiting for the same head to leave the place where it stood when the ring refused.
//!
//! No wake-up is lost: the waiter registers, passes a full fence, looks at the head once more; who wakes has
//! moved the head, passes a full fence, looks for waiters. Whichever fence comes second sees the other's write.

use crate::error::ConsumerGone;
use crate::rings::Core;
use crate::sync::{Arc, AtomicU32, End, Mutex, Ordering, edge, step};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakes those whose answer has come or whose ring has room, from any thread.
///
/// Waking a task costs its waker about 80 ns and a sleeping thread microseconds, so finishing a batch wakes nobody:
/// the pump first brings its next exchange under way, then calls [`wake`](Self::wake), or lets another thread
/// do so.
#[derive(Clone)]
pub struct Herald {
    core: Arc<Core>,
}

impl Herald {
    pub(crate) fn new(core: Arc<Core>) -> Herald {
        Herald { core }
    }

    /// Wakes every task whose ticket has been passed, and every task that waits for room in a ring that has some.
    ///
    /// A batch is answered by [`Drained::finish`](crate::Drained::finish); its waiters sleep on until the next call of this.
    /// Costs a fence and a look at each ring while nobody waits.
    pub fn wake(&self) {
        self.core.wake_passed();
    }
}

impl std::fmt::Debug for Herald {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Herald").finish_non_exhaustive()
    }
}

/// Waits for the answer to a ticket. Made by `answered`.
///
/// # Cancel safety
///
/// Dropping it at any time leaves nothing behind, and the answer can be waited for again.
#[must_use = "a future does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Answered<'a> {
    wait: Wait<'a>,
}

impl<'a> Answered<'a> {
    pub(crate) fn new(core: Handle<'a>, ring: u32, position: u64) -> Self {
        Answered { wait: Wait { core, ring, position, reason: Reason::Answer, serial: None } }
    }
}

impl Future for Answered<'_> {
    type Output = Result<(), ConsumerGone>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().wait.poll(cx)
    }
}

/// Waits until a ring that refused has room again, or is closed. Made by `room`.
///
/// # Cancel safety
///
/// Dropping it at any time leaves nothing behind.
#[must_use = "a future does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Room<'a> {
    wait: Wait<'a>,
    has_yielded: bool,
}

impl<'a> Room<'a> {
    /// Room in `ring`, which refused its producer just now.
    pub(crate) fn new(core: Handle<'a>, ring: u32) -> Self {
        // The ring was not empty when it refused, so its head will move on from where it stood then.
        let position = core.rings[ring as usize].refused_at() + 1;
        Room { wait: Wait { core, ring, position, reason: Reason::Room, serial: None }, has_yielded: false }
    }
}

impl Future for Room<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let wait = &this.wait;
        // A push is also refused while others are inside every stripe. Nothing then lies in the ring whose
        // freeing could wake us, and they will be gone in a moment: let others run once and try again.
        if wait.serial.is_none()
            && wait.outcome().is_none()
            && wait.core.rings[wait.ring as usize].looks_empty()
        {
            if this.has_yielded {
                return Poll::Ready(());
            }
            this.has_yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.wait.poll(cx).map(|_| ())
    }
}

/// The rings that a future waits at, borrowed or held.
pub(crate) enum Handle<'a> {
    Borrowed(&'a Core),
    Held(Arc<Core>),
}

impl std::ops::Deref for Handle<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        match self {
            Handle::Borrowed(core) => core,
            Handle::Held(core) => core,
        }
    }
}

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Answer,
    Room,
}

struct Wait<'a> {
    core: Handle<'a>,
    ring: u32,
    position: u64,
    reason: Reason,
    /// Our entry among the ring's waiters, once there is one.
    serial: Option<u64>,
}

impl Wait<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConsumerGone>> {
        if let Some(outcome) = self.outcome() {
            self.leave();
            return Poll::Ready(outcome);
        }
        self.register(cx.waker());
        edge::WAITER_SEEN.fence(End::Gives);
        if step::WAITER_LOOKS_AGAIN.is_taken()
            && let Some(outcome) = self.outcome()
        {
            self.leave();
            return Poll::Ready(outcome);
        }
        Poll::Pending
    }

    fn outcome(&self) -> Option<Result<(), ConsumerGone>> {
        let ring = &self.core.rings[self.ring as usize];
        if ring.horizon() >= self.position {
            return Some(Ok(()));
        }
        match self.reason {
            Reason::Room => self.core.is_closed().then_some(Ok(())),
            Reason::Answer if !self.core.is_consumer_gone() => None,
            // The consumer may have answered just before it went.
            Reason::Answer => Some(if ring.horizon() >= self.position { Ok(()) } else { Err(ConsumerGone) }),
        }
    }

    fn register(&mut self, waker: &Waker) {
        let waiters = &self.core.rings[self.ring as usize].waiters;
        // A waker's clone and drop are somebody else's code: not under our lock.
        let waker = waker.clone();
        let mut list = waiters.list.lock();
        if let Some(serial) = self.serial
            && let Some(waiter) = list.waiting.get_mut(&(self.position, serial))
        {
            let before = std::mem::replace(&mut waiter.waker, waker);
            drop(list);
            drop(before);
            return;
        }
        list.serial += 1;
        let serial = list.serial;
        list.waiting.insert((self.position, serial), Waiter { reason: self.reason, waker });
        waiters.count_is(&list);
        self.serial = Some(serial);
    }

    fn leave(&mut self) {
        let Some(serial) = self.serial.take() else { return };
        let waiters = &self.core.rings[self.ring as usize].waiters;
        let mut list = waiters.list.lock();
        let left = list.waiting.remove(&(self.position, serial));
        waiters.count_is(&list);
        drop(list);
        // As in `register`.
        drop(left);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if step::WAITER_LEAVES_NOTHING.is_taken() {
            self.leave();
        }
    }
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait")
            .field("ring", &self.ring)
            .field("position", &self.position)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Those who wait at one ring, in the order of their positions.
pub(crate) struct Waiters {
    /// How many there are; written under the lock, read without it by who wakes.
    count: AtomicU32,
    list: Mutex<List>,
}

struct List {
    /// Tells apart those who wait for one position.
    serial: u64,
    waiting: BTreeMap<(u64, u64), Waiter>,
}

struct Waiter {
    reason: Reason,
    waker: Waker,
}

/// So many are woken between two looks at the lock.
const WOKEN_AT_ONCE: usize = 32;

impl Waiters {
    pub(crate) fn new() -> Waiters {
        Waiters { count: AtomicU32::new(0), list: Mutex::new(List { serial: 0, waiting: BTreeMap::new() }) }
    }

    /// How many wait now.
    pub(crate) fn count(&self) -> usize {
        // Relaxed: the fences of waiter.seen order it against the head.
        self.count.load(Ordering::Relaxed) as usize
    }

    fn count_is(&self, list: &List) {
        // Relaxed: as in `count`.
        self.count.store(list.waiting.len() as u32, Ordering::Relaxed);
    }

    /// Wakes all up to `horizon`. The caller has passed its fence of waiter.seen since the horizon moved.
    pub(crate) fn wake_to(&self, horizon: u64) {
        self.wake_where(|list| {
            let first = list.waiting.first_entry()?;
            (first.key().0 <= horizon).then(|| first.remove())
        });
    }

    /// Wakes all who wait for room.
    pub(crate) fn wake_room(&self) {
        self.wake_where(|list| {
            list.waiting.extract_if(.., |_, waiter| waiter.reason == Reason::Room).next().map(|(_, w)| w)
        });
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        self.wake_where(|list| list.waiting.pop_first().map(|(_, waiter)| waiter));
    }

    /// Takes waiters out until `next` has none left, and wakes them outside the lock.
    fn wake_where(&self, mut next: impl FnMut(&mut List) -> Option<Waiter>) {
        if self.count() == 0 {
            return;
        }
        let mut woken = [const { None }; WOKEN_AT_ONCE];
        loop {
            let mut list = self.list.lock();
            let mut found = 0;
            while found < WOKEN_AT_ONCE
                && let Some(waiter) = next(&mut list)
            {
                woken[found] = Some(waiter.waker);
                found += 1;
            }
            self.count_is(&list);
            drop(list);
            woken.iter_mut().filter_map(Option::take).for_each(Waker::wake);
            if found < WOKEN_AT_ONCE {
                return;
            }
        }
    }
}
