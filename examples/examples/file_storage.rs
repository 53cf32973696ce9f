//! A durable storage backend of one's own: [`FileJournal`], a journal in one file, under a database that decides everything else.
//!
//! ```text
//! cargo run --release --example file_storage
//! ```
//!
//! A process makes 1,000 commands durable, handles half of them and is gone without a word. The next one opens the file and goes on.
//! In the end there is one event for each command: no more and no less.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Engine, Event, Failure, PlainReceptor, Service, dispatcher};
use whizbang_examples::file_journal::FileJournal;
use whizbang_storage::{MemoryDatabase, Statistics, StoreReader, SystemClock, WorkStore};

const COMMANDS: u32 = 1_000;

#[derive(Debug, Serialize, Deserialize, Command)]
#[message(name = "lamps.light", version = 1)]
struct Light {
    #[stream]
    lamp: u32,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[message(name = "lamps.lit", version = 1)]
struct Lit {
    #[stream]
    lamp: u32,
}

struct Keeper;

impl PlainReceptor<Light> for Keeper {
    fn receive_now(&self, light: Light, mut cx: Context<'_>) -> Result<(), Failure> {
        cx.publish(&Lit { lamp: light.lamp })?;
        Ok(())
    }
}

dispatcher! {
    struct Lighthouse { keeper: Keeper }
    command Light => keeper;
}

/// Keeps messages in a journal in a file, ends in the middle of the work, and goes on; the file is gone afterwards.
#[derive(Parser)]
struct Arguments {
    /// The first of the two processes: works on this journal until it ends.
    #[arg(long, hide = true, value_name = "PATH")]
    end_in_the_middle_of: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = Arguments::parse().end_in_the_middle_of {
        return first(&path).await;
    }
    let scratch = tempfile::tempdir()?;
    let path = scratch.path().join("lamps.journal");
    let ended = Process::new(std::env::current_exe()?).arg("--end-in-the-middle-of").arg(&path).status()?;
    println!("the first process has ended: {ended}");
    second(&path).await
}

/// Sends everything, and ends in the middle of it.
async fn first(path: &Path) -> Result<(), Box<dyn Error>> {
    let database = MemoryDatabase::recover(FileJournal::open(path)?, Arc::new(SystemClock))?;
    let store = database.open(service())?;
    let reader = store.reader();
    let engine = Engine::builder(Lighthouse { keeper: Keeper }).storage(store).start().await?;
    engine.send_all((0..COMMANDS).map(|lamp| Light { lamp })).await?;
    let half = until(&reader, |there| there.events >= u64::from(COMMANDS) / 2).await?;
    println!("{COMMANDS} commands are durable, {} of them are handled", half.events);
    std::process::exit(9)
}

/// Finds the file as the first one left it.
async fn second(path: &Path) -> Result<(), Box<dyn Error>> {
    let database = MemoryDatabase::recover(FileJournal::open(path)?, Arc::new(SystemClock))?;
    let store = database.open(service())?;
    let reader = store.reader();
    println!("the second one finds {} events", reader.statistics().await?.events);
    let engine = Engine::builder(Lighthouse { keeper: Keeper }).storage(store).start().await?;
    let end = until(&reader, |there| {
        let idle = |reading: &whizbang_storage::SubscriptionStatistics| reading.lag + reading.parked == 0;
        there.arrivals == 0 && there.subscriptions.iter().all(idle)
    });
    let end = end.await?;
    engine.stop(Duration::from_secs(5)).await;
    println!("{COMMANDS} commands became {} events", end.events);
    assert_eq!(end.events, u64::from(COMMANDS), "each was handled, and none twice");
    Ok(())
}

fn service() -> Service {
    // What the first process had belongs to it for so long after its last batch.
    Service { time_to_live: Duration::from_secs(1), ..Service::named("lighthouse") }
}

async fn until(
    reader: &impl StoreReader,
    is_so: impl Fn(&Statistics) -> bool,
) -> Result<Statistics, Box<dyn Error>> {
    for _ in 0..60_000 {
        let there = reader.statistics().await?;
        if is_so(&there) {
            return Ok(there);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err("it did not come to that within a minute".into())
}
