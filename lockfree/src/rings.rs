//! A set of rings: what its producers, its consumer and those who wait have in common.

use crate::consumer::Consumer;
use crate::doorbell::{Bell, Doorbell};
use crate::error::{ConfigError, PushError};
use crate::fence::Fences;
use crate::producers::Producers;
use crate::record::{Sink, assert_header, stride};
use crate::ring::{Place, Ring};
use crate::seat::UNSEATED;
use crate::storage::UNIT;
use crate::sync::{Arc, AtomicBool, End, Ordering, edge, home, move_home, seat, sit_down, spin, step};
use crate::ticket::Ticket;

/// Bounds of a set of rings.
///
/// The memory of all rings is reserved at once, `(seats + stripes + publishers_max) * ring_bytes`, and is first used
/// as records are written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingsConfig {
    /// Rings that belong to one thread each, for as long as it lives: the first so many threads that push have one to
    /// themselves, and are as fast as a publisher. Threads are counted over all sets of the process; one that ends
    /// makes room for another. Default 8. With fewer, more threads share the
    /// stripes and pay 10 to 20 ns more a push; with more, the consumer has more to look at.
    pub seats: usize,
    /// Rings shared by all other threads, at least one. Default 4. A producer that finds one taken goes on to the
    /// next: with fewer stripes than busy threads pushes are refused now and then.
    pub stripes: usize,
    /// Rings for exclusive publishers. Default 16. When they are all owned no further publisher can be made; the
    /// consumer looks at each of them, in use or not, about a nanosecond.
    pub publishers_max: usize,
    /// Bytes of each ring, a power of two. Default 256 KiB. One record takes at most half of it. Too small and
    /// producers wait for every exchange; too large costs memory once the ring has come round.
    pub ring_bytes: usize,
}

impl Default for RingsConfig {
    fn default() -> Self {
        RingsConfig { seats: 8, stripes: 4, publishers_max: 16, ring_bytes: 256 * 1024 }
    }
}

/// No ring is larger, so that a length fits 32 bits.
pub(crate) const RING_BYTES_MAX: usize = 1 << 31;
/// No set is larger; far above what one consumer can look at.
pub(crate) const RINGS_MAX: usize = 1 << 16;

/// Makes a set of rings whose records carry an `H`, and whose consumer rests on `bell`.
///
/// `S` says what plain messages are shown to; [`NoSink`](crate::NoSink) when there are none, or when they need nothing.
/// Several sets may share one bell.
///
/// ```
/// use whizbang_lockfree::{Doorbell, DrainLimit, NoSink, RingsConfig, rings};
///
/// let bell = Doorbell::new();
/// let (producers, mut consumer) = rings::<u32, NoSink>(RingsConfig::default(), &bell)?;
///
/// let ticket = producers.try_push(7, b"hello")?;
/// assert!(!producers.passed(ticket));
///
/// let batch = consumer.drain(DrainLimit::NONE);
/// for record in batch.records() {
///     assert_eq!((*record.header(), record.bytes()), (7, Some(&b"hello"[..])));
/// }
/// batch.finish();
/// assert!(producers.passed(ticket));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ConfigError`] when the bounds cannot be, or there is no memory for them.
pub fn rings<H: Copy + Send + 'static, S: Sink>(
    config: RingsConfig,
    bell: &Doorbell,
) -> Result<Ends<H, S>, ConfigError> {
    const { assert_header::<H>() };
    let RingsConfig { seats, stripes, publishers_max, ring_bytes } = config;
    let bytes_min = (2 * stride::<H>(1)).next_power_of_two();
    if !ring_bytes.is_power_of_two() || !(bytes_min..=RING_BYTES_MAX).contains(&ring_bytes) {
        return Err(ConfigError::RingBytes { asked: ring_bytes, bytes_min });
    }
    if stripes == 0 {
        return Err(ConfigError::NoStripes);
    }
    let asked = seats.saturating_add(stripes).saturating_add(publishers_max);
    if asked > RINGS_MAX {
        return Err(ConfigError::TooManyRings { asked });
    }
    let no_memory = ConfigError::NoMemory { rings: asked, ring_bytes };
    let mut rings = Vec::new();
    rings.try_reserve_exact(asked).map_err(|_| no_memory)?;
    for _ in 0..asked {
        rings.push(Ring::new(ring_bytes).ok_or(no_memory)?);
    }
    let bell = bell.bell();
    let core = Arc::new(Core {
        rings: rings.into_boxed_slice(),
        seats: seats as u32,
        stripes: stripes as u32,
        payload_bytes_max: ring_bytes / 2 - stride::<H>(0),
        fences: bell.fences(),
        closed: AtomicBool::new(false),
        sealed: AtomicBool::new(false),
        gone: AtomicBool::new(false),
        bell,
    });
    Ok((Producers::new(Arc::clone(&core)), Consumer::new(core)))
}

