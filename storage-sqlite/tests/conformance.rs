//! `SqliteStore` passes the suite, on a file and in memory.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};
use tempfile::TempDir;
use whizbang_storage::{Append, AppendAnswer, Partition, Position, Service, TestClock};
use whizbang_storage_conformance::{Fixture, OpenError, SchemaAge, TransactionEnd};
use whizbang_storage_sqlite::{EnqueueError, Enqueued, SqliteOptions, SqliteStore};

/// Bits of a position in a place.
const POSITION_BITS: u32 = 40;

fn options(service: Service, clock: &TestClock) -> SqliteOptions {
    SqliteOptions {
        service,
        clock: Arc::new(clock.clone()),
        busy_timeout: Duration::from_millis(200),
        ..SqliteOptions::default()
    }
}

fn enqueue(store: &SqliteStore, messages: &[Append<'_>], end: TransactionEnd) -> Vec<AppendAnswer> {
    let mut mine = store.connect().unwrap();
    let transaction = mine.transaction().unwrap();
    let enqueuer = store.enqueuer();
    let answers = messages
        .iter()
        .map(|message| match enqueuer.enqueue(&transaction, message) {
            Ok(Enqueued::Arrived) => AppendAnswer::Arrived,
            Ok(Enqueued::Duplicate { first, body }) => AppendAnswer::Duplicate { first, body },
            Err(EnqueueError::Refused(refusal)) => AppendAnswer::Refused(refusal),
            Err(error) => panic!("{error}"),
        })
        .collect();
    match end {
        TransactionEnd::Commit => transaction.commit().unwrap(),
        TransactionEnd::Rollback => transaction.rollback().unwrap(),
    }
    answers
}

/// Changes one byte of a message's stored record.
fn damage(sql: &Connection, service: &Service, partition: Partition, position: Position) {
    let first: i64 = sql
        .query_row(
            "SELECT first_partition FROM whizbang_service WHERE name = ?1",
            [&service.name],
            |row| row.get(0),
        )
        .unwrap();
    let place = (first + i64::from(partition.0)) << POSITION_BITS | position.0 as i64;
    let changed = sql
        .execute(
            "UPDATE whizbang_event SET record = x'00' WHERE place = ?1",
            [place],
        )
        .unwrap();
    if changed == 1 {
        return;
    }
    let (run, span, segment, start, length): (i64, i64, i64, i64, i64) = sql
        .query_row(
            "SELECT place, span, segment, start, length FROM whizbang_run WHERE place <= ?1 AND ?1 < place + span",
            [place],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .unwrap();
    let mut bytes: Vec<u8> = sql
        .query_row(
            "SELECT bytes FROM whizbang_segment WHERE id = ?1",
            [segment],
            |row| row.get(0),
        )
        .unwrap();
    let end_at = (start + length - (span - (place - run)) * 4) as usize;
    let end = u32::from_le_bytes(bytes[end_at..][..4].try_into().unwrap()) as usize;
    bytes[start as usize + end - 1] ^= 0xFF;
    sql.execute(
        "UPDATE whizbang_segment SET bytes = ?2 WHERE id = ?1",
        params![segment, bytes],
    )
    .unwrap();
}

struct Held(Connection);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

fn hold(sql: Connection) -> Box<dyn Any> {
    sql.execute_batch("BEGIN IMMEDIATE").unwrap();
    Box::new(Held(sql))
}

fn set_schema(sql: &Connection, age: SchemaAge) {
    let version = match age {
        SchemaAge::Newer => 1_000,
        SchemaAge::Older => 0,
    };
    sql.execute("UPDATE whizbang_schema SET version = ?1", [version])
        .unwrap();
}

mod file {
    use super::*;

    struct Sqlite {
        directory: TempDir,
        clock: TestClock,
    }

    impl Sqlite {
        fn path(&self) -> PathBuf {
            self.directory.path().join("a.db")
        }

        fn sql(&self) -> Connection {
            Connection::open(self.path()).unwrap()
        }
    }

    impl Fixture for Sqlite {
        type Store = SqliteStore;

        async fn fresh(clock: TestClock) -> Self {
            let fixture = Self {
                directory: tempfile::tempdir().unwrap(),
                clock,
            };
            drop(
                options(Service::default(), &fixture.clock)
                    .open(fixture.path())
                    .unwrap(),
            );
            count_writes(&fixture.path());
            fixture
        }

        async fn open(&self, service: Service) -> Result<SqliteStore, OpenError> {
            Ok(options(service, &self.clock).open(self.path())?)
        }

        /// Nothing is closed, as in a process that is killed; `crash.rs` kills real ones.
        async fn crash(&mut self, stores: Vec<SqliteStore>) {
            stores.into_iter().for_each(core::mem::forget);
        }

        async fn enqueue(
            &self,
            service: &Service,
            messages: &[Append<'_>],
            end: TransactionEnd,
        ) -> Vec<AppendAnswer> {
            enqueue(&self.open(service.clone()).await.unwrap(), messages, end)
        }

        async fn damage(&self, service: &Service, partition: Partition, position: Position) {
            damage(&self.sql(), service, partition, position);
        }

        async fn rows_written(&self) -> u64 {
            let rows: i64 = self
                .sql()
                .query_row("SELECT rows FROM rows_written", [], |row| row.get(0))
                .unwrap();
            rows as u64
        }

        async fn hold(&self) -> Box<dyn Any> {
            hold(self.sql())
        }

        async fn set_schema(&self, age: SchemaAge) {
            set_schema(&self.sql(), age);
        }
    }

    /// Lets the database itself count every row that is written, but for an instance's and the service's own.
    fn count_writes(path: &Path) {
        let sql = Connection::open(path).unwrap();
        sql.execute_batch("CREATE TABLE rows_written (rows INTEGER); INSERT INTO rows_written VALUES (0);")
            .unwrap();
        let tables: Vec<String> = sql
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'whizbang_%'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .filter(|name| name != "whizbang_instance" && name != "whizbang_service")
            .collect();
        assert!(tables.len() > 10, "{tables:?}");
        for table in tables {
            for event in ["INSERT", "UPDATE", "DELETE"] {
                sql.execute_batch(&format!(
                    "CREATE TRIGGER count_{event}_{table} AFTER {event} ON {table}
                     BEGIN UPDATE rows_written SET rows = rows + 1; END;"
                ))
                .unwrap();
            }
        }
    }

    whizbang_storage_conformance::conformance! {
        fixture: Sqlite,
        user_transactions: yes,
        damage: yes,
        counts_writes: yes,
        busy: yes,
        disk_full: no,
        schema: yes,
        connection: no,
        notifications: no,
    }
}

mod memory {
    use super::*;

    struct InMemory {
        /// Keeps the database alive while no other handle does.
        first: SqliteStore,
        clock: TestClock,
    }

    impl Fixture for InMemory {
        type Store = SqliteStore;

        async fn fresh(clock: TestClock) -> Self {
            let service = Service::named("nobody");
            Self {
                first: options(service, &clock).in_memory().unwrap(),
                clock,
            }
        }

        async fn open(&self, service: Service) -> Result<SqliteStore, OpenError> {
            Ok(self.first.beside(options(service, &self.clock))?)
        }

        async fn crash(&mut self, stores: Vec<SqliteStore>) {
            drop(stores);
        }

        async fn enqueue(
            &self,
            service: &Service,
            messages: &[Append<'_>],
            end: TransactionEnd,
        ) -> Vec<AppendAnswer> {
            enqueue(&self.open(service.clone()).await.unwrap(), messages, end)
        }

        async fn damage(&self, service: &Service, partition: Partition, position: Position) {
            damage(&self.first.connect().unwrap(), service, partition, position);
        }

        async fn hold(&self) -> Box<dyn Any> {
            hold(self.first.connect().unwrap())
        }

        async fn set_schema(&self, age: SchemaAge) {
            set_schema(&self.first.connect().unwrap(), age);
        }
    }

    whizbang_storage_conformance::conformance! {
        fixture: InMemory,
        user_transactions: yes,
        damage: yes,
        counts_writes: no,
        busy: yes,
        disk_full: no,
        schema: yes,
        connection: no,
        notifications: no,
    }
}
