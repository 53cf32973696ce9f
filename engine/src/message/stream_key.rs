//! What can name a stream.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use whizbang_storage::StreamId;

/// What a `#[stream]` field may be: a [`StreamId`], or a key of your own from which one is derived.
///
/// The stream of a number is that of its decimal text, so that a key may become a string one day.
///
/// ```
/// use whizbang::{StreamId, StreamKey};
///
/// assert_eq!("4711".stream_id(), StreamId::from_key("4711"));
/// assert_eq!(4711_u64.stream_id(), "4711".stream_id());
///
/// struct OrderNumber(u64);
/// impl StreamKey for OrderNumber {
///     fn stream_id(&self) -> StreamId {
///         self.0.stream_id()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot name a stream",
    label = "not a stream key",
    note = "a `#[stream]` field is a `StreamId`, a string, an integer or bytes; for a type of your own write \
            `impl StreamKey for {Self}`"
)]
pub trait StreamKey {
    /// The stream this key stands for. The same key must give the same stream, for ever.
    fn stream_id(&self) -> StreamId;
}

impl StreamKey for StreamId {
    fn stream_id(&self) -> StreamId {
        *self
    }
}

impl<K: StreamKey + ?Sized> StreamKey for &K {
    fn stream_id(&self) -> StreamId {
        (**self).stream_id()
    }
}

macro_rules! owned {
    ($($pointer:ident),*) => {$(
        impl<K: StreamKey + ?Sized> StreamKey for $pointer<K> {
            fn stream_id(&self) -> StreamId {
                (**self).stream_id()
            }
        }
    )*};
}
owned!(Box, Arc, Rc);

macro_rules! bytes {
    ($([$($param:tt)*] $key:ty),*) => {$(
        impl<$($param)*> StreamKey for $key {
            fn stream_id(&self) -> StreamId {
                StreamId::from_key(self)
            }
        }
    )*};
}
bytes!([] str, [] String, [] [u8], [] Vec<u8>, [const N: usize] [u8; N]);

impl StreamKey for Cow<'_, str> {
    fn stream_id(&self) -> StreamId {
        StreamId::from_key(self.as_bytes())
    }
}

macro_rules! integers {
    ($($key:ty),*) => {$(
        impl StreamKey for $key {
            #[inline]
            fn stream_id(&self) -> StreamId {
                StreamId::from_key(itoa::Buffer::new().format(*self))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_stream_of_its_decimal_text() {
        let of = |text: &str| StreamId::from_key(text);
        assert_eq!(0_u8.stream_id(), of("0"));
        assert_eq!((-7_i8).stream_id(), of("-7"));
        assert_eq!(u64::MAX.stream_id(), of(&u64::MAX.to_string()));
        assert_eq!(u128::MAX.stream_id(), of(&u128::MAX.to_string()));
        assert_eq!(i128::MIN.stream_id(), of(&i128::MIN.to_string()));
        assert_eq!(i64::MIN.stream_id(), of(&i64::MIN.to_string()));
        for number in [10_u128.pow(19), u128::from(u64::MAX) + 1, 10_u128.pow(20), 10_u128.pow(38)] {
            assert_eq!(number.stream_id(), of(&number.to_string()));
        }
    }

    #[test]
    fn all_forms_of_a_text_are_one_stream() {
        let stream = StreamId::from_key("ab");
        assert_eq!("ab".stream_id(), stream);
        assert_eq!("ab".to_owned().stream_id(), stream);
        assert_eq!(b"ab".stream_id(), stream);
        assert_eq!(b"ab".to_vec().stream_id(), stream);
        assert_eq!(Box::<str>::from("ab").stream_id(), stream);
        assert_eq!(Arc::<str>::from("ab").stream_id(), stream);
        assert_eq!(Cow::Borrowed("ab").stream_id(), stream);
        assert_eq!(stream.stream_id(), stream);
    }
}
