//! Arrival inside the user's own transaction.

use std::sync::Arc;

use rusqlite::Transaction;
use whizbang_storage::record;
use whizbang_storage::{Append, Clock, Limits, Partition, Service, SystemClock, Timestamp, refuse};

use crate::error::Stop;
use crate::{EnqueueError, Enqueued, SqliteOptions, dedup, schema};

/// Enqueues a message for a service inside a transaction of your own, on your own connection to the same file: it arrives
/// when the transaction commits, and never was there when it rolls back.
///
/// The partition's owner moves it into the log with its next exchange. Messages of one transaction, and of transactions that
/// commit one after the other, keep their order. `append.due_in` counts from now; `append.hand_out` means nothing here.
/// A key that was used before is an answer, not an error: the transaction goes on.
///
/// The [default limits](Limits) hold, and the operating system's clock; an [`Enqueuer`] has those of a store.
///
/// Begin the transaction as [`Immediate`](rusqlite::TransactionBehavior::Immediate): SQLite refuses one that has begun to read
/// when it wants to write and somebody else has written in between. As long as it is open it holds the file's one
/// write lock, and engines wait for it.
///
/// ```
/// # use core::num::NonZeroU128;
/// # use whizbang_storage::{Append, ContentType, HandOut, MessageId, MessageKind};
/// use whizbang_storage_sqlite::{Enqueued, SqliteStore, enqueue};
/// # let store = SqliteStore::in_memory()?;
/// # let id = MessageId::from_bits(NonZeroU128::new(7).unwrap());
/// # let message = Append {
/// #     id, stream: None, kind: MessageKind::Command, type_name: "mail.send", type_version: 1,
/// #     content_type: ContentType::JSON, payload: b"{}", correlation: id.into(), causation: None, metadata: b"",
/// #     dedup: None, due_in: None, hand_out: HandOut::Later,
/// # };
/// let mut mine = store.connect()?;
/// mine.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY);")?;
/// let transaction = mine.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
/// transaction.execute("INSERT INTO orders DEFAULT VALUES;", [])?;
/// assert_eq!(enqueue(&transaction, "default", &message)?, Enqueued::Arrived);
/// transaction.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EnqueueError`]; nothing was written, and the transaction can go on, except after an error of SQLite's own that ended it.
pub fn enqueue(
    transaction: &Transaction<'_>,
    service: &str,
    append: &Append<'_>,
) -> Result<Enqueued, EnqueueError> {
    let service = Service::named(service);
    enqueue_at(transaction, &service.name, &service.limits, SystemClock.now(), append)
}

/// Does what [`enqueue`] does with the limits and the clock of a store: see [`SqliteStore::enqueuer`](crate::SqliteStore::enqueuer).
#[derive(Clone)]
pub struct Enqueuer {
    service: String,
    limits: Limits,
    clock: Arc<dyn Clock>,
}

impl Enqueuer {
    pub(crate) fn new(options: &SqliteOptions) -> Self {
        Self {
            service: options.service.name.clone(),
            limits: options.service.limits,
            clock: Arc::clone(&options.clock),
        }
    }

    /// Enqueues a message inside a transaction of your own; see [`enqueue`].
    ///
    /// # Errors
    /// [`EnqueueError`]; nothing was written, and the transaction can go on, except after an error of SQLite's own that
    /// ended it.
    pub fn enqueue(
        &self,
        transaction: &Transaction<'_>,
        append: &Append<'_>,
    ) -> Result<Enqueued, EnqueueError> {
        enqueue_at(transaction, &self.service, &self.limits, self.clock.now(), append)
    }
}

impl core::fmt::Debug for Enqueuer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Enqueuer").field("service", &self.service).finish_non_exhaustive()
    }
}

fn enqueue_at(
    transaction: &Transaction<'_>,
    service: &str,
    limits: &Limits,
    now: Timestamp,
    append: &Append<'_>,
) -> Result<Enqueued, EnqueueError> {
    refuse::append(append, limits)?;
    let found = schema::find_service(transaction, service).map_err(|error| match &error {
        rusqlite::Error::SqliteFailure(_, Some(text)) if text.contains("no such table") => {
            EnqueueError::NotOurs
        }
        _ => EnqueueError::Sqlite(error),
    })?;
    let Some((agreed, partitions, _)) = found else {
        return Err(EnqueueError::NoService(service.to_owned()));
    };
    let lane = append.lane();
    let Partition(partition) = lane.partition(partitions);
    let entry = append.dedup.map(|key| dedup::Entry::of(agreed.service, key, append));
    if let Some(entry) = &entry {
        let mut find = transaction.prepare_cached(dedup::FIND)?;
        if let Some((first, body)) = entry.find(&mut find).map_err(sqlite)? {
            return Ok(Enqueued::Duplicate { first, body });
        }
    }
    let mut bytes = Vec::new();
    record::encode(append, &mut bytes);
    let due = append.due_in.map(|due_in| now.after(due_in).micros());
    let partition = agreed.first_partition + i64::from(partition);
    let sender: Option<[u8; 16]> = None;
    transaction.prepare_cached(include_str!("sql/put_arrival.sql"))?.execute((
        partition,
        due,
        sender,
        lane.to_bytes(),
        &bytes[..],
    ))?;
    if let Some(entry) = &entry {
        let (id, at) = dedup::next(transaction, agreed.service, now)?;
        let mut put = transaction.prepare_cached(dedup::PUT)?;
        entry.put(&mut put, id, at).map_err(sqlite)?;
    }
    Ok(Enqueued::Arrived)
}

fn sqlite(stop: Stop) -> EnqueueError {
    match stop {
        Stop::Sqlite(error) => EnqueueError::Sqlite(error),
        _ => EnqueueError::NotOurs,
    }
}
