//! What may be opened, what is refused, and in which words.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::*;
use rusqlite::Connection;
use whizbang_storage::*;
use whizbang_storage_sqlite::{Existing, OpenError, SqliteOptions, SqliteStore, Synchronous};

fn options() -> SqliteOptions {
    SqliteOptions { service: service(), ..SqliteOptions::default() }
}

fn pragma(sql: &Connection, name: &str) -> String {
    sql.pragma_query_value(None, name, |row| {
        let value: rusqlite::types::Value = row.get(0)?;
        Ok(match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        })
    })
    .unwrap()
}

/// What stands in a directory, byte for byte.
fn contents(directory: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_new_file_is_private_and_has_the_good_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut one = Instance::join(options().open(&path).unwrap(), 1, "g", &["s"]);
    one.heartbeat();
    let sql = one.store.connect().unwrap();
    assert_eq!(pragma(&sql, "journal_mode"), "wal");
    assert_eq!(pragma(&sql, "synchronous"), "2", "FULL");
    assert_eq!(pragma(&sql, "application_id"), 0x5768_5A62.to_string());
    assert_eq!(pragma(&sql, "page_size"), "8192");
    #[cfg(unix)]
    for suffix in ["", "-wal", "-shm"] {
        use std::os::unix::fs::PermissionsExt;
        let file = format!("{}{suffix}", path.display());
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn normal_is_had_by_name_only() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { synchronous: Synchronous::Normal, ..options() };
    let sql = options.open(directory.path().join("a.db")).unwrap().connect().unwrap();
    assert_eq!(pragma(&sql, "synchronous"), "1");
}

#[test]
fn another_agreement_is_refused_with_both_values() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    drop(options().open(&path).unwrap());
    let partitions = SqliteOptions { service: Service { partitions: 8, ..service() }, ..options() };
    let text = partitions.open(&path).unwrap_err().to_string();
    assert_eq!(text, "the database was set up with partitions = 4, this process asks for 8");
    let ttl = SqliteOptions {
        service: Service { time_to_live: Duration::from_secs(10), ..service() },
        ..options()
    };
    let text = ttl.open(&path).unwrap_err().to_string();
    assert_eq!(text, "the database was set up with time_to_live = 20s, this process asks for 10s");
    // Another service has its own.
    let other = SqliteOptions { service: Service { partitions: 8, ..Service::named("other") }, ..options() };
    drop(other.open(&path).unwrap());
}

#[test]
fn a_newer_and_an_older_schema_are_refused_with_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    drop(options().open(&path).unwrap());
    let set = |version: i32| {
        let sql = Connection::open(&path).unwrap();
        sql.execute("UPDATE whizbang_schema SET version = ?1", [version]).unwrap();
    };
    set(3);
    let newer = options().open(&path).unwrap_err();
    assert!(matches!(newer, OpenError::Newer { found: 3, known: 2, .. }), "{newer}");
    assert!(newer.to_string().contains("has version 3, this program knows versions up to 2"), "{newer}");
    set(0);
    let older = options().open(&path).unwrap_err();
    assert!(matches!(older, OpenError::Older { found: 0, known: 2, .. }), "{older}");
    set(2);
    drop(options().open(&path).unwrap());
}

#[test]
fn files_of_others_are_refused_and_left_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign)
        .unwrap()
        .execute_batch("PRAGMA application_id = 42; CREATE TABLE theirs (n INTEGER);")
        .unwrap();
    let unnamed = directory.path().join("unnamed.db");
    Connection::open(&unnamed).unwrap().execute_batch("CREATE TABLE theirs (n INTEGER);").unwrap();
    let text = directory.path().join("notes.txt");
    fs::write(&text, "this is a note, and long enough to be taken for a header of a database").unwrap();
    let before = contents(directory.path());

    let refused = options().open(&foreign).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { application: 42, .. }), "{refused}");
    assert!(refused.to_string().contains("Existing::Share"), "{refused}");
    let refused = options().open(&unnamed).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { application: 0, .. }), "{refused}");
    let refused = options().open(&text).unwrap_err();
    assert!(matches!(refused, OpenError::NotADatabase(_)), "{refused}");
    assert!(contents(directory.path()) == before, "something was written");
}

#[test]
fn a_database_of_the_application_is_shared_when_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "PRAGMA user_version = 12; CREATE TABLE event (n INTEGER); INSERT INTO event VALUES (1);",
        )
        .unwrap();
    let share = SqliteOptions { existing: Existing::Share, ..options() };
    drop(share.clone().open(&path).unwrap());
    let store = share.open(&path).unwrap();
    let sql = store.connect().unwrap();
    assert_eq!(pragma(&sql, "user_version"), "12");
    assert_eq!(pragma(&sql, "application_id"), "0");
    let rows: i64 = sql.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    drop(store);
    // Once it is there, it need not be said again.
    drop(options().open(&path).unwrap());
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = options().open(directory.path()).unwrap_err();
    assert!(refused.to_string().contains("it is a directory"), "{refused}");
    let refused = options().open(directory.path().join("missing").join("a.db")).unwrap_err();
    assert!(matches!(refused, OpenError::Path { .. }), "{refused}");
    let refused = options().open("/dev/null").unwrap_err();
    assert!(refused.to_string().contains("it is not a file"), "{refused}");
}

