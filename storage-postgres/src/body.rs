//! What is remembered of a payload beside its deduplication key, to say whether a duplicate says the same.

use sha2::{Digest, Sha256};
use whizbang_storage::SameBody;
use xxhash_rust::xxh3::xxh3_64;

/// The first eight bytes of the payload's SHA-256, which SQL can compute as well.
pub(crate) fn digest(payload: &[u8]) -> u64 {
    let hash: [u8; 32] = Sha256::digest(payload).into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(first)
}

/// Whether a payload is the one that was remembered so.
pub(crate) fn compare(remembered: u64, payload: &[u8]) -> SameBody {
    // Schema version 1 remembered another hash; its keys are kept until they are old.
    let is_it = remembered == digest(payload) || remembered == xxh3_64(payload);
    if is_it { SameBody::Same } else { SameBody::Different }
}
