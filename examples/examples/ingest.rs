//! Takes in webhook deliveries from a file, each of them once, in order per repository, whatever happens to the process.
//!
//! ```text
//! cargo run --release --example ingest -- examples/data/deliveries.jsonl --db webhooks.db
//! ```
//!
//! Every line is a JSON object: `delivery` (its id), `event`, `action`, `repository` and `payload`. It is sent as a command
//! under its delivery's id as the key, so that a line that was read before is a duplicate and nothing else; it is
//! durable before the program says so. The command's receptor publishes an event, whose receptor counts deliveries in a
//! projection of the repository. The event, the count and the fact that the message is done are one atomic unit: kill
//! the process when you like and start it again, and the counts will be as if nothing had happened.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use whizbang::{
    Accepted, Command, Context, EmitOptions, Engine, Event, Failure, NotStored, Options, PlainReceptor,
    Projection, Receptor, SendError, Service, State, StoreReader, dispatcher,
};
use whizbang_examples::deliveries::Delivery;
use whizbang_examples::source::{Extent, Found, Source};
use whizbang_examples::table::Table;
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

// ---- messages, receptors, state --------------------------------------------------------------------------------------

/// A delivery as it came in. Gone from the database as soon as it is handled.
#[derive(Serialize, Deserialize, Command)]
#[message(name = "webhooks.accept", version = 1, codec = postcard)]
struct AcceptDelivery {
    delivery: String,
    event: String,
    action: Option<String>,
    #[stream]
    repository: String,
    payload: String,
}

/// What is kept of a delivery.
#[derive(Serialize, Deserialize, Event)]
#[message(name = "webhooks.delivered", version = 1)]
struct Delivered {
    delivery: String,
    event: String,
    action: Option<String>,
    #[stream]
    repository: String,
    payload_bytes: usize,
}

/// How many deliveries of each event a repository had.
#[derive(Serialize, Deserialize)]
struct Counts {
    repository: String,
    deliveries: BTreeMap<String, u64>,
}

impl Projection for Counts {
    const NAME: &'static str = "webhooks.counts";
}

struct Inbox;

impl PlainReceptor<AcceptDelivery> for Inbox {
    fn receive_now(&self, accepted: AcceptDelivery, mut cx: Context<'_>) -> Result<(), Failure> {
        let AcceptDelivery { delivery, event, action, repository, payload } = accepted;
        cx.publish(&Delivered { delivery, event, action, repository, payload_bytes: payload.len() })?;
        Ok(())
    }
}

struct Counter;

impl Receptor<Delivered> for Counter {
    async fn receive(&self, delivered: Delivered, mut cx: Context<'_>) -> Result<(), Failure> {
        let Delivered { event, repository, .. } = delivered;
        let counts = cx.load::<Counts>().await?;
        let mut counts = counts.unwrap_or_else(|| Counts { repository, deliveries: BTreeMap::new() });
        *counts.deliveries.entry(event).or_default() += 1;
        cx.save(&counts)?;
        Ok(())
    }
}

dispatcher! {
    struct Webhooks { inbox: Inbox, counter: Counter }
    command AcceptDelivery => inbox;
    event Delivered => counter;
}

// ---- the program -----------------------------------------------------------------------------------------------------

/// Takes in webhook deliveries, a JSON object a line, each of them once.
///
/// The same file again changes nothing. Killed at any moment and started again, it goes on where it was. Several
/// processes may share one database.
#[derive(Parser)]
#[command(
    after_help = "Exit code: 0 when everything was taken in, 1 when it could not go on (start it again), \
    2 for wrong arguments, 3 when lines were skipped or deliveries failed for good."
)]
struct Arguments {
    /// The deliveries; `-` reads standard input.
    #[arg(value_name = "FILE.jsonl", default_value = "-")]
    input: PathBuf,

    /// The SQLite database; created if there is none.
    #[arg(long, value_name = "PATH")]
    db: PathBuf,

    /// Read the file so many times; from the second time on, `#2`, `#3`, … is appended to the ids of its deliveries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: Option<u64>,

    /// Stop after so many deliveries; without `--repeat`, the file is read as often as that takes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// After so many milliseconds of silence another run takes over the work of one that was killed. The same for all
    /// runs on one database.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    time_to_live: u64,

    /// Give up when the database could not be written for so many seconds.
    #[arg(long, value_name = "S", default_value_t = 10)]
    patience: u64,
}

/// Deliveries that may be on their way to the disk at once; their bytes are bounded by the engine's rings.
const IN_FLIGHT_MAX: usize = 4_096;

