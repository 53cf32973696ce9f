//! A durable backend in an afternoon: a place where records are kept.
//!
//! What [`MemoryStore`](crate::MemoryStore) decides depends on nothing but what is stored, the batch and the instant. So a
//! [`MemoryDatabase`](crate::MemoryDatabase) that writes down both before it applies a batch comes back, when its records are
//! applied again, exactly as it was; and now and then it writes down everything at once, so that the records before that can go.
//! A backend for one process brings the place for these records, a [`Journal`], and nothing else: a file, a table, a bucket.
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! use whizbang_storage::journal::{Journal, JournalError, Replay};
//! use whizbang_storage::{MemoryDatabase, Service, StoreError, SystemClock, WorkStore};
//!
//! /// Keeps nothing longer than the process: the shape of every journal.
//! #[derive(Clone, Default)]
//! struct Kept(Arc<Mutex<Vec<(u64, Vec<u8>)>>>);
//!
//! impl Journal for Kept {
//!     fn replay(&mut self, to: &mut Replay<'_>) -> Result<(), JournalError> {
//!         self.0.lock().unwrap().iter().try_for_each(|(_, record)| to.record(record))
//!     }
//!
//!     fn append(&mut self, number: u64, record: &[u8]) -> Result<(), StoreError> {
//!         let mut kept = self.0.lock().unwrap();
//!         kept.retain(|(older, _)| *older < number); // what a failed call may have left
//!         kept.push((number, record.to_vec()));
//!         Ok(())
//!     }
//!
//!     fn replace(&mut self, number: u64, snapshot: &[u8]) -> Result<(), JournalError> {
//!         *self.0.lock().unwrap() = vec![(number, snapshot.to_vec())];
//!         Ok(())
//!     }
//! }
//!
//! let kept = Kept::default();
//! let database = MemoryDatabase::recover(kept.clone(), Arc::new(SystemClock))?;
//! let store = database.open(Service::named("shop"))?;
//! assert!(store.abilities().durable);
//!
//! drop((database, store)); // the process ends; the next one asks for other partitions, and is told what is stored
//! let database = MemoryDatabase::recover(kept, Arc::new(SystemClock))?;
//! assert!(database.open(Service { partitions: 64, ..Service::named("shop") }).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//! - Everything that is stored is in memory too, and is read at every start.
//! - One process at a time. A journal that could be opened twice **must** refuse the second (a lock on the file will do).
//! - A snapshot is written within some batch, and holds up everybody for as long as it takes. It is written when the records
//!   behind the last one are as large as that one ([`MemoryDatabase::snapshot_after`](crate::MemoryDatabase::snapshot_after)
//!   gives the least), so a byte is written at most three times.
//! - Records say what was asked, not what came of it, and the rules of another version may come to something else. Whoever changes
//!   the version of this crate writes a snapshot with the old one as its last act
//!   ([`MemoryDatabase::snapshot`](crate::MemoryDatabase::snapshot)); records of another version are refused
//!   ([`JournalError::Version`]), snapshots of this format are read by all.

use xxhash_rust::xxh3::xxh3_64;

use crate::StoreError;
use crate::wire::{Malformed, Wire, take};

/// A place where numbered records are kept, in order.
///
/// The numbers of the records are 1, 2, 3 …; the caller gives them. It holds a lock around every call, so calls never
/// overlap, and it takes the same lock as batches: a call may block, and everybody waits for it.
///
/// A record knows whether it is whole ([`is_whole`]): a journal need not add a checksum of its own.
pub trait Journal: Send + 'static {
    /// Gives every record that is kept to `to`, in order of their numbers. Called once, before anything else.
    ///
    /// An incomplete record at the end is what a crash leaves of a call that was never answered: it is not given, and goes.
    ///
    /// # Errors
    /// What `to` says, and [`JournalError::Read`] when something that was kept cannot be read.
    fn replay(&mut self, to: &mut Replay<'_>) -> Result<(), JournalError>;

    /// Keeps a record; when this returns, it survives the process, the machine, or whatever the backend promises.
    ///
    /// `number` is one above that of the last record that was kept. After a call that failed, the same number comes again,
    /// with the same record or another: the last that was kept under a number counts, and what is left of a failed call
    /// **must not** come back beside or behind it.
    ///
    /// # Errors
    /// [`StoreError::NotApplied`] when the record is not kept, and a replay will never give it, nor what an earlier call left under
    /// its number; otherwise [`StoreError::Unknown`].
    fn append(&mut self, number: u64, record: &[u8]) -> Result<(), StoreError>;

    /// Keeps `snapshot` under `number` in place of all records up to and including that number, which is the last that was
    /// kept. A crash in the middle leaves the old records or the snapshot, and both stand for the same.
    ///
    /// # Errors
    /// [`JournalError::Write`]; the records must still be there, or the snapshot in their place.
    fn replace(&mut self, number: u64, snapshot: &[u8]) -> Result<(), JournalError>;
}

