//! Producers: as fast as it goes, or so many a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use whizbang::{Engine, HasOneReceptorIn, Publisher, Ticket};

use crate::load::{Bench, Bytes, Label, Ledger, Plain, TIMED, histogram};
use crate::{Failed, nanos_since};

/// What one producer is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// So many at most.
    pub(crate) messages: u64,
    /// Until then at most.
    pub(crate) until: Option<Instant>,
    /// One in so long; without it, as fast as it goes.
    pub(crate) every: Option<Duration>,
    pub(crate) payload_bytes: usize,
}

/// What producers did.
pub(crate) struct Produced {
    pub(crate) sent: u64,
    pub(crate) accepted: Histogram<u64>,
    pub(crate) durable: Histogram<u64>,
}

impl Produced {
    pub(crate) fn new() -> Self {
        Self { sent: 0, accepted: histogram(), durable: histogram() }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.accepted.add(&other.accepted).expect("they have the same bounds");
        self.durable.add(&other.durable).expect("they have the same bounds");
    }
}

/// Sends what the plan says, and returns when all of it is durable.
pub(crate) async fn produce(
    engine: Engine<Bench>,
    ledger: Arc<Ledger>,
    plan: Plan,
    number: u64,
) -> Result<Produced, Failed> {
    let mut publisher = engine.publisher()?;
    let mut produced = Produced::new();
    let begun = ledger.begin();
    let (timed, asked) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watch_durable(engine.clone(), asked, begun));
    let payload = "x".repeat(plan.payload_bytes);
    let mut last = None;
    while produced.sent < plan.messages && plan.until.is_none_or(|until| Instant::now() < until) {
        let due_at = match plan.every {
            Some(every) => Some(wait_until_due(begun, every, produced.sent).await),
            None => None,
        };
        let is_timed = produced.sent.is_multiple_of(TIMED);
        // Late because of those before it, a message was due all the same: its latency counts from there.
        let sent_at = due_at.unwrap_or_else(|| nanos_since(begun));
        let label = ledger.label(number, produced.sent, sent_at);
        let ticket = if plan.payload_bytes == 0 {
            send(&mut publisher, Plain::new(label)).await?
        } else {
            send(&mut publisher, Bytes::new(label, &payload)).await?
        };
        if is_timed {
            produced.accepted.saturating_record(nanos_since(begun).saturating_sub(sent_at));
            let _ = timed.send((ticket, label));
        }
        produced.sent += 1;
        last = Some(ticket);
    }
    if let Some(ticket) = last {
        engine.stored(ticket).await?;
    }
    drop(timed);
    produced.durable = watching.await??;
    Ok(produced)
}

async fn send<C: HasOneReceptorIn<Bench>>(
    publisher: &mut Publisher<Bench>,
    command: C,
) -> Result<Ticket, Failed> {
    publisher.send(command).await.map_err(|error| error.to_string().into())
}

/// Waits until the `n`th message is due, and says when that was. Timers go in milliseconds, so what is due within one goes
/// together, at its end.
async fn wait_until_due(begun: Instant, every: Duration, n: u64) -> u64 {
    const TICK: u64 = 1_000_000;
    let due_at = (every.as_nanos() as f64 * n as f64) as u64;
    let tick = due_at.div_ceil(TICK) * TICK;
    if nanos_since(begun) < tick {
        tokio::time::sleep_until((begun + Duration::from_nanos(tick)).into()).await;
    }
    tick
}

/// Times how long messages take to become durable. A ring's messages do so in order, so one task can wait for them.
async fn watch_durable(
    engine: Engine<Bench>,
    mut asked: mpsc::UnboundedReceiver<(Ticket, Label)>,
    begun: Instant,
) -> Result<Histogram<u64>, Failed> {
    let mut durable = histogram();
    while let Some((ticket, label)) = asked.recv().await {
        engine.stored(ticket).await?;
        durable.saturating_record(nanos_since(begun).saturating_sub(label.sent_at));
    }
    Ok(durable)
}