/// Under which name deliveries without a repository are counted.
const NO_REPOSITORY: &str = "(none)";

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Failed::from).and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(outcome) if outcome.skipped == 0 && outcome.dead == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) => {
            eprintln!("ingest: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Outcome, Failed> {
    let mut source = Source::open(&arguments.input, arguments.repeat, arguments.count)?;
    let store = SqliteOptions {
        service: Service {
            time_to_live: Duration::from_millis(arguments.time_to_live),
            ..Service::named("webhooks")
        },
        ..SqliteOptions::default()
    }
    .open(&arguments.db)?;
    let engine = start(store).await?;
    let progress = progress(source.extent());

    let started = Instant::now();
    let taken_in = async {
        let mut outcome = take_in(&engine, &mut source, &progress).await?;
        outcome.dead = everything_handled(&engine, &progress).await?;
        Ok::<_, Failed>(outcome)
    };
    let outcome = tokio::select! {
        outcome = taken_in => outcome?,
        why = trouble(&engine, &progress, Duration::from_secs(arguments.patience)) => return Err(why),
    };
    let took = started.elapsed();
    progress.finish_and_clear();

    report(&engine, &outcome, took).await?;
    engine.stop(Duration::from_secs(5)).await;
    Ok(outcome)
}

async fn start(store: SqliteStore) -> Result<Engine<Webhooks>, Failed> {
    let options = Options { ring_bytes: 16 << 20, ..Options::default() };
    let webhooks = Webhooks { inbox: Inbox, counter: Counter };
    Ok(Engine::builder(webhooks).storage(store).options(options).start().await?)
}

/// What became of the lines.
#[derive(Default)]
struct Outcome {
    /// What the input is called.
    input: String,
    stored: u64,
    payload_bytes: u64,
    duplicates: BTreeMap<(String, String), u64>,
    /// Lines that are no deliveries, or that the engine did not take.
    skipped: u64,
    /// Deliveries that will not be tried again.
    dead: u64,
}

/// Sends every line, without waiting for one before the next is sent; returns when all of them are durable.
async fn take_in(
    engine: &Engine<Webhooks>,
    source: &mut Source,
    progress: &ProgressBar,
) -> Result<Outcome, Failed> {
    let mut outcome = Outcome { input: source.name(), ..Outcome::default() };
    // Messages of one publisher are stored in the order in which it took them, though nobody waits for each.
    let mut publisher = engine.publisher()?;
    let mut in_flight = VecDeque::new();
    while let Some(found) = source.next_delivery()? {
        progress.set_position(source.position());
        let (line, delivery) = match found {
            Found::Delivery(line, delivery) => (line, delivery),
            Found::Unusable(skipped) => {
                outcome.skip(progress, &skipped);
                continue;
            }
        };
        let sent = Sent::of(line, &delivery);
        let key = delivery.delivery.clone();
        let once = EmitOptions { once: Some(key.as_bytes()), ..EmitOptions::default() };
        match publisher.send_with(AcceptDelivery::from(delivery), once).await {
            Ok(accepted) => in_flight.push_back((accepted, sent)),
            Err(SendError::Closed(_) | SendError::Unanswered) => return Err("the engine has ended".into()),
            Err(error) => outcome.refused(progress, line, &error),
        }
        if in_flight.len() >= IN_FLIGHT_MAX
            && let Some((accepted, sent)) = in_flight.pop_front()
        {
            outcome.settle(accepted, sent, progress).await?;
        }
    }
    for (accepted, sent) in in_flight {
        outcome.settle(accepted, sent, progress).await?;
    }
    Ok(outcome)
}

/// What is remembered of a line until it is known to be durable.
struct Sent {
    line: u64,
    counted_as: (String, String),
    payload_bytes: u64,
}

impl Sent {
    fn of(line: u64, delivery: &Delivery) -> Self {
        let Delivery { event, repository, payload, .. } = delivery;
        let repository = repository.as_deref().unwrap_or(NO_REPOSITORY);
        Self { line, counted_as: (repository.to_owned(), event.clone()), payload_bytes: payload.len() as u64 }
    }
}

impl From<Delivery> for AcceptDelivery {
    fn from(delivery: Delivery) -> Self {
        let Delivery { delivery, event, action, repository, payload } = delivery;
        let repository = repository.unwrap_or_else(|| NO_REPOSITORY.to_owned());
        Self { delivery, event, action, repository, payload }
    }
}

impl Outcome {
    async fn settle(&mut self, accepted: Accepted, sent: Sent, progress: &ProgressBar) -> Result<(), Failed> {
        match accepted.await {
            Ok(receipt) if receipt.duplicate_of().is_some() => {
                *self.duplicates.entry(sent.counted_as).or_default() += 1;
            }
            Ok(_) => {
                self.stored += 1;
                self.payload_bytes += sent.payload_bytes;
            }
            Err(NotStored::Refused(why)) => self.refused(progress, sent.line, &why),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The engine did not take a delivery.
    fn refused(&mut self, progress: &ProgressBar, line: u64, why: &impl std::fmt::Display) {
        let text = format!("{}, line {line}: {why}", self.input);
        self.skip(progress, &text);
    }

    fn skip(&mut self, progress: &ProgressBar, why: &impl std::fmt::Display) {
        progress.suspend(|| eprintln!("ingest: {why}; skipped"));
        self.skipped += 1;
    }
}

/// Waits until nothing waits any more, also of what an earlier run left; says how many deliveries failed for good.
async fn everything_handled(engine: &Engine<Webhooks>, progress: &ProgressBar) -> Result<u64, Failed> {
    let mut pause = Duration::from_millis(2);
    loop {
        let statistics = engine.reader().statistics().await?;
        let of_each = statistics.subscriptions.iter();
        let waiting =
            of_each.map(|each| each.lag + each.parked + each.unroutable).sum::<u64>() + statistics.arrivals;
        if waiting == 0 {
            return Ok(statistics.subscriptions.iter().map(|each| each.dead).sum());
        }
        progress.set_message(format!("{waiting} to be handled"));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Watches the engine; says so when the database cannot be written, and returns when that lasts.
async fn trouble(engine: &Engine<Webhooks>, progress: &ProgressBar, patience: Duration) -> Failed {
    let mut told = false;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let health = engine.health();
        let Some(away) = health.storage_away else {
            told = false;
            continue;
        };
        if health.state == State::Failed || away.since.elapsed() >= patience {
            return format!(
                "{}\nWhat was acknowledged is safe; start it again when that is mended.",
                away.error
            )
            .into();
        }
        if !told {
            progress.suspend(|| eprintln!("ingest: waiting for the database: {}", away.error));
            told = true;
        }
    }
}

/// What the database has counted, and what this run did.
async fn report(engine: &Engine<Webhooks>, outcome: &Outcome, took: Duration) -> Result<(), Failed> {
    const PAGE: usize = 1_000;
    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut after = Vec::new();
    loop {
        let page = engine.reader().projections(Counts::NAME, &after, PAGE).await?;
        for projection in &page {
            let Counts { repository, deliveries } = serde_json::from_slice(&projection.state)?;
            counted.extend(deliveries.into_iter().map(|(event, count)| ((repository.clone(), event), count)));
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after.clone_from(&last.key),
            _ => break,
        }
    }
    let mut table = Table::new(["repository", "event", "deliveries", "duplicates"]);
    for ((repository, event), count) in &counted {
        let duplicates = outcome.duplicates.get(&(repository.clone(), event.clone())).unwrap_or(&0);
        table.row([repository.clone(), event.clone(), count.to_string(), duplicates.to_string()]);
    }
    let Outcome { stored, payload_bytes, skipped, dead, .. } = outcome;
    let duplicates: u64 = outcome.duplicates.values().sum();
    let (in_all, seconds) = (counted.values().sum::<u64>(), took.as_secs_f64());
    let messages = (stored + duplicates) as f64 / seconds;
    let megabytes = *payload_bytes as f64 / 1e6;
    let nothing =
        if stored + duplicates + skipped == 0 { "there was no delivery in the input\n" } else { "" };
    let text = format!(
        "{table}{nothing}\
         {stored} handled, {duplicates} duplicates, {skipped} skipped, {dead} failed, {in_all} in the database\n\
         {seconds:.2} s from the first line until everything was handled: {messages:.0} messages/s, \
         {:.1} MB of payload/s ({megabytes:.1} MB)\n",
        megabytes / seconds,
    );
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A bar for an input that takes a while.
fn progress(extent: Extent) -> ProgressBar {
    let (total, template) = match extent {
        Extent::Bytes(..8_000_000) | Extent::Deliveries(..1_000) => return ProgressBar::hidden(),
        Extent::Bytes(bytes) => (Some(bytes), "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}"),
        Extent::Deliveries(count) => (Some(count), "{bar:40} {human_pos}/{human_len} {per_sec} {eta} {msg}"),
        Extent::Unknown => (None, "{spinner} {bytes} {bytes_per_sec} {msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10)).with_style(style)
}
