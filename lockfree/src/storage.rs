//! The raw bytes under a ring.
//!
//! One allocation, aligned, and untouched until a record is written: the kernel hands out its pages as they
//! are first used, so a ring that nobody fills costs no memory. Nothing here is ever zeroed.
//!
//! Under loom a shadow of checked cells lies beside the bytes, one for each unit of 16, so that a read or write
//! that nothing orders against another is reported.

use std::alloc::{Layout, dealloc};
use std::ptr::NonNull;

/// Records begin at, and are padded to, multiples of this.
pub(crate) const UNIT: usize = 16;

/// Whole pairs of cache lines, so that two rings never share one.
const ALIGN: usize = 128;

/// A cache line.
const LINE: usize = 64;
/// So many of a large record are asked for; the processor sees by itself how the rest goes on.
const LINES_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct Storage {
    base: NonNull<u8>,
    bytes: usize,
    #[cfg(lockfree_loom)]
    shadow: Vec<crate::sync::UnsafeCell<()>>,
}

// SAFETY: the storage is plain memory; who may touch which part of it when is the ring's protocol.
unsafe impl Send for Storage {}
// SAFETY: as above; every method that touches the memory is unsafe and states what its caller must know.
unsafe impl Sync for Storage {}

impl Storage {
    /// Reserves `bytes`, a power of two of at least one unit; `None` when there is no memory for so many.
    pub(crate) fn reserve(bytes: usize) -> Option<Storage> {
        assert!(bytes.is_power_of_two() && bytes >= UNIT, "ring bytes are checked by RingsConfig");
        // Half of the address space, which 2 GiB are where it has 32 bits, are more than an allocation may have.
        let layout = Layout::from_size_align(bytes, ALIGN).ok()?;
        // SAFETY: the layout's size is not zero.
        #[cfg(not(lockfree_loom))]
        let base = unsafe { std::alloc::alloc(layout) };
        // A twin may read what was never written; it shall read zeros then and fail by assertion.
        // SAFETY: the layout's size is not zero.
        #[cfg(lockfree_loom)]
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        Some(Storage {
            base: NonNull::new(base)?,
            bytes,
            #[cfg(lockfree_loom)]
            shadow: (0..bytes / UNIT).map(|_| crate::sync::UnsafeCell::new(())).collect(),
        })
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A pointer to the byte that the ever-growing position `at` falls on.
    #[inline(always)]
    pub(crate) fn at(&self, at: u64) -> NonNull<u8> {
        let offset = (at as usize) & (self.bytes - 1);
        // SAFETY: the mask keeps the offset inside the allocation.
        unsafe { self.base.add(offset) }
    }

    /// Where the bytes that hold `at` end, and the next position lies at their beginning again.
    #[inline(always)]
    pub(crate) fn wrap_after(&self, at: u64) -> u64 {
        let bytes = self.bytes as u64;
        (at & !(bytes - 1)) + bytes
    }

    /// Asks for as many lines as a record of `bytes` takes, `ahead` of it, so that the store buffer does not fill up behind it. Behind
    /// the end of the storage it asks in vain, which is cheaper than to look.
    #[inline(always)]
    pub(crate) fn will_write_soon(place: NonNull<u8>, ahead: usize, bytes: usize) {
        for line in 0..(bytes / LINE).clamp(1, LINES_MAX) {
            prefetch::to_write(place.as_ptr().wrapping_add(ahead + line * LINE));
        }
    }

    /// Asks for the line `ahead` of a record that is read: where the next one begins is only known by reading this one.
    #[inline(always)]
    pub(crate) fn will_read_soon(place: NonNull<u8>, ahead: usize) {
        prefetch::to_read(place.as_ptr().wrapping_add(ahead));
    }

    /// Marks the bytes as written now, for the model checker.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn will_write(&self, at: u64, bytes: usize) {
        #[cfg(lockfree_loom)]
        self.units(at, bytes).for_each(|unit| self.shadow[unit].with_mut(|_| ()));
        let _ = (at, bytes);
    }

    /// Marks the bytes as read now, for the model checker.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn will_read(&self, at: u64, bytes: usize) {
        #[cfg(lockfree_loom)]
        self.units(at, bytes).for_each(|unit| self.shadow[unit].with(|_| ()));
        let _ = (at, bytes);
    }

    #[cfg(lockfree_loom)]
    fn units(&self, at: u64, bytes: usize) -> impl Iterator<Item = usize> {
        let all = self.bytes / UNIT;
        let at = at as usize;
        (at / UNIT..(at + bytes).div_ceil(UNIT))
            .take(if bytes == 0 { 0 } else { all })
            .map(move |unit| unit % all)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.bytes, ALIGN).expect("it was allocated with this layout");
        // SAFETY: `base` came from `alloc` with this very layout and is freed once, here.
        unsafe { dealloc(self.base.as_ptr(), layout) }
    }
}

/// Hints, which change nothing but time. Where they are missing, nothing is missed.
mod prefetch {
    #[cfg(all(target_arch = "x86_64", not(any(lockfree_loom, miri))))]
    mod machine {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        #[inline(always)]
        pub(super) fn to_write(place: *const i8) {
            // Not the intrinsic: without a target feature it asks for the line to be shared, and the store has to ask the other core
            // again. Every 64-bit processor since 2006 takes the instruction, those that have no use for it as no operation.
            // SAFETY: a prefetch reads and writes nothing, wherever it points to.
            unsafe { std::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags)) };
        }

        #[inline(always)]
        pub(super) fn to_read(place: *const i8) {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place) };
        }
    }

    #[cfg(not(all(target_arch = "x86_64", not(any(lockfree_loom, miri)))))]
    mod machine {
        #[inline(always)]
        pub(super) fn to_write(_: *const i8) {}

        #[inline(always)]
        pub(super) fn to_read(_: *const i8) {}
    }

    #[inline(always)]
    pub(super) fn to_write(place: *const u8) {
        machine::to_write(place.cast());
    }

    #[inline(always)]
    pub(super) fn to_read(place: *const u8) {
        machine::to_read(place.cast());
    }
}