/// Takes the records of a journal when a database is recovered.
pub struct Replay<'r> {
    // The number of the last record, if there was any.
    last: Option<u64>,
    apply: &'r mut dyn FnMut(Content<'_>) -> Result<(), JournalError>,
}

/// What a record carries.
pub(crate) struct Content<'r> {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) bytes: &'r [u8],
}

/// What sort of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A service was opened for the first time.
    Service = 1,
    /// A batch.
    Batch = 2,
    /// Everything there was up to this number.
    Snapshot = 3,
}

/// Why a journal could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The backend could not read what it keeps.
    #[error("the journal cannot be read: {0}")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The backend could not write.
    #[error("the journal cannot be written: {0}")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record is not what was written.
    #[error("the record behind number {after} is damaged")]
    Damaged {
        /// The number of the last one that was whole; 0: it is the first.
        after: u64,
    },
    /// Records are missing, or stand in another order.
    #[error("record {got} comes after record {after}: what is between them is missing")]
    Gap {
        /// The number before.
        after: u64,
        /// The number that came.
        got: u64,
    },
    /// Another version of this crate wrote the record: write a snapshot with that version first.
    #[error(
        "record {number} was written by rules {rules}, these are rules {RULES}: write a snapshot with the old version first"
    )]
    Version {
        /// The record.
        number: u64,
        /// What wrote it.
        rules: u8,
    },
    /// A later version of this crate wrote the records.
    #[error("the records have form {form}, this version reads {FORM}")]
    Form {
        /// Their form.
        form: u8,
    },
    /// A batch panicked before: what is in memory cannot be trusted, what is in the journal can.
    #[error("a batch panicked before; open the database again")]
    Poisoned,
}

/// Counts the forms of records. All snapshots of a form can be read for ever.
const FORM: u8 = 1;
/// Counts the changes of what a batch comes to: one that lets a recorded batch come to something else **must** count. A test in
/// `storage-conformance/tests/journal.rs` finds out.
const RULES: u8 = 3;

// checksum of the rest (8) · form (1) · rules (1) · kind (1) · number (1 to 10) · content.
const CHECKSUM: usize = 8;

/// Whether these bytes are exactly one record, as it was written.
pub fn is_whole(record: &[u8]) -> bool {
    record.split_first_chunk::<CHECKSUM>().is_some_and(|(sum, rest)| *sum == xxh3_64(rest).to_le_bytes())
}

/// Writes a record over whatever is in `out`.
pub(crate) fn write(kind: Kind, number: u64, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    out.clear();
    out.extend_from_slice(&[0; CHECKSUM]);
    out.extend_from_slice(&[FORM, RULES, kind as u8]);
    number.put(out);
    content(out);
    let sum = xxh3_64(&out[CHECKSUM..]).to_le_bytes();
    out[..CHECKSUM].copy_from_slice(&sum);
}

impl<'r> Replay<'r> {
    pub(crate) fn new(apply: &'r mut dyn FnMut(Content<'_>) -> Result<(), JournalError>) -> Self {
        Self { last: None, apply }
    }

    /// The number of the last record that was given; 0: none was.
    pub fn last(&self) -> u64 {
        self.last.unwrap_or(0)
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`JournalError`] when it is damaged, when one before it is missing, or when another version wrote it.
    pub fn record(&mut self, record: &[u8]) -> Result<(), JournalError> {
        let after = self.last();
        let damaged = |Malformed| JournalError::Damaged { after };
        if !is_whole(record) {
            return Err(damaged(Malformed));
        }
        let mut bytes = &record[CHECKSUM..];
        let [form, rules, kind] = take(&mut bytes).map_err(damaged)?;
        if form != FORM {
            return Err(JournalError::Form { form });
        }
        let number = u64::get(&mut bytes).map_err(damaged)?;
        let kind = match kind {
            1 => Kind::Service,
            2 => Kind::Batch,
            3 => Kind::Snapshot,
            _ => return Err(damaged(Malformed)),
        };
        // A snapshot stands for what was before it, so it may only be the first.
        let follows = match self.last {
            None => number == 1 || kind == Kind::Snapshot,
            Some(last) => number == last + 1 && kind != Kind::Snapshot,
        };
        if !follows {
            return Err(JournalError::Gap { after, got: number });
        }
        if rules != RULES && kind != Kind::Snapshot {
            return Err(JournalError::Version { number, rules });
        }
        (self.apply)(Content { number, kind, bytes })?;
        self.last = Some(number);
        Ok(())
    }
}
