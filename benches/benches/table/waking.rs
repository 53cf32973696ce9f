//! x
use crate::rows::Table;
pub(crate) fn rows(_: &mut Table) {}
