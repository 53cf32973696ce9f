//! Room in the write-ahead log for small batches.
//!
//! A commit that makes a file grow waits for the file system's own journal as well, which an idle engine's messages feel. So
//! the log gets some room before it is needed, and is carried over into the database when small batches have used that up,
//! so that they find themselves at its beginning again. Large batches go on into the file's growth, up to
//! `checkpoint_bytes`.

use std::fs;

use rusqlite::Connection;

use crate::options::Place;
use crate::{SqliteOptions, Synchronous};

/// Pages for which there is room.
const PAGES: u64 = 512;

/// A small batch writes two pages, or one; after so many exchanges there may be no room left.
const EXCHANGES: u32 = 256;

/// Pages that are kept in memory while the room is laid out: all others have to be written.
const CACHED: u64 = 16;

/// When the room was last at its beginning.
#[derive(Debug, Default)]
pub(crate) struct Room {
    exchanges: u32,
}

impl Room {
    /// Notes a committed exchange. If hardly anybody waits for its answer, makes room where there may be none left.
    pub(crate) fn exchanged(
        &mut self,
        sql: &Connection,
        place: &Place,
        options: &SqliteOptions,
        somebody_waits: bool,
    ) {
        self.exchanges = self.exchanges.saturating_add(1);
        if self.exchanges >= EXCHANGES && !somebody_waits && options.synchronous == Synchronous::Full {
            self.exchanges = 0;
            // Whoever has something to lose by a failure meets it as well, and says so; here it only costs time.
            let _ = sql.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            make(sql, place, options);
        }
    }
}

/// Lays room out, unless there is some, or somebody else is writing.
pub(crate) fn make(sql: &Connection, place: &Place, options: &SqliteOptions) {
    if let (Place::File(_), Synchronous::Full) = (place, options.synchronous) {
        let _ = try_make(sql, options.checkpoint_bytes);
    }
}

fn try_make(sql: &Connection, checkpoint_bytes: u64) -> rusqlite::Result<()> {
    let pragma = |name: &str| sql.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let page_bytes = pragma("page_size")?.unsigned_abs();
    // The log is cut to `checkpoint_bytes` now and then.
    let room = (PAGES * page_bytes).min(checkpoint_bytes / 2);
    // Where SQLite has found the file, which may be behind a link.
    let Some(log) = sql.path().map(|path| format!("{path}-wal")) else {
        return Ok(());
    };
    if fs::metadata(log).map_or(0, |log| log.len()) >= room {
        return Ok(());
    }
    // What does not fit into the cache is written into the log before it is committed; and it never is.
    let cached = pragma("cache_size")?;
    sql.pragma_update(None, "cache_size", CACHED as i64)?;
    let made = fill(sql, room + 2 * CACHED * page_bytes);
    sql.pragma_update(None, "cache_size", cached)?;
    made
}

/// Begins to write so much, and takes it back.
fn fill(sql: &Connection, bytes: u64) -> rusqlite::Result<()> {
    sql.execute_batch("BEGIN IMMEDIATE;")?;
    let filled = sql.execute(include_str!("sql/fill.sql"), [bytes as i64]);
    if !sql.is_autocommit() {
        sql.execute_batch("ROLLBACK;")?;
    }
    filled.map(drop)
}
