//! What disk and databases can do at best: what the stores are measured against.
//!
//! ```text
//! floors                         # fdatasync, SQLite, and PostgreSQL on a server of its own
//! floors --directory /data --seconds 3 --json floors.json
//! floors --without-postgres
//! ```
//!
//! A row is inserted and, with its batch, deleted by a range in the transaction after the next: that is the least that a
//! queue can do. SQLite with `synchronous=FULL`, PostgreSQL with `fsync` on, one connection each.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rusqlite::{Connection, params};
use whizbang_benches::figures::Figures;
use whizbang_benches::floors::{FloorRow, Floors};
use whizbang_benches::machine::Machine;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What disk and databases can do at best.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where files are written; a temporary directory in it, that is.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Seconds for each row.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Bytes of payload in a row.
    #[arg(long, default_value_t = 120)]
    payload: usize,
    /// Leaves PostgreSQL out.
    #[arg(long)]
    without_postgres: bool,
    /// Writes the results as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.01..=3_600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("it is between 0.01 and 3,600".to_owned())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floors: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failed> {
    let machine = Machine::here();
    let directory = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let lasting = Duration::from_secs_f64(arguments.seconds);
    let fdatasync_micros = fdatasync(&directory.path().join("lines"), lasting)?;
    println!("fdatasync of one line: p50 {:.0} µs, p99 {:.0} µs", fdatasync_micros.p50, fdatasync_micros.p99);
    let mut rows = Vec::new();
    let mut push = |way: &str, batch: usize, per_second: f64| {
        println!("{way:<36} {batch:>6} rows a transaction {per_second:>10.0} rows/s");
        let payload_bytes = arguments.payload;
        rows.push(FloorRow { way: way.to_owned(), batch, payload_bytes, per_second });
    };
    for batch in BATCHES {
        let path = directory.path().join(format!("floor-{batch}.db"));
        push("SQLite insert + range delete", batch, sqlite(&path, batch, arguments.payload, lasting)?);
    }
    if !arguments.without_postgres {
        postgres(arguments.payload, lasting, &mut push).await?;
    }
    let Some(path) = &arguments.json else { return Ok(()) };
    let floors = Floors { machine: machine.at_the_end(), fdatasync_micros, rows };
    let written = std::fs::write(path, serde_json::to_vec_pretty(&floors)?);
    Ok(written.map_err(|error| format!("{} was not written: {error}", path.display()))?)
}

/// Rows in one transaction.
const BATCHES: [usize; 6] = [1, 10, 100, 1_000, 4_096, 16_384];

/// Lines of 100 bytes, each on the disk before the next.
fn fdatasync(path: &Path, lasting: Duration) -> Result<Figures, Failed> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let (begun, mut micros) = (Instant::now(), Vec::new());
    while begun.elapsed() < lasting || micros.is_empty() {
        let begun = Instant::now();
        file.write_all(&[b'x'; 100])?;
        file.sync_data()?;
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Figures::of(micros).ok_or_else(|| "nothing was measured".into())
}

