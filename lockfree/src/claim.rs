//! Encoding in place: claim an upper bound, write, commit what was really written.

use crate::error::ClaimExceeded;
use crate::record::{Head, Sink, payload_offset, write_front};
use crate::ring::Place;
use crate::rings::Inside;
use crate::ticket::Ticket;
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Room in a ring, being written to.
///
/// Dropped without [`commit`](Self::commit), whether on purpose, by an error or by a panic, it leaves nothing behind. Forgotten
/// with [`std::mem::forget`], it takes its ring with it: a publisher's until that is dropped, any other for ever; closed,
/// the rings then never come to their end.
///
/// ```
/// use std::io::Write as _;
/// # use whizbang_lockfree::*;
/// # let (producers, mut consumer) = rings::<u32, NoSink>(RingsConfig::default(), &Doorbell::new()).unwrap();
///
/// let mut claim = producers.try_claim(64)?;
/// write!(claim, "{} + {}", 1, 2)?;
/// assert_eq!(claim.written(), 5);
/// claim.commit(7);
///
/// drop(producers.try_claim(64)?); // never was
///
/// let batch = consumer.drain(DrainLimit::NONE);
/// let payloads: Vec<_> = batch.records().map(|record| record.bytes()).collect();
/// assert_eq!(payloads, [Some(&b"1 + 2"[..])]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Claim<'a, H, S: Sink> {
    inside: Inside<'a>,
    place: Place,
    payload: NonNull<u8>,
    bytes_max: usize,
    written: usize,
    _carries: PhantomData<fn(H, S)>,
}

impl<'a, H: Copy + Send + 'static, S: Sink> Claim<'a, H, S> {
    #[inline(always)]
    pub(crate) fn new((inside, place): (Inside<'a>, Place), bytes_max: usize) -> Self {
        let payload = inside.ring().storage.at(place.start + payload_offset::<H>() as u64);
        #[cfg(lockfree_loom)]
        if !crate::sync::step::CLAIM_LEAVES_NOTHING.is_taken() {
            // The twin moves the tail when it claims. SAFETY: none; the model must notice.
            unsafe {
                inside.ring().commit::<S>(place, place.start + crate::record::stride::<H>(bytes_max) as u64)
            };
        }
        Claim { inside, place, payload, bytes_max, written: 0, _carries: PhantomData }
    }

    /// Appends `bytes` to the payload.
    ///
    /// # Errors
    ///
    /// [`ClaimExceeded`] when they do not fit what was claimed; none of them is written then.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), ClaimExceeded> {
        if bytes.len() > self.remaining() {
            return Err(ClaimExceeded { bytes_max: self.bytes_max });
        }
        let at = self.place.start + (payload_offset::<H>() + self.written) as u64;
        self.inside.ring().storage.will_write(at, bytes.len());
        // SAFETY: `written` is at most `bytes_max`, and that much was claimed behind `payload`.
        let to = unsafe { self.payload.add(self.written) };
        // SAFETY: the bytes fit what remains of the claim, which is nobody else's until the commit.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        self.written += bytes.len();
        Ok(())
    }

    /// How many payload bytes have been written.
    #[inline]
    pub fn written(&self) -> usize {
        self.written
    }

    /// How many more may be written.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes_max - self.written
    }

    /// The payload as written so far.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: that many bytes were written there, by us, and only we write here until the commit.
        unsafe { std::slice::from_raw_parts(self.payload.as_ptr(), self.written) }
    }

    /// Takes back what was written; the claim is as it was when it was made.
    #[inline]
    pub fn clear(&mut self) {
        self.written = 0;
    }

    /// Gives the record to the consumer, as long as what was written and no longer.
    #[inline]
    pub fn commit(self, header: H) -> Ticket {
        let Claim { inside, place, written, .. } = self;
        let head = Head::<S>::message::<H>(written, None);
        // SAFETY: the place was claimed for this header and at least as many bytes, and is ours until the commit.
        unsafe { write_front(&inside.ring().storage, place.start, head, header) };
        // SAFETY: head, header and `written` payload bytes are written.
        unsafe { inside.commit::<H, S>(place, written) }
    }
}

impl<H: Copy + Send + 'static, S: Sink> io::Write for Claim<'_, H, S> {
    /// Writes as much as fits; nothing once the claim is full.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.remaining());
        self.extend_from_slice(&bytes[..fits]).map_err(io::Error::other)?;
        Ok(fits)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<H, S: Sink> std::fmt::Debug for Claim<'_, H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("bytes_max", &self.bytes_max)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
