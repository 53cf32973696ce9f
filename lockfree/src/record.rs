//! What lies in a ring: a head of 16 bytes, the caller's header, the payload.
//!
//! ```text
//! 0        8     12    16            16 + header, rounded up to 16
//! ┌────────┬─────┬─────┬─────────────┬──────────────────┬┄┄┄┄┄┄┐
//! │ visit  │bytes│strd │ H           │ payload          │ pad  │   strd: the stride, a multiple of 16
//! └────────┴─────┴─────┴─────────────┴──────────────────┴┄┄┄┄┄┄┘
//! ```
//!
//! A padding record, which fills what remains before the wrap, is a head and nothing else: 16 bytes is all that
//! is certain to be there. Where the next record begins is `stride` and nothing that has to be computed from it: the
//! consumer waits for that load before every record.

use crate::storage::{Storage, UNIT};
use crate::ticket::Ticket;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What plain messages are shown to.
///
/// The type behind `At` is what a [`Visit`] receives when the consumer looks at a plain message. It may borrow,
/// for as long as one look takes, from whatever the consumer has at that time, such as a batch's arena.
///
/// ```
/// use whizbang_lockfree::Sink;
///
/// struct Text;
/// impl Sink for Text {
///     type At<'a> = &'a mut String;
/// }
/// ```
pub trait Sink: 'static {
    /// What is lent to each visit.
    type At<'a>;
}

/// A sink for consumers that have none: plain messages are shown to `()`.
#[derive(Debug, Clone, Copy)]
pub struct NoSink;

impl Sink for NoSink {
    type At<'a> = ();
}

/// How the consumer looks at a plain message of type `M`.
///
/// Chosen where the message is pushed, where its type is known; called where it is drained, where it is not.
/// It gets a reference: a message in a ring is never moved out, and as it owns nothing it is never dropped.
///
/// A panic in `visit` reaches who called [`Record::visit`](crate::Record::visit) and changes nothing in the ring.
///
/// ```
/// use whizbang_lockfree::{Sink, Visit};
///
/// struct Text;
/// impl Sink for Text {
///     type At<'a> = &'a mut String;
/// }
///
/// struct AsDecimal;
/// impl Visit<u64, Text> for AsDecimal {
///     fn visit(message: &u64, out: &mut &mut String) {
///         out.push_str(&message.to_string());
///     }
/// }
/// ```
pub trait Visit<M, S: Sink>: 'static {
    /// Looks at the message and tells the sink.
    fn visit(message: &M, out: &mut S::At<'_>);
}

/// One record, borrowed from a ring for as long as its batch is not finished.
pub struct Record<'a, H, S: Sink> {
    head: NonNull<Head<S>>,
    ticket: Ticket,
    // A plain message need not be `Sync`, so a record stays on the thread that drains; the raw pointer sees to it.
    _borrow: PhantomData<&'a H>,
}

impl<'a, H: Copy + Send + 'static, S: Sink> Record<'a, H, S> {
    /// # Safety
    ///
    /// `head` points to a committed record with a header of type `H`, not a padding one, which is not freed
    /// while `'a` lasts.
    #[inline(always)]
    pub(crate) unsafe fn new(head: NonNull<Head<S>>, ticket: Ticket) -> Self {
        Record { head, ticket, _borrow: PhantomData }
    }

    /// The header that the record was pushed with.
    #[inline]
    pub fn header(&self) -> &'a H {
        // SAFETY: a record that is no padding has its header right behind its head, inside the same stride.
        let header = unsafe { self.head.cast::<u8>().add(UNIT) };
        // SAFETY: an `H` was written there before the commit, aligned as UNIT is, and stays while 'a lasts.
        unsafe { header.cast::<H>().as_ref() }
    }

    /// The ticket that its push returned.
    #[inline]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The bytes of a record pushed as bytes; `None` for a plain message.
    #[inline]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        let head = self.head();
        if head.visit.is_some() {
            return None;
        }
        let payload = self.payload().as_ptr();
        // SAFETY: the producer wrote `head.bytes` bytes there before the commit, and they stay while 'a lasts.
        Some(unsafe { std::slice::from_raw_parts(payload, head.bytes as usize) })
    }

    /// How many bytes the payload takes: those pushed, or the size of the plain message.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.head().bytes as usize
    }

    /// Whether a plain message lies here, to be looked at with [`visit`](Self::visit).
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.head().visit.is_some()
    }

    /// Shows the plain message to `out`, in the way chosen when it was pushed; false when there are only bytes.
    ///
    /// # Panics
    ///
    /// When the message's [`Visit`] panics. The record is then as it was and may be visited again.
    #[inline]
    pub fn visit(&self, out: &mut S::At<'_>) -> bool {
        let Some(visit) = self.head().visit else {
            return false;
        };
        // SAFETY: the producer stored, with the message, the visit made for that message's type, and the message
        // lies at the payload's place, aligned to at most UNIT, while 'a lasts.
        unsafe { visit(self.payload().as_ptr(), out) };
        true
    }

    #[inline(always)]
    fn head(&self) -> &'a Head<S> {
        // SAFETY: by the contract of `new`.
        unsafe { self.head.as_ref() }
    }

    #[inline(always)]
    fn payload(&self) -> NonNull<u8> {
        // SAFETY: the payload begins inside the record's stride, or at its end when it is empty.
        unsafe { self.head.cast::<u8>().add(payload_offset::<H>()) }
    }
}

