//! Room in the write-ahead log for small batches.
//!
//! A commit that makes a file grow waits for the file system's own journal as well, on top of the bytes: laid out ahead, a commit of
//! two pages takes two thirds of the time. So the log gets some room before it is needed, and is carried over into the
//! database when small batches have used that up, so that they find themselves at its beginning again. Large batches go on
//! into the file's growth, and up to `checkpoint_bytes`.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::options::Place;

/// Pages for which there is room.
const PAGES: u64 = 512;

/// A page stands in the log with a header of its own.
const HEADER_BYTES: u64 = 24;

/// Small batches write two pages, or one; after so many exchanges there may be no room left.
const EXCHANGES: u32 = 256;

/// Pages that are kept in memory while the room is laid out: all others have to be written.
const CACHED: i64 = 16;

/// When the room was last at its beginning.
#[derive(Debug, Default)]
pub(crate) struct Room {
    exchanges: u32,
}

impl Room {
    /// Notes a committed exchange. If nobody waits for what comes next, makes room where there is none left.
    pub(crate) fn exchanged(&mut self, sql: &Connection, place: &Place, somebody_waits: bool) {
        self.exchanges += 1;
        if self.exchanges >= EXCHANGES && !somebody_waits {
            self.exchanges = 0;
            // What fails here is tried again, and noticed by who has something to lose.
            let _ = sql.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            make(sql, place);
        }
    }
}

/// Lays room out, unless there is some, or somebody else is writing.
pub(crate) fn make(sql: &Connection, place: &Place) {
    let Place::File(path) = place else {
        return;
    };
    let _ = try_make(sql, path);
}

fn try_make(sql: &Connection, path: &Path) -> rusqlite::Result<()> {
    let pragma = |name: &str| sql.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let page_bytes = pragma("page_size")?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let there = fs::metadata(log).map_or(0, |log| log.len());
    if there >= PAGES * (page_bytes as u64 + HEADER_BYTES) {
        return Ok(());
    }
    // What does not fit into the cache is written into the log before it is committed; and it never is.
    let cached = pragma("cache_size")?;
    sql.pragma_update(None, "cache_size", CACHED)?;
    let made = sql.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
        let bytes = PAGES as i64 * page_bytes;
        let filled = sql.execute(include_str!("sql/fill.sql"), [bytes]);
        if !sql.is_autocommit() {
            sql.execute_batch("ROLLBACK")?;
        }
        filled.map(drop)
    });
    sql.pragma_update(None, "cache_size", cached)?;
    made
}
