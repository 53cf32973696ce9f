//! Several processes over one PostgreSQL: they share the work, one is killed in the middle, and in the end the books are
//! balanced.
//!
//! ```text
//! cargo run --release --example cluster -- --instances 3 --messages 200000
//! ```
//!
//! Without `--url` it starts a private PostgreSQL server that is gone with the program. The program starts itself once for
//! each instance; each sends its part of the messages, handles those in the partitions it owns, and says on its standard
//! output how it is. When half of the messages are durable, one instance is killed (SIGKILL) and a new one is started.
//! A message is a command whose receptor publishes an event into the message's stream; the event's receptor keeps a tally
//! per stream. The audit reads every stream and compares it with what the senders were told.
#![allow(clippy::disallowed_types, reason = "they count and order nothing")]

mod board;
mod books;
mod instance;
mod team;
mod work;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;
use whizbang::{AnyReader, Engine, Options, Service};
use whizbang_cluster_example::audit::Sender;
use whizbang_storage::WorkStore;
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

use crate::work::Office;

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Runs several processes over one PostgreSQL, kills one in the middle, and balances the books.
#[derive(Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit code: 0 when nothing was lost, invented, doubled or reordered, 3 when something was, 1 when it could \
    not go on, 2 for wrong arguments."
)]
struct Arguments {
    #[command(flatten)]
    run: Run,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Processes that share the work.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) instances: u64,

    /// Messages that all of them send together.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: u64,

    /// Let everybody live.
    #[arg(long)]
    pub(crate) no_kill: bool,
}

/// Where the messages are, and in how many streams.
#[derive(Args, Clone)]
pub(crate) struct Place {
    /// The server, `postgres://…`; a private one is started if there is none. `sqlite:PATH` takes a file instead.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The schema in that database; it is left there.
    #[arg(long, value_name = "NAME", default_value = "whizbang_cluster")]
    pub(crate) schema: String,

    /// Streams that the messages belong to.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) streams: u64,

    /// After so many milliseconds of silence an instance is taken for dead.
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) time_to_live: u64,
}

#[derive(Subcommand)]
enum Role {
    /// One of the processes.
    #[command(hide = true)]
    Instance(Part),
    /// Only the audit: waits until everything is handled, and compares.
    #[command(hide = true)]
    Audit(Books),
}

#[derive(Args)]
pub(crate) struct Part {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The number it sends under.
    #[arg(long)]
    pub(crate) sender: u64,

    /// Messages it sends.
    #[arg(long, default_value_t = u64::MAX)]
    pub(crate) messages: u64,

    /// Messages it sends in a second, at most.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

#[derive(Args)]
pub(crate) struct Books {
    #[command(flatten)]
    pub(crate) place: Place,

    /// What each sender says: number:attempted:acknowledged.
    #[arg(long = "sender", value_parser = parse_sender)]
    pub(crate) senders: Vec<(u64, Sender)>,

    /// Seconds until everything must be handled.
    #[arg(long, default_value_t = 120)]
    pub(crate) patience: u64,
}

pub(crate) const PARTITIONS: u32 = 32;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What goes wrong stands on standard error, with the time: several processes write there.
    let level = std::env::var("CLUSTER_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Failed::from).and_then(|runtime| match arguments.role {
        None => runtime.block_on(team::run(arguments.run)),
        Some(Role::Instance(part)) => runtime.block_on(instance::instance(part)).map(|()| true),
        Some(Role::Audit(books)) => runtime.block_on(books::balance(&books)),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse_sender(text: &str) -> Result<(u64, Sender), String> {
    let numbers: Result<Vec<u64>, _> = text.split(':').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([sender, attempted, acknowledged]) => {
            Ok((*sender, Sender { attempted: *attempted, acknowledged: *acknowledged }))
        }
        _ => Err("three numbers: number:attempted:acknowledged".to_owned()),
    }
}

// ---- the storage line ----------------------------------------------------------------------------------------------

impl Place {
    fn service(&self) -> Service {
        let time_to_live = Duration::from_millis(self.time_to_live);
        Service { partitions: PARTITIONS, time_to_live, ..Service::named("cluster") }
    }

    async fn store(&self) -> Result<Store, Failed> {
        let (url, service) = (self.url.as_deref().unwrap_or_default(), self.service());
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Store::Sqlite(Box::new(
                SqliteOptions { service, ..SqliteOptions::default() }.open(path)?,
            )));
        }
        let options =
            PostgresOptions { service, schema: self.schema.clone(), ..PostgresOptions::from_url(url)? };
        options.migrate().await?;
        Ok(Store::Postgres(Box::new(options.open().await?)))
    }

    /// An engine over it. Nothing but this knows which storage it is.
    pub(crate) async fn engine(&self, office: Office) -> Result<Engine<Office>, Failed> {
        let options = Options { give_back_within: Duration::from_secs(2), ..Options::default() };
        let builder = Engine::builder(office).options(options);
        Ok(match self.store().await? {
            Store::Postgres(store) => builder.storage(*store).start().await?,
            Store::Sqlite(store) => builder.storage(*store).start().await?,
        })
    }

    /// Its reading side.
    pub(crate) async fn reader(&self) -> Result<AnyReader, Failed> {
        Ok(match self.store().await? {
            Store::Postgres(store) => AnyReader::new(store.reader()),
            Store::Sqlite(store) => AnyReader::new(store.reader()),
        })
    }
}

enum Store {
    Postgres(Box<PostgresStore>),
    Sqlite(Box<SqliteStore>),
}
