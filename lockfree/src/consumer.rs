//! The way out: one consumer sweeps all rings.

use crate::horizon::Herald;
use crate::record::{Head, Record, Sink, stride};
use crate::rings::Core;
use crate::storage::{Storage, UNIT};
use crate::sync::{Arc, step};
use crate::ticket::Ticket;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The one consumer of a set of rings.
///
/// Dropping it closes the rings; who still waits for an answer then learns that there will be none.
pub struct Consumer<H, S: Sink> {
    core: Arc<Core>,
    cursors: Box<[Cursor]>,
    /// The records handed out by the drain that is not finished yet; kept, so that a drain allocates nothing.
    spans: Vec<Span>,
    /// The ring that the next drain begins with.
    first: usize,
    _carries: PhantomData<fn() -> (H, S)>,
}

/// The consumer's own copy of where it is in a ring.
struct Cursor {
    head: u64,
    filled_to: u64,
}

/// How far ahead of a record the consumer asks for a line, in bytes.
const READ_AHEAD: usize = 512;
/// The same where it only counts records: that takes so little time for each that more of them have to be on their way.
const COUNT_AHEAD: usize = 2_048;

/// Some records of one ring, in a row.
struct Span {
    ring: u32,
    from: u64,
    to: u64,
}

/// How much one drain takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainLimit {
    /// Records.
    pub records: usize,
    /// Bytes as they lie in the rings: head, header, payload, rounded up to 16 a record. One record is taken even
    /// when it alone is larger, or it would never be; with 0 none is.
    pub bytes: usize,
}

impl DrainLimit {
    /// Everything that is there.
    pub const NONE: DrainLimit = DrainLimit { records: usize::MAX, bytes: usize::MAX };
}

