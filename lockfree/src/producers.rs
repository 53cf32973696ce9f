//! The ways in: through the ring of the thread's seat or a stripe, or through a ring of one's own.

use crate::claim::Claim;
use crate::error::{NoRing, PushError, Rejected};
use crate::horizon::{Answered, Handle, Herald, Room};
use crate::record::{Head, Sink, Visit, VisitFn, assert_plain, payload_offset, visit_erased, write_front};
use crate::ring::Place;
use crate::rings::{Core, Inside};
use crate::sync::Arc;
use crate::ticket::Ticket;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The way in for everybody: pushes through the ring of the calling thread's seat, or through a stripe that it enters
/// without waiting.
///
/// Cheap to clone; all clones are one. Two pushes of one thread usually go through the same ring, in order,
/// but need not: order is promised to a [`Publisher`], and to who awaits the first answer before the second push.
///
/// Dropping the last of them ends nothing: [`close`](Self::close) does.
pub struct Producers<H, S: Sink> {
    core: Arc<Core>,
    _carries: PhantomData<fn(H, S)>,
}

impl<H: Copy + Send + 'static, S: Sink> Producers<H, S> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Producers { core, _carries: PhantomData }
    }

    /// Copies `payload` into a ring.
    ///
    /// # Errors
    ///
    /// [`PushError`]; nothing has happened then.
    #[inline]
    pub fn try_push(&self, header: H, payload: &[u8]) -> Result<Ticket, PushError> {
        Ok(push_bytes::<H, S>(self.core.enter::<H>(payload.len())?, header, payload))
    }

    /// Moves `message` into a ring as it is, to be looked at by the consumer through `V`.
    ///
    /// `M` must own nothing and be aligned to at most 16 bytes; anything else does not compile.
    ///
    /// ```compile_fail
    /// # use whizbang_lockfree::*;
    /// # struct Look; impl Visit<String, NoSink> for Look { fn visit(_: &String, _: &mut ()) {} }
    /// # let (producers, _consumer) = rings::<(), NoSink>(RingsConfig::default(), &Doorbell::new()).unwrap();
    /// let _ = producers.try_push_plain::<String, Look>((), String::from("owns memory"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the message back, with the reason.
    #[inline(always)]
    pub fn try_push_plain<M, V>(&self, header: H, message: M) -> Result<Ticket, Rejected<M>>
    where
        M: Send + 'static,
        V: Visit<M, S>,
    {
        match self.core.enter::<H>(size_of::<M>()) {
            Ok(entered) => Ok(push_plain::<H, S, M, V>(entered, header, message)),
            Err(reason) => Err(Rejected::new(message, reason)),
        }
    }

    /// Claims room for at most `bytes_max` payload bytes, to be encoded in place.
    ///
    /// The claim keeps its ring to itself until it is committed or dropped: encode, do not wait.
    ///
    /// # Errors
    ///
    /// [`PushError`]; nothing has happened then.
    #[inline]
    pub fn try_claim(&self, bytes_max: usize) -> Result<Claim<'_, H, S>, PushError> {
        Ok(Claim::new(self.core.enter::<H>(bytes_max)?, bytes_max))
    }

    /// A ring of one's own, the fastest way in. Dropping the publisher gives the ring back.
    ///
    /// A ring that still holds records of the publisher before is only given to the next one when no empty ring is
    /// left; the consumer drains them in order either way.
    ///
    /// # Errors
    ///
    /// [`NoRing`] while all of them are in use.
    pub fn publisher(&self) -> Result<Publisher<H, S>, NoRing> {
        let shared = (self.core.seats + self.core.stripes) as usize;
        let own = &self.core.rings[shared..];
        let empty = own.iter().position(|ring| ring.looks_empty() && ring.try_own());
        let found = empty.or_else(|| own.iter().position(|ring| ring.try_own()));
        let Some(index) = found else {
            return Err(NoRing { publishers_max: own.len() });
        };
        let ring = (shared + index) as u32;
        Ok(Publisher { core: Arc::clone(&self.core), ring, _carries: PhantomData })
    }

    /// Waits until the ring that refused this thread's last push has room again, or the rings are closed.
    ///
    /// To be called right after the push that was refused, on the same thread; await it anywhere. Being woken is
    /// no promise of room for everybody: push again.
    ///
    /// ```
    /// # use whizbang_lockfree::*;
    /// async fn push(producers: &Producers<u32, NoSink>, payload: &[u8]) -> Result<Ticket, PushError> {
    ///     loop {
    ///         match producers.try_push(1, payload) {
    ///             Err(PushError::Full) => producers.room().await,
    ///             done => return done,
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub fn room(&self) -> Room<'_> {
        Room::new(Handle::Borrowed(&self.core), self.core.home_ring())
    }

    /// Refuses every later push, from all threads and publishers alike; what was accepted is still drained.
    ///
    /// Wakes the consumer, and all who wait for room. May be called by anybody, any number of times.
    pub fn close(&self) {
        self.core.close();
    }

    /// Whether the rings were closed.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Whether the ticket has been answered: its record was drained and its batch finished.
    ///
    /// # Panics
    ///
    /// When the ticket comes from another, larger set of rings.
    #[inline]
    pub fn passed(&self, ticket: Ticket) -> bool {
        self.core.passed(ticket)
    }

    /// Waits until the ticket is answered.
    ///
    /// Answered already, it costs a load and allocates nothing. Fails when the consumer goes without answering.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind, and it can be asked for again.
    ///
    /// # Panics
    ///
    /// When polled, if the ticket comes from another, larger set of rings.
    pub fn answered(&self, ticket: Ticket) -> Answered<'_> {
        Answered::new(Handle::Borrowed(&self.core), ticket.ring, ticket.position)
    }

    /// As [`answered`](Self::answered), for a future that outlives its maker.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind, and it can be asked for again.
    ///
    /// # Panics
    ///
    /// When polled, if the ticket comes from another, larger set of rings.
    pub fn answered_owned(&self, ticket: Ticket) -> Answered<'static> {
        Answered::new(Handle::Held(Arc::clone(&self.core)), ticket.ring, ticket.position)
    }

    /// The largest payload that any of these rings takes, in bytes.
    pub fn record_bytes_max(&self) -> usize {
        self.core.payload_bytes_max
    }

    /// Another way to wake those whose answer has come; see [`Consumer::herald`](crate::Consumer::herald).
    pub fn herald(&self) -> Herald {
        Herald::new(Arc::clone(&self.core))
    }
}

