//! Sends messages through their whole life and stops the clock by what the database says.
//!
//! `cargo run --release -p whizbang-benches --bin lifecycle -- --store sqlite:PATH --messages 1000000 --payload 120`

use std::time::{Duration, Instant};

use clap::Parser;
use serde::{Deserialize, Serialize};
use whizbang::{
    Command, Context, Dispatcher, Engine, Failure, HasOneReceptorIn, MemoryStore, PlainReceptor, Service,
};
use whizbang::{StoreReader, dispatcher};
use whizbang_storage::WorkStore;
use whizbang_storage_sqlite::SqliteStore;

/// Send → durable → handled → settled, measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// `memory` or `sqlite:PATH`.
    #[arg(long, default_value = "memory")]
    store: String,
    /// How many messages.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Bytes of payload; 0 sends a plain message of 64 bytes.
    #[arg(long, default_value_t = 120)]
    payload: usize,
    /// Over how many streams they are spread.
    #[arg(long, default_value_t = 1_000)]
    streams: u64,
    /// Producers, each with a ring of its own.
    #[arg(long, default_value_t = 1)]
    producers: u64,
}

#[derive(Serialize, Deserialize, Command)]
#[message(name = "bench.bytes", version = 1, codec = postcard)]
struct Bytes {
    #[stream]
    stream: u64,
    payload: String,
}

#[derive(Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "bench.plain", version = 1, codec = postcard)]
struct Plain {
    #[stream]
    stream: u64,
    words: [u64; 7],
}

struct Sink;

impl PlainReceptor<Bytes> for Sink {
    fn receive_now(&self, message: Bytes, _: Context<'_>) -> Result<(), Failure> {
        std::hint::black_box(message.payload.len());
        Ok(())
    }
}

impl PlainReceptor<Plain> for Sink {
    fn receive_now(&self, message: Plain, _: Context<'_>) -> Result<(), Failure> {
        std::hint::black_box(message.words);
        Ok(())
    }
}

dispatcher! {
    struct Bench { sink: Sink }
    command Bytes => sink;
    command Plain => sink;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    match arguments.store.split_once(':') {
        None if arguments.store == "memory" => run(MemoryStore::new(Service::default())?, &arguments).await,
        Some(("sqlite", path)) => run(SqliteStore::open(path)?, &arguments).await,
        _ => Err(format!("unknown store {:?}: `memory` or `sqlite:PATH`", arguments.store).into()),
    }
}

async fn run<S: WorkStore>(store: S, arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(Bench { sink: Sink }).storage(store).start().await?;
    let began = Instant::now();
    let mut producers = Vec::new();
    for producer in 0..arguments.producers {
        let engine = engine.clone();
        let (messages, streams, payload) =
            (arguments.messages / arguments.producers, arguments.streams, arguments.payload);
        producers.push(tokio::spawn(async move {
            if payload == 0 {
                produce(&engine, messages, |n| Plain { stream: (n * 7 + producer) % streams, words: [n; 7] })
                    .await
            } else {
                let text = "x".repeat(payload);
                produce(&engine, messages, |n| Bytes {
                    stream: (n * 7 + producer) % streams,
                    payload: text.clone(),
                })
                .await
            }
        }));
    }
    for producer in producers {
        producer.await??;
    }
    let durable = began.elapsed();
    let settled = loop {
        let statistics = engine.reader().statistics().await?;
        let lag: u64 = statistics.subscriptions.iter().map(|subscription| subscription.lag).sum();
        if lag == 0 {
            break began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let rate = |took: Duration| arguments.messages as f64 / took.as_secs_f64();
    let health = engine.health();
    println!("durable  {:>10.0} messages/s  ({durable:.2?})", rate(durable));
    println!("settled  {:>10.0} messages/s  ({settled:.2?})", rate(settled));
    println!(
        "exchanges {}  messages per exchange {:.0}",
        health.exchanges,
        health.messages_stored as f64 / health.exchanges as f64
    );
    engine.stop(Duration::from_secs(10)).await;
    Ok(())
}

async fn produce<D: Dispatcher, C: HasOneReceptorIn<D>>(
    engine: &Engine<D>,
    messages: u64,
    make: impl Fn(u64) -> C,
) -> Result<(), String> {
    let mut publisher = engine.publisher().map_err(|error| error.to_string())?;
    let mut last = None;
    for n in 0..messages {
        last = Some(publisher.send(make(n)).await.map_err(|error| error.to_string())?);
    }
    if let Some(ticket) = last {
        engine.stored(ticket).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