impl<H: Copy + Send + 'static, S: Sink> Consumer<H, S> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let cursors = core.rings.iter().map(|_| Cursor { head: 0, filled_to: 0 }).collect();
        let spans = Vec::with_capacity(core.rings.len());
        Consumer { core, cursors, spans, first: 0, _carries: PhantomData }
    }

    /// Borrows the oldest records of every ring, each ring's in order, shared out fairly between the rings.
    ///
    /// Nothing is freed or answered until [`Drained::finish`]. Without it the same records, and perhaps more,
    /// come again.
    pub fn drain(&mut self, limit: DrainLimit) -> Drained<'_, H, S> {
        self.spans.clear();
        let mut rings_left = 0;
        for (ring, cursor) in self.core.rings.iter().zip(&mut self.cursors) {
            cursor.filled_to = ring.filled_to();
            rings_left += usize::from(cursor.filled_to != cursor.head);
        }
        let all = self.cursors.len();
        let first = self.first;
        let mut left = limit;
        let mut counted = Some(0);
        for index in (first..all).chain(0..first) {
            if self.cursors[index].filled_to == self.cursors[index].head {
                continue;
            }
            // An equal share of what is left for each ring that has something: what one leaves over, the later
            // ones get, and each drain begins with another ring.
            let share = DrainLimit {
                records: left.records.div_ceil(rings_left),
                bytes: left.bytes.div_ceil(rings_left),
            };
            let (taken, is_counted) = self.take(index, share, left);
            counted = counted.filter(|_| is_counted).map(|counted| counted + taken.records);
            rings_left -= 1;
            if taken.records > 0 {
                if self.spans.len() == 1 {
                    self.first = (index + 1) % all;
                }
                left.records -= taken.records;
                left.bytes = left.bytes.saturating_sub(taken.bytes);
            }
        }
        Drained { consumer: self, len: Cell::new(counted) }
    }

    /// Takes records of one ring until its share is used up, but never more than is left for all; says how much it
    /// took, at most, and whether that was counted.
    fn take(&mut self, index: usize, share: DrainLimit, left: DrainLimit) -> (DrainLimit, bool) {
        let ring = &self.core.rings[index];
        let Cursor { head, filled_to } = self.cursors[index];
        let is_first = self.spans.is_empty();
        // When even the smallest records could not be too many, all are taken without a look at each.
        let bytes = (filled_to - head) as usize;
        let all = DrainLimit { records: bytes / stride::<H>(0), bytes };
        if all.bytes <= share.bytes && all.records <= share.records {
            self.hand_out(index, filled_to);
            return (all, false);
        }
        let mut taken = DrainLimit { records: 0, bytes: 0 };
        let (mut at, mut to) = (head, head);
        while at < filled_to && taken.records < share.records && taken.bytes < share.bytes {
            ring.storage.will_read(at, UNIT);
            let place = ring.storage.at(at);
            Storage::will_read_soon(place, COUNT_AHEAD);
            // SAFETY: a record begins at `at`, committed as it lies before `filled_to`, and not freed.
            let record = unsafe { place.cast::<Head<S>>().as_ref() };
            let stride = record.stride();
            at += stride as u64;
            if record.is_padding() {
                continue;
            }
            let is_alone = is_first && taken.records == 0;
            if stride > left.bytes.saturating_sub(taken.bytes) && !is_alone {
                break;
            }
            taken.records += 1;
            taken.bytes = taken.bytes.saturating_add(stride);
            to = at;
        }
        if to != head {
            self.hand_out(index, to);
        }
        (taken, true)
    }

    fn hand_out(&mut self, index: usize, to: u64) {
        self.spans.push(Span { ring: index as u32, from: self.cursors[index].head, to });
        if !step::FREE_AT_FINISH.is_taken() {
            self.core.rings[index].free(to);
        }
    }

    /// Whether nothing waits to be drained. Records that were drained but not finished still wait.
    pub fn is_empty(&self) -> bool {
        self.core.rings.iter().zip(&self.cursors).all(|(ring, cursor)| ring.filled_to() == cursor.head)
    }

    /// Whether the rings were closed and everything that was accepted has been finished: nothing will ever come.
    ///
    /// A push that was under way when the rings were closed may make this false a little longer; the bell rings when
    /// it is through. So a consumer that is about to rest asks [`has_news`](Self::has_news), which includes this.
    pub fn is_closed_and_empty(&self) -> bool {
        self.core.is_sealed()
            && self.core.rings.iter().zip(&self.cursors).all(|(ring, cursor)| {
                // In this order: who has left has committed what it had to commit.
                let is_final = !(step::CLOSE_WAITS_FOR_LEAVERS.is_taken() && ring.is_somebody_inside());
                is_final && ring.filled_to() == cursor.head
            })
    }

    /// Whether there is a reason not to rest: something to drain, or the end.
    pub fn has_news(&self) -> bool {
        !self.is_empty() || self.is_closed_and_empty()
    }

    /// Refuses every later push; see [`Producers::close`](crate::Producers::close).
    pub fn close(&self) {
        self.core.close();
    }

    /// Wakes those whose answer has come or whose ring has room; see [`Herald::wake`].
    pub fn wake(&self) {
        self.core.wake_passed();
    }

    /// A handle with which another thread can do the waking.
    pub fn herald(&self) -> Herald {
        Herald::new(Arc::clone(&self.core))
    }
}

impl<H, S: Sink> Drop for Consumer<H, S> {
    fn drop(&mut self) {
        self.core.consumer_goes();
    }
}

impl<H, S: Sink> std::fmt::Debug for Consumer<H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("rings", &self.cursors.len()).finish_non_exhaustive()
    }
}

/// What one drain handed out. Everything borrowed from it is gone before it can be finished.
///
/// Dropped without [`finish`](Self::finish), it was never drained: the same records come again.
#[must_use = "records that are not finished come again"]
pub struct Drained<'a, H: Copy + Send + 'static, S: Sink> {
    consumer: &'a mut Consumer<H, S>,
    /// Counted by the drain, or when somebody asks. A cell also keeps two threads from looking at one batch: a plain message need not
    /// be `Sync`.
    len: Cell<Option<usize>>,
}

