//! graphile_worker: jobs added in bulk, handled by a worker with N at once, until the database has none.

use std::time::{Duration, Instant};

use clap::Parser;
use common::{Arguments, BULK, Failed, Rival};
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

#[path = "../../common.rs"]
mod common;

const RIVAL: Rival = Rival {
    name: "graphile_worker",
    version: "0.14.1",
    backend: "postgres",
    settings: "fsync on; 1,000 added a call; local queue of 1,000; completed in batches every 5 ms",
};

#[derive(Clone, Deserialize, Serialize)]
struct Message {
    payload: String,
}

impl TaskHandler for Message {
    const IDENTIFIER: &'static str = "message";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        std::hint::black_box(self.payload);
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments = Arguments::parse();
    let pool = PgPool::connect(&arguments.database).await?;
    let worker = WorkerOptions::default()
        .pg_pool(pool.clone())
        .concurrency(arguments.workers)
        .poll_interval(Duration::from_millis(100))
        .local_queue(LocalQueueConfig { size: BULK, ..LocalQueueConfig::default() })
        .complete_job_batch_delay(Duration::from_millis(5))
        .define_job::<Message>()
        .init()
        .await?;
    let utils = worker.create_utils();
    let begun = Instant::now();
    tokio::spawn(async move { worker.run().await });
    let message = Message { payload: "x".repeat(arguments.payload) };
    let spec = JobSpec::default();
    let mut left = arguments.messages;
    while left > 0 {
        let bulk = left.min(BULK);
        let jobs: Vec<_> = (0..bulk).map(|_| (message.clone(), &spec)).collect();
        utils.add_jobs(&jobs).await?;
        left -= bulk;
    }
    while waiting(&pool).await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    RIVAL.report(&arguments, begun.elapsed());
    Ok(())
}

/// What the database says is not done.
async fn waiting(pool: &PgPool) -> Result<i64, Failed> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM graphile_worker._private_jobs").fetch_one(pool).await?)
}
