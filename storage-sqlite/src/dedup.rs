//! Deduplication keys: who had a key first.

use rusqlite::{Connection, Statement};
use whizbang_storage::{Append, MessageId, SameBody, Timestamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::Stop;

pub(crate) const FIND: &str = include_str!("sql/find_dedup.sql");
pub(crate) const PUT: &str = include_str!("sql/put_dedup.sql");

/// Bits of a key's number within its id; the rest is the service, so that each service's keys lie together, in the order
/// in which they came.
const NUMBER_BITS: u32 = 40;

/// A key, as it is looked up and remembered. The hash finds it, the key itself decides.
pub(crate) struct Entry<'k> {
    service: i64,
    key: &'k [u8],
    hash: i64,
    body: i64,
    first: MessageId,
}

impl<'k> Entry<'k> {
    pub(crate) fn of(service: i64, key: &'k [u8], append: &Append<'_>) -> Self {
        Self {
            service,
            key,
            hash: xxh3_64_with_seed(key, service as u64) as i64,
            body: xxh3_64(append.payload) as i64,
            first: append.id,
        }
    }

    pub(crate) fn find(&self, find: &mut Statement<'_>) -> Result<Option<(MessageId, SameBody)>, Stop> {
        let (first, last) = ids(self.service);
        let mut rows = find.query((self.hash, self.key, first, last))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let first =
            MessageId::from_bytes(row.get(0)?).ok_or(Stop::Damaged("a remembered key has no message"))?;
        let same = row.get::<_, i64>(1)? == self.body;
        Ok(Some((first, if same { SameBody::Same } else { SameBody::Different })))
    }

    pub(crate) fn put(&self, put: &mut Statement<'_>, id: i64, at: Timestamp) -> Result<(), Stop> {
        let first = self.first.to_bytes();
        put.execute((id, self.hash, at.micros(), self.body, first, self.key))?;
        Ok(())
    }
}

/// The first and the last id a service's keys may have.
pub(crate) fn ids(service: i64) -> (i64, i64) {
    (service << NUMBER_BITS, ((service + 1) << NUMBER_BITS) - 1)
}

/// The id behind all that the service's keys have, and the instant that a new key gets: never before that of an older key,
/// also when the clock went back, so that the oldest always stand first.
pub(crate) fn next(sql: &Connection, service: i64, now: Timestamp) -> rusqlite::Result<(i64, Timestamp)> {
    let (first, last) = ids(service);
    let mut find = sql.prepare_cached(include_str!("sql/last_dedup.sql"))?;
    let mut rows = find.query((first, last))?;
    Ok(match rows.next()? {
        Some(row) => (row.get::<_, i64>(0)? + 1, now.max(Timestamp::from_micros(row.get(1)?))),
        None => (first + 1, now),
    })
}
