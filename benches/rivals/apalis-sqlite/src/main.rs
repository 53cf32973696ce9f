//! apalis-sqlite: messages pushed in bulk, handled by a worker with N at once, until the database has none to do.

use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use clap::Parser;
use common::{Arguments, BULK, Failed, Rival};

#[path = "../../common.rs"]
mod common;

const RIVAL: Rival = Rival {
    name: "apalis-sqlite",
    version: "1.0.0",
    backend: "sqlite",
    settings: "WAL, synchronous=FULL; 1,000 pushed a transaction; fetched in batches of 1,000 every 5 ms; tasks on threads; no second lock a task; results kept, because without them nothing is marked as done",
};

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments = Arguments::parse();
    let url = format!("sqlite://{}?mode=rwc", arguments.database);
    let pool = SqlitePoolOptions::new().connect_with(options(&url)?).await?;
    SqliteStorage::setup(&pool).await?;
    let config = Config::default().queue(QUEUE).batch_size(BULK).lock_tasks(false);
    let backend: SqliteStorage<String> = SqliteStorage::new(&pool).with_config(config);
    let backend = backend.poll_with_interval(Duration::from_millis(5));
    let worker = WorkerBuilder::new("worker")
        .backend(backend)
        .concurrency(arguments.workers)
        .parallelize(tokio::spawn)
        .build(handle);
    let begun = Instant::now();
    tokio::spawn(worker.run());
    let payload = serde_json::to_vec(&"x".repeat(arguments.payload))?;
    let mut left = arguments.messages;
    while left > 0 {
        let bulk = left.min(BULK);
        let tasks: Vec<_> = (0..bulk).map(|_| TaskBuilder::new(payload.clone()).build()).collect();
        let mut transaction = pool.begin().await?;
        apalis_sqlite::queries::push_tasks(&mut *transaction, QUEUE, &tasks).await?;
        transaction.commit().await?;
        left -= bulk;
    }
    while waiting(&pool).await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    RIVAL.report(&arguments, begun.elapsed());
    Ok(())
}

const QUEUE: &str = "messages";

async fn handle(payload: String, _: WorkerContext) -> Result<(), BoxDynError> {
    std::hint::black_box(payload);
    Ok(())
}

/// As durable as ours.
fn options(url: &str) -> Result<SqliteConnectOptions, Failed> {
    let options: SqliteConnectOptions = url.parse()?;
    Ok(options
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .busy_timeout(Duration::from_secs(10)))
}

/// What the database says is not done.
async fn waiting(pool: &SqlitePool) -> Result<i64, Failed> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM Jobs WHERE status <> 'Done'").fetch_one(pool).await?)
}