fn sqlite(path: &Path, batch: usize, payload_bytes: usize, lasting: Duration) -> Result<f64, Failed> {
    let sql = Connection::open(path)?;
    sql.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536;
         PRAGMA wal_autocheckpoint = 8192;
         CREATE TABLE message (id INTEGER PRIMARY KEY, stream BLOB, payload BLOB);",
    )?;
    let payload = vec![b'x'; payload_bytes];
    let mut insert = sql.prepare("INSERT INTO message (id, stream, payload) VALUES (?1, ?2, ?3)")?;
    let mut delete = sql.prepare("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?;
    let (begun, mut count) = (Instant::now(), 0_i64);
    while begun.elapsed() < lasting {
        sql.execute_batch("BEGIN IMMEDIATE")?;
        let first = count + 1;
        for _ in 0..batch {
            count += 1;
            insert.execute(params![count, &(count % 1_000).to_be_bytes()[..], &payload])?;
        }
        delete.execute([first - batch as i64, first - 1])?;
        sql.execute_batch("COMMIT")?;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_: usize, _: Duration, _: &mut impl FnMut(&str, usize, f64)) -> Result<(), Failed> {
    Err("built without PostgreSQL: say --without-postgres, or build with --features postgres".into())
}

#[cfg(feature = "postgres")]
async fn postgres(
    payload_bytes: usize,
    lasting: Duration,
    push: &mut impl FnMut(&str, usize, f64),
) -> Result<(), Failed> {
    use whizbang_postgres_cluster::{Cluster, Options};

    let cluster = Cluster::start(Options::default())?;
    let (mut client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE message (id bigint PRIMARY KEY, stream bytea, payload bytea)").await?;
    for batch in BATCHES {
        let rate = on_postgres::arrays(&client, batch, payload_bytes, lasting).await?;
        push("PostgreSQL arrays + range delete", batch, rate);
        client.batch_execute("TRUNCATE message").await?;
        let rate = on_postgres::copy(&mut client, batch, payload_bytes, lasting).await?;
        push("PostgreSQL COPY + range delete", batch, rate);
        client.batch_execute("TRUNCATE message").await?;
    }
    drop(client);
    connection.await??;
    Ok(())
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use std::pin::pin;
    use std::time::{Duration, Instant};

    use tokio_postgres::Client;
    use tokio_postgres::binary_copy::BinaryCopyInWriter;
    use tokio_postgres::types::{ToSql, Type};

    use crate::Failed;

    /// One statement: the rows as arrays, and the range before them deleted.
    pub(crate) async fn arrays(
        client: &Client,
        batch: usize,
        payload_bytes: usize,
        lasting: Duration,
    ) -> Result<f64, Failed> {
        let statement = client
            .prepare(
                "WITH gone AS (DELETE FROM message WHERE id BETWEEN $4 AND $5)
                 INSERT INTO message (id, stream, payload)
                 SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])",
            )
            .await?;
        let payload = vec![b'x'; payload_bytes];
        let payloads = vec![payload.as_slice(); batch];
        let (begun, mut count) = (Instant::now(), 0_i64);
        while begun.elapsed() < lasting {
            let ids: Vec<i64> = (count + 1..=count + batch as i64).collect();
            let streams: Vec<[u8; 8]> = ids.iter().map(|id| (id % 1_000).to_be_bytes()).collect();
            let streams: Vec<&[u8]> = streams.iter().map(|stream| &stream[..]).collect();
            let (from, to) = (count + 1 - batch as i64, count);
            client.execute(&statement, &[&ids, &streams, &payloads, &from, &to]).await?;
            count += batch as i64;
        }
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    /// A transaction: the rows through `COPY … BINARY`, and the range before them deleted.
    pub(crate) async fn copy(
        client: &mut Client,
        batch: usize,
        payload_bytes: usize,
        lasting: Duration,
    ) -> Result<f64, Failed> {
        let delete = client.prepare("DELETE FROM message WHERE id BETWEEN $1 AND $2").await?;
        let payload = vec![b'x'; payload_bytes];
        let (begun, mut count) = (Instant::now(), 0_i64);
        while begun.elapsed() < lasting {
            let transaction = client.transaction().await?;
            let (from, to) = (count + 1 - batch as i64, count);
            transaction.execute(&delete, &[&from, &to]).await?;
            let sink = transaction.copy_in("COPY message (id, stream, payload) FROM STDIN BINARY").await?;
            let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT8, Type::BYTEA, Type::BYTEA]));
            for _ in 0..batch {
                count += 1;
                let stream = (count % 1_000).to_be_bytes();
                let row: [&(dyn ToSql + Sync); 3] = [&count, &&stream[..], &payload];
                writer.as_mut().write(&row).await?;
            }
            writer.finish().await?;
            transaction.commit().await?;
        }
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }
}
