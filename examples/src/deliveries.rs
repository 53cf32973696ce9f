//! Webhook deliveries as they stand in a file: a JSON object a line.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One delivery, borrowed from its line.
///
/// ```
/// # use whizbang_examples::deliveries::Delivery;
/// let line = br#"{"delivery":"d-1","event":"push","action":null,"repository":"octo/repo","payload":{"ref":"main"}}"#;
/// let delivery = Delivery::parse(line)?;
/// assert_eq!((&*delivery.event, delivery.payload.get()), ("push", r#"{"ref":"main"}"#));
/// # Ok::<(), whizbang_examples::deliveries::BrokenLine>(())
/// ```
#[derive(Debug, Deserialize)]
pub struct Delivery<'l> {
    /// Names it; the sender repeats a delivery under the same name.
    #[serde(borrow)]
    pub delivery: Cow<'l, str>,
    /// What happened: `push`, `issues`, …
    #[serde(borrow)]
    pub event: Cow<'l, str>,
    /// What exactly, where the event says so.
    pub action: Option<String>,
    /// Where it happened: `owner/name`; none for events of an organisation or an app.
    pub repository: Option<String>,
    /// Everything else, as the sender wrote it.
    #[serde(borrow)]
    pub payload: &'l RawValue,
}

/// Why a line is no delivery.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLine {
    /// It is not text.
    #[error("not valid UTF-8 (byte {at})")]
    NotUtf8 {
        /// The first byte that cannot be read, from 1.
        at: usize,
    },
    /// It is not JSON, or not an object with the members of a delivery.
    #[error("{what} (column {column})")]
    NotADelivery {
        /// What the parser says.
        what: String,
        /// Where it noticed, in bytes from 1.
        column: usize,
    },
    /// A delivery without a name could not be told from another.
    #[error("`delivery` is empty")]
    Nameless,
}

impl<'l> Delivery<'l> {
    /// Reads a line.
    ///
    /// # Errors
    /// [`BrokenLine`] says what is wrong with it.
    pub fn parse(line: &'l [u8]) -> Result<Self, BrokenLine> {
        let text = std::str::from_utf8(line).map_err(|error| BrokenLine::NotUtf8 {
            at: error.valid_up_to() + 1,
        })?;
        let delivery: Self = serde_json::from_str(text).map_err(|error| {
            // The parser counts lines of its own input, which is always one.
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or(&what).to_owned();
            BrokenLine::NotADelivery {
                what,
                column: error.column(),
            }
        })?;
        if delivery.delivery.is_empty() {
            Err(BrokenLine::Nameless)
        } else {
            Ok(delivery)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_its_place() {
        let said = |line: &[u8]| Delivery::parse(line).unwrap_err().to_string();
        assert_eq!(said(b"\"\xff\""), "not valid UTF-8 (byte 2)");
        assert_eq!(said(b"{\"delivery\": nonsense}"), "expected ident (column 15)");
        assert_eq!(
            said(b"{\"delivery\":\"a\""),
            "EOF while parsing an object (column 15)"
        );
        assert_eq!(said(b"{\"delivery\":\"a\"}"), "missing field `event` (column 16)");
        assert_eq!(
            said(b"{\"delivery\":\"\",\"event\":\"e\",\"payload\":1}"),
            "`delivery` is empty"
        );
    }

    #[test]
    fn escapes_are_read_and_the_payload_is_left_as_it_is() {
        let line =
            br#"{"delivery":"\u0041","event":"push","repository":"a/\"b\"","payload":{ "x" : "\u0041" }}"#;
        let delivery = Delivery::parse(line).unwrap();
        assert_eq!(
            (&*delivery.delivery, delivery.repository.as_deref()),
            ("A", Some("a/\"b\""))
        );
        assert_eq!(delivery.payload.get(), r#"{ "x" : "\u0041" }"#);
        assert_eq!(delivery.action, None);
    }
}
