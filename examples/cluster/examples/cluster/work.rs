//! Messages, receptors, and what they keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use whizbang::{Command, Context, Event, Failure, PlainReceptor, Projection, Receptor, dispatcher};
use whizbang_cluster_example::audit;

/// Asks for something to be done in a stream.
#[derive(Serialize, Deserialize, Command)]
#[message(name = "cluster.work", version = 1, codec = postcard)]
pub(crate) struct Work {
    #[stream]
    pub(crate) stream: u64,
    pub(crate) sender: u64,
    pub(crate) number: u64,
    pub(crate) payload: [u64; 12],
}

/// Says that it was done.
#[derive(Serialize, Deserialize, Event)]
#[message(name = "cluster.done", version = 1, codec = postcard)]
pub(crate) struct Done {
    #[stream]
    pub(crate) stream: u64,
    pub(crate) sender: u64,
    pub(crate) number: u64,
}

/// What was done in a stream, in which order.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Tally(pub(crate) audit::Tally);

impl Projection for Tally {
    const NAME: &'static str = "cluster.tally";
}

struct Worker {
    handled: Arc<AtomicU64>,
}

impl PlainReceptor<Work> for Worker {
    fn receive_now(&self, work: Work, mut cx: Context<'_>) -> Result<(), Failure> {
        cx.publish(&Done { stream: work.stream, sender: work.sender, number: work.number })?;
        self.handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Clerk;

impl Receptor<Done> for Clerk {
    async fn receive(&self, done: Done, mut cx: Context<'_>) -> Result<(), Failure> {
        let mut tally = cx.load::<Tally>().await?.unwrap_or_default();
        tally.0.add(done.sender, done.number);
        cx.save(&tally)?;
        Ok(())
    }
}

dispatcher! {
    pub(crate) struct Office { worker: Worker, clerk: Clerk }
    command Work => worker;
    event Done => clerk;
}

impl Office {
    /// One whose worker counts what it has finished.
    pub(crate) fn counting(handled: &Arc<AtomicU64>) -> Self {
        Self { worker: Worker { handled: Arc::clone(handled) }, clerk: Clerk }
    }
}
