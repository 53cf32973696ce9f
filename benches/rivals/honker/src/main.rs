//! honker: messages enqueued in bulk, claimed and acknowledged in batches by N workers, until the database has none.

use std::time::{Duration, Instant};

use clap::Parser;
use common::{Arguments, BULK, Failed, Rival};
use honker::{Database, EnqueueOpts, Job, Queue, QueueOpts};

#[path = "../../common.rs"]
mod common;

const RIVAL: Rival = Rival {
    name: "honker",
    version: "0.5.0",
    backend: "sqlite",
    settings: "WAL, synchronous=FULL; 1,000 enqueued a transaction; each worker its own handle; claim_batch and ack_batch of 1,000",
};

fn main() -> Result<(), Failed> {
    let arguments = Arguments::parse();
    let producer = open(&arguments.database)?;
    let queue = producer.queue("messages", QueueOpts::default());
    let payload = "x".repeat(arguments.payload);
    let begun = Instant::now();
    let workers: Vec<_> = (0..arguments.workers)
        .map(|number| {
            let (path, messages) = (arguments.database.clone(), arguments.messages);
            std::thread::spawn(move || work(&path, number, messages))
        })
        .collect();
    let mut left = arguments.messages;
    while left > 0 {
        let bulk = left.min(BULK);
        let transaction = producer.transaction()?;
        for _ in 0..bulk {
            queue.enqueue_tx(&transaction, &payload, EnqueueOpts::default())?;
        }
        transaction.commit()?;
        left -= bulk;
    }
    SENT.store(true, std::sync::atomic::Ordering::Release);
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    let took = begun.elapsed();
    let left = waiting(&producer)?;
    if left > 0 {
        return Err(format!("{left} messages are left").into());
    }
    RIVAL.report(&arguments, took);
    Ok(())
}

static SENT: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Handles what is there until all was sent and the database has none.
fn work(path: &str, number: usize, _: usize) -> Result<(), Failed> {
    let database = open(path)?;
    let queue: Queue = database.queue("messages", QueueOpts::default());
    let name = format!("worker-{number}");
    loop {
        let is_sent = SENT.load(std::sync::atomic::Ordering::Acquire);
        let jobs = queue.claim_batch(&name, BULK as i64)?;
        if jobs.is_empty() {
            if is_sent && waiting(&database)? == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let ids: Vec<i64> = jobs.iter().map(handle).collect();
        queue.ack_batch(&ids, &name)?;
    }
}

fn handle(job: &Job) -> i64 {
    std::hint::black_box(&job.payload);
    job.id
}

fn open(path: &str) -> Result<Database, Failed> {
    let database = Database::open(path)?;
    // As durable as ours.
    database.with_conn(|sql| sql.execute_batch("PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000;"))?;
    Ok(database)
}

/// What the database says is not done.
fn waiting(database: &Database) -> Result<i64, Failed> {
    Ok(database.with_conn(|sql| sql.query_row("SELECT count(*) FROM _honker_live", [], |row| row.get(0)))?)
}
