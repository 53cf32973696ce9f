//! Measures what an exchange costs that carries nothing, beside what a commit costs by itself.
//!
//! ```text
//! cargo run --release -p whizbang-storage-sqlite --example empty_exchange -- [seconds] [directory]
//! ```
//!
//! *exchange*: `process_work_batch` with an empty batch, which keeps its number and shows that the instance lives.
//! *heartbeat*: the same with the question who owns what. *commit*: `BEGIN IMMEDIATE`, one updated row, `COMMIT`, prepared, in a file with
//! the same settings. *fdatasync*: a page written into a file and synchronised. They take turns, so that all of them meet the
//! same disk. In a directory in memory (`/dev/shm`) the disk costs nothing, and what is left is what the code costs.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::num::NonZeroU128;
use std::path::Path;
use std::time::{Duration, Instant};

use whizbang_storage::*;
use whizbang_storage_sqlite::SqliteStore;

type Failure = Box<dyn std::error::Error>;

/// Calls of one kind before it is the next one's turn.
const TURN: usize = 32;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().map_or(Ok(3.0), |seconds| seconds.parse())?;
    let directory = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let mut instance = Instance::join(&directory.path().join("ours.db"))?;
    let sql = SqliteStore::open(directory.path().join("bare.db"))?.connect()?;
    sql.execute_batch(
        "CREATE TABLE one (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO one VALUES (1, 0);",
    )?;
    let (mut begin, mut commit) = (sql.prepare("BEGIN IMMEDIATE")?, sql.prepare("COMMIT")?);
    let mut update = sql.prepare("UPDATE one SET n = n + 1 WHERE id = 1")?;
    let mut page = File::create(directory.path().join("page"))?;

    let mut kinds = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs_f64(seconds) {
        timed(&mut kinds[0], || instance.exchange(None))?;
        timed(&mut kinds[1], || instance.exchange(Some(Membership::Heartbeat)))?;
        timed(&mut kinds[2], || {
            begin.execute([])?;
            update.execute([])?;
            commit.execute([])?;
            Ok(())
        })?;
        timed(&mut kinds[3], || {
            page.seek(SeekFrom::Start(0))?;
            page.write_all(&[7; 4_096])?;
            Ok(page.sync_data()?)
        })?;
    }
    println!("{} calls of each; median and the middle half, in microseconds", kinds[0].len());
    for (name, times) in ["exchange", "heartbeat", "commit", "fdatasync"].iter().zip(&mut kinds) {
        times.sort_unstable();
        let [low, middle, high] = [1, 2, 3].map(|quarter| micros(times[times.len() * quarter / 4]));
        println!("{name:>10} {middle:>9.1}  ({low:.1} to {high:.1})");
    }
    let [exchange, heartbeat, commit, _] = kinds.map(|times| micros(times[times.len() / 2]));
    println!(
        "an empty exchange takes {:.1} µs more than a commit, a heartbeat {:.1}",
        exchange - commit,
        heartbeat - commit
    );
    Ok(())
}

fn timed(times: &mut Vec<Duration>, mut call: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    for _ in 0..TURN {
        let began = Instant::now();
        call()?;
        times.push(began.elapsed());
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1_000.0
}

/// An instance that is alone at its store.
struct Instance {
    store: SqliteStore,
    runtime: tokio::runtime::Runtime,
    number: u64,
    answer: Answer,
}

impl Instance {
    fn join(path: &Path) -> Result<Self, Failure> {
        let (store, runtime) =
            (SqliteStore::open(path)?, tokio::runtime::Builder::new_current_thread().build()?);
        let mut instance = Self { store, runtime, number: 0, answer: Answer::default() };
        let subscription =
            SubscriptionSpec { name: "s", start: StartAt::First, on_dead: OnDead::Skip, attempts_max: 10 };
        let join = Join { group: Some("g"), subscriptions: &[subscription], types: &[] };
        instance.exchange(Some(Membership::Join(join)))?;
        Ok(instance)
    }

    fn exchange(&mut self, membership: Option<Membership<'_>>) -> Result<(), Failure> {
        self.number += 1;
        let from =
            Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 1, number: self.number };
        let batch = WorkBatch { membership, ..WorkBatch::empty(from) };
        Ok(self.runtime.block_on(self.store.process_work_batch(&batch, &mut self.answer))?)
    }
}
