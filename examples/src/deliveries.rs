//! Webhook deliveries as they stand in a file: a JSON object a line.

use serde::Deserialize;
use serde_json::value::RawValue;

/// One delivery.
///
/// ```
/// # use whizbang_examples::deliveries::Delivery;
/// let line = br#"{"delivery":"d-1","event":"push","action":null,"repository":"octo/repo","payload":{"ref":"main"}}"#;
/// let delivery = Delivery::parse(line)?;
/// assert_eq!((&*delivery.event, &*delivery.payload), ("push", r#"{"ref":"main"}"#));
/// # Ok::<(), whizbang_examples::deliveries::BrokenLine>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Names it; the sender repeats a delivery under the same name.
    pub delivery: String,
    /// What happened: `push`, `issues`, …
    pub event: String,
    /// What exactly, where the event says so.
    pub action: Option<String>,
    /// Where it happened: `owner/name`; none for events of an organisation or an app.
    pub repository: Option<String>,
    /// Everything else: JSON, as the sender wrote it.
    pub payload: String,
}

/// A delivery as it stands in its line: the payload is looked at only as far as is needed to find its end.
#[derive(Deserialize)]
struct Written<'l> {
    delivery: String,
    event: String,
    action: Option<String>,
    repository: Option<String>,
    #[serde(borrow)]
    payload: &'l RawValue,
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
    /// It is something else: `serde` would read a list of the members too.
    #[error("not a JSON object")]
    NotAnObject,
    /// It is not JSON, or lacks members of a delivery.
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

impl Delivery {
    /// Reads a line.
    ///
    /// # Errors
    /// [`BrokenLine`] says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, BrokenLine> {
        let text =
            std::str::from_utf8(line).map_err(|error| BrokenLine::NotUtf8 { at: error.valid_up_to() + 1 })?;
        if !text.trim_start().starts_with('{') {
            return Err(BrokenLine::NotAnObject);
        }
        let written: Written<'_> = serde_json::from_str(text).map_err(|error| {
            // The parser counts lines of its own input, which is always one.
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or(&what).to_owned();
            BrokenLine::NotADelivery { what, column: error.column() }
        })?;
        let Written { delivery, event, action, repository, payload } = written;
        if delivery.is_empty() {
            return Err(BrokenLine::Nameless);
        }
        Ok(Self { delivery, event, action, repository, payload: payload.get().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_its_place() {
        let said = |line: &[u8]| Delivery::parse(line).unwrap_err().to_string();
        assert_eq!(said(b"\"\xff\""), "not valid UTF-8 (byte 2)");
        assert_eq!(said(b"[\"a\",\"push\",null,null,{}]"), "not a JSON object");
        assert_eq!(said(b"{\"delivery\": nonsense}"), "expected ident (column 15)");
        assert_eq!(said(b"{\"delivery\":\"a\""), "EOF while parsing an object (column 15)");
        assert_eq!(said(b"{\"delivery\":\"a\"}"), "missing field `event` (column 16)");
        assert_eq!(said(b"{\"delivery\":\"\",\"event\":\"e\",\"payload\":1}"), "`delivery` is empty");
    }

    #[test]
    fn escapes_are_read_and_the_payload_is_left_as_it_is() {
        let line =
            br#"{"delivery":"\u0041","event":"push","repository":"a/\"b\"","payload":{ "x" : "\u0041" }}"#;
        let delivery = Delivery::parse(line).unwrap();
        assert_eq!((&*delivery.delivery, delivery.repository.as_deref()), ("A", Some("a/\"b\"")));
        assert_eq!(delivery.payload, r#"{ "x" : "\u0041" }"#);
        assert_eq!(delivery.action, None);
    }
}
