//! How payloads become bytes and back: JSON by default, postcard where size and speed matter more than readability.
//!
//! The content type is stored with every message, so a type may change its codec and still read what it wrote before.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use whizbang_storage::ContentType;

/// Where encoded bytes go: a `Vec<u8>`, a vector in a bump arena, or anything that can be appended to.
///
/// ```
/// use whizbang::codec::Buffer;
///
/// let mut out = Vec::new();
/// out.put(b"bytes");
/// assert_eq!(out, b"bytes");
/// ```
pub trait Buffer {
    /// Appends these bytes.
    fn put(&mut self, bytes: &[u8]);
}

// Most of what codecs append is one byte long, a bracket, a comma, a small number: that is no call to copy memory.

impl Buffer for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        match bytes {
            [byte] => self.push(*byte),
            _ => self.extend_from_slice(bytes),
        }
    }
}

impl Buffer for bumpalo::collections::Vec<'_, u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        match bytes {
            [byte] => self.push(*byte),
            _ => self.extend_from_slice_copy(bytes),
        }
    }
}

/// Why a value could not be encoded: its own `Serialize` failed, or the format has no form for it.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` could not be encoded: {source}")]
pub struct EncodeError {
    name: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl EncodeError {
    /// The error of a hand-written codec; `name` is the wire name of what it could not encode.
    pub fn new(name: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { name, source: source.into() }
    }
}

/// Why stored bytes could not be read as the type they are said to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not fit the type.
    #[error("`{name}` could not be decoded: {source}")]
    Payload {
        /// The wire name.
        name: &'static str,
        /// What the codec says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer program wrote it.
    #[error("`{name}` has version {version}, and this program knows it up to version {newest}")]
    TooNew {
        /// The wire name.
        name: &'static str,
        /// The version it was written with.
        version: u16,
        /// The newest version known here.
        newest: u16,
    },
    /// It is older than any version this program still reads.
    #[error(
        "`{name}` has version {version}, and this program reads it from version {oldest} on; \
         `upcast_from` teaches it older ones"
    )]
    TooOld {
        /// The wire name.
        name: &'static str,
        /// The version it was written with.
        version: u16,
        /// The oldest version known here.
        oldest: u16,
    },
    /// It is encoded in a way this program does not know.
    #[error("`{name}` has content type {}, which this program does not know", content_type.0)]
    UnknownContentType {
        /// The wire name.
        name: &'static str,
        /// The content type it was written with.
        content_type: ContentType,
    },
}

impl DecodeError {
    /// The error of a hand-written codec; `name` is the wire name of what it could not decode.
    pub fn payload(name: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Payload { name, source: source.into() }
    }
}

/// Appends `value` to `out`, encoded as `content_type` says. `name` is only for the error.
///
/// # Errors
/// [`EncodeError`] when the value's `Serialize` fails, or the content type is neither JSON nor postcard. What was
/// appended before the error stays in `out`.
pub fn encode<T: Serialize + ?Sized>(
    name: &'static str,
    content_type: ContentType,
    value: &T,
    out: &mut (impl Buffer + ?Sized),
) -> Result<(), EncodeError> {
    match content_type {
        ContentType::JSON => {
            serde_json::to_writer(Writer(out), value).map_err(|error| EncodeError::new(name, error))
        }
        ContentType::POSTCARD => {
            postcard::serialize_with_flavor(value, Writer(out)).map_err(|error| EncodeError::new(name, error))
        }
        ContentType(other) => Err(EncodeError::new(name, format!("content type {other} is not known"))),
    }
}

/// Reads a value that was encoded as `content_type` says. `name` is only for the error.
///
/// # Errors
/// [`DecodeError`] when the bytes do not fit `T` or are followed by others, or the content type is not known.
pub fn decode<T: DeserializeOwned>(
    name: &'static str,
    content_type: ContentType,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    match content_type {
        ContentType::JSON => serde_json::from_slice(bytes).map_err(|error| DecodeError::payload(name, error)),
        ContentType::POSTCARD => match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(DecodeError::payload(name, format!("{} bytes too many", rest.len()))),
            Err(error) => Err(DecodeError::payload(name, error)),
        },
        content_type => Err(DecodeError::UnknownContentType { name, content_type }),
    }
}

/// What serde_json and postcard write through.
struct Writer<'b, B: ?Sized>(&'b mut B);

impl<B: Buffer + ?Sized> io::Write for Writer<'_, B> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.put(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<B: Buffer + ?Sized> postcard::ser_flavors::Flavor for Writer<'_, B> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put(&[byte]);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Sample = (String, u64, Option<bool>, Vec<u8>);

    fn sample() -> Sample {
        ("ünï\0".to_owned(), u64::MAX, Some(false), vec![0, 255])
    }

    #[test]
    fn what_is_encoded_comes_back_in_both_codecs_and_all_buffers() {
        let bump = bumpalo::Bump::new();
        for content_type in [ContentType::JSON, ContentType::POSTCARD] {
            let mut owned = b"before".to_vec();
            encode("sample", content_type, &sample(), &mut owned).unwrap();
            assert!(owned.starts_with(b"before"), "encoding appends");
            assert_eq!(decode::<Sample>("sample", content_type, &owned[6..]).unwrap(), sample());

            let mut in_arena = bumpalo::collections::Vec::new_in(&bump);
            encode("sample", content_type, &sample(), &mut in_arena).unwrap();
            assert_eq!(in_arena.as_slice(), &owned[6..]);
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_an_error_that_names_the_type() {
        for (content_type, bytes) in [
            (ContentType::JSON, &b"{\"half\":"[..]),
            (ContentType::JSON, b"true true"),
            (ContentType::JSON, b""),
            (ContentType::POSTCARD, b"\x07"),
            (ContentType::POSTCARD, b"\x01\x01"),
            (ContentType::POSTCARD, b""),
        ] {
            let error = decode::<bool>("orders.created", content_type, bytes).unwrap_err();
            assert!(matches!(error, DecodeError::Payload { name: "orders.created", .. }), "{error}");
            assert!(error.to_string().starts_with("`orders.created` could not be decoded: "));
        }
    }

    #[test]
    fn an_unknown_content_type_is_an_error_in_both_directions() {
        let unknown = ContentType(77);
        assert_eq!(
            decode::<u8>("a", unknown, b"1").unwrap_err().to_string(),
            "`a` has content type 77, which this program does not know"
        );
        let error = encode("a", unknown, &1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "`a` could not be encoded: content type 77 is not known");
    }

    #[test]
    fn a_value_without_a_form_is_an_error_not_a_panic() {
        let no_json: BTreeMap<(u8, u8), u8> = [((1, 2), 3)].into();
        let error = encode("odd", ContentType::JSON, &no_json, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "`odd` could not be encoded: key must be a string");
    }
}
