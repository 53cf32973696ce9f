//! One of the processes: an engine that sends and handles, and says how it is.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use whizbang::{Engine, State, Ticket};
use whizbang_cluster_example::audit::Sender;
use whizbang_cluster_example::instances::{Order, Said};

use crate::work::{Office, Work};
use crate::{Failed, Part};

/// What an instance counts.
#[derive(Default)]
struct Counts {
    handled: Arc<AtomicU64>,
    attempted: AtomicU64,
    acknowledged: AtomicU64,
    enough: AtomicBool,
    sent: AtomicBool,
    left: AtomicBool,
}

pub(crate) async fn instance(part: Part) -> Result<(), Failed> {
    let counts = Arc::new(Counts::default());
    let engine = part.place.engine(Office::counting(&counts.handled)).await?;
    counts.say(&engine);

    let leave = listen(Arc::clone(&counts));
    let sending = send(&engine, &part, &counts);
    let reporting = report(&engine, &counts);
    tokio::pin!(reporting);
    tokio::select! {
        sent = sending => sent?,
        ended = &mut reporting => return ended,
    }
    counts.sent.store(true, Ordering::Relaxed);
    counts.say(&engine);
    tokio::select! {
        () = leave.notified() => {}
        ended = &mut reporting => return ended,
    }
    let stopped = engine.stop(Duration::from_secs(10)).await;
    if !stopped.all_durable {
        return Err("it left before everything was durable".into());
    }
    counts.left.store(true, Ordering::Relaxed);
    counts.say(&engine);
    Ok(())
}

/// Takes orders from standard input, whose end is the last of them.
fn listen(counts: Arc<Counts>) -> Arc<Notify> {
    let leave = Arc::new(Notify::new());
    let told = Arc::clone(&leave);
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            counts.enough.store(true, Ordering::Relaxed);
            if line == Order::Leave.word() {
                break;
            }
        }
        counts.enough.store(true, Ordering::Relaxed);
        told.notify_one();
    });
    leave
}

/// Sends what it has to, without waiting for one message before the next; returns when all of it is durable.
async fn send(engine: &Engine<Office>, part: &Part, counts: &Counts) -> Result<(), Failed> {
    const CHUNK: u64 = 250;
    let (chunks, mut sent) = mpsc::channel::<(u64, Ticket)>(64);
    let chunk = part.rate.map_or(CHUNK, |rate| ((rate / 100.0) as u64).clamp(1, CHUNK));
    let begun = Instant::now();
    let sending = async move {
        let mut publisher = engine.publisher()?;
        let mut number = 0;
        while number < part.messages && !counts.enough.load(Ordering::Relaxed) {
            let last = part.messages.min(number + chunk);
            // Said before the first of them goes: what nobody has attempted, nobody may find.
            counts.attempted.store(last, Ordering::Relaxed);
            counts.say(engine);
            let mut ticket = None;
            for number in number + 1..=last {
                let (stream, sender) = (number % part.place.streams, part.sender);
                let work = Work { stream, sender, number, payload: [number; 12] };
                ticket = Some(publisher.send(work).await.map_err(|error| error.to_string())?);
            }
            number = last;
            if let Some(ticket) = ticket {
                chunks.send((number, ticket)).await?;
            }
            if let Some(rate) = part.rate {
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
            }
        }
        Ok::<(), Failed>(())
    };
    let acknowledging = async {
        while let Some((number, ticket)) = sent.recv().await {
            engine.stored(ticket).await?;
            counts.acknowledged.store(number, Ordering::Relaxed);
        }
        Ok::<(), Failed>(())
    };
    tokio::try_join!(sending, acknowledging).map(drop)
}

/// How long the database may be away before somebody is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says how it is whenever that is something else, and ten times a second; returns when it cannot go on.
async fn report(engine: &Engine<Office>, counts: &Counts) -> Result<(), Failed> {
    let (mut partitions, mut said_at, mut told) = (usize::MAX, Instant::now(), false);
    loop {
        let health = engine.health();
        match &health.storage_away {
            Some(away) if !told && away.since.elapsed() >= PATIENCE => {
                eprintln!("cluster: the database has been away for {PATIENCE:?}: {}", away.error);
                told = true;
            }
            Some(_) => {}
            None => told = false,
        }
        if health.state == State::Failed {
            return Err(health
                .storage_away
                .map_or("the engine has failed".to_owned(), |away| away.error)
                .into());
        }
        if health.partitions_owned != partitions || said_at.elapsed() >= Duration::from_millis(100) {
            (partitions, said_at) = (health.partitions_owned, Instant::now());
            counts.say(engine);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Counts {
    fn say(&self, engine: &Engine<Office>) {
        let health = engine.health();
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        // Acknowledged first: it never says more than was attempted.
        let acknowledged = number(&self.acknowledged);
        let said = Said {
            partitions: health.partitions_owned,
            handled: number(&self.handled),
            evictions: health.evictions,
            sender: Sender { attempted: number(&self.attempted), acknowledged },
            sent: self.sent.load(Ordering::Relaxed),
            left: self.left.load(Ordering::Relaxed),
        };
        // Nobody listens any more: its input has ended, too, and it is about to leave.
        let _ = writeln!(io::stdout(), "{}", said.line());
    }
}
