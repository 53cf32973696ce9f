//! Values as bytes, for what a [`Journal`](crate::journal::Journal) keeps: each writes itself and reads itself back.
//!
//! Numbers are variable-length, texts and lists begin with their length, an option with a byte that says whether there is
//! something. Reading never panics and never allocates more than there are bytes.

mod batch;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use batch::Borrowed;

use crate::{
    Epoch, InstanceId, MessageId, Partition, Position, Revision, StreamId, SubscriptionId, Timestamp, Version,
};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A value that can be written and read back.
pub(crate) trait Wire<'r>: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes a value off the front.
    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed>;
}

/// Implements [`Wire`] for structs, field by field: a field that is added and not named here does not compile.
macro_rules! wire_fields {
    ($($name:ident $(<$life:lifetime>)? { $($field:ident),* $(,)? })*) => {$(
        impl<'r> $crate::wire::Wire<'r> for $name $(<$life>)? {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }

            fn get(from: &mut &'r [u8]) -> Result<Self, $crate::wire::Malformed> {
                Ok(Self { $($field: $crate::wire::Wire::get(from)?),* })
            }
        }
    )*};
}
pub(crate) use wire_fields;

/// Writes a list.
pub(crate) fn put_list<'r, T: Wire<'r>>(items: impl ExactSizeIterator<Item = T>, out: &mut Vec<u8>) {
    items.len().put(out);
    items.for_each(|item| item.put(out));
}

/// Reads what [`put_list`] wrote.
pub(crate) fn get_list<'r, T: Wire<'r>>(from: &mut &'r [u8]) -> Result<Vec<T>, Malformed> {
    let count = usize::get(from)?;
    // Not allocated in advance: the count may be nonsense.
    (0..count).map(|_| T::get(from)).collect()
}

impl Wire<'_> for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        let mut number = *self;
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = u8::get(from)?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }
}

/// Numbers that go as a `u64`.
macro_rules! as_u64 {
    ($($number:ty)*) => {$(
        impl Wire<'_> for $number {
            fn put(&self, out: &mut Vec<u8>) {
                (*self as u64).put(out);
            }

            fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
                Self::try_from(u64::get(from)?).map_err(|_| Malformed)
            }
        }
    )*};
}
as_u64!(u16 u32 usize);

macro_rules! numbers {
    ($($number:ident)*) => {$(
        impl Wire<'_> for $number {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
                Wire::get(from).map(Self)
            }
        }
    )*};
}
numbers!(Partition Epoch Position Version Revision SubscriptionId);

macro_rules! ids {
    ($($id:ident)*) => {$(
        impl Wire<'_> for $id {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_bytes());
            }

            fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
                Self::from_bytes(take(from)?).ok_or(Malformed)
            }
        }
    )*};
}
ids!(MessageId StreamId InstanceId);

impl Wire<'_> for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        take::<1>(from).map(|[byte]| byte)
    }
}

impl Wire<'_> for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

impl Wire<'_> for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.micros().to_le_bytes());
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        take(from).map(|bytes| Self::from_micros(i64::from_le_bytes(bytes)))
    }
}

/// In microseconds, as everything in a store is counted; what is longer than a clock can show stays so.
impl Wire<'_> for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_micros()).unwrap_or(u64::MAX).put(out);
    }

    fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
        u64::get(from).map(Self::from_micros)
    }
}

impl<'r> Wire<'r> for &'r [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        out.extend_from_slice(self);
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        let length = usize::get(from)?;
        let (bytes, rest) = from.split_at_checked(length).ok_or(Malformed)?;
        *from = rest;
        Ok(bytes)
    }
}

impl<'r> Wire<'r> for &'r str {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_bytes().put(out);
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        core::str::from_utf8(Wire::get(from)?).map_err(|_| Malformed)
    }
}

/// Owned values go as the borrowed ones.
macro_rules! owned {
    ($($owned:ty as $borrowed:ty;)*) => {$(
        impl Wire<'_> for $owned {
            fn put(&self, out: &mut Vec<u8>) {
                let borrowed: &$borrowed = self;
                borrowed.put(out);
            }

            fn get(from: &mut &[u8]) -> Result<Self, Malformed> {
                <&$borrowed>::get(from).map(Into::into)
            }
        }
    )*};
}
owned! {
    String as str;
    Box<str> as str;
    Box<[u8]> as [u8];
}

impl<'r, T: Wire<'r>> Wire<'r> for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        if bool::get(from)? { T::get(from).map(Some) } else { Ok(None) }
    }
}

impl<'r, T: Wire<'r>> Wire<'r> for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        get_list(from)
    }
}

impl<'r, A: Wire<'r>, B: Wire<'r>> Wire<'r> for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        Ok((A::get(from)?, B::get(from)?))
    }
}

impl<'r, A: Wire<'r>, B: Wire<'r>, C: Wire<'r>> Wire<'r> for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }

    fn get(from: &mut &'r [u8]) -> Result<Self, Malformed> {
        Ok((A::get(from)?, B::get(from)?, C::get(from)?))
    }
}

/// Takes so many bytes off the front.
pub(crate) fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (bytes, rest) = from.split_first_chunk().ok_or(Malformed)?;
    *from = rest;
    Ok(*bytes)
}
