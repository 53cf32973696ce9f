//! pgmq: messages sent in bulk, read and deleted in batches by N workers, until the database has none.
//!
//! The crate installs its SQL into a plain PostgreSQL; queues are used through pgmq's SQL functions, because the crate has no
//! call that sends a batch to an installed queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use common::{Arguments, BULK, Failed, Rival};
use pgmq::PGMQueueExt;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;

#[path = "../../common.rs"]
mod common;

const RIVAL: Rival = Rival {
    name: "pgmq",
    version: "0.33.2",
    backend: "postgres",
    settings: "fsync on; installed from the crate's SQL; send_batch of 1,000; each worker reads 1,000 and deletes them in one call; a logged queue",
};

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments = Arguments::parse();
    let pool = PgPool::connect(&arguments.database).await?;
    let pgmq = PGMQueueExt::new_with_pool(pool.clone()).await;
    pgmq.install_sql_from_embedded().await?;
    pgmq.create(QUEUE).await?;
    let begun = Instant::now();
    let is_sent = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> =
        (0..arguments.workers).map(|_| tokio::spawn(work(pool.clone(), Arc::clone(&is_sent)))).collect();
    let payload = "x".repeat(arguments.payload);
    let mut left = arguments.messages;
    while left > 0 {
        let bulk = left.min(BULK);
        let messages = vec![Json(Value::from(payload.as_str())); bulk];
        let sending = sqlx::query("SELECT pgmq.send_batch($1, $2::jsonb[])").bind(QUEUE).bind(messages);
        sending.execute(&pool).await?;
        left -= bulk;
    }
    is_sent.store(true, Ordering::Release);
    for worker in workers {
        worker.await??;
    }
    let took = begun.elapsed();
    let left = waiting(&pool).await?;
    if left > 0 {
        return Err(format!("{left} messages are left").into());
    }
    RIVAL.report(&arguments, took);
    Ok(())
}

const QUEUE: &str = "messages";

/// Seconds that a message which was read stays hidden from others.
const HIDDEN: i32 = 60;

/// Handles what is there until all was sent and the database has none.
async fn work(pool: PgPool, is_sent: Arc<AtomicBool>) -> Result<(), Failed> {
    loop {
        let is_sent = is_sent.load(Ordering::Acquire);
        let read: Vec<(i64, Json<Value>)> =
            sqlx::query_as("SELECT msg_id, message FROM pgmq.read($1, $2, $3)")
                .bind(QUEUE)
                .bind(HIDDEN)
                .bind(BULK as i32)
                .fetch_all(&pool)
                .await?;
        if read.is_empty() {
            if is_sent && waiting(&pool).await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let ids: Vec<i64> = read.iter().map(handle).collect();
        sqlx::query("SELECT pgmq.delete($1, $2::bigint[])").bind(QUEUE).bind(ids).execute(&pool).await?;
    }
}

fn handle((id, message): &(i64, Json<Value>)) -> i64 {
    std::hint::black_box(message);
    *id
}

/// What the database says is not done.
async fn waiting(pool: &PgPool) -> Result<i64, Failed> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM pgmq.q_messages").fetch_one(pool).await?)
}
