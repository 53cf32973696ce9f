//! Takes in webhook deliveries from a file, each of them once, in order per repository, whatever happens to the process.
//!
//! ```text
//! cargo run --release --example ingest -- examples/data/deliveries.jsonl --db /tmp/webhooks.db
//! ```
//!
//! Every line is a JSON object: `delivery` (its id), `event`, `action`, `repository` and `payload`. It is sent as a command
//! under its delivery's id as the key, so that a line that was read before is a duplicate and nothing else; it is
//! durable before the program says so. The command's receptor publishes an event, whose receptor counts deliveries in a
//! projection of the repository. The event, the count and the fact that the message is done are one atomic unit: kill
//! the process when you like and start it again, and the counts will be as if nothing had happened.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use whizbang::{
    Accepted, Command, Context, EmitOptions, Engine, Event, Failure, NotStored, Options, PlainReceptor,
    Projection, Receptor, SendError, Service, State, StoreReader, dispatcher,
};
use whizbang_examples::deliveries::Delivery;
use whizbang_examples::lines::{Line, Lines};
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
        let AcceptDelivery {
            delivery,
            event,
            action,
            repository,
            payload,
        } = accepted;
        cx.publish(&Delivered {
            delivery,
            event,
            action,
            repository,
            payload_bytes: payload.len(),
        })?;
        Ok(())
    }
}

struct Counter;

impl Receptor<Delivered> for Counter {
    async fn receive(&self, delivered: Delivered, mut cx: Context<'_>) -> Result<(), Failure> {
        let Delivered {
            event, repository, ..
        } = delivered;
        let counts = cx.load::<Counts>().await?;
        let mut counts = counts.unwrap_or_else(|| Counts {
            repository,
            deliveries: BTreeMap::new(),
        });
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

/// The longest line that is kept in memory: the largest payload a service takes by default, with some room around it.
const LINE_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// Deliveries that may be on their way to the disk at once; their bytes are bounded by the engine's rings.
const IN_FLIGHT_MAX: usize = 4_096;

/// Under which name deliveries without a repository are counted.
const NO_REPOSITORY: &str = "(none)";

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(run(&arguments)));
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
    let mut source = Source::open(arguments)?;
    let store = SqliteOptions {
        service: Service {
            time_to_live: Duration::from_millis(arguments.time_to_live),
            ..Service::named("webhooks")
        },
        ..SqliteOptions::default()
    }
    .open(&arguments.db)?;
    let engine = start(store).await?;
    let progress = progress(source.bytes_total());

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
    let options = Options {
        ring_bytes: 16 << 20,
        ..Options::default()
    };
    let webhooks = Webhooks {
        inbox: Inbox,
        counter: Counter,
    };
    Ok(Engine::builder(webhooks)
        .storage(store)
        .options(options)
        .start()
        .await?)
}

/// What became of the lines.
#[derive(Default)]
struct Outcome {
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
    let mut outcome = Outcome::default();
    let mut in_flight = VecDeque::new();
    while let Some(next) = source.next()? {
        let (line, message) = match next {
            Ok(next) => next,
            Err(broken) => {
                outcome.skip(progress, &broken);
                continue;
            }
        };
        let key = message.delivery.clone();
        let sent = Sent {
            line,
            counted_as: (message.repository.clone(), message.event.clone()),
            payload_bytes: message.payload.len() as u64,
        };
        let mut message = message;
        let accepted = loop {
            match engine.try_send_with(
                message,
                EmitOptions {
                    once: Some(key.as_bytes()),
                    ..EmitOptions::default()
                },
            ) {
                // No room: what was sent first is durable first, and makes some.
                Err(SendError::Full(back)) => message = back,
                accepted => break accepted,
            }
            match in_flight.pop_front() {
                Some((accepted, sent)) => outcome.settle(accepted, sent, progress).await?,
                // The ring was full of nothing: it is emptied this moment.
                None => tokio::task::yield_now().await,
            }
        };
        match accepted {
            Ok(accepted) => in_flight.push_back((accepted, sent)),
            Err(SendError::Closed(_) | SendError::Unanswered) => return Err("the engine has ended".into()),
            Err(error) => outcome.skip(progress, &format!("line {line}: {error}")),
        }
        if in_flight.len() >= IN_FLIGHT_MAX
            && let Some((accepted, sent)) = in_flight.pop_front()
        {
            outcome.settle(accepted, sent, progress).await?;
        }
        progress.set_position(source.bytes_read());
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
            Err(NotStored::Refused(why)) => self.skip(progress, &format!("line {}: {why}", sent.line)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn skip(&mut self, progress: &ProgressBar, why: &str) {
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
        let waiting = of_each
            .map(|each| each.lag + each.parked + each.unroutable)
            .sum::<u64>()
            + statistics.arrivals;
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
            let Counts {
                repository,
                deliveries,
            } = serde_json::from_slice(&projection.state)?;
            counted.extend(
                deliveries
                    .into_iter()
                    .map(|(event, count)| ((repository.clone(), event), count)),
            );
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after.clone_from(&last.key),
            _ => break,
        }
    }
    let mut table = Table::new(["repository", "event", "deliveries", "duplicates"]);
    for ((repository, event), count) in &counted {
        let duplicates = outcome
            .duplicates
            .get(&(repository.clone(), event.clone()))
            .unwrap_or(&0);
        table.row([
            repository.clone(),
            event.clone(),
            count.to_string(),
            duplicates.to_string(),
        ]);
    }
    print!("{table}");

    let Outcome {
        stored,
        payload_bytes,
        skipped,
        dead,
        ..
    } = outcome;
    let (duplicates, seconds) = (outcome.duplicates.values().sum::<u64>(), took.as_secs_f64());
    let megabytes = *payload_bytes as f64 / 1e6;
    if stored + duplicates + skipped == 0 {
        println!("there was no delivery in the input");
    }
    println!(
        "{stored} handled, {duplicates} duplicates, {skipped} skipped, {dead} failed, {} in the database",
        counted.values().sum::<u64>()
    );
    println!(
        "{seconds:.2} s from the first line until everything was handled: {:.0} messages/s, {:.1} MB of payload/s ({megabytes:.1} MB)",
        (stored + duplicates) as f64 / seconds,
        megabytes / seconds,
    );
    Ok(())
}

fn progress(bytes_total: Option<u64>) -> ProgressBar {
    const LONG_BYTES: u64 = 8 << 20;
    match bytes_total {
        Some(bytes) if bytes < LONG_BYTES => ProgressBar::hidden(),
        total => {
            let template = match total {
                Some(_) => "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} {msg}",
                None => "{spinner} {bytes} {binary_bytes_per_sec} {msg}",
            };
            let style = ProgressStyle::with_template(template).expect("the template is a constant");
            ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10)).with_style(style)
        }
    }
}

