//! What an engine with little to do takes and costs: single messages through an idle engine, beside what one `fdatasync`
//! takes; the calls and the processor time of an engine that has nothing to do; the memory it holds.
//!
//! ```text
//! idle                                   # on SQLite with synchronous=FULL; a minute and a half
//! idle --watch 10 --messages 200 --json idle.json
//! ```
//!
//! It exits with 3 when something that must hold does not, and with 1 when it could not be measured.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use whizbang::{Command, Context, Engine, Failure, PlainReceptor, dispatcher};
use whizbang_benches::counted::{Calls, Counted};
use whizbang_benches::figures::Figures;
use whizbang_benches::idle::Idle;
use whizbang_benches::machine::Machine;
use whizbang_benches::process::{Usage, resident_bytes};
use whizbang_storage_sqlite::SqliteStore;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What an engine with little to do takes and costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the databases are written; a temporary directory in it, that is.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Messages that go through the idle engine, one at a time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Seconds for which an idle engine is watched.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    watch: u64,
    /// Writes the results as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(idle) if idle.verdicts().iter().all(|verdict| verdict.is_met) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) => {
            eprintln!("idle: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Idle, Failed> {
    let machine = Machine::here();
    let directory = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    // First, while the process has allocated nothing that could be used again.
    let mib_per_engine = memory(directory.path()).await?;
    let (watched, storage_calls, core_share) = watched(directory.path(), arguments.watch).await?;
    let Latencies { fdatasync, durable, started } = latencies(directory.path(), arguments.messages).await?;
    let figures = |micros| Figures::of(micros).ok_or("nothing was measured");
    let idle = Idle {
        machine: machine.at_the_end(),
        fdatasync_micros: figures(fdatasync)?,
        durable_micros: figures(durable)?,
        handler_started_micros: figures(started)?,
        watched_seconds: watched.as_secs_f64(),
        storage_calls,
        core_share,
        engines: ENGINES,
        mib_per_engine,
    };
    print!("{idle}");
    if let Some(path) = &arguments.json {
        let written = std::fs::write(path, serde_json::to_vec_pretty(&idle)?);
        written.map_err(|error| format!("{} was not written: {error}", path.display()))?;
    }
    Ok(idle)
}

const ENGINES: usize = 8;
const STOPPING: Duration = Duration::from_secs(10);

/// MiB for each of some engines, every one on a database of its own.
async fn memory(directory: &Path) -> Result<f64, Failed> {
    let before = resident_bytes()?;
    let mut engines = Vec::new();
    for number in 0..ENGINES {
        let store = SqliteStore::open(directory.join(format!("memory-{number}.db")))?;
        engines.push(Engine::builder(Nothing {}).storage(store).start().await?);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let taken = resident_bytes()?.saturating_sub(before);
    for engine in engines {
        engine.stop(STOPPING).await;
    }
    Ok(taken as f64 / ENGINES as f64 / f64::from(1 << 20))
}

dispatcher! {
    struct Nothing {}
}

/// How long an engine was watched, how often it called its store meanwhile, and the part of a core it took.
async fn watched(directory: &Path, seconds: u64) -> Result<(Duration, u64, f64), Failed> {
    let calls = Arc::new(Calls::default());
    let (engine, _handled) = engine(&directory.join("idle.db"), &calls).await?;
    // What it does when it starts is over by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, usage, begun) = (calls.now(), Usage::now(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (called, used, watched) = (calls.now().since(before), Usage::now().since(usage), begun.elapsed());
    engine.stop(STOPPING).await;
    Ok((watched, called.count, used.cpu.as_secs_f64() / watched.as_secs_f64()))
}

/// Microseconds.
#[derive(Default)]
struct Latencies {
    fdatasync: Vec<f64>,
    durable: Vec<f64>,
    started: Vec<f64>,
}

/// Publishes one message at a time, with a pause before each, in which the disk is asked what it takes.
async fn latencies(directory: &Path, messages: u64) -> Result<Latencies, Failed> {
    let (engine, handled) = engine(&directory.join("latencies.db"), &Arc::default()).await?;
    let mut file = OpenOptions::new().create(true).append(true).open(directory.join("lines"))?;
    let mut latencies = Latencies::default();
    for number in 0..messages + WARM_UP {
        tokio::time::sleep(PAUSE).await;
        let fdatasync = line(&mut file)?;
        tokio::time::sleep(PAUSE).await;
        let sent_at = handled.now();
        engine.send(Tick { number }).await.map_err(|error| error.to_string())?;
        let durable = handled.now() - sent_at;
        let started = handled.wait_for(number).await? - sent_at;
        if number >= WARM_UP {
            latencies.fdatasync.push(fdatasync.as_secs_f64() * 1e6);
            latencies.durable.push(durable as f64 / 1e3);
            latencies.started.push(started as f64 / 1e3);
        }
    }
    engine.stop(STOPPING).await;
    Ok(latencies)
}

/// Messages that are not counted.
const WARM_UP: u64 = 20;
/// Long enough that everything has gone to sleep.
const PAUSE: Duration = Duration::from_millis(5);

/// A line of 100 bytes, until it is on the disk.
fn line(file: &mut File) -> Result<Duration, Failed> {
    let begun = Instant::now();
    file.write_all(&[b'x'; 100])?;
    file.sync_data()?;
    Ok(begun.elapsed())
}

async fn engine(path: &Path, calls: &Arc<Calls>) -> Result<(Engine<App>, Arc<Handled>), Failed> {
    let handled = Arc::new(Handled::new());
    let app = App { ticks: Ticks { handled: Arc::clone(&handled) } };
    let store = Counted::new(SqliteStore::open(path)?, Arc::clone(calls));
    Ok((Engine::builder(app).storage(store).start().await?, handled))
}

#[derive(Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "idle.tick", version = 1, codec = postcard)]
struct Tick {
    #[stream]
    number: u64,
}

struct Ticks {
    handled: Arc<Handled>,
}

impl PlainReceptor<Tick> for Ticks {
    fn receive_now(&self, tick: Tick, _: Context<'_>) -> Result<(), Failure> {
        self.handled.began(tick.number);
        Ok(())
    }
}

dispatcher! {
    struct App { ticks: Ticks }
    command Tick => ticks;
}

/// When the handler of the last message began.
struct Handled {
    begun: Instant,
    /// The message's number, and when its handler began.
    last: watch::Sender<Option<(u64, u64)>>,
}

impl Handled {
    fn new() -> Self {
        Self { begun: Instant::now(), last: watch::Sender::default() }
    }

    /// Nanoseconds on the clock that both sides read.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn began(&self, number: u64) {
        let now = self.now();
        self.last.send_replace(Some((number, now)));
    }

    async fn wait_for(&self, number: u64) -> Result<u64, Failed> {
        let mut last = self.last.subscribe();
        let is_it = |last: &Option<(u64, u64)>| last.is_some_and(|(of, _)| of == number);
        let found = last.wait_for(is_it).await?;
        found.map(|(_, at)| at).ok_or_else(|| "nothing was handled".into())
    }
}
