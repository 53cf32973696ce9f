//! One run: engines on the store, producers, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use whizbang::{Engine, Options, StoreReader};
use whizbang_benches::counted::{Calls, Counted};
use whizbang_benches::lifecycle::{Latency, Lifecycle};
use whizbang_benches::machine::Machine;
use whizbang_benches::process::Usage;
use whizbang_storage::WorkStore;

use crate::load::{Bench, Ledger};
use crate::written::Written;
use crate::{Arguments, Failed, allocations, produce, watch};

/// Runs what was asked for with an engine on each of the stores, which are handles on the same data.
pub(crate) async fn run<S: WorkStore>(
    name: &str,
    first: S,
    others: Vec<S>,
    arguments: &Arguments,
    written: Written,
) -> Result<Lifecycle, Failed> {
    let machine = Machine::here();
    let calls = Arc::new(Calls::default());
    let Arguments { streams, producers, backlog, .. } = *arguments;
    let ledger = Arc::new(Ledger::new(streams, producers, arguments.fail));
    let options = options(arguments)?;
    let partitions = first.service().partitions as usize;
    let mut engines = Vec::new();
    for store in std::iter::once(first).chain(others) {
        let store = Counted::new(store, Arc::clone(&calls));
        let bench = Bench::new(Arc::clone(&ledger));
        engines.push(Engine::builder(bench).storage(store).options(options.clone()).start().await?);
    }
    let engine = &engines[0];
    wait_until_shared(&engines, partitions).await?;
    refuse_what_is_there(engine).await?;
    if backlog {
        engine.pause(RECEPTORS).await?;
        wait_until_paused(&engines).await;
    }

    let messages_max = arguments.messages.unwrap_or(match arguments.duration {
        Some(_) => u64::MAX,
        None => MESSAGES,
    });
    let watching = watch::begin(engine, &ledger, messages_max, !backlog);
    let usage = Usage::now();
    let written_before = written.bytes().await?;
    let calls_before = calls.now();
    let allocated_before = allocations();
    let begun = ledger.begin();
    let producing: Vec<_> = (0..producers)
        .map(|number| {
            let plan = produce::Plan {
                // The first ones send what cannot be shared out evenly.
                messages: messages_max / producers + u64::from(number < messages_max % producers),
                until: arguments.duration.map(|seconds| begun + Duration::from_secs_f64(seconds)),
                every: arguments.rate.map(|rate| Duration::from_secs_f64(producers as f64 / rate)),
                payload_bytes: arguments.payload,
            };
            let engine = engines[number as usize % engines.len()].clone();
            tokio::spawn(produce::produce(engine, Arc::clone(&ledger), plan, number))
        })
        .collect();
    let mut produced = produce::Produced::new();
    for producing in producing {
        produced.add(&producing.await??);
    }
    let durable_after = begun.elapsed();
    watching.stop_probing();
    // A backlog's time begins when the first of it may be handled.
    let handled_from = if backlog { Instant::now() } else { begun };
    if backlog {
        engine.resume(RECEPTORS).await?;
        engines.iter().for_each(Engine::hint);
    }
    ledger.wait_until_handled(produced.sent).await;
    let left = watch::wait_until_settled(engine).await?;
    let settled_after = handled_from.elapsed();

    let usage = Usage::now().since(usage);
    let bytes_written = written.bytes().await? - written_before;
    let called = calls.now().since(calls_before);
    let allocated = allocated_before.zip(allocations()).map(|(before, after)| after - before);
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
        handlers: options.workers,
        instances: arguments.instances,
        batch: arguments.batch,
        rate: arguments.rate,
        fail: arguments.fail,
        backlog,
        durable_per_second: per_second(durable_after),
        settled_per_second: per_second(settled_after),
        seconds: settled_after.as_secs_f64(),
        accepted: Latency::from(&produced.accepted),
        durable: Latency::from(&produced.durable),
        handler_started: Latency::from(&ledger.started()),
        settled: Latency::from(&settled),
        storage_calls: called.count,
        storage_seconds: called.nanos as f64 / 1e9,
        bytes_written,
        rows_left: left.rows,
        allocations_per_message: allocated.map(|count| count as f64 / produced.sent.max(1) as f64),
        cpu_seconds: usage.cpu.as_secs_f64(),
        wrong,
    };
    for engine in &engines {
        engine.stop(Duration::from_secs(10)).await;
    }
    Ok(result)
}

/// What is sent without `--messages` and `--duration`.
const MESSAGES: u64 = 1_000_000;

/// The subscription under which commands stand.
const RECEPTORS: &str = "receptors";

fn options(arguments: &Arguments) -> Result<Options, Failed> {
    let handlers = match arguments.handlers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let defaults = Options::default();
    Ok(Options {
        workers: handlers,
        publishers_max: usize::try_from(arguments.producers)?.max(16),
        batch_messages_max: arguments.batch.unwrap_or(defaults.batch_messages_max),
        ..defaults
    })
}

/// Instances have a part of the partitions each before the clock starts: sharing them out is not what is measured.
async fn wait_until_shared(engines: &[Engine<Bench>], partitions: usize) -> Result<(), Failed> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    let has_share = |engine: &Engine<Bench>| engine.health().partitions_owned >= partitions / engines.len();
    while !engines.iter().all(has_share) {
        if begun.elapsed() > PATIENCE {
            let owned: Vec<_> = engines.iter().map(|engine| engine.health().partitions_owned).collect();
            return Err(format!(
                "the partitions are not shared out after {PATIENCE:?}: {owned:?} of {partitions}; does another process use this store?"
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Messages of an earlier run would be counted as ours.
async fn refuse_what_is_there(engine: &Engine<Bench>) -> Result<(), Failed> {
    let statistics = engine.reader().statistics().await?;
    match statistics.messages + statistics.arrivals {
        0 => Ok(()),
        some => Err(format!("the store has {some} messages already: name an empty one").into()),
    }
}

/// Other instances are told of a pause with the answer to their next call, so each makes one.
async fn wait_until_paused(engines: &[Engine<Bench>]) {
    for engine in engines {
        let before = engine.health().exchanges;
        engine.hint();
        while engine.health().exchanges == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