// ---- the input -------------------------------------------------------------------------------------------------------

/// The lines of a file, as often as was asked for, or of standard input.
struct Source {
    path: PathBuf,
    file_bytes: Option<u64>,
    lines: Lines<Box<dyn BufRead>>,
    read_before: u64,
    /// Which time the file is being read, and how often it will be.
    time: u64,
    times: u64,
    /// Deliveries that may still come.
    left: u64,
    /// Whether this time brought any.
    any: bool,
    name: String,
}

/// A line that became a message, with its number.
type Read = (u64, AcceptDelivery);

impl Source {
    fn open(arguments: &Arguments) -> Result<Self, Failed> {
        let Arguments {
            input, repeat, count, ..
        } = arguments;
        let is_standard = input == Path::new("-");
        if is_standard && repeat.is_some_and(|times| times > 1) {
            return Err("standard input can be read only once: `--repeat` needs a file".into());
        }
        let file_bytes = if is_standard {
            None
        } else {
            Some(std::fs::metadata(input).map_err(about(input))?.len())
        };
        let times = match (repeat, count) {
            _ if is_standard => 1,
            (Some(times), _) => *times,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1,
        };
        Ok(Self {
            path: input.clone(),
            file_bytes,
            lines: open(input)?,
            read_before: 0,
            time: 1,
            times,
            left: count.unwrap_or(u64::MAX),
            any: false,
            name: if is_standard {
                "standard input".to_owned()
            } else {
                input.display().to_string()
            },
        })
    }

    /// The next message, or what is wrong with the next line; none at the end.
    fn next(&mut self) -> Result<Option<Result<Read, String>>, Failed> {
        if self.left == 0 {
            return Ok(None);
        }
        loop {
            let next = self.lines.next_line().map_err(about(&self.path))?;
            let Some((number, line)) = next else {
                // A file without any delivery never brings as many as were asked for.
                if self.time >= self.times || !self.any {
                    return Ok(None);
                }
                self.read_before += self.lines.bytes_read();
                self.lines = open(&self.path)?;
                (self.time, self.any) = (self.time + 1, false);
                continue;
            };
            let bytes = match line {
                Line::Whole(bytes) if bytes.trim_ascii().is_empty() => continue,
                Line::Whole(bytes) => bytes,
                Line::TooLong { bytes } => {
                    let text = format!(
                        "{} long, at most {}",
                        HumanBytes(bytes),
                        HumanBytes(LINE_BYTES_MAX as u64)
                    );
                    return Ok(Some(Err(format!(
                        "{}, line {number}: {text} can be taken in",
                        self.name
                    ))));
                }
            };
            return Ok(Some(match Delivery::parse(bytes) {
                Err(broken) => Err(format!("{}, line {number}: {broken}", self.name)),
                Ok(delivery) => {
                    (self.any, self.left) = (true, self.left - 1);
                    Ok((number, message(delivery, self.time)))
                }
            }));
        }
    }

    fn bytes_read(&self) -> u64 {
        self.read_before + self.lines.bytes_read()
    }

    /// How many bytes there will be, as far as that can be known.
    fn bytes_total(&self) -> Option<u64> {
        let file_bytes = self.file_bytes?;
        if self.times < u64::MAX {
            Some(file_bytes.saturating_mul(self.times))
        } else {
            None
        }
    }
}

fn message(delivery: Delivery<'_>, time: u64) -> AcceptDelivery {
    let Delivery {
        delivery,
        event,
        action,
        repository,
        payload,
    } = delivery;
    AcceptDelivery {
        delivery: if time == 1 {
            delivery.into_owned()
        } else {
            format!("{delivery}#{time}")
        },
        event: event.into_owned(),
        action,
        repository: repository.unwrap_or_else(|| NO_REPOSITORY.to_owned()),
        payload: payload.get().to_owned(),
    }
}

fn open(path: &Path) -> Result<Lines<Box<dyn BufRead>>, Failed> {
    let input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::with_capacity(
            256 << 10,
            File::open(path).map_err(about(path))?,
        ))
    };
    Ok(Lines::new(input, LINE_BYTES_MAX))
}

/// Puts the path before what the operating system says.
fn about(path: &Path) -> impl FnOnce(io::Error) -> Failed + use<> {
    let path = path.display().to_string();
    move |error| format!("cannot read {path}: {error}").into()
}
