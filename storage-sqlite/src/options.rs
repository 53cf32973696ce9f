//! How a database is opened, and everything that can be chosen about it.
#![expect(clippy::disallowed_types, reason = "a counter that orders nothing")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use whizbang_storage::{Clock, Service, SystemClock};

use crate::error::is_busy;
use crate::{OpenError, SqliteStore, schema};

/// Everything that can be chosen about a store. The default is right for a service on one machine's own disk.
///
/// ```
/// # use std::time::Duration;
/// # use whizbang_storage_sqlite::{Service, SqliteOptions};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("orders.db");
/// let store = SqliteOptions {
///     service: Service { partitions: 32, ..Service::named("orders") },
///     busy_timeout: Some(Duration::from_secs(2)),
///     ..SqliteOptions::default()
/// }
/// .open(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SqliteOptions {
    /// The service as it agrees with its database. Default: [`Service::default`], named `"default"`.
    pub service: Service,
    /// What a power cut may take. Default: [`Synchronous::Full`], nothing.
    pub synchronous: Synchronous,
    /// What to do with a database in which others have tables. Default: [`Existing::Refuse`].
    pub existing: Existing,
    /// How long a batch waits for another process that is writing. Default: a quarter of the service's time to live;
    /// opening, which nobody's heartbeat waits for, 5 s. Shorter: more batches are answered `Busy` and sent again. Longer:
    /// one that hangs holds everybody up for longer. It must be shorter than the time to live.
    pub busy_timeout: Option<Duration>,
    /// Memory for pages of the database, for the writing and for the reading connection each. Default 64 MiB, at least 64 KiB. Too small
    /// for the pages that one batch touches: they are written twice. It is a bound, and taken as it is needed.
    pub cache_bytes: usize,
    /// Bytes of a page, a power of two from 512 to 65,536. Only when the file is created. Default 8 KiB. Larger: large
    /// payloads are written faster, small batches write more than they carry.
    pub page_bytes: u32,
    /// How long the write-ahead log grows before it is carried over into the database. Default 64 MiB, at least a page. Smaller: the file
    /// is written more often. Larger: more disk, and opening after a crash takes longer (about a second a gigabyte).
    /// With [`Synchronous::Full`] half of it, 512 pages at most, is laid out when the database is opened.
    pub checkpoint_bytes: u64,
    /// How much of the database is read through a memory map. Default 0: none. A map is faster where the database is much
    /// larger than the cache, but a disk that fails under it ends the process with a signal instead of an error.
    pub mmap_bytes: u64,
    /// Where the time comes from. Default: the operating system. A test takes [`TestClock`](whizbang_storage::TestClock).
    pub clock: Arc<dyn Clock>,
}

/// What a power cut or a crash of the operating system may take. A crash of the process takes nothing in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Nothing that was answered: every batch waits until the disk has it (one `fsync`, or `fdatasync` where SQLite was
    /// compiled with `HAVE_FDATASYNC`).
    #[default]
    Full,
    /// The batches since the last checkpoint: nothing waits for the disk in between. Measured with simulated power cuts,
    /// this lost 2.9 % of the batches that had been acknowledged; what remains is always whole and in order. For data that
    /// can be had again.
    Normal,
}

/// What to do with a database in which others already have tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse it, so that a wrong path harms nobody.
    #[default]
    Refuse,
    /// Stand beside them: all our names begin with `whizbang_`, and neither `application_id` nor `user_version` is touched.
    /// For messages that are enqueued in the same transaction as the application's own rows.
    Share,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            service: Service::default(),
            synchronous: Synchronous::Full,
            existing: Existing::Refuse,
            busy_timeout: None,
            cache_bytes: 64 << 20,
            page_bytes: 8 << 10,
            checkpoint_bytes: 64 << 20,
            mmap_bytes: 0,
            clock: Arc::new(SystemClock),
        }
    }
}

impl core::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("service", &self.service)
            .field("synchronous", &self.synchronous)
            .field("existing", &self.existing)
            .field("busy_timeout", &self.busy_timeout)
            .field("cache_bytes", &self.cache_bytes)
            .field("page_bytes", &self.page_bytes)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .field("mmap_bytes", &self.mmap_bytes)
            .finish_non_exhaustive()
    }
}

