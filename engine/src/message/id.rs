//! Where fresh message ids come from.

use whizbang_storage::MessageId;

/// A fresh id: unique across threads and processes, later ones of a thread greater.
#[inline]
pub(crate) fn next_message_id() -> MessageId {
    MessageId::from_bits(crate::host::next_id())
}
