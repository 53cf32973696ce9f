//! Waking a consumer that sleeps on the other core: what it costs the one who wakes, and when it runs; and what an engine
//! does that has nothing to do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use whizbang::{Engine, MemoryStore, Service, dispatcher};
use whizbang_lockfree::{Consumer, Doorbell, DrainLimit, NoSink, Producers, Rest, RingsConfig, rings};

use crate::cores::{self, First, Last, pin_this_thread};
use crate::rows::{Must, Ours, Rival, Role, Row, Table};

pub(crate) fn rows(table: &mut Table) {
    if !cores::are_two() {
        return;
    }
    table.row("wake-cost", "what it costs to wake a parked consumer on the other core", None, |row| {
        every(row, |waking| waking.cost);
    });
    table.row("wake-latency", "until the consumer that was woken has the message", None, |row| {
        every(row, |waking| waking.latency);
    });
    table.row(
        "idle",
        "wake-ups a second of the threads of an idle engine (not ns)",
        Some(Must::Median(1.0)),
        idle,
    );
}

/// A consumer that can be slept and woken.
trait Sleeper: 'static {
    type Waker: Send;
    type Sleeper: Send + 'static;
    fn pair() -> (Self::Waker, Self::Sleeper);
    fn wake(waker: &mut Self::Waker);
    /// Sleeps until woken; false at the end.
    fn sleep(sleeper: &mut Self::Sleeper) -> bool;
    fn end(waker: Self::Waker);
}

struct Waking {
    cost: Duration,
    latency: Duration,
}

fn every(row: &mut Row<'_>, which: fn(Waking) -> Duration) {
    one::<Bell>(row, Ours, "push to a ring whose consumer is parked", which);
    one::<Parked>(row, Rival, "std: unpark", which);
    one::<Std>(row, Rival, "std sync_channel, recv", which);
    one::<Crossbeam>(row, Rival, "crossbeam-channel, recv", which);
    one::<Tokio>(row, Rival, "tokio Notify, current-thread runtime", which);
}

const WAKES: usize = 5;

fn one<S: Sleeper>(row: &mut Row<'_>, role: Role, name: &str, which: fn(Waking) -> Duration) {
    row.turn(role, name, move |taken| {
        let (mut waker, mut sleeper) = S::pair();
        let (times, woken) = mpsc::channel();
        let sleeping = thread::spawn(move || {
            pin_this_thread(Last);
            while S::sleep(&mut sleeper) {
                if times.send(Instant::now()).is_err() {
                    break;
                }
            }
        });
        for _ in 0..WAKES {
            // Long enough that it is parked, whatever steps lie before that; a wake that comes earlier is a cheaper one.
            thread::sleep(Duration::from_micros(300));
            let begun = Instant::now();
            S::wake(&mut waker);
            let cost = begun.elapsed();
            let at = woken.recv().expect("it tells of each");
            taken.push(which(Waking { cost, latency: at.saturating_duration_since(begun) }), 1);
        }
        S::end(waker);
        sleeping.join().expect("it only sleeps");
    });
}

struct Bell;
impl Sleeper for Bell {
    type Waker = Producers<u64, NoSink>;
    type Sleeper = (Doorbell, Consumer<u64, NoSink>);
    fn pair() -> (Self::Waker, Self::Sleeper) {
        let bell = Doorbell::new();
        let (producers, consumer) = rings(RingsConfig::default(), &bell).expect("bounds that can be");
        (producers, (bell, consumer))
    }
    fn wake(waker: &mut Self::Waker) {
        waker.try_push(1, b"wake up").expect("there is room");
    }
    fn sleep((bell, consumer): &mut Self::Sleeper) -> bool {
        bell.rest(Rest::default(), || consumer.has_news());
        let batch = consumer.drain(DrainLimit::NONE);
        let is_message = !batch.is_empty();
        batch.finish();
        is_message
    }
    fn end(waker: Self::Waker) {
        waker.close();
    }
}

