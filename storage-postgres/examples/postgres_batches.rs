//! Measures the whole lifecycle of messages in PostgreSQL, with raw floors beside it.
//!
//! ```text
//! cargo run --release -p whizbang-storage-postgres --example postgres_batches -- [seconds per row] [batch size]
//! ```
//!
//! A private server with `fsync` on shares the machine. *arrays*: one `INSERT … SELECT FROM unnest` and one range `DELETE` per
//! batch, one round trip each; *copy*: `COPY` instead of the insert. *exchange*: `process_work_batch`: append with hand-out, the ranges of
//! the batch before settled, housekeeping. At the end the database itself is asked whether everything was stored, settled and
//! removed.

use std::num::NonZeroU128;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use tokio_postgres::NoTls;
use whizbang_postgres_cluster::{Cluster, Options};
use whizbang_storage::*;
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

type Failure = Box<dyn std::error::Error>;

/// What one row of the table measures.
#[derive(Clone, Copy)]
struct Load {
    payload_bytes: usize,
    batch: usize,
    streams: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().map_or(Ok(3.0), |seconds| seconds.parse())?;
    let only: Option<usize> = arguments.next().map(|batch| batch.parse()).transpose()?;
    let lasting = Duration::from_secs_f64(seconds);
    let cluster = Cluster::start(Options { fsync: true, ..Options::default() })?;
    let url = cluster.url();
    println!(
        "payload  batch  streams | arrays msg/s |   copy msg/s | exchange msg/s  cpu ns/msg here | ratio"
    );
    let loads = [
        load(120, 100, 10_000),
        load(120, 1_000, 10_000),
        load(120, 4_000, 10_000),
        load(120, 4_000, 1),
        load(10_240, 100, 10_000),
    ];
    for (row, load) in
        loads.into_iter().enumerate().filter(|(_, load)| only.is_none_or(|batch| batch == load.batch))
    {
        let arrays = floor(&url, load, lasting, Floor::Arrays).await?;
        let copy = floor(&url, load, lasting, Floor::Copy).await?;
        let (ours, cpu) = exchange(&url, &format!("lifecycle_{row}"), load, lasting).await?;
        println!(
            "{:>7} {:>6} {:>8} | {:>12.0} | {:>12.0} | {:>14.0} {:>16.0} | {:>5.2}",
            load.payload_bytes,
            load.batch,
            load.streams,
            arrays,
            copy,
            ours,
            cpu,
            ours / arrays
        );
    }
    one(&url, lasting).await
}

fn load(payload_bytes: usize, batch: usize, streams: usize) -> Load {
    Load { payload_bytes, batch, streams }
}

#[derive(Clone, Copy, PartialEq)]
enum Floor {
    Arrays,
    Copy,
}