#[cfg(unix)]
#[test]
fn a_file_that_must_not_be_read_or_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    drop(options().open(&path).unwrap());
    for mode in [0o400, 0o000] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if fs::OpenOptions::new().write(true).open(&path).is_ok() {
            is_refused_to_nobody(directory.path(), &path);
        } else {
            is_refused(&path);
        }
    }
}

fn is_refused(path: &Path) {
    let refused = options().open(path).unwrap_err();
    assert!(matches!(refused, OpenError::Path { .. }), "{refused}");
}

/// The administrator may write everything, so somebody who may not tries, in a process of their own.
#[cfg(unix)]
fn is_refused_to_nobody(directory: &Path, path: &Path) {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let program = directory.join("opening");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for reachable in [directory, &program] {
        fs::set_permissions(reachable, fs::Permissions::from_mode(0o755)).unwrap();
    }
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    let said = std::process::Command::new(&program)
        .args(["--exact", "the_process_of_somebody_who_may_not", "--ignored"])
        .env("WHIZBANG_CHILD", path)
        .current_dir(directory)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "another test starts it, in a process of its own"]
fn the_process_of_somebody_who_may_not() {
    if let Ok(path) = std::env::var("WHIZBANG_CHILD") {
        is_refused(Path::new(&path));
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused_before_there_is_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let refused = SqliteOptions { service: Service { partitions: 0, ..service() }, ..options() };
    assert!(matches!(refused.open(&path), Err(OpenError::Service(ServiceError::Partitions(0)))));
    let ttl = service().time_to_live;
    for (options, text) in [
        (
            SqliteOptions { page_bytes: 1_000, ..options() },
            "page_bytes = 1000: it must be a power of two from 512 to 65536",
        ),
        (SqliteOptions { page_bytes: 0, ..options() }, "page_bytes = 0"),
        (SqliteOptions { cache_bytes: 0, ..options() }, "cache_bytes = 0: it must be at least 65536"),
        (
            SqliteOptions { checkpoint_bytes: 0, ..options() },
            "checkpoint_bytes = 0: it must be at least page_bytes",
        ),
        (
            SqliteOptions { busy_timeout: Some(ttl), ..options() },
            "busy_timeout = 20s: it must be shorter than the service's time_to_live",
        ),
        (SqliteOptions { busy_timeout: Some(Duration::MAX), ..options() }, "busy_timeout = "),
    ] {
        let refused = options.open(&path).unwrap_err();
        assert!(matches!(refused, OpenError::Options { .. }), "{refused:?}");
        assert!(refused.to_string().starts_with(text), "{refused}");
        assert!(!path.exists());
    }
    let shortest = SqliteOptions {
        service: Service { time_to_live: Duration::from_millis(100), ..service() },
        busy_timeout: Some(Duration::ZERO),
        cache_bytes: 65_536,
        checkpoint_bytes: 8_192,
        mmap_bytes: u64::MAX,
        ..options()
    };
    drop(shortest.open(&path).unwrap());
}

#[test]
fn a_held_file_is_busy_after_the_configured_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    drop(options().open(&path).unwrap());
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let short = SqliteOptions { busy_timeout: Some(Duration::from_millis(50)), ..options() };
    let refused = short.open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Busy(_)), "{refused}");
}

#[test]
fn of_many_that_open_a_new_file_at_once_one_sets_it_up_and_the_others_wait() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let together = Barrier::new(8);
        thread::scope(|scope| {
            let open = || {
                together.wait();
                options().open(&path).map(drop)
            };
            let opened: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            for opened in opened {
                opened.join().unwrap().unwrap();
            }
        });
        let sql = Connection::open(&path).unwrap();
        let services: i64 =
            sql.query_row("SELECT count(*) FROM whizbang_service", [], |row| row.get(0)).unwrap();
        assert_eq!(services, 1);
    }
}

#[test]
fn hostile_names_are_kept_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a'; DROP TABLE whizbang_run; --", "%_\\\"", "\u{202E}dlrow", "🚀"] {
        let path = directory.path().join("a.db");
        let named = SqliteOptions { service: Service { partitions: 4, ..Service::named(name) }, ..options() };
        let mut one = Instance::join(named.open(&path).unwrap(), 1, name, &[name]);
        one.heartbeat();
        let statistics = block_on(one.store.reader().statistics()).unwrap();
        let known = &statistics.subscriptions[0];
        assert_eq!((&known.group[..], &known.name[..]), (name, name));
    }
    assert!(matches!(SqliteStore::open(directory.path().join("a\0b.db")), Err(OpenError::Path { .. })));
}

