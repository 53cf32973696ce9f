//! Measures the whole lifecycle of messages in a SQLite file, with a raw floor beside it.
//!
//! ```text
//! cargo run --release -p whizbang-storage-sqlite --example sqlite_batches -- [seconds per row] [directory] [batch size]
//! ```
//!
//! *floor*: plain rusqlite, one table, a row inserted per message and a range deleted per batch, the same file settings.
//! *exchange*: `process_work_batch`: append with hand-out, the ranges of the batch before settled, housekeeping. At the end the
//! database itself is asked whether everything was stored, settled and removed.

use std::num::NonZeroU128;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::params;
use whizbang_storage::*;
use whizbang_storage_sqlite::SqliteStore;

type Failure = Box<dyn std::error::Error>;

/// What one row of the table measures.
#[derive(Clone, Copy)]
struct Load {
    payload_bytes: usize,
    batch: usize,
    streams: usize,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().map_or(Ok(3.0), |seconds| seconds.parse())?;
    let directory = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let lasting = Duration::from_secs_f64(seconds);
    let only: Option<usize> = arguments.next().map(|batch| batch.parse()).transpose()?;
    println!("                        |          floor              |          exchange           |");
    println!(
        "payload  batch  streams |     msg/s  cpu ns/msg  B/msg |     msg/s  cpu ns/msg  B/msg | ratio of msg/s, of cpu"
    );
    for load in [
        load(120, 100, 10_000),
        load(120, 1_000, 10_000),
        load(120, 4_000, 10_000),
        load(120, 4_000, 1),
        load(10_240, 1_000, 10_000),
        load(10_240, 100, 10_000),
    ]
    .into_iter()
    .filter(|load| only.is_none_or(|batch| batch == load.batch))
    {
        let floor = floor(&directory.path().join("floor.db"), load, lasting)?;
        let ours = exchange(&directory.path().join("ours.db"), load, lasting)?;
        println!(
            "{:>7} {:>6} {:>8} | {:>9.0} {:>11.0} {:>6.0} | {:>9.0} {:>11.0} {:>6.0} | {:>5.2} {:>5.2}",
            load.payload_bytes,
            load.batch,
            load.streams,
            floor.rate,
            floor.cpu_nanos,
            floor.bytes,
            ours.rate,
            ours.cpu_nanos,
            ours.bytes,
            ours.rate / floor.rate,
            floor.cpu_nanos / ours.cpu_nanos,
        );
    }
    Ok(())
}

/// What was measured: messages a second, and what each of them cost.
struct Measured {
    rate: f64,
    cpu_nanos: f64,
    bytes: f64,
}

/// A moment from which something is measured.
struct Start {
    at: Instant,
    cpu: Duration,
    written: u64,
}

impl Start {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu(), written: written() }
    }

    fn measured(&self, messages: u64) -> Measured {
        let messages = messages as f64;
        Measured {
            rate: messages / self.at.elapsed().as_secs_f64(),
            cpu_nanos: (cpu() - self.cpu).as_nanos() as f64 / messages,
            bytes: (written() - self.written) as f64 / messages,
        }
    }
}

/// Time this process has spent on processors, where Linux says so.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// Bytes this process has written, where Linux says so.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

fn load(payload_bytes: usize, batch: usize, streams: usize) -> Load {
    Load { payload_bytes, batch, streams }
}