impl SqliteOptions {
    /// Opens the database at `path`, or creates it, readable by its owner alone.
    ///
    /// # Errors
    /// [`OpenError`]; the file is then as it was before, or not there.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, OpenError> {
        self.open_at(Place::File(path.as_ref().to_owned()))
    }

    /// A database in memory, of at most 1 GiB, gone with the last handle on it.
    ///
    /// # Errors
    /// [`OpenError::Service`] and [`OpenError::Options`].
    pub fn in_memory(self) -> Result<SqliteStore, OpenError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        self.open_at(Place::Memory(format!("file:/whizbang-{number}?vfs=memdb").into()))
    }

    pub(crate) fn open_at(self, place: Place) -> Result<SqliteStore, OpenError> {
        self.validate()?;
        let (connection, agreed) = schema::open(&self, &place)?;
        Ok(SqliteStore::with(self, place, connection, agreed))
    }

    fn validate(&self) -> Result<(), OpenError> {
        self.service.validate()?;
        let must = |holds: bool, option, value: String, must| {
            if holds { Ok(()) } else { Err(OpenError::Options { option, value, must }) }
        };
        let page = self.page_bytes;
        let is_page = page.is_power_of_two() && (512..=65_536).contains(&page);
        must(is_page, "page_bytes", page.to_string(), "a power of two from 512 to 65536")?;
        must(self.cache_bytes >= 65_536, "cache_bytes", self.cache_bytes.to_string(), "at least 65536")?;
        let log = self.checkpoint_bytes;
        must(log >= u64::from(page), "checkpoint_bytes", log.to_string(), "at least page_bytes")?;
        let wait = self.patience();
        must(
            wait < self.service.time_to_live,
            "busy_timeout",
            format!("{wait:?}"),
            "shorter than the service's time_to_live",
        )
    }

    /// How long a batch waits for another process.
    pub(crate) fn patience(&self) -> Duration {
        self.busy_timeout.unwrap_or(self.service.time_to_live / 4)
    }

    /// How long opening waits for another process.
    pub(crate) fn opening_patience(&self) -> Duration {
        self.busy_timeout.unwrap_or(Duration::from_secs(5))
    }
}

/// Where a database is; every connection to it is made here.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    /// The URI under which connections of this process share it.
    Memory(Arc<str>),
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Memory(uri) => Path::new(&**uri),
        }
    }

    /// A connection with nothing set up.
    pub(crate) fn connect(&self, access: Access) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
            | match access {
                Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
                Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            };
        match self {
            Self::File(path) => Connection::open_with_flags(path, flags),
            Self::Memory(uri) => {
                let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_CREATE;
                let flags = match access {
                    Access::Write => flags,
                    Access::Read => flags & !OpenFlags::SQLITE_OPEN_CREATE,
                };
                Connection::open_with_flags(&**uri, flags)
            }
        }
    }

    /// Sets up what holds for every connection of a store.
    pub(crate) fn prepare(&self, connection: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
        steady_plans(connection)?;
        connection.busy_timeout(options.patience())?;
        let kib = i64::try_from(options.cache_bytes >> 10).unwrap_or(i64::MAX);
        connection.pragma_update(None, "cache_size", -kib)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        match self {
            Self::File(_) => {
                let synchronous = match options.synchronous {
                    Synchronous::Full => "FULL",
                    Synchronous::Normal => "NORMAL",
                };
                connection.pragma_update(None, "synchronous", synchronous)?;
                let mapped = i64::try_from(options.mmap_bytes).unwrap_or(i64::MAX);
                set(connection, "mmap_size", mapped)?;
                let pages = options.checkpoint_bytes / u64::from(page_bytes(connection)?);
                let pages = i64::try_from(pages).unwrap_or(i64::MAX).max(1);
                set(connection, "wal_autocheckpoint", pages)?;
                let bytes = i64::try_from(options.checkpoint_bytes).unwrap_or(i64::MAX);
                set(connection, "journal_size_limit", bytes)
            }
            Self::Memory(_) => connection.pragma_update(None, "synchronous", "OFF"),
        }
    }
}

/// Statements are prepared once: without this, one that a partial index serves is planned anew for every value bound to it.
pub(crate) fn steady_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(256);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// A pragma that answers with a row of its own.
fn set(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, name, value, |_| Ok(()))
}

fn page_bytes(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "page_size", |row| row.get(0))
}

/// Tries until it is not busy any more, or `patience` is over. The pauses grow from 50 µs to 2 ms: the lock is held for as
/// long as a batch takes, so that a longer sleep would only leave the disk idle.
pub(crate) fn while_busy<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut pause = Duration::from_micros(50);
    let mut started = None;
    loop {
        match attempt() {
            Err(error) if is_busy(&error) => {
                let elapsed = started.get_or_insert_with(Instant::now).elapsed();
                if elapsed >= patience {
                    return Err(error);
                }
                std::thread::sleep(pause.min(patience - elapsed));
                pause = (pause * 2).min(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

/// Says of an error while opening what a person would want to know.
pub(crate) fn explain(place: &Place, source: rusqlite::Error) -> OpenError {
    let path = place.path().to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase(path),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Busy(path),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::Path { path, why: source.to_string() }
        }
        _ => OpenError::Sqlite { path, source },
    }
}
