//! Sends messages through their whole life, and stops the clock by what the store says.
//!
//! ```text
//! lifecycle --store sqlite:PATH --messages 1000000 --payload 120
//! lifecycle --store memory --producers 2 --streams 100000
//! lifecycle --store sqlite:PATH --rate 20000 --duration 30     # latencies below saturation
//! lifecycle --store memory --fail 1%                           # one in a hundred fails the first time
//! lifecycle --store memory --batch 100 --instances 2           # small exchanges, two engines on one store
//! lifecycle --store memory --backlog --messages 10000000       # all is stored before the first is handled
//! lifecycle --store postgres:private                           # a server of its own, gone afterwards
//! ```
//!
//! It checks as it goes that every message is handled, once and in order per stream, and that nothing is left; it exits
//! with an error when that is not so. With `--features count-allocations` it counts allocations, which takes time.
#![forbid(unsafe_code)]

mod load;
mod produce;
mod run;
mod watch;
mod written;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use whizbang::{MemoryStore, Service};
use whizbang_benches::lifecycle::Lifecycle;
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

use crate::run::run;
use crate::written::Written;

/// Counts what is allocated, when that was asked for.
#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Send → durable → handled → settled, measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// `memory`, `sqlite:PATH`, `postgres:URL` or `postgres:private`.
    #[arg(long, default_value = "memory")]
    store: String,
    /// How many messages; with a duration, at most so many.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Bytes of payload; 0 sends a plain message of 64 bytes.
    #[arg(long, default_value_t = 120)]
    payload: usize,
    /// Over how many streams they are spread; each producer has some of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=STREAMS_MAX))]
    streams: u64,
    /// Producers, each with a ring of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    producers: u64,
    /// Tasks that run handlers, in each engine; 0: one per core.
    #[arg(long, default_value_t = 0, value_parser = at_most_1024)]
    handlers: usize,
    /// Engines that share the store and the work; producers take turns with them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    instances: u64,
    /// Messages that one exchange takes in at most; without it, the engine's default.
    #[arg(long)]
    batch: Option<usize>,
    /// Messages a second, all producers together; without it, as fast as it goes.
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Seconds of sending.
    #[arg(long, value_parser = positive)]
    duration: Option<f64>,
    /// The part of all messages that fails the first time, as `1%` or `0.01`.
    #[arg(long, default_value = "0", value_parser = part)]
    fail: f64,
    /// Handles nothing until all is durable: what is settled a second is then the speed at which a backlog goes.
    #[arg(long)]
    backlog: bool,
    /// Writes the results as JSON to this file, or to standard output.
    #[arg(long, num_args = 0..=1, default_missing_value = "-", value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The ledger keeps 16 bytes for each.
const STREAMS_MAX: u64 = 100_000_000;

fn part(text: &str) -> Result<f64, String> {
    let (number, of) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let part = number.trim().parse::<f64>().map_err(|error| error.to_string())? / of;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("a part is between 0 and 1".to_owned()) }
}

/// A rate or a time: at least a thousandth, and no more than a clock can tell.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.001..=1e9).contains(&number) { Ok(number) } else { Err("it is between 0.001 and 10⁹".to_owned()) }
}

fn at_most_1024(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().map_err(|error| error.to_string())?;
    if number <= 1_024 { Ok(number) } else { Err("at most 1,024".to_owned()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match store_and_run(&arguments).await.and_then(|result| print(&arguments, result)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lifecycle: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Opens the store once for each instance.
async fn store_and_run(arguments: &Arguments) -> Result<Lifecycle, Failed> {
    let others = 1..arguments.instances;
    match arguments.store.split_once(':') {
        None if arguments.store == "memory" => {
            let first = MemoryStore::new(Service::default())?;
            let database = first.database();
            let others = others.map(|_| database.open(Service::default())).collect::<Result<Vec<_>, _>>()?;
            run("memory", first, others, arguments, Written::Process).await
        }
        Some(("sqlite", path)) if !path.is_empty() => {
            let first = SqliteStore::open(path)?;
            let others = others.map(|_| first.beside(SqliteOptions::default())).collect::<Result<Vec<_>, _>>()?;
            run("sqlite", first, others, arguments, Written::Process).await
        }
        #[cfg(feature = "postgres")]
        Some(("postgres", "private")) => {
            let cluster = whizbang_postgres_cluster::Cluster::start(Default::default())?;
            run_on_postgres(&cluster.url(), arguments).await
        }
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", url)) => run_on_postgres(url, arguments).await,
        _ => Err(format!(
            "unknown store {:?}: `memory`, `sqlite:PATH`, `postgres:URL` or `postgres:private` (with --features postgres)",
            arguments.store
        )
        .into()),
    }
}

#[cfg(feature = "postgres")]
async fn run_on_postgres(url: &str, arguments: &Arguments) -> Result<Lifecycle, Failed> {
    // Users write `postgres:URL`, and the URL's own scheme may be left out of it.
    let url = if url.contains("://") { url.to_owned() } else { format!("postgres:{url}") };
    let options = whizbang_storage_postgres::PostgresOptions::from_url(&url)?;
    options.migrate().await?;
    let mut others = Vec::new();
    for _ in 1..arguments.instances {
        others.push(options.clone().open().await?);
    }
    let written = Written::Wal(written::Wal::connect(&url).await?);
    run("postgres", options.open().await?, others, arguments, written).await
}

/// Whether everything was right.
fn print(arguments: &Arguments, result: Lifecycle) -> Result<bool, Failed> {
    match arguments.json.as_deref() {
        Some(path) if path.as_os_str() == "-" => println!("{}", serde_json::to_string_pretty(&result)?),
        Some(path) => {
            let written = std::fs::write(path, serde_json::to_vec_pretty(&result)?);
            written.map_err(|error| format!("{} was not written: {error}", path.display()))?;
        }
        None => {}
    }
    if arguments.json.as_deref().is_none_or(|path| path.as_os_str() != "-") {
        print!("{result}");
    }
    Ok(result.wrong.is_empty())
}

#[cfg(feature = "count-allocations")]
fn allocations() -> Option<usize> {
    let stats = ALLOCATOR.stats();
    Some(stats.allocations + stats.reallocations)
}

#[cfg(not(feature = "count-allocations"))]
fn allocations() -> Option<usize> {
    None
}

/// Nanoseconds from `begun` to now.
fn nanos_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
