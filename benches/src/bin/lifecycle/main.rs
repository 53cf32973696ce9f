//! Sends messages through their whole life, and stops the clock by what the store says.
//!
//! ```text
//! lifecycle --store sqlite:PATH --messages 1000000 --payload 120
//! lifecycle --store memory --producers 2 --streams 100000
//! lifecycle --store sqlite:PATH --rate 20000 --duration 30     # latencies below saturation
//! lifecycle --store memory --fail 1%                           # one in a hundred fails the first time
//! lifecycle --store postgres:private                           # a server of its own, gone afterwards
//! ```
//!
//! It checks as it goes that every message is handled, once and in order per stream, and that nothing is left; it exits
//! with an error when that is not so. With `--features count-allocations` it counts allocations, which takes time.
#![forbid(unsafe_code)]

mod counted;
mod load;
mod produce;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use whizbang::{Engine, MemoryStore, Options, Service};
use whizbang_benches::lifecycle::{Latency, Lifecycle};
use whizbang_benches::machine::Machine;
use whizbang_benches::process::Usage;
use whizbang_storage::WorkStore;
use whizbang_storage_sqlite::SqliteStore;

use crate::counted::{Calls, Counted};
use crate::load::{Bench, Ledger};

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
    #[arg(long)]
    messages: Option<u64>,
    /// Bytes of payload; 0 sends a plain message of 64 bytes.
    #[arg(long, default_value_t = 120)]
    payload: usize,
    /// Over how many streams they are spread.
    #[arg(long, default_value_t = 1_000)]
    streams: u64,
    /// Producers, each with a ring of its own.
    #[arg(long, default_value_t = 1)]
    producers: u64,
    /// Tasks that run handlers; 0: one per core.
    #[arg(long, default_value_t = 0)]
    handlers: usize,
    /// Messages a second, all producers together; without it, as fast as it goes.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds of sending.
    #[arg(long)]
    duration: Option<f64>,
    /// The part of all messages that fails the first time, as `1%` or `0.01`.
    #[arg(long, default_value = "0", value_parser = part)]
    fail: f64,
    /// Writes the results as JSON to this file, or to standard output.
    #[arg(long, num_args = 0..=1, default_missing_value = "-", value_name = "FILE")]
    json: Option<PathBuf>,
}

fn part(text: &str) -> Result<f64, String> {
    let (number, of) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let part = number.trim().parse::<f64>().map_err(|error| error.to_string())? / of;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("a part is between 0 and 1".to_owned()) }
}

/// What is sent without `--messages` and `--duration`.
const MESSAGES: u64 = 1_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match store_and_run(&arguments).await.and_then(|result| print(&arguments, result)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn store_and_run(arguments: &Arguments) -> Result<Lifecycle, Failed> {
    if arguments.streams == 0 || arguments.producers == 0 || arguments.rate.is_some_and(|rate| rate <= 0.0) {
        return Err("streams, producers and rate are at least one".into());
    }
    match arguments.store.split_once(':') {
        None if arguments.store == "memory" => {
            run("memory", MemoryStore::new(Service::default())?, arguments).await
        }
        Some(("sqlite", path)) => run("sqlite", SqliteStore::open(path)?, arguments).await,
        #[cfg(feature = "postgres")]
        Some(("postgres", "private")) => {
            let cluster = whizbang_postgres_cluster::Cluster::start(Default::default())?;
            run_on_postgres(&cluster.url(), arguments).await
        }
        #[cfg(feature = "postgres")]
        Some(("postgres", url)) => run_on_postgres(url, arguments).await,
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
    run("postgres", options.open().await?, arguments).await
}

/// Whether everything was right.
fn print(arguments: &Arguments, result: Lifecycle) -> Result<bool, Failed> {
    match arguments.json.as_deref() {
        Some(path) if path.as_os_str() == "-" => println!("{}", serde_json::to_string_pretty(&result)?),
        Some(path) => std::fs::write(path, serde_json::to_vec_pretty(&result)?)?,
        None => {}
    }
    if arguments.json.as_deref().is_none_or(|path| path.as_os_str() != "-") {
        print!("{result}");
    }
    Ok(result.wrong.is_empty())
}

async fn run<S: WorkStore>(name: &str, store: S, arguments: &Arguments) -> Result<Lifecycle, Failed> {
    let machine = Machine::here();
    let calls = Arc::new(Calls::default());
    let store = Counted::new(store, Arc::clone(&calls));
    let Arguments { streams, producers, .. } = *arguments;
    let ledger = Arc::new(Ledger::new(streams, producers, arguments.fail));
    let handlers = match arguments.handlers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let options = Options {
        workers: handlers,
        publishers_max: usize::try_from(producers)?.max(16),
        ..Options::default()
    };
    let bench = Bench::new(Arc::clone(&ledger));
    let engine = Engine::builder(bench).storage(store).options(options).start().await?;
    let messages_max = arguments.messages.unwrap_or(match arguments.duration {
        Some(_) => u64::MAX,
        None => MESSAGES,
    });

    let watching = watch::begin(&engine, &ledger, messages_max);
    let usage = Usage::now();
    let calls_before = calls.now();
    let allocations = allocations();
    let begun = ledger.begin();
    let plan = produce::Plan {
        messages: messages_max / producers,
        until: arguments.duration.map(|seconds| begun + Duration::from_secs_f64(seconds)),
        every: arguments.rate.map(|rate| Duration::from_secs_f64(producers as f64 / rate)),
        payload_bytes: arguments.payload,
    };
    let producing: Vec<_> = (0..producers)
        .map(|number| tokio::spawn(produce::produce(engine.clone(), Arc::clone(&ledger), plan, number)))
        .collect();
    let mut produced = produce::Produced::new();
    for producing in producing {
        produced.add(&producing.await??);
    }
    let durable_after = begun.elapsed();
    watching.stop_probing();
    ledger.wait_until_handled(produced.sent).await;
    let left = watch::wait_until_settled(&engine).await?;
    let settled_after = begun.elapsed();

    let usage = Usage::now().since(usage);
    let called = calls.now().since(calls_before);
    let allocated = allocations.zip(self::allocations()).map(|(before, after)| after - before);
    let settled = watching.end().await?;
    let per_second = |took: Duration| produced.sent as f64 / took.as_secs_f64();
    let mut wrong = ledger.wrong();
    wrong.extend(left.wrong());
    let result = Lifecycle {
        machine: machine.at_the_end(),
        store: name.to_owned(),
        messages: produced.sent,
        payload_bytes: arguments.payload,
        streams,
        producers,
        handlers,
        rate: arguments.rate,
        fail: arguments.fail,
        durable_per_second: per_second(durable_after),
        settled_per_second: per_second(settled_after),
        seconds: settled_after.as_secs_f64(),
        accepted: Latency::from(&produced.accepted),
        durable: Latency::from(&produced.durable),
        handler_started: Latency::from(&ledger.started()),
        settled: Latency::from(&settled),
        storage_calls: called.count,
        storage_seconds: called.nanos as f64 / 1e9,
        bytes_written: usage.written,
        rows_left: left.rows,
        allocations_per_message: allocated.map(|count| count as f64 / produced.sent.max(1) as f64),
        cpu_seconds: usage.cpu.as_secs_f64(),
        wrong,
    };
    engine.stop(Duration::from_secs(10)).await;
    Ok(result)
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