struct Parked;
/// Whether there is a message, whether it is over, and who is to be woken.
type Bed = Arc<(AtomicUsize, AtomicBool, std::sync::OnceLock<thread::Thread>)>;
impl Sleeper for Parked {
    type Waker = Bed;
    type Sleeper = Bed;
    fn pair() -> (Bed, Bed) {
        let bed = Bed::default();
        (Arc::clone(&bed), bed)
    }
    fn wake(bed: &mut Bed) {
        bed.0.fetch_add(1, Ordering::Release);
        if let Some(thread) = bed.2.get() {
            thread.unpark();
        }
    }
    fn sleep(bed: &mut Bed) -> bool {
        bed.2.get_or_init(thread::current);
        loop {
            if bed.0.swap(0, Ordering::AcqRel) > 0 {
                return true;
            }
            if bed.1.load(Ordering::Acquire) {
                return false;
            }
            thread::park();
        }
    }
    fn end(bed: Bed) {
        bed.1.store(true, Ordering::Release);
        if let Some(thread) = bed.2.get() {
            thread.unpark();
        }
    }
}

struct Std;
impl Sleeper for Std {
    type Waker = mpsc::SyncSender<u64>;
    type Sleeper = mpsc::Receiver<u64>;
    fn pair() -> (Self::Waker, Self::Sleeper) {
        mpsc::sync_channel(16)
    }
    fn wake(waker: &mut Self::Waker) {
        waker.send(1).expect("it listens");
    }
    fn sleep(sleeper: &mut Self::Sleeper) -> bool {
        sleeper.recv().is_ok()
    }
    fn end(_: Self::Waker) {}
}

struct Crossbeam;
impl Sleeper for Crossbeam {
    type Waker = crossbeam_channel::Sender<u64>;
    type Sleeper = crossbeam_channel::Receiver<u64>;
    fn pair() -> (Self::Waker, Self::Sleeper) {
        crossbeam_channel::bounded(16)
    }
    fn wake(waker: &mut Self::Waker) {
        waker.send(1).expect("it listens");
    }
    fn sleep(sleeper: &mut Self::Sleeper) -> bool {
        sleeper.recv().is_ok()
    }
    fn end(_: Self::Waker) {}
}

struct Tokio;
type Shared = Arc<(Notify, AtomicBool)>;
impl Sleeper for Tokio {
    type Waker = Shared;
    type Sleeper = (Shared, tokio::runtime::Runtime);
    fn pair() -> (Self::Waker, Self::Sleeper) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("without drivers");
        let shared = Shared::default();
        (Arc::clone(&shared), (shared, runtime))
    }
    fn wake(waker: &mut Self::Waker) {
        waker.0.notify_one();
    }
    fn sleep((shared, runtime): &mut Self::Sleeper) -> bool {
        runtime.block_on(shared.0.notified());
        !shared.1.load(Ordering::Acquire)
    }
    fn end(waker: Self::Waker) {
        waker.1.store(true, Ordering::Release);
        waker.0.notify_one();
    }
}

// ---- an idle engine --------------------------------------------------------------------------------------------------

dispatcher! {
    struct Nothing {}
}

fn idle(row: &mut Row<'_>) {
    row.turns_at_most(2);
    pin_this_thread(Last);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be started");
    let store = MemoryStore::new(Service::default()).expect("the default can be");
    let starting = Engine::builder(Nothing {}).storage(store).start();
    let engine = runtime.block_on(starting).expect("it can be started");
    pin_this_thread(First);
    row.turn(Ours, "an engine with a group and a memory store", move |taken| {
        let _kept = (&runtime, &engine);
        const WATCHED: Duration = Duration::from_secs(7);
        let before = switches();
        thread::sleep(WATCHED);
        let woken = switches().saturating_sub(before);
        taken.push_nanos(woken as f64 / WATCHED.as_secs_f64());
    });
}

/// How often the other threads of this process have slept so far, as the kernel counts it.
fn switches() -> u64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let of_thread = |path: std::path::PathBuf| -> Option<u64> {
        if path.file_name()?.to_str()?.parse::<u32>().ok()? == std::process::id() {
            return None;
        }
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    threads.filter_map(|entry| of_thread(entry.ok()?.path())).sum()
}
