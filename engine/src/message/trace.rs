//! The W3C trace context of a message.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

/// The trace a message belongs to: a valid W3C `traceparent`, and nothing else.
///
/// ```
/// use whizbang::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace: TraceParent = text.parse()?;
/// assert!(trace.is_sampled());
/// assert_eq!(trace.to_string(), text);
/// # Ok::<(), whizbang::TraceParentError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: NonZeroU128,
    parent: NonZeroU64,
    flags: u8,
}

/// A text that is not a W3C `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceParentError {
    /// Not `version-trace-parent-flags` in lower-case hexadecimal digits of the right lengths.
    #[error("not a W3C traceparent: 00-<32 digits>-<16 digits>-<2 digits>, lower-case hexadecimal, is one")]
    Form,
    /// Version `ff` is reserved.
    #[error("traceparent version ff is not allowed")]
    Version,
    /// A trace or parent id of zeroes stands for none.
    #[error("a traceparent with an id of zeroes names no trace")]
    ZeroId,
}

impl TraceParent {
    /// Bytes of the stored form.
    pub(crate) const BYTES: usize = 16 + 8 + 1;

    /// From its three parts. Bit 0 of `flags` says that the trace is sampled.
    pub const fn new(trace: NonZeroU128, parent: NonZeroU64, flags: u8) -> Self {
        Self { trace, parent, flags }
    }

    /// The trace's id.
    pub const fn trace_id(self) -> NonZeroU128 {
        self.trace
    }

    /// The id of the span that sent the message.
    pub const fn parent_id(self) -> NonZeroU64 {
        self.parent
    }

    /// The flags as they were sent.
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// Whether the sender recorded the trace.
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace.get().to_be_bytes());
        bytes[16..24].copy_from_slice(&self.parent.get().to_be_bytes());
        bytes[24] = self.flags;
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, TraceParentError> {
        let (trace, rest) = bytes.split_first_chunk().expect("16 of 25 bytes");
        let (parent, flags) = rest.split_first_chunk().expect("8 of 9 bytes");
        Ok(Self {
            trace: NonZeroU128::new(u128::from_be_bytes(*trace)).ok_or(TraceParentError::ZeroId)?,
            parent: NonZeroU64::new(u64::from_be_bytes(*parent)).ok_or(TraceParentError::ZeroId)?,
            flags: flags[0],
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    /// Reads version 00 exactly, and of a later version the part that all versions share, as the standard asks.
    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let bytes = text.as_bytes();
        let (Some(version), Some(trace), Some(parent), Some(flags)) =
            (bytes.get(..2), bytes.get(3..35), bytes.get(36..52), bytes.get(53..55))
        else {
            return Err(TraceParentError::Form);
        };
        let version = hex(version)? as u8;
        if version == 0xff {
            return Err(TraceParentError::Version);
        }
        let more = bytes.get(55);
        if [2, 35, 52].map(|at| bytes[at]) != [b'-'; 3] || (version == 0 && more.is_some()) {
            return Err(TraceParentError::Form);
        }
        if more.is_some_and(|next| *next != b'-') {
            return Err(TraceParentError::Form);
        }
        Ok(Self {
            trace: NonZeroU128::new(hex(trace)?).ok_or(TraceParentError::ZeroId)?,
            parent: NonZeroU64::new(hex(parent)? as u64).ok_or(TraceParentError::ZeroId)?,
            flags: hex(flags)? as u8,
        })
    }
}

fn hex(digits: &[u8]) -> Result<u128, TraceParentError> {
    digits.iter().try_fold(0, |number: u128, digit| match digit {
        b'0'..=b'9' => Ok(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Ok(number << 4 | u128::from(digit - b'a' + 10)),
        _ => Err(TraceParentError::Form),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn its_parts_come_back_from_text_and_bytes() {
        let trace: TraceParent = GOOD.parse().unwrap();
        assert_eq!(trace.trace_id().get(), 0x4bf92f3577b34da6a3ce929d0e0e4736);
        assert_eq!(trace.parent_id().get(), 0x00f067aa0ba902b7);
        assert_eq!((trace.flags(), trace.is_sampled()), (1, true));
        assert_eq!(trace.to_string(), GOOD);
        assert_eq!(TraceParent::from_bytes(&trace.to_bytes()), Ok(trace));
    }

    #[test]
    fn what_the_standard_refuses_is_refused() {
        use TraceParentError::{Form, Version, ZeroId};
        for (text, expected) in [
            ("", Form),
            ("00", Form),
            (&GOOD[..54], Form),
            (&GOOD.to_uppercase(), Form),
            (&GOOD.replace('-', "_"), Form),
            (&format!("{GOOD}-00"), Form),
            (&format!("{GOOD}0"), Form),
            (&format!("01{}x", &GOOD[2..]), Form),
            (&format!("0g{}", &GOOD[2..]), Form),
            (&format!("ff{}", &GOOD[2..]), Version),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", ZeroId),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", ZeroId),
            ("00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01", Form),
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_all_versions_agree() {
        let later = format!("cc{}-what-comes-then", &GOOD[2..]);
        assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), GOOD);
    }
}
