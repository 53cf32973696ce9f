//! apalis-postgres: messages pushed in bulk, handled by a worker with N at once, until the database has none to do.

use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use clap::Parser;
use common::{Arguments, BULK, Failed, Rival};
use sqlx::PgPool;

#[path = "../../common.rs"]
mod common;

const RIVAL: Rival = Rival {
    name: "apalis-postgres",
    version: "1.0.0",
    backend: "postgres",
    settings: "fsync on; 1,000 pushed an insert; fetched in batches of 1,000 every 5 ms; tasks on threads; no second lock a task; results kept, because without them nothing is marked as done",
};

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments = Arguments::parse();
    let pool = PgPool::connect(&arguments.database).await?;
    PostgresStorage::setup(&pool).await?;
    let config = Config::default().queue(QUEUE).batch_size(BULK).lock_tasks(false);
    let backend: PostgresStorage<String> = PostgresStorage::new(&pool).with_config(config);
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
        apalis_postgres::queries::push_tasks(&mut *transaction, QUEUE, tasks).await?;
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

/// What the database says is not done.
async fn waiting(pool: &PgPool) -> Result<i64, Failed> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'").fetch_one(pool).await?)
}
