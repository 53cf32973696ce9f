//! Errors, and what PostgreSQL's own mean for a batch.

use tokio_postgres::error::SqlState;
use whizbang_storage::{MessageId, NotApplied, Refusal, SameBody, ServiceError, StoreError};

use crate::OptionsError;
use crate::tls::ConnectError;

/// Why a store could not be opened, or a schema not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The options cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The service's own settings cannot be used, or differ from what the database was set up with.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The server could not be reached, or let nobody in.
    #[error("{}", with_sources(&**.0))]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no schema of this name, or it is not one of ours.
    #[error(
        "there is no Whizbang schema {schema:?} (this program knows version {known}): call `migrate`, or let `whizbang-pg-schema --schema {schema}` print what an administrator runs"
    )]
    NoSchema {
        /// The schema's name.
        schema: String,
        /// The version that this program would make.
        known: i32,
    },
    /// The schema is one of ours, and its version is lost: nobody knows what would have to be done.
    #[error(
        "the schema {schema:?} has a table `schema_version` without a row, so that its version is not known: insert the version that it had, or drop the schema with everything in it and set it up again"
    )]
    NoVersion {
        /// The schema's name.
        schema: String,
    },
    /// A newer version of this crate made the schema.
    #[error(
        "the schema {schema:?} has version {found}, this program knows versions up to {known}; use the newer program"
    )]
    Newer {
        /// The schema's name.
        schema: String,
        /// Its version.
        found: i32,
        /// The newest version that is known here.
        known: i32,
    },
    /// An older version of this crate made the schema, and nobody has migrated it.
    #[error(
        "the schema {schema:?} has version {found}, this program needs version {known}: call `migrate`, or let `whizbang-pg-schema --schema {schema} --from {found}` print what an administrator runs"
    )]
    Older {
        /// The schema's name.
        schema: String,
        /// Its version.
        found: i32,
        /// The version that is needed.
        known: i32,
    },
    /// PostgreSQL refused a statement.
    #[error("the schema {schema:?} cannot be set up or read: {}", told(.source))]
    Postgres {
        /// The schema's name.
        schema: String,
        /// What PostgreSQL says.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// What an error says, and why: the driver keeps what the server answered in its source.
fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Why a message was not enqueued. A refusal or a duplicate leaves the user's transaction as it was; what PostgreSQL
/// refuses aborts it, as any failed statement does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The message cannot be stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No store has opened this database for the service yet, so nobody said how many partitions it has.
    #[error("this database knows no service {0:?}; open a store for it once")]
    NoService(String),
    /// PostgreSQL could not do it.
    #[error("{}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
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

/// Why a batch stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The contract says so.
    Contract(StoreError),
    /// PostgreSQL says so.
    Postgres(tokio_postgres::Error),
    /// There is no connection, and nothing was sent.
    Connect(ConnectError),
    /// No answer in time.
    Silent,
    /// What is remembered, or was read a moment ago, is not so any more: it is read again.
    Outdated(&'static str),
    /// Something in the database is not what this program wrote there.
    Damaged(&'static str),
}

/// What a failure leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aftermath {
    /// Nothing was written, and it may go better at once.
    TryAgain,
    /// Nothing was written.
    NotApplied,
    /// Nobody knows.
    Unknown,
}

impl Stop {
    pub(crate) fn aftermath(&self) -> Aftermath {
        match self {
            Self::Contract(_) | Self::Damaged(_) => Aftermath::NotApplied,
            Self::Connect(_) | Self::Outdated(_) => Aftermath::TryAgain,
            Self::Silent => Aftermath::Unknown,
            Self::Postgres(error) => match error.code() {
                None => Aftermath::Unknown,
                Some(code)
                    if *code == SqlState::T_R_DEADLOCK_DETECTED
                        || *code == SqlState::T_R_SERIALIZATION_FAILURE
                        || *code == SqlState::LOCK_NOT_AVAILABLE
                        || *code == SqlState::UNIQUE_VIOLATION
                        || *code == SqlState::READ_ONLY_SQL_TRANSACTION =>
                {
                    Aftermath::TryAgain
                }
                // Shut down, crashed, cut off: it may have been committed just before.
                Some(code) if code.code().starts_with("57P") || code.code().starts_with("08") => {
                    Aftermath::Unknown
                }
                Some(code) if *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN => Aftermath::Unknown,
                Some(_) => Aftermath::NotApplied,
            },
        }
    }

    /// Whether the connection is better made anew.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            Self::Contract(_) | Self::Outdated(_) => false,
            Self::Postgres(error) => {
                self.aftermath() == Aftermath::Unknown
                    || error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
                    || error.is_closed()
            }
            Self::Connect(_) | Self::Silent | Self::Damaged(_) => true,
        }
    }
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Contract(error)
    }
}

impl From<Stop> for StoreError {
    fn from(stop: Stop) -> Self {
        let aftermath = stop.aftermath();
        match stop {
            Stop::Contract(error) => error,
            Stop::Outdated(what) => {
                NotApplied::Busy(format!("others changed the service all the time: {what}").into()).into()
            }
            Stop::Damaged(what) => NotApplied::Failed(what.into()).into(),
            Stop::Connect(error) => NotApplied::Failed(error.into()).into(),
            Stop::Silent => Self::Unknown("the server did not answer in time".into()),
            Stop::Postgres(error) if aftermath == Aftermath::Unknown => Self::Unknown(with_details(error)),
            Stop::Postgres(error) => match error.code() {
                Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
                    NotApplied::Busy(with_details(error)).into()
                }
                Some(code) if *code == SqlState::DISK_FULL => NotApplied::Full(with_details(error)).into(),
                _ => NotApplied::Failed(with_details(error)).into(),
            },
        }
    }
}

/// What the server said, which the driver's own text leaves out.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => match said.where_() {
            Some(place) => format!("{said} ({}) at {place}", said.code().code()),
            None => format!("{said} ({})", said.code().code()),
        },
        None => error.to_string(),
    }
}

pub(crate) fn with_details(error: tokio_postgres::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error.as_db_error() {
        Some(_) => told(&error).into(),
        None => error.into(),
    }
}