/// The two ends of a set of rings.
pub type Ends<H, S> = (Producers<H, S>, Consumer<H, S>);

/// Shared by all; after it is made only the three flags change, once each.
pub(crate) struct Core {
    /// The seats' rings, then the stripes, then the publishers' rings.
    pub(crate) rings: Box<[Ring]>,
    pub(crate) seats: u32,
    pub(crate) stripes: u32,
    /// The largest payload that a ring takes however it lies: half of it, so that a record and the padding before
    /// it always fit an empty ring.
    pub(crate) payload_bytes_max: usize,
    fences: Fences,
    /// No push that begins now succeeds.
    closed: AtomicBool,
    /// Every producer that is inside has either seen `closed` or can be seen.
    sealed: AtomicBool,
    /// There will be no more answers.
    gone: AtomicBool,
    pub(crate) bell: Arc<Bell>,
}

/// How often all stripes are tried before a push gives up. Whoever holds one is through in a few nanoseconds
/// unless its thread was suspended, and then it takes far too long to wait for.
const ROUNDS: usize = if cfg!(lockfree_loom) { 1 } else { 32 };

impl Core {
    /// Enters the ring of this thread's seat, or else a stripe that nobody is in, and finds a place there for a record of
    /// `H` with `bytes` payload.
    #[inline(always)]
    pub(crate) fn enter<H>(&self, bytes: usize) -> Result<(Inside<'_>, Place), PushError> {
        let seat = seat();
        if seat < self.seats {
            // SAFETY: there are at least as many rings as seats.
            let ring = unsafe { self.rings.get_unchecked(seat as usize) };
            // Its thread may hold a claim; the ring is not entered twice.
            if !ring.is_inside() {
                // SAFETY: only who has the seat enters this ring, and that is this thread, which is not inside.
                return unsafe { self.enter_own::<H>(ring, seat, bytes) };
            }
        }
        let Some(index) = self.enter_elsewhere(seat) else { return Err(self.refusal(PushError::Full)) };
        let inside = Inside::new(self, &self.rings[index as usize], index);
        inside.look_for_close()?;
        // SAFETY: we are inside.
        let place = unsafe { self.place::<H>(inside.ring, bytes) }?;
        Ok((inside, place))
    }

