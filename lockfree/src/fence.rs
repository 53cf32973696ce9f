//! Asymmetric fences: the side that runs millions of times a second pays nothing, the rare side pays for both.
//!
//! A handshake in which each side writes first and looks afterwards needs a full fence between the two on both
//! sides, 4–5 ns on every publish. Linux offers a better bargain: `membarrier` makes every running thread of
//! the process pass a full fence at a moment chosen by the rare side. The frequent side then only has to keep
//! the compiler from swapping its write and its look. Where the call is missing both sides pay.

use crate::edges::Edge;
use crate::sync::End;

/// Which fences the two sides of a handshake use. All who take part must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fences {
    /// The frequent side pays nothing, the rare side asks the kernel (about a microsecond).
    Asymmetric,
    /// Both sides pay a full fence. Always right, and what the model checker sees.
    Symmetric,
}

impl Fences {
    /// The best that this process can have.
    pub fn detect() -> Fences {
        #[cfg(all(target_os = "linux", not(lockfree_loom), not(miri)))]
        {
            static HAS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
            if *HAS.get_or_init(membarrier::register) {
                return Fences::Asymmetric;
            }
        }
        Fences::Symmetric
    }

    /// The frequent side's fence: the giver of `edge`.
    #[inline(always)]
    pub(crate) fn light(self, edge: Edge) {
        match self {
            // Where the checker runs this does nothing at all: a model without a handshake must hold without it.
            Fences::Asymmetric => crate::sync::compiler_fence(),
            Fences::Symmetric => edge.fence(End::Gives),
        }
    }

    /// The rare side's fence: the taker of `edge`.
    ///
    /// # Panics
    ///
    /// When the kernel refuses a call that it granted before, which only a system call filter installed
    /// meanwhile can bring about. Going on without the fence would lose wake-ups in silence.
    pub(crate) fn heavy(self, edge: Edge) {
        match self {
            #[cfg(all(target_os = "linux", not(lockfree_loom), not(miri)))]
            Fences::Asymmetric => membarrier::everywhere(),
            _ => edge.fence(End::Takes),
        }
    }
}

#[cfg(all(target_os = "linux", not(lockfree_loom), not(miri)))]
mod membarrier {
    // From linux/membarrier.h; libc has the call's number but not these.
    const QUERY: libc::c_int = 0;
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    fn call(command: libc::c_int) -> libc::c_long {
        // SAFETY: membarrier takes three integers, touches no memory of ours, and fails cleanly where unknown.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_int, 0 as libc::c_int) }
    }

    /// Announces that this process will ask; false where the kernel cannot.
    pub(super) fn register() -> bool {
        let offered = call(QUERY);
        offered > 0
            && offered & libc::c_long::from(PRIVATE_EXPEDITED) != 0
            && call(REGISTER_PRIVATE_EXPEDITED) == 0
    }

    /// Every running thread of this process has passed a full fence when this returns.
    pub(super) fn everywhere() {
        let refused = call(PRIVATE_EXPEDITED) != 0;
        assert!(
            !refused,
            "membarrier was granted at start and is refused now: is a system call filter in the way?"
        );
    }
}

#[cfg(all(test, not(lockfree_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_detected_once_is_detected_again() {
        assert_eq!(Fences::detect(), Fences::detect());
    }

    #[test]
    fn both_kinds_of_fence_can_be_passed() {
        for fences in [Fences::detect(), Fences::Symmetric] {
            fences.light(crate::sync::edge::BELL_HEARD);
            fences.heavy(crate::sync::edge::BELL_HEARD);
        }
    }
}