/// Messages a second through one table.
async fn floor(url: &str, load: Load, lasting: Duration, how: Floor) -> Result<f64, Failure> {
    let (mut sql, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    sql.batch_execute(
        "DROP TABLE IF EXISTS floor; CREATE TABLE floor (id bigint PRIMARY KEY, stream bytea NOT NULL, payload bytea NOT NULL)",
    )
    .await?;
    let insert =
        sql.prepare("INSERT INTO floor SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])").await?;
    let delete = sql.prepare("DELETE FROM floor WHERE id BETWEEN $1 AND $2").await?;
    let payload = vec![b'x'; load.payload_bytes];
    let (mut count, started) = (0i64, Instant::now());
    while started.elapsed() < lasting {
        let first = count + 1;
        let ids: Vec<i64> = (first..first + load.batch as i64).collect();
        count += load.batch as i64;
        let streams: Vec<[u8; 8]> = ids.iter().map(|id| (id % load.streams as i64).to_be_bytes()).collect();
        let transaction = sql.transaction().await?;
        match how {
            Floor::Arrays => {
                let streams: Vec<&[u8]> = streams.iter().map(|stream| &stream[..]).collect();
                let payloads: Vec<&[u8]> = ids.iter().map(|_| &payload[..]).collect();
                transaction.execute(&insert, &[&ids, &streams, &payloads]).await?;
            }
            Floor::Copy => {
                let copy = transaction.copy_in("COPY floor FROM STDIN BINARY").await?;
                let mut bytes = Vec::with_capacity(load.batch * (load.payload_bytes + 40));
                bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
                for (id, stream) in ids.iter().zip(&streams) {
                    bytes.extend_from_slice(&3i16.to_be_bytes());
                    for field in [&id.to_be_bytes()[..], &stream[..], &payload[..]] {
                        bytes.extend_from_slice(&(field.len() as i32).to_be_bytes());
                        bytes.extend_from_slice(field);
                    }
                }
                bytes.extend_from_slice(&(-1i16).to_be_bytes());
                futures_util::pin_mut!(copy);
                copy.send(std::io::Cursor::new(bytes)).await?;
                copy.finish().await?;
            }
        }
        transaction.execute(&delete, &[&(first - load.batch as i64), &(first - 1)]).await?;
        transaction.commit().await?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Messages a second through `process_work_batch`, and what each costs this process.
async fn exchange(url: &str, schema: &str, load: Load, lasting: Duration) -> Result<(f64, f64), Failure> {
    let mut sender = Bench::join(url, schema).await?;
    let payload = vec![b'x'; load.payload_bytes];
    let streams: Vec<StreamId> = (0..load.streams).map(|n| StreamId::from_key(n.to_string())).collect();
    let mut appends: Vec<Append<'_>> = Vec::new();
    let mut settled = Vec::new();
    let mut given = vec![0u64; 128];
    let mut done = vec![0u64; 128];
    let (mut count, started, cpu_before) = (0u64, Instant::now(), cpu());
    while started.elapsed() < lasting || count == 0 {
        appends.clear();
        for _ in 0..load.batch {
            count += 1;
            appends.push(message(count, streams[fastrand::usize(..load.streams)], &payload));
        }
        sender.ranges(&given, &mut done, &mut settled);
        sender.send(&appends, &settled).await?;
        for (append, answer) in appends.iter().zip(&sender.answer.appends) {
            let AppendAnswer::Stored { position, handed_out: true, .. } = answer else {
                return Err(format!("not handed out: {answer:?}").into());
            };
            given[append.lane().partition(128).0 as usize] = position.0;
        }
    }
    let elapsed = started.elapsed();
    let each = (cpu() - cpu_before).as_nanos() as f64 / count as f64;
    sender.ranges(&given, &mut done, &mut settled);
    sender.send(&[], &settled).await?;
    let statistics = sender.store.reader().statistics().await?;
    let stored: u64 = given.iter().sum();
    if stored != count || statistics.messages != 0 || statistics.subscriptions[0].lag != 0 {
        return Err(format!("{count} sent, {stored} stored, left over: {statistics:?}").into());
    }
    Ok((count as f64 / elapsed.as_secs_f64(), each))
}

/// What a batch of one message costs, beside the simplest possible transaction.
async fn one(url: &str, lasting: Duration) -> Result<(), Failure> {
    let mut sender = Bench::join(url, "lifecycle_one").await?;
    let stream = StreamId::from_key("one");
    let (sql, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    sql.batch_execute(
        "DROP TABLE IF EXISTS simplest; CREATE TABLE simplest (id bigint PRIMARY KEY, payload bytea)",
    )
    .await?;
    let insert = sql.prepare("INSERT INTO simplest VALUES ($1, $2)").await?;
    let payload = vec![b'x'; 120];
    let (mut ours, mut simplest, started, mut count) = (Vec::new(), Vec::new(), Instant::now(), 0u64);
    // In turns, so that both see the same disk.
    while started.elapsed() < lasting * 2 {
        count += 1;
        let began = Instant::now();
        sender.send(&[message(count, stream, &payload)], &[]).await?;
        ours.push(began.elapsed());
        let began = Instant::now();
        sql.execute(&insert, &[&(count as i64), &payload]).await?;
        simplest.push(began.elapsed());
    }
    ours.sort_unstable();
    simplest.sort_unstable();
    let median = |sorted: &[Duration]| sorted[sorted.len() / 2];
    println!(
        "batch of one, median of {count}: exchange {:?}, one inserted row {:?}, ratio {:.2}",
        median(&ours),
        median(&simplest),
        median(&ours).as_secs_f64() / median(&simplest).as_secs_f64()
    );
    Ok(())
}

struct Bench {
    store: PostgresStore,
    number: u64,
    subscription: SubscriptionId,
    answer: Answer,
}

impl Bench {
    async fn join(url: &str, schema: &str) -> Result<Self, Failure> {
        let options = PostgresOptions { schema: schema.to_owned(), ..PostgresOptions::from_url(url)? };
        options.migrate().await?;
        let mut bench = Self {
            store: options.open().await?,
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
        bench.store.process_work_batch(&batch, &mut bench.answer).await?;
        let told = bench.answer.membership.as_ref().ok_or("a join is answered")?;
        bench.subscription = told.subscriptions[0];
        Ok(bench)
    }

    fn next(&mut self) -> Sender {
        self.number += 1;
        Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 1, number: self.number }
    }

    async fn send(&mut self, appends: &[Append<'_>], settled: &[Settled]) -> Result<(), Failure> {
        let batch =
            WorkBatch { appends, settled, housekeeping: Some(1 << 20), ..WorkBatch::empty(self.next()) };
        Ok(self.store.process_work_batch(&batch, &mut self.answer).await?)
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

/// Time this process has spent on processors, where Linux says so.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
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
