//! A layer of one's own before a store: any type with [`WorkStore`] can be given to an engine. (A backend that keeps everything
//! itself: `file_storage`.)
//!
//! ```text
//! cargo run --release --example custom_storage
//! ```
//!
//! [`Journalled`] stands before another store, lets everything through, and writes down every batch: what it carried and
//! how long it took. Whatever it does, it owes the contract that stands at [`WorkStore`] and is checked by the conformance suite.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Engine, Failure, Handled, MemoryStore, PlainReceptor, Service, dispatcher};
use whizbang_storage::{Abilities, Answer, Hint, StoreError, WorkBatch, WorkStore};

// ---- the backend -----------------------------------------------------------------------------------------------------

/// A store that writes down what goes through it.
struct Journalled<S> {
    store: S,
    journal: BufWriter<File>,
}

impl<S: WorkStore> Journalled<S> {
    fn new(store: S, path: &Path) -> io::Result<Self> {
        let journal = File::options().create(true).append(true).open(path)?;
        Ok(Self { store, journal: BufWriter::new(journal) })
    }

    fn write(&mut self, batch: &WorkBatch<'_>, said: String, took: Duration) -> io::Result<()> {
        let (messages, microseconds) = (batch.messages(), took.as_micros() as u64);
        let line = Line { number: batch.from.number, messages, bytes: batch.bytes(), microseconds, said };
        serde_json::to_writer(&mut self.journal, &line)?;
        self.journal.write_all(b"\n")?;
        self.journal.flush()
    }
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
struct Line {
    number: u64,
    messages: usize,
    bytes: usize,
    microseconds: u64,
    said: String,
}

impl<S: WorkStore> WorkStore for Journalled<S> {
    type Reader = S::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let result = self.store.process_work_batch(batch, answer).await;
        let said = format!("{result:?}");
        match self.write(batch, said, begun.elapsed()) {
            Ok(()) => result,
            // What the inner store did stands. `Unknown` makes the engine send the same batch again, which the inner store
            // answers without doing it twice; `NotApplied` would be a lie.
            Err(error) if result.is_ok() => Err(StoreError::Unknown(error.into())),
            Err(_) => result,
        }
    }

    fn reader(&self) -> Self::Reader {
        self.store.reader()
    }

    fn service(&self) -> &Service {
        self.store.service()
    }

    fn abilities(&self) -> Abilities {
        self.store.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        self.store.on_hint(hint);
    }
}

// ---- a program that runs on it ---------------------------------------------------------------------------------------

#[derive(Debug, Serialize, Deserialize, Command)]
#[message(name = "lamps.light", version = 1)]
struct Light {
    #[stream]
    lamp: u32,
}

struct Keeper;

impl PlainReceptor<Light> for Keeper {
    fn receive_now(&self, _: Light, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

dispatcher! {
    struct Lighthouse { keeper: Keeper }
    command Light => keeper;
}

/// Writes down every batch that an engine gives to its store, and prints them.
#[derive(Parser)]
struct Arguments {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    Arguments::parse();
    let scratch = tempfile::tempdir()?;
    let path = scratch.path().join("journal.jsonl");
    let store = Journalled::new(MemoryStore::new(Service::named("lighthouse"))?, &path)?;

    let engine = Engine::builder(Lighthouse { keeper: Keeper }).storage(store).start().await?;
    let receipts = engine.send_all((1..=1_000).map(|lamp| Light { lamp })).await?;
    for receipt in &receipts {
        assert_eq!(receipt.handled().await?, Handled::Done);
    }
    engine.stop(Duration::from_secs(5)).await;

    let mut lines: Vec<Line> = Vec::new();
    for line in std::fs::read_to_string(&path)?.lines() {
        println!("{line}");
        lines.push(serde_json::from_str(line)?);
    }
    let messages: usize = lines.iter().map(|line| line.messages).sum();
    println!("{} batches carried {messages} messages", lines.len());
    // Nothing passed by the journal: the numbers of the batches have no gap.
    let is_whole = lines.iter().map(|line| line.number).eq(1..=lines.len() as u64);
    assert!(messages == 1_000 && is_whole, "the journal has everything");
    Ok(())
}