impl<H, S: Sink> Clone for Producers<H, S> {
    fn clone(&self) -> Self {
        Producers { core: Arc::clone(&self.core), _carries: PhantomData }
    }
}

impl<H, S: Sink> std::fmt::Debug for Producers<H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producers")
            .field("seats", &self.core.seats)
            .field("stripes", &self.core.stripes)
            .field("is_closed", &self.core.is_closed())
            .finish_non_exhaustive()
    }
}

/// A ring of one's own: what one publisher pushes is drained in that order, and no other producer is in its way.
///
/// Dropping it gives the ring back; what was pushed is still drained.
pub struct Publisher<H, S: Sink> {
    core: Arc<Core>,
    ring: u32,
    _carries: PhantomData<fn(H, S)>,
}

impl<H: Copy + Send + 'static, S: Sink> Publisher<H, S> {
    /// As [`Producers::try_push`].
    ///
    /// # Errors
    ///
    /// [`PushError`]; nothing has happened then.
    #[inline]
    pub fn try_push(&mut self, header: H, payload: &[u8]) -> Result<Ticket, PushError> {
        Ok(push_bytes::<H, S>(self.enter(payload.len())?, header, payload))
    }

    /// As [`Producers::try_push_plain`].
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the message back, with the reason.
    #[inline(always)]
    pub fn try_push_plain<M, V>(&mut self, header: H, message: M) -> Result<Ticket, Rejected<M>>
    where
        M: Send + 'static,
        V: Visit<M, S>,
    {
        match self.enter(size_of::<M>()) {
            Ok(entered) => Ok(push_plain::<H, S, M, V>(entered, header, message)),
            Err(reason) => Err(Rejected::new(message, reason)),
        }
    }

    /// As [`Producers::try_claim`].
    ///
    /// # Errors
    ///
    /// [`PushError`]; nothing has happened then.
    #[inline]
    pub fn try_claim(&mut self, bytes_max: usize) -> Result<Claim<'_, H, S>, PushError> {
        Ok(Claim::new(self.enter(bytes_max)?, bytes_max))
    }

    #[inline(always)]
    fn enter(&mut self, bytes: usize) -> Result<(Inside<'_>, Place), PushError> {
        // SAFETY: `publisher` took the number from these very rings.
        let ring = unsafe { self.core.rings.get_unchecked(self.ring as usize) };
        // SAFETY: the ring is this publisher's own, and a claim on it would still borrow what our caller has borrowed anew.
        unsafe { self.core.enter_own::<H>(ring, self.ring, bytes) }
    }

    /// Waits until this ring, having refused a push, has room again, or is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub fn room(&self) -> Room<'_> {
        Room::new(Handle::Borrowed(&self.core), self.ring)
    }

    /// Whether the rings were closed.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// As [`Producers::passed`].
    ///
    /// # Panics
    ///
    /// When the ticket comes from another, larger set of rings.
    #[inline]
    pub fn passed(&self, ticket: Ticket) -> bool {
        self.core.passed(ticket)
    }

    /// As [`Producers::answered`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind, and it can be asked for again.
    ///
    /// # Panics
    ///
    /// When polled, if the ticket comes from another, larger set of rings.
    pub fn answered(&self, ticket: Ticket) -> Answered<'_> {
        Answered::new(Handle::Borrowed(&self.core), ticket.ring, ticket.position)
    }

    /// The largest payload that the ring takes, in bytes.
    pub fn record_bytes_max(&self) -> usize {
        self.core.payload_bytes_max
    }
}

