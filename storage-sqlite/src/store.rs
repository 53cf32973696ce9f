//! A service's handle on its database: begins the transaction, and decides what a failure means.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use whizbang_storage::callers::Callers;
use whizbang_storage::turn::Turn;
use whizbang_storage::{Abilities, Answer, Hint, NotApplied, Service, StoreError, WorkBatch, WorkStore};

use crate::error::{Stop, breaks_connection, is_busy, not_applied};
use crate::exchange::{Desk, Ended, Scratch};
use crate::options::{Access, Place, while_busy};
use crate::room::Room;
use crate::schema::{self, Agreed};
use crate::state::State;
use crate::watch::{Known, Watch};
use crate::{Enqueuer, OpenError, SqliteOptions, SqliteReader};

/// A service's messages in a SQLite database.
///
/// The handle belongs to one engine. Other engines, in this process or another, open handles of their own on the same file.
///
/// # Cancel safety
/// [`process_work_batch`](WorkStore::process_work_batch) does all its work when it is first polled: it blocks the thread for
/// as long as SQLite takes, which is the pump's own.
pub struct SqliteStore {
    /// None: it broke, and is opened again by the next batch.
    connection: Option<Connection>,
    place: Place,
    options: SqliteOptions,
    agreed: Agreed,
    state: State,
    scratch: Scratch,
    callers: Callers,
    room: Room,
    /// What the instance knew after its last batch.
    known: Option<Known>,
    watch: Option<Watch>,
    reader: SqliteReader,
}

impl Drop for SqliteStore {
    /// Leaves everything in the one file: readers are usually closed later, and they cannot do it.
    fn drop(&mut self) {
        self.watch = None;
        if let Some(connection) = &self.connection {
            // It may be busy, or the disk full: then the log beside the file has it all, as after a crash.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

impl SqliteStore {
    /// Opens the database at `path`, or creates it, with good defaults: nothing that was acknowledged is lost at a power cut.
    ///
    /// # Errors
    /// [`OpenError`]: every reason has a text that says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        SqliteOptions::default().open(path)
    }

    /// A database in memory, of at most 1 GiB, gone with the last handle on it.
    ///
    /// # Errors
    /// [`OpenError::Path`] when the SQLite that was linked has no memory databases.
    pub fn in_memory() -> Result<Self, OpenError> {
        SqliteOptions::default().in_memory()
    }

    /// Another handle on the same database, in memory or not: for a second engine, or a second service beside the first.
    ///
    /// ```
    /// # use whizbang_storage_sqlite::{Service, SqliteOptions, SqliteStore};
    /// let orders = SqliteStore::in_memory()?;
    /// let billing = orders.beside(SqliteOptions {
    ///     service: Service::named("billing"),
    ///     ..SqliteOptions::default()
    /// })?;
    /// # Ok::<(), whizbang_storage_sqlite::OpenError>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError`], as for the first.
    pub fn beside(&self, options: SqliteOptions) -> Result<Self, OpenError> {
        options.open_at(self.place.clone())
    }

    /// A connection of your own to the same database, for [`enqueue`](crate::enqueue()) and for your own tables.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = self.place.connect(Access::Write)?;
        self.place.prepare(&connection, &self.options)?;
        Ok(connection)
    }

    /// Enqueues into this store's service in transactions of your own, with its limits and its clock.
    pub fn enqueuer(&self) -> Enqueuer {
        Enqueuer::new(&self.options)
    }

    /// The options it was opened with.
    pub fn options(&self) -> &SqliteOptions {
        &self.options
    }

    pub(crate) fn with(options: SqliteOptions, place: Place, connection: Connection, agreed: Agreed) -> Self {
        let state = State::new(agreed, options.service.partitions);
        let reader = SqliteReader::new(&options, &place, agreed);
        Self {
            connection: Some(connection),
            place,
            options,
            agreed,
            state,
            scratch: Scratch::default(),
            callers: Callers::default(),
            room: Room::default(),
            known: None,
            watch: None,
            reader,
        }
    }

    /// Nobody is told that nothing was written as long as an earlier call with the same batch may have been committed.
    fn process(&mut self, batch: &WorkBatch<'_>, answer: &mut Answer) -> Result<(), StoreError> {
        match self.try_process(batch, answer) {
            Ok(()) => {
                self.callers.set_answered(batch);
                Ok(())
            }
            Err(StoreError::NotApplied(why)) if self.callers.is_unsure(batch) && !is_of_the_batch(&why) => {
                Err(StoreError::Unknown(why.into()))
            }
            Err(error @ StoreError::Unknown(_)) => {
                self.callers.set_unsure(batch.from.instance);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn try_process(&mut self, batch: &WorkBatch<'_>, answer: &mut Answer) -> Result<(), StoreError> {
        answer.clear();
        let digest = batch.digest();
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // It broke, or a batch panicked: what is remembered may never have been committed.
                self.state.forget();
                schema::reopen(&self.options, &self.place).map_err(not_applied)?
            }
        };
        let result = self.process_on(&connection, batch, digest, answer);
        if result.is_err() {
            self.state.forget();
            answer.clear();
        }
        let broken = matches!(&result, Err(Failed { broken: true, .. }));
        // A connection that could not end its transaction is of no use either.
        if !broken && connection.is_autocommit() {
            self.connection = Some(connection);
        }
        result.map_err(|failed| failed.error)
    }

    fn process_on(
        &mut self,
        sql: &Connection,
        batch: &WorkBatch<'_>,
        digest: u64,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        begin(sql, &self.options).map_err(Failed::before_commit)?;
        let kept = self.callers.kept(batch, digest);
        let desk = Desk {
            sql,
            service: &self.options.service,
            clock: &*self.options.clock,
            state: &mut self.state,
            scratch: &mut self.scratch,
            answer,
        };
        let ended = desk.exchange(batch, digest, kept.is_some());
        match ended {
            Ok(Ended::Applied) => {}
            Ok(Ended::Repeated(turn)) => {
                if let Some(last) = kept {
                    answer.clone_from(last);
                }
                if turn == Turn::RepeatEvicted {
                    answer.without_work();
                }
                return roll_back(sql).map_err(Failed::before_commit);
            }
            Err(stop) => {
                // SQLite may have rolled back already; if it cannot, the connection is given up.
                let _ = roll_back(sql);
                return Err(Failed::of(stop));
            }
        }
        let instance = batch.from.instance;
        let group = self.state.instance(instance).and_then(|instance| instance.group);
        let known = Known { instance, group, generation: self.state.generation() };
        self.tell_watch(Some(known));
        // Kept before the commit, whose own answer may be lost; beside the answer before, in case it definitely fails.
        self.callers.keep(batch, digest, answer);
        commit(sql, &self.options).map_err(|error| {
            self.tell_watch(self.known);
            if is_busy(&error) {
                // Somebody reads a database in memory: the transaction is still open, and can be taken back.
                let _ = roll_back(sql);
                Failed::before_commit(error)
            } else {
                Failed::at_commit(error)
            }
        })?;
        self.known = Some(known);
        // Senders wait for what they have sent, and for their operations; for what is plainly settled hardly anybody does.
        let somebody_waits = batch.messages() > 0 || !batch.units.is_empty() || !batch.operations.is_empty();
        self.room.exchanged(sql, &self.place, &self.options, somebody_waits);
        Ok(())
    }

    fn tell_watch(&self, known: Option<Known>) {
        if let (Some(watch), Some(known)) = (&self.watch, known) {
            watch.knows(known);
        }
    }
}

impl WorkStore for SqliteStore {
    type Reader = SqliteReader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        self.process(batch, answer)
    }

    fn reader(&self) -> SqliteReader {
        self.reader.clone()
    }

    fn service(&self) -> &Service {
        &self.options.service
    }

    fn abilities(&self) -> Abilities {
        let is_file = matches!(self.place, Place::File(_));
        Abilities {
            shared_by_processes: is_file,
            user_transactions: true,
            notifications: is_file,
            durable: is_file,
        }
    }

    /// Starts a thread that looks whether others have written; none for a database in memory, of which each look would hold
    /// up a batch.
    fn on_hint(&mut self, hint: Hint) {
        if let Place::File(_) = &self.place {
            self.watch = Watch::start(&self.place, self.agreed, self.known, hint);
        }
    }
}

impl core::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.place.path())
            .field("service", &self.options.service.name)
            .field("agreed", &self.agreed)
            .finish_non_exhaustive()
    }
}