impl<H: Copy + Send + 'static, S: Sink> Drained<'_, H, S> {
    /// The records, ring by ring, each ring's in the order of its pushes.
    pub fn records(&self) -> Records<'_, H, S> {
        Records {
            core: &self.consumer.core,
            spans: self.consumer.spans.iter(),
            storage: &self.consumer.core.rings[0].storage,
            place: self.consumer.core.rings[0].storage.at(0),
            ring: 0,
            at: 0,
            wrap: 0,
            to: 0,
            _borrow: PhantomData,
        }
    }

    /// How many records there are. Walks over them when it is first asked, unless the drain had to.
    pub fn len(&self) -> usize {
        let len = self.len.get().unwrap_or_else(|| self.records().count());
        self.len.set(Some(len));
        len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.consumer.spans.is_empty()
    }

    /// Answers the whole batch and frees its bytes: one store for each ring that it took from.
    ///
    /// Wakes nobody; see [`Consumer::wake`].
    pub fn finish(self) {
        let Consumer { core, cursors, spans, .. } = self.consumer;
        for span in spans.drain(..) {
            let ring = &core.rings[span.ring as usize];
            // Until here somebody may have been looking.
            ring.storage.will_read(span.from, (span.to - span.from) as usize);
            if step::FREE_AT_FINISH.is_taken() {
                ring.free(span.to);
            }
            cursors[span.ring as usize].head = span.to;
        }
    }
}

impl<'d, H: Copy + Send + 'static, S: Sink> IntoIterator for &'d Drained<'_, H, S> {
    type Item = Record<'d, H, S>;
    type IntoIter = Records<'d, H, S>;

    fn into_iter(self) -> Self::IntoIter {
        self.records()
    }
}

impl<H: Copy + Send + 'static, S: Sink> std::fmt::Debug for Drained<'_, H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drained").field("len", &self.len.get()).finish_non_exhaustive()
    }
}

/// The records of a batch. Made by [`Drained::records`].
pub struct Records<'d, H, S: Sink> {
    core: &'d Core,
    spans: std::slice::Iter<'d, Span>,
    /// The bytes of the ring that the span lies in.
    storage: &'d Storage,
    /// Where `at` lies in them.
    place: NonNull<u8>,
    ring: u32,
    at: u64,
    /// Up to where records lie in a row.
    wrap: u64,
    to: u64,
    _borrow: PhantomData<Record<'d, H, S>>,
}

impl<'d, H: Copy + Send + 'static, S: Sink> Iterator for Records<'d, H, S> {
    type Item = Record<'d, H, S>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.at == self.wrap {
                if self.at == self.to {
                    let span = self.spans.next()?;
                    (self.ring, self.at, self.to) = (span.ring, span.from, span.to);
                    self.storage = &self.core.rings[span.ring as usize].storage;
                }
                self.place = self.storage.at(self.at);
                self.wrap = self.to.min(self.storage.wrap_after(self.at));
            }
            let place = self.place.cast::<Head<S>>();
            self.storage.will_read(self.at, UNIT);
            // SAFETY: a record begins at `at`, committed as it lies in a span, and not freed while 'd lasts, which
            // borrows the batch that only `finish` frees.
            let head = unsafe { place.as_ref() };
            let stride = head.stride();
            Storage::will_read_soon(self.place, READ_AHEAD);
            self.storage.will_read(self.at, stride);
            self.at += stride as u64;
            // SAFETY: a record does not go beyond the end of the storage, nor of what lies in a row.
            self.place = unsafe { self.place.add(stride) };
            if !head.is_padding() {
                let ticket = Ticket { ring: self.ring, position: self.at };
                // SAFETY: as above, and it is no padding.
                return Some(unsafe { Record::new(place, ticket) });
            }
        }
    }
}

impl<H, S: Sink> std::fmt::Debug for Records<'_, H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("ring", &self.ring).field("at", &self.at).finish_non_exhaustive()
    }
}
