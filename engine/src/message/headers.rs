//! Names and values of the user's own that travel with a message.

use std::fmt;

/// A small, bounded map from names to values, kept in the order of insertion and stored with a message.
///
/// At most [`COUNT_MAX`](Self::COUNT_MAX) headers and [`BYTES_MAX`](Self::BYTES_MAX) bytes; what is larger belongs into
/// the payload. It allocates nothing while it is empty.
///
/// ```
/// use whizbang::Headers;
///
/// let mut headers = Headers::new();
/// headers.set("tenant", "acme")?;
/// assert_eq!(headers.value_of("tenant"), Some("acme"));
/// assert!(headers.set("", "no name").is_err());
/// # Ok::<(), whizbang::HeaderError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    // One behind the other: length of the name, length of the value, name, value. This is also the stored form.
    packed: Vec<u8>,
}

/// Headers as they lie in a stored message, borrowed from it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadersView<'m> {
    packed: &'m [u8],
}

/// A header that cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is empty or longer than 255 bytes.
    #[error("a header name of {bytes} bytes: 1 to {max} are possible", max = Headers::NAME_BYTES_MAX)]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// There would be too many headers.
    #[error("header {name:?} is one too many: a message carries at most {max}", max = Headers::COUNT_MAX)]
    TooMany {
        /// The name of the one that is too many.
        name: String,
    },
    /// The headers would be too large.
    #[error("with header {name:?} there are {bytes} bytes of headers: a message carries at most {max}", max = Headers::BYTES_MAX)]
    TooLarge {
        /// The name of the one that is too large.
        name: String,
        /// How many bytes there would be.
        bytes: usize,
    },
}

impl Headers {
    /// Headers of one message.
    pub const COUNT_MAX: usize = 64;
    /// Bytes of all names and values of one message, three more for each header.
    pub const BYTES_MAX: usize = 4_000;
    /// Bytes of one name.
    pub const NAME_BYTES_MAX: usize = 255;

    /// No headers.
    pub const fn new() -> Self {
        Self { packed: Vec::new() }
    }

    /// Sets a header, in place of the one that had the name, if there was one.
    ///
    /// # Errors
    /// [`HeaderError`] when the name is empty or too long, or the bounds would be exceeded; nothing has changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        if name.is_empty() || name.len() > Self::NAME_BYTES_MAX {
            return Err(HeaderError::Name { bytes: name.len() });
        }
        let old = self.view().place_of(name);
        let old_bytes = old.as_ref().map_or(0, |place| place.end - place.start);
        let bytes = self.packed.len() - old_bytes + PREFIX + name.len() + value.len();
        if bytes > Self::BYTES_MAX {
            return Err(HeaderError::TooLarge { name: name.to_owned(), bytes });
        }
        if old.is_none() && self.len() == Self::COUNT_MAX {
            return Err(HeaderError::TooMany { name: name.to_owned() });
        }
        if let Some(place) = old {
            self.packed.drain(place);
        }
        let value_len = u16::try_from(value.len()).expect("checked against BYTES_MAX");
        self.packed.push(name.len() as u8);
        self.packed.extend_from_slice(&value_len.to_le_bytes());
        self.packed.extend_from_slice(name.as_bytes());
        self.packed.extend_from_slice(value.as_bytes());
        Ok(())
    }

    /// Takes a header away; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let place = self.view().place_of(name);
        let found = place.is_some();
        if let Some(place) = place {
            self.packed.drain(place);
        }
        found
    }

    /// The value of this header.
    pub fn value_of(&self, name: &str) -> Option<&str> {
        self.view().value_of(name)
    }

    /// All headers, in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.view().iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// The same headers, borrowed.
    pub fn view(&self) -> HeadersView<'_> {
        HeadersView { packed: &self.packed }
    }
}

/// Length of the name (1 byte) and of the value (2 bytes).
const PREFIX: usize = 3;

impl<'m> HeadersView<'m> {
    /// Checks stored bytes; `None` when they are not headers.
    pub(crate) fn of_packed(packed: &'m [u8]) -> Option<Self> {
        let mut rest = packed;
        while !rest.is_empty() {
            (_, _, rest) = split(rest)?;
        }
        Some(Self { packed })
    }

    /// The stored form.
    pub(crate) fn packed(self) -> &'m [u8] {
        self.packed
    }

    /// The value of this header.
    pub fn value_of(self, name: &str) -> Option<&'m str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All headers, in the order in which they were set.
    pub fn iter(self) -> impl Iterator<Item = (&'m str, &'m str)> {
        let mut rest = self.packed;
        core::iter::from_fn(move || {
            let (name, value, behind) = split(rest)?;
            rest = behind;
            Some((name, value))
        })
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.packed.is_empty()
    }

    /// A copy of its own.
    pub fn to_owned(self) -> Headers {
        Headers { packed: self.packed.to_vec() }
    }

    fn place_of(self, wanted: &str) -> Option<core::ops::Range<usize>> {
        let mut start = 0;
        for (name, value) in self.iter() {
            let end = start + PREFIX + name.len() + value.len();
            if name == wanted {
                return Some(start..end);
            }
            start = end;
        }
        None
    }
}

/// The first header, and the bytes behind it.
fn split(packed: &[u8]) -> Option<(&str, &str, &[u8])> {
    let ([name_len, low, high], rest) = packed.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
    if name.is_empty() {
        return None;
    }
    Some((core::str::from_utf8(name).ok()?, core::str::from_utf8(value).ok()?, rest))
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl fmt::Debug for HeadersView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_set_again_has_the_new_value_once() {
        let mut headers = Headers::new();
        headers.set("a", "1").unwrap();
        headers.set("b", "ünï").unwrap();
        headers.set("a", "").unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("b", "ünï"), ("a", "")]);
        assert!(headers.remove("b") && !headers.remove("b"));
        assert_eq!(format!("{headers:?}"), r#"{"a": ""}"#);
    }

    #[test]
    fn what_exceeds_a_bound_is_refused_and_changes_nothing() {
        let mut headers = Headers::new();
        assert_eq!(headers.set(&"n".repeat(256), ""), Err(HeaderError::Name { bytes: 256 }));
        assert_eq!(headers.set("", ""), Err(HeaderError::Name { bytes: 0 }));
        let fits = "v".repeat(Headers::BYTES_MAX - PREFIX - 1);
        headers.set("k", &fits).unwrap();
        let before = headers.clone();
        let bytes = Headers::BYTES_MAX + 4;
        assert_eq!(headers.set("l", ""), Err(HeaderError::TooLarge { name: "l".into(), bytes }));
        assert_eq!(headers, before);
        headers.set("k", &fits).expect("the old value makes room for the new one");

        let mut many = Headers::new();
        for number in 0..Headers::COUNT_MAX {
            many.set(&number.to_string(), "").unwrap();
        }
        assert_eq!(many.set("x", ""), Err(HeaderError::TooMany { name: "x".into() }));
        many.set("7", "again").expect("it replaces one");
        assert_eq!(many.len(), Headers::COUNT_MAX);
    }

    #[test]
    fn bytes_that_are_no_headers_are_seen() {
        for damaged in
            [&b"\x01"[..], b"\x01\x00\x00", b"\x00\x00\x00", b"\x01\x00\x00\xff", b"\x01\x02\x00ab"]
        {
            assert_eq!(HeadersView::of_packed(damaged), None, "{damaged:?}");
        }
    }
}