impl<H, S: Sink> Drop for Publisher<H, S> {
    fn drop(&mut self) {
        let ring = &self.core.rings[self.ring as usize];
        if ring.is_somebody_inside() {
            // A claim was forgotten, not dropped.
            self.core.leave_forgotten(self.ring);
        }
        ring.disown();
    }
}

impl<H, S: Sink> std::fmt::Debug for Publisher<H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("ring", &self.ring).finish_non_exhaustive()
    }
}

#[inline(always)]
fn push_bytes<H, S>((inside, place): (Inside<'_>, Place), header: H, payload: &[u8]) -> Ticket
where
    H: Copy + Send + 'static,
    S: Sink,
{
    let storage = &inside.ring().storage;
    let head = Head::<S>::message::<H>(payload.len(), None);
    // SAFETY: the place was found for this header and payload, and is ours until the commit.
    let to = unsafe { write_front(storage, place.start, head, header) };
    storage.will_write(place.start + payload_offset::<H>() as u64, payload.len());
    // SAFETY: as above; the ring's bytes do not overlap with what the caller can lend us, which is not freed yet.
    unsafe { to.copy_from_nonoverlapping(NonNull::from(payload).cast(), payload.len()) };
    // SAFETY: head, header and payload are written, for the place found with this length.
    unsafe { inside.commit::<H, S>(place, payload.len()) }
}

#[inline(always)]
fn push_plain<H, S, M, V>((inside, place): (Inside<'_>, Place), header: H, message: M) -> Ticket
where
    H: Copy + Send + 'static,
    S: Sink,
    M: Send + 'static,
    V: Visit<M, S>,
{
    const { assert_plain::<M>() };
    let bytes = size_of::<M>();
    let storage = &inside.ring().storage;
    let visit: VisitFn<S> = visit_erased::<M, V, S>;
    let head = Head::<S>::message::<H>(bytes, Some(visit));
    // SAFETY: the place was found for this header and message, and is ours until the commit.
    let to = unsafe { write_front(storage, place.start, head, header) };
    storage.will_write(place.start + payload_offset::<H>() as u64, bytes);
    // SAFETY: as above; the payload's place is a multiple of UNIT, which `M` is aligned to at most.
    unsafe { to.cast::<M>().write(message) };
    // SAFETY: head, header and message are written, for the place found with this size.
    unsafe { inside.commit::<H, S>(place, bytes) }
}