/// Messages a second through one table.
fn floor(path: &Path, load: Load, lasting: Duration) -> Result<Measured, Failure> {
    // A store makes the file, so that page size, log and durability are the same.
    let sql = SqliteStore::open(path)?.connect()?;
    sql.execute_batch("CREATE TABLE message (id INTEGER PRIMARY KEY, stream BLOB, payload BLOB);")?;
    let payload = vec![b'x'; load.payload_bytes];
    let mut insert = sql.prepare("INSERT INTO message (id, stream, payload) VALUES (?1, ?2, ?3)")?;
    let mut delete = sql.prepare("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?;
    let (mut count, started) = (0u64, Start::now());
    while started.at.elapsed() < lasting {
        sql.execute_batch("BEGIN IMMEDIATE")?;
        let first = count + 1;
        for _ in 0..load.batch {
            count += 1;
            let stream = (count % load.streams as u64).to_be_bytes();
            insert.execute(params![count as i64, &stream[..], &payload])?;
        }
        let batch = load.batch as i64;
        delete.execute([first as i64 - batch, first as i64 - 1])?;
        sql.execute_batch("COMMIT")?;
    }
    let measured = started.measured(count);
    drop((insert, delete));
    remove(path)?;
    Ok(measured)
}

/// Messages a second through `process_work_batch`.
fn exchange(path: &Path, load: Load, lasting: Duration) -> Result<Measured, Failure> {
    let mut sender = Bench::join(path)?;
    let payload = vec![b'x'; load.payload_bytes];
    let streams: Vec<StreamId> = (0..load.streams).map(|n| StreamId::from_key(n.to_string())).collect();
    let mut appends: Vec<Append<'_>> = Vec::new();
    let mut settled = Vec::new();
    let mut given = vec![0u64; 128];
    let mut done = vec![0u64; 128];
    let (mut count, started) = (0u64, Start::now());
    while started.at.elapsed() < lasting || count == 0 {
        appends.clear();
        for _ in 0..load.batch {
            count += 1;
            appends.push(message(count, streams[fastrand::usize(..load.streams)], &payload));
        }
        sender.ranges(&given, &mut done, &mut settled);
        sender.send(&appends, &settled)?;
        for (append, answer) in appends.iter().zip(&sender.answer.appends) {
            let AppendAnswer::Stored { position, handed_out: true, .. } = answer else {
                return Err(format!("not handed out: {answer:?}").into());
            };
            let partition = append.lane().partition(128).0 as usize;
            given[partition] = position.0;
        }
    }
    let measured = started.measured(count);
    sender.ranges(&given, &mut done, &mut settled);
    sender.send(&[], &settled)?;
    let statistics = block_on(sender.store.reader().statistics())?;
    let stored: u64 = given.iter().sum();
    if stored != count || statistics.messages != 0 || statistics.subscriptions[0].lag != 0 {
        return Err(format!("{count} sent, {stored} stored, left over: {statistics:?}").into());
    }
    drop(sender);
    remove(path)?;
    Ok(measured)
}

struct Bench {
    store: SqliteStore,
    number: u64,
    subscription: SubscriptionId,
    answer: Answer,
}

impl Bench {
    fn join(path: &Path) -> Result<Self, Failure> {
        let mut bench = Self {
            store: SqliteStore::open(path)?,
            number: 0,
            subscription: SubscriptionId(0),
            answer: Answer::default(),
        };
        let batch = WorkBatch {
            membership: Some(Membership::Join(Join {
                group: Some("g"),
                subscriptions: &[SubscriptionSpec {
                    name: "s",
                    start: StartAt::First,
                    on_dead: OnDead::Skip,
                    attempts_max: 10,
                }],
                types: &[],
            })),
            ..WorkBatch::empty(bench.next())
        };
        block_on(bench.store.process_work_batch(&batch, &mut bench.answer))?;
        let told = bench.answer.membership.as_ref().ok_or("a join is answered")?;
        bench.subscription = told.subscriptions[0];
        Ok(bench)
    }

    fn next(&mut self) -> Sender {
        self.number += 1;
        Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 1, number: self.number }
    }

    fn send(&mut self, appends: &[Append<'_>], settled: &[Settled]) -> Result<(), Failure> {
        let batch =
            WorkBatch { appends, settled, housekeeping: Some(1 << 20), ..WorkBatch::empty(self.next()) };
        Ok(block_on(self.store.process_work_batch(&batch, &mut self.answer))?)
    }

    /// A range for each partition that was given more than is done.
    fn ranges(&self, given: &[u64], done: &mut [u64], settled: &mut Vec<Settled>) {
        settled.clear();
        for (partition, (given, done)) in given.iter().zip(done).enumerate() {
            if *given > *done {
                settled.push(Settled {
                    subscription: self.subscription,
                    partition: Partition(partition as u32),
                    epoch: Epoch(1),
                    first: Position(*done + 1),
                    last: Position(*given),
                });
                *done = *given;
            }
        }
    }
}

fn message<'p>(number: u64, stream: StreamId, payload: &'p [u8]) -> Append<'p> {
    let id = MessageId::from_bits(NonZeroU128::MIN.saturating_add(u128::from(number) << 64));
    Append {
        id,
        stream: Some(stream),
        kind: MessageKind::Command,
        type_name: "bench.message",
        type_version: 1,
        content_type: ContentType::JSON,
        payload,
        correlation: id.into(),
        causation: None,
        metadata: b"",
        dedup: None,
        due_in: None,
        hand_out: HandOut::Now,
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers always starts");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)
}