/// Why a batch was not answered, and whether its connection can still be used.
struct Failed {
    error: StoreError,
    broken: bool,
}

impl Failed {
    fn of(stop: Stop) -> Self {
        let broken = matches!(&stop, Stop::Sqlite(error) if breaks_connection(error));
        Self { error: stop.into(), broken }
    }

    fn before_commit(error: rusqlite::Error) -> Self {
        Self::of(error.into())
    }

    /// A commit that failed may have reached the disk all the same, and be found there after a crash.
    fn at_commit(error: rusqlite::Error) -> Self {
        // Without room the commit mark itself was not written, so the transaction is definitely not there.
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            return Self { error: NotApplied::Full(error.into()).into(), broken: true };
        }
        Self { error: StoreError::Unknown(error.into()), broken: true }
    }
}

/// Whether the batch itself is refused, which it was at its first call, too.
fn is_of_the_batch(why: &NotApplied) -> bool {
    matches!(why, NotApplied::BatchTooLarge { .. } | NotApplied::Join(_))
}

fn begin(sql: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    let mut begin = sql.prepare_cached("BEGIN IMMEDIATE;")?;
    while_busy(options.patience(), || begin.execute([]).map(drop))
}

fn commit(sql: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    let mut commit = sql.prepare_cached("COMMIT;")?;
    while_busy(options.patience(), || commit.execute([]).map(drop))
}

fn roll_back(sql: &Connection) -> rusqlite::Result<()> {
    if sql.is_autocommit() {
        return Ok(());
    }
    sql.prepare_cached("ROLLBACK;")?.execute([]).map(drop)
}
