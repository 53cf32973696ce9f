//! Names as they are stored, and the place where what is written for a user's token is reported.

use proc_macro2::Span;
use syn::{Error, LitStr, Result};

/// What a store takes as a name by default.
const BYTES_MAX: usize = 200;

/// Refuses, at the literal, what no store would take.
pub(crate) fn check(name: &LitStr) -> Result<()> {
    let text = name.value();
    if text.is_empty() {
        return Err(Error::new(name.span(), "the name is empty"));
    }
    if text.len() > BYTES_MAX {
        let bytes = text.len();
        return Err(Error::new(name.span(), format!("the name has {bytes} bytes: {BYTES_MAX} are possible")));
    }
    if text.contains('\0') {
        return Err(Error::new(name.span(), "the name holds a NUL character"));
    }
    Ok(())
}

/// The user's token as a place, without its hygiene: what is written there still sees `self` and our own variables when
/// the token comes out of another macro.
pub(crate) fn place_of(token: Span) -> Span {
    token.resolved_at(Span::call_site())
}