impl<H: Copy + Send + std::fmt::Debug + 'static, S: Sink> std::fmt::Debug for Record<'_, H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("header", self.header())
            .field("ticket", &self.ticket)
            .field("payload_bytes", &self.payload_bytes())
            .field("plain", &self.is_plain())
            .finish()
    }
}

/// The first 16 bytes of every record.
#[repr(C, align(16))]
pub(crate) struct Head<S: Sink> {
    /// How to look at the plain message that follows; none for bytes.
    pub(crate) visit: Option<VisitFn<S>>,
    /// Payload bytes, or [`PADDING`].
    pub(crate) bytes: u32,
    /// From this record's beginning to the next one's.
    stride: u32,
}

/// [`Visit::visit`] for a message whose type is no longer known.
pub(crate) type VisitFn<S> = unsafe fn(*const u8, &mut <S as Sink>::At<'_>);

/// In place of a number of bytes that no payload has.
const PADDING: u32 = u32::MAX;

impl<S: Sink> Head<S> {
    const IS_ONE_UNIT: () = assert!(size_of::<Self>() == UNIT && align_of::<Self>() == UNIT);

    /// A record that only fills so many bytes, a multiple of the unit.
    pub(crate) fn padding(fills: usize) -> Self {
        const { Self::IS_ONE_UNIT };
        Head { visit: None, bytes: PADDING, stride: fills as u32 }
    }

    #[inline(always)]
    pub(crate) fn message<H>(bytes: usize, visit: Option<VisitFn<S>>) -> Self {
        Head { visit, bytes: bytes as u32, stride: stride::<H>(bytes) as u32 }
    }

    /// From this record's beginning to the next one's.
    #[inline(always)]
    pub(crate) fn stride(&self) -> usize {
        self.stride as usize
    }

    #[inline(always)]
    pub(crate) fn is_padding(&self) -> bool {
        self.bytes == PADDING
    }
}

/// What a record of `bytes` payload takes in the ring.
#[inline(always)]
pub(crate) const fn stride<H>(bytes: usize) -> usize {
    (payload_offset::<H>() + bytes).next_multiple_of(UNIT)
}

/// Where the payload begins in a record.
#[inline(always)]
pub(crate) const fn payload_offset<H>() -> usize {
    UNIT + size_of::<H>().next_multiple_of(UNIT)
}

/// The header must be something that a ring can hold.
pub(crate) const fn assert_header<H>() {
    assert!(!std::mem::needs_drop::<H>(), "a record header must own nothing");
    assert!(align_of::<H>() <= UNIT, "a record header is aligned to 16 bytes at most");
}

/// A plain message must be something that a ring can hold.
pub(crate) const fn assert_plain<M>() {
    assert!(!std::mem::needs_drop::<M>(), "a message that owns memory is pushed as bytes, not plain");
    assert!(align_of::<M>() <= UNIT, "a plain message is aligned to 16 bytes at most");
}

/// # Safety
///
/// `message` points to an `M` that nobody writes meanwhile.
pub(crate) unsafe fn visit_erased<M, V: Visit<M, S>, S: Sink>(message: *const u8, out: &mut S::At<'_>) {
    // SAFETY: passed on from the caller.
    V::visit(unsafe { &*message.cast::<M>() }, out);
}

/// Writes head and header of a record at `at`; where its payload goes.
///
/// # Safety
///
/// The ring's bytes from `at` up to the payload's end belong to the caller and do not wrap.
#[inline(always)]
pub(crate) unsafe fn write_front<H: Copy, S: Sink>(
    storage: &Storage,
    at: u64,
    head: Head<S>,
    header: H,
) -> NonNull<u8> {
    let place = storage.at(at);
    storage.will_write(at, payload_offset::<H>());
    // SAFETY: the place is the caller's, and records begin at multiples of UNIT in storage aligned to more.
    unsafe { place.cast::<Head<S>>().write(head) };
    // SAFETY: the header lies behind the head, before the payload.
    let behind_head = unsafe { place.add(UNIT) };
    // SAFETY: as above, and `H` is aligned to UNIT at most.
    unsafe { behind_head.cast::<H>().write(header) };
    // SAFETY: the payload begins inside the caller's bytes, or at their end when it is empty.
    unsafe { place.add(payload_offset::<H>()) }
}