    /// Finds a place in a ring of the caller's own, and only then enters it: a push that is refused has written nothing that
    /// others read.
    ///
    /// # Safety
    ///
    /// Nobody but the caller enters this ring, and the caller has no claim on it.
    #[inline(always)]
    pub(crate) unsafe fn enter_own<'a, H>(
        &'a self,
        ring: &'a Ring,
        index: u32,
        bytes: usize,
    ) -> Result<(Inside<'a>, Place), PushError> {
        // SAFETY: by this function's contract nobody else produces here.
        let place = unsafe { self.place::<H>(ring, bytes) }?;
        ring.enter_owned();
        let inside = Inside::new(self, ring, index);
        inside.look_for_close()?;
        Ok((inside, place))
    }

    /// # Safety
    ///
    /// The caller is the producer of `ring`; see [`Ring::place`].
    #[inline(always)]
    unsafe fn place<H>(&self, ring: &Ring, bytes: usize) -> Result<Place, PushError> {
        let bytes_max = self.payload_bytes_max;
        if bytes > bytes_max {
            return Err(self.refusal(PushError::TooLarge { bytes_max }));
        }
        // SAFETY: passed on from the caller.
        let place = unsafe { ring.place(stride::<H>(bytes)) };
        place.ok_or_else(|| self.refusal(PushError::Full))
    }

    /// Why nothing is pushed, if not for `reason`: a ring that is closed will never have room.
    #[inline(always)]
    fn refusal(&self, reason: PushError) -> PushError {
        if self.is_closed() { PushError::Closed } else { reason }
    }

    /// Enters what else there is; which ring that was.
    ///
    /// The answer is a number so that it comes in registers: with an [`Inside`] the way that needs none of this wrote
    /// one to memory too, four stores a push.
    #[cold]
    #[inline(never)]
    fn enter_elsewhere(&self, mut seat: u32) -> Option<u32> {
        if seat == UNSEATED && self.seats > 0 {
            seat = sit_down();
            if seat < self.seats && !self.rings[seat as usize].is_inside() {
                self.rings[seat as usize].enter_owned();
                return Some(seat);
            }
        }
        for _ in 0..ROUNDS {
            let home = home();
            for step in 0..self.stripes {
                let stripe = home.wrapping_add(step) % self.stripes;
                let index = self.seats + stripe;
                if self.rings[index as usize].try_enter() {
                    // Whoever was in the old one is likely to be there again.
                    move_home(stripe);
                    return Some(index);
                }
            }
            spin();
        }
        None
    }

    /// Leaves a ring of the caller's own in which it forgot that it was inside: once closed the consumer may rest until
    /// then, and the way out rings.
    pub(crate) fn leave_forgotten(&self, index: u32) {
        drop(Inside::new(self, &self.rings[index as usize], index));
    }

    /// The ring to which this thread's next push goes.
    pub(crate) fn home_ring(&self) -> u32 {
        let seat = seat();
        if seat < self.seats && !self.rings[seat as usize].is_inside() {
            return seat;
        }
        self.seats + home() % self.stripes
    }

    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: the fences of close.seen order it against `inside`.
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the taking of messages.
    pub(crate) fn close(&self) {
        // Relaxed: the fences of close.seen order it against `inside`.
        self.closed.store(true, Ordering::Relaxed);
        self.fences.heavy(edge::CLOSE_SEEN);
        // Release close.sealed: pairs with the acquire in `is_sealed`.
        self.sealed.store(true, edge::CLOSE_SEALED.release());
        if step::CLOSE_WAKES_ROOM.is_taken() {
            self.rings.iter().for_each(|ring| ring.waiters.wake_room());
        }
        self.bell.ring();
    }

    /// Whether a producer that cannot be seen inside can no longer get in.
    pub(crate) fn is_sealed(&self) -> bool {
        // Acquire close.sealed: pairs with the release in `close`.
        self.sealed.load(edge::CLOSE_SEALED.acquire())
    }

    pub(crate) fn is_consumer_gone(&self) -> bool {
        // Acquire consumer.gone: pairs with the release below; the heads are the last ones.
        self.gone.load(edge::CONSUMER_GONE.acquire())
    }

    /// The consumer's last words.
    pub(crate) fn consumer_goes(&self) {
        // Release consumer.gone: pairs with the acquire above.
        self.gone.store(true, edge::CONSUMER_GONE.release());
        self.close();
        edge::WAITER_SEEN.fence(End::Takes);
        if step::GONE_WAKES.is_taken() {
            self.rings.iter().for_each(|ring| ring.waiters.wake_all());
        }
    }

    pub(crate) fn wake_passed(&self) {
        edge::WAITER_SEEN.fence(End::Takes);
        for ring in &self.rings {
            if ring.waiters.count() != 0 {
                ring.waiters.wake_to(ring.horizon());
            }
        }
    }

    pub(crate) fn passed(&self, ticket: Ticket) -> bool {
        self.rings[ticket.ring as usize].horizon() >= ticket.position
    }
}

/// Being inside a ring: its producer, until dropped.
pub(crate) struct Inside<'a> {
    core: &'a Core,
    ring: &'a Ring,
    index: u32,
    has_committed: bool,
}

impl<'a> Inside<'a> {
    /// The caller has entered `ring`.
    #[inline(always)]
    fn new(core: &'a Core, ring: &'a Ring, index: u32) -> Self {
        Inside { core, ring, index, has_committed: false }
    }

    /// Whether what is committed from here on is still accepted.
    #[inline(always)]
    fn look_for_close(&self) -> Result<(), PushError> {
        self.core.fences.light(edge::CLOSE_SEEN);
        if step::CLOSE_LOOK.is_taken() && self.core.is_closed() { Err(PushError::Closed) } else { Ok(()) }
    }

    #[inline(always)]
    pub(crate) fn ring(&self) -> &'a Ring {
        self.ring
    }

    /// Gives the record written at `place`, with `bytes` payload, to the consumer.
    ///
    /// # Safety
    ///
    /// `place` was found with this very visit, for at least `bytes`, and the record is whole.
    #[inline(always)]
    pub(crate) unsafe fn commit<H, S: Sink>(mut self, place: Place, bytes: usize) -> Ticket {
        let position = place.start + stride::<H>(bytes) as u64;
        debug_assert!(position.is_multiple_of(UNIT as u64));
        // SAFETY: passed on from the caller.
        unsafe { self.ring.commit::<S>(place, position) };
        self.has_committed = true;
        Ticket { ring: self.index, position }
    }
}

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.ring.leave();
        self.core.fences.light(edge::BELL_HEARD);
        // Whoever leaves empty-handed wakes nobody, but once closed the consumer may wait for it to leave.
        if self.has_committed || (step::LEAVER_RINGS.is_taken() && self.core.is_closed()) {
            self.core.bell.ring_if_resting();
        }
    }
}