#[test]
fn a_dropped_store_leaves_everything_in_the_one_file_although_readers_are_still_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.db");
    let store = SqliteStore::open(&path).unwrap();
    let reader = whizbang_storage::WorkStore::reader(&store);
    let log = directory.path().join("whole.db-wal");
    assert!(log.metadata().unwrap().len() > 0, "the schema was written");
    drop(store);
    assert_eq!(log.metadata().map_or(0, |log| log.len()), 0);
    drop(reader);
}

/// What version 2 has made of the tables of version 1, taken back.
const BACK_TO_1: &str = "
    CREATE TABLE whizbang_head (id INTEGER PRIMARY KEY, heads BLOB NOT NULL) STRICT;
    INSERT INTO whizbang_head
    SELECT (id >> 40 << 8) + (id >> 32 & 255), bytes FROM whizbang_state
    WHERE (id >> 32 & 255) < 255 AND (id & 4294967295) = 0;
    CREATE TABLE whizbang_cursor (id INTEGER PRIMARY KEY, cursors BLOB NOT NULL) STRICT;
    INSERT INTO whizbang_cursor
    SELECT ((id & 4294967295) << 8) + (id >> 32 & 255), bytes FROM whizbang_state
    WHERE (id >> 32 & 255) < 255 AND (id & 4294967295) > 0;
    ALTER TABLE whizbang_instance RENAME TO newer;
    CREATE TABLE whizbang_instance (
        service INTEGER NOT NULL, id BLOB NOT NULL, start_token INTEGER NOT NULL, number INTEGER NOT NULL,
        digest INTEGER NOT NULL, last_seen INTEGER NOT NULL, work_group INTEGER, PRIMARY KEY (service, id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO whizbang_instance
    SELECT i.service, i.id, i.start_token, s.number, s.digest, s.last_seen, i.work_group
    FROM newer AS i JOIN whizbang_state AS s ON s.id = i.state;
    DROP TABLE newer;
    DROP TABLE whizbang_state;
    ALTER TABLE whizbang_run DROP COLUMN bytes;
    UPDATE whizbang_schema SET version = 1;
";

#[test]
fn a_database_of_version_1_is_taken_over_as_it_is() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let path = directory.path().join("a.db");
    // 40 partitions are two rows of heads. Another service and another group lie before the numbers that are looked at.
    let open = |name| {
        let service = Service { partitions: 40, ..Service::named(name) };
        let clock = std::sync::Arc::new(clock.clone());
        SqliteOptions { service, clock, ..SqliteOptions::default() }.open(&path).unwrap()
    };
    drop(Instance::join(open("other"), 9, "g", &["s", "t"]));
    let mut one = Instance::join(open("test"), 1, "g", &["s"]);
    let mut two = Instance::join(open("test"), 2, "h", &["s"]);
    // So much that it lies in a segment, as everything did.
    let payload: &'static [u8] = vec![7; 4_096].leak();
    let (last, stream) = (Partition(39), the_stream_of(Partition(39)));
    let appended = |number| Append { stream: Some(stream), payload, ..command(number, "") };
    one.send(|batch| WorkBatch { appends: batch.keep_all((1..=3).map(appended)), ..batch.empty() });
    assert_eq!(one.read(last, 0).page.len(), 3);
    let settled = one.settled(last, 1, 2);
    one.send(|batch| WorkBatch { settled: batch.keep_settled(vec![settled]), ..batch.empty() });

    Connection::open(&path).unwrap().execute_batch(BACK_TO_1).unwrap();
    drop(open("test"));

    // Both go on with the numbers they had, one with what it had not settled, two from the beginning.
    one.store = open("test");
    two.store = open("test");
    one.heartbeat();
    two.heartbeat();
    let low =
        |of: &Instance| of.told().owned.iter().find(|owned| owned.partition == last).unwrap().cursors[0].low;
    assert_eq!((low(&one), low(&two)), (Position(2), Position(0)));
    let read = one.read(last, 2).page;
    assert_eq!((read.len(), read.get(0).unwrap().payload), (1, payload));
    let stored = one.send(|batch| WorkBatch { appends: batch.keep_all([appended(4)]), ..batch.empty() });
    assert!(matches!(stored.appends[0], AppendAnswer::Stored { position: Position(4), .. }), "{stored:?}");
    assert_eq!(two.read(last, 0).page.len(), 4);
}

fn the_stream_of(partition: Partition) -> StreamId {
    let mut streams = (0..).map(|number: u32| StreamId::from_key(number.to_string()));
    streams.find(|stream| stream.partition(40) == partition).expect("every partition has streams")
}
