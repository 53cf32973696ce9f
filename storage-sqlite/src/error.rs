//! Errors, and what SQLite's own mean for a batch.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use whizbang_storage::{MessageId, NotApplied, Refusal, SameBody, ServiceError, StoreError};

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The service's own settings cannot be used, or differ from what the database was set up with.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// There is no such place: it is a directory, its directory is missing, or it must not be read or written.
    #[error("cannot open {path:?}: {why}")]
    Path {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file is not a SQLite database.
    #[error("{0:?} is not a SQLite database; choose another path, it was left as it is")]
    NotADatabase(PathBuf),
    /// A SQLite database of some other program.
    #[error(
        "{path:?} belongs to another program (application id {application:#010x}) and was left as it is; choose another path, or \
         let this program's tables stand beside those that are there with `existing: Existing::Share`"
    )]
    Foreign {
        /// The path as it was given.
        path: PathBuf,
        /// The application id in its header.
        application: i32,
    },
    /// A newer version of this crate wrote the schema.
    #[error(
        "the schema of {path:?} has version {found}, this program knows versions up to {known}; use the newer program"
    )]
    Newer {
        /// The path as it was given.
        path: PathBuf,
        /// The version of its schema.
        found: i32,
        /// The newest version that is known here.
        known: i32,
    },
    /// The file says it is ours but has a version that never was.
    #[error(
        "the schema of {path:?} has version {found}, which this program (version {known}) cannot migrate"
    )]
    Older {
        /// The path as it was given.
        path: PathBuf,
        /// The version of its schema.
        found: i32,
        /// The newest version that is known here.
        known: i32,
    },
    /// An option cannot be carried out.
    #[error("{option} = {value}: it must be {must}")]
    Options {
        /// Which one.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        must: &'static str,
    },
    /// Another process held the database for longer than `busy_timeout`.
    #[error("another process has been holding {0:?}; try again, or set a longer `busy_timeout`")]
    Busy(PathBuf),
    /// SQLite could not do it.
    #[error("cannot set up {path:?}: {source}")]
    Sqlite {
        /// The path as it was given.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
}

/// Why a message was not enqueued. The user's transaction is as it was before: it can go on, and commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The message cannot be stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No store has opened this database for the service yet, so nobody said how many partitions it has.
    #[error("this database knows no service {0:?}; open a store for it once")]
    NoService(String),
    /// The connection leads to some other database.
    #[error("this connection's database has no messages in it: it was not opened by a store")]
    NotOurs,
    /// SQLite could not do it.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// What became of a message that was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It arrives when the transaction commits.
    Arrived,
    /// Its key was seen before; nothing was written for it.
    Duplicate {
        /// The message that had the key first.
        first: MessageId,
        /// Whether the two payloads are the same.
        body: SameBody,
    },
}

/// Why a batch stopped before its commit.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The contract says so.
    Contract(StoreError),
    /// SQLite says so; nothing is committed.
    Sqlite(rusqlite::Error),
    /// Something in the database is not what this program wrote there.
    Damaged(&'static str),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Contract(error)
    }
}

impl From<NotApplied> for Stop {
    fn from(error: NotApplied) -> Self {
        Self::Contract(error.into())
    }
}

impl From<Stop> for StoreError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Contract(error) => error,
            Stop::Sqlite(error) => not_applied(error).into(),
            Stop::Damaged(what) => NotApplied::Failed(what.into()).into(),
        }
    }
}

/// Names what SQLite refused before anything was committed.
pub(crate) fn not_applied(error: rusqlite::Error) -> NotApplied {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => NotApplied::Busy(error.into()),
        Some(ErrorCode::DiskFull) => NotApplied::Full(error.into()),
        _ => NotApplied::Failed(error.into()),
    }
}

/// Whether the connection is better opened anew: what it believes of the file may no longer hold.
pub(crate) fn breaks_connection(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
        )
    )
}

pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
