//! From a path to a database of ours: checks, migrations, and the agreement with the service.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use whizbang_storage::Service;

use crate::options::{Access, Place, explain, while_busy};
use crate::{Existing, OpenError, SqliteOptions, room};

/// The steps that lead from an empty file to the newest schema; the version is how many were taken.
pub(crate) const STEPS: &[&str] =
    &[include_str!("sql/schema/1_tables.sql"), include_str!("sql/schema/2_small_batches.sql")];

/// The newest version of the schema that is known here.
pub(crate) const KNOWN: i32 = STEPS.len() as i32;

/// "WhZb": marks a file as ours, in its header.
const APPLICATION: i32 = 0x5768_5A62;

/// What the database says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) service: i64,
    pub(crate) first_partition: i64,
}

/// Opens and checks the database, creates or migrates it where that is due, and agrees on the service.
pub(crate) fn open(options: &SqliteOptions, place: &Place) -> Result<(Connection, Agreed), OpenError> {
    if let Place::File(path) = place {
        create_private(path)?;
    }
    let mut connection = place.connect(Access::Write).map_err(|error| explain(place, error))?;
    let failed = |error| explain(place, error);
    if connection.is_readonly("main").map_err(failed)? {
        return Err(OpenError::Path {
            path: place.path().to_owned(),
            why: "it must not be written".to_owned(),
        });
    }
    // Nothing of the file is changed before it is known to be ours.
    let patience = options.opening_patience();
    connection.busy_timeout(patience).map_err(failed)?;
    if check(&connection, options, place)?.is_fresh() {
        connection.pragma_update(None, "page_size", options.page_bytes).map_err(failed)?;
    }
    set_journal(&connection, options, place)?;
    place.prepare(&connection, options).map_err(failed)?;
    connection.busy_timeout(patience).map_err(failed)?;
    let agreed = migrate(&mut connection, options, place)?;
    // From here on the store does the waiting itself, with shorter pauses.
    connection.busy_timeout(Duration::ZERO).map_err(failed)?;
    room::make(&connection, place, options);
    Ok((connection, agreed))
}

/// The same connection again after it broke: everything was checked before, so only what may have changed is.
pub(crate) fn reopen(options: &SqliteOptions, place: &Place) -> rusqlite::Result<Connection> {
    let connection = place.connect(Access::Write)?;
    place.prepare(&connection, options)?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// What stands in a file.
enum Found {
    /// Nothing at all.
    Empty,
    /// Tables of others, beside which we may stand.
    Shared,
    /// A schema of ours.
    Version(i32),
}

impl Found {
    fn is_fresh(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// An empty file that only its owner may read, unless there is one already: SQLite gives its other files the same mode.
fn create_private(path: &Path) -> Result<(), OpenError> {
    let fails = |why: String| OpenError::Path { path: path.to_owned(), why };
    let mut create = OpenOptions::new();
    create.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut create, 0o600);
    match create.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::metadata(path).map_err(|error| fails(error.to_string()))?;
            if metadata.is_dir() {
                return Err(fails("it is a directory".to_owned()));
            }
            if !metadata.is_file() {
                return Err(fails("it is not a file".to_owned()));
            }
            fs::File::open(path).map(drop).map_err(|error| fails(error.to_string()))
        }
        Err(error) => Err(fails(error.to_string())),
    }
}

fn check(connection: &Connection, options: &SqliteOptions, place: &Place) -> Result<Found, OpenError> {
    let failed = |error| explain(place, error);
    let path = || place.path().to_owned();
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let (tables, ours): (i64, i64) = connection
        .query_row(include_str!("sql/count_tables.sql"), [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(failed)?;
    if ours > 0 {
        let found: i32 = connection
            .query_row(include_str!("sql/schema_version.sql"), [], |row| row.get(0))
            .map_err(failed)?;
        let known = KNOWN;
        return match found {
            1.. if found <= known => Ok(Found::Version(found)),
            1.. => Err(OpenError::Newer { path: path(), found, known }),
            _ => Err(OpenError::Older { path: path(), found, known }),
        };
    }
    match (application, tables > 0, options.existing) {
        (0 | APPLICATION, false, _) => Ok(Found::Empty),
        (_, _, Existing::Share) => Ok(Found::Shared),
        _ => Err(OpenError::Foreign { path: path(), application }),
    }
}

fn set_journal(connection: &Connection, options: &SqliteOptions, place: &Place) -> Result<(), OpenError> {
    let (wanted, why) = match place {
        Place::File(_) => {
            ("wal", "SQLite cannot keep a write-ahead log there (is it a network file system?)")
        }
        Place::Memory(_) => ("memory", "this SQLite cannot keep a database in memory"),
    };
    let set =
        || connection.pragma_update_and_check(None, "journal_mode", wanted, |row| row.get::<_, String>(0));
    // Two that open a new file at once both want it exclusively for a moment.
    let mode = while_busy(options.opening_patience(), set).map_err(|error| explain(place, error))?;
    if mode.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(OpenError::Path { path: place.path().to_owned(), why: why.to_owned() })
    }
}

/// Takes the steps that are missing and registers the service, under the file's write lock: of two processes, one does
/// and the other waits, and finds everything done.
fn migrate(connection: &mut Connection, options: &SqliteOptions, place: &Place) -> Result<Agreed, OpenError> {
    let failed = |error| explain(place, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found = check(&transaction, options, place)?;
    let from = match found {
        Found::Empty | Found::Shared => 0,
        Found::Version(version) => version,
    };
    for step in &STEPS[from as usize..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    if from < KNOWN {
        transaction.execute(include_str!("sql/set_schema_version.sql"), [KNOWN]).map_err(failed)?;
    }
    if found.is_fresh() {
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    }
    let agreed = agree(&transaction, &options.service, place)?;
    transaction.commit().map_err(failed)?;
    Ok(agreed)
}

fn agree(connection: &Connection, service: &Service, place: &Place) -> Result<Agreed, OpenError> {
    let failed = |error| explain(place, error);
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let known = find_service(connection, &service.name).map_err(failed)?;
    if let Some((agreed, partitions, time_to_live)) = known {
        service.agrees_with(partitions, time_to_live)?;
        return Ok(agreed);
    }
    let first_partition = connection
        .query_row(
            include_str!("sql/add_service.sql"),
            (&service.name, service.partitions, micros(service.time_to_live)),
            |row| row.get(0),
        )
        .map_err(failed)?;
    Ok(Agreed { service: connection.last_insert_rowid(), first_partition })
}

/// What the database says of a service: its numbers, its partitions and its time to live.
pub(crate) fn find_service(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<(Agreed, u32, Duration)>> {
    connection
        .prepare_cached(include_str!("sql/find_service.sql"))?
        .query_row([name], |row| {
            let agreed = Agreed { service: row.get(0)?, first_partition: row.get(1)? };
            let time_to_live = Duration::from_micros(row.get::<_, i64>(3)?.unsigned_abs());
            Ok((agreed, row.get(2)?, time_to_live))
        })
        .optional()
}
