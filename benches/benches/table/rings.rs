//! Publishing a plain message of 64 bytes with a new id into a ring, and draining it, beside other queues.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cores::{self, First, Last, pin_this_thread};
use crate::queues::{
    Array, Channel, DisruptorMany, DisruptorOne, Everybody, Flume, Kanal, Own, ROOM, Rtrb, Tokio, Way, again,
    record,
};
use crate::rows::{Must, Ours, Rival, Role, Row, Table, Taken};
use whizbang_lockfree::ids::next_id;

pub(crate) fn rows(table: &mut Table) {
    let median = |max| Some(Must::Median(max));
    table.row("ring-same-core", "publish and drain, one thread", median(10.0), |row| {
        every::<SameCore>(row, Producers::One);
    });
    table.row("ring-same-core-drain", "drain, one thread, already published", None, |row| {
        every::<Drain>(row, Producers::One);
    });
    table.row("ring-refused", "refused, because it is full", median(10.0), |row| {
        every::<Refused>(row, Producers::One);
    });
    if !cores::are_two() {
        return;
    }
    table.row(
        "ring-publish-1",
        "publish in bursts, the consumer awake on the other core",
        median(12.0),
        |row| {
            every::<OtherCore>(row, Producers::One);
        },
    );
    table.row(
        "ring-publish-1-sparse",
        "publish one message every microsecond, means of 8, the consumer awake on the other core",
        None,
        |row| every::<Sparse>(row, Producers::One),
    );
    table.row(
        "ring-saturated-1",
        "publish as fast as it goes, the consumer draining: per message handed over",
        None,
        |row| {
            row.turns_at_most(60);
            every::<Saturated>(row, Producers::One);
        },
    );
    table.row(
        "ring-saturated-2",
        "two cores publish as fast as it goes, the second drains in between: per message handed over",
        None,
        |row| {
            row.turns_at_most(60);
            every::<TwoSaturated>(row, Producers::Two);
        },
    );
    table.row(
        "ring-publish-2",
        "publish in bursts from both cores at once",
        Some(Must::MedianAndP99(15.0, 60.0)),
        |row| every::<TwoProducers>(row, Producers::Two),
    );
    table.row(
        "ring-publish-2-sparse",
        "publish one message every microsecond from both cores, means of 8",
        None,
        |row| every::<TwoSparse>(row, Producers::Two),
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Producers {
    One,
    Two,
}

/// What is done with a way, once in each turn.
trait Scene {
    fn turn<W: Way>(ends: &mut Ends<W>, taken: &mut Taken);
}

struct Ends<W: Way> {
    producers: Vec<W::Producer>,
    consumer: W::Consumer,
}

fn every<S: Scene>(row: &mut Row<'_>, producers: Producers) {
    one::<S, Own>(row, Ours, producers);
    one::<S, Everybody<true, false>>(row, Ours, producers);
    one::<S, Everybody<true, true>>(row, Ours, producers);
    one::<S, Everybody<false, false>>(row, Ours, producers);
    one::<S, Rtrb>(row, Rival, producers);
    one::<S, DisruptorOne>(row, Rival, producers);
    one::<S, DisruptorMany>(row, Rival, producers);
    one::<S, Array>(row, Rival, producers);
    one::<S, Channel>(row, Rival, producers);
    one::<S, Tokio>(row, Rival, producers);
    one::<S, Flume>(row, Rival, producers);
    one::<S, Kanal>(row, Rival, producers);
}

fn one<S: Scene, W: Way>(row: &mut Row<'_>, role: Role, producers: Producers) {
    if producers == Producers::Two && !W::IS_SHARED {
        return;
    }
    let (producers, consumer) = W::pair(if producers == Producers::One { 1 } else { 2 });
    let mut ends = Ends::<W> { producers, consumer };
    row.turn(role, W::NAME, move |taken| {
        warm_up(&mut ends);
        S::turn(&mut ends, taken);
    });
}

/// Once through all its memory: since its last turn the other contestants have had the cache.
fn warm_up<W: Way>(Ends { producers, consumer }: &mut Ends<W>) {
    let mut sum = 0;
    for producer in producers {
        for _ in 0..ROOM / BURST + 1 {
            (0..BURST).for_each(|n| _ = W::push(producer, record(black_box(n as u64))));
            W::take_all(consumer, &mut sum);
        }
    }
    black_box(sum);
}

/// Messages in a burst: short enough that a core is seldom taken away meanwhile.
const BURST: usize = 128;
/// Bursts in a turn.
const BURSTS: usize = 20;

/// A sample, unless there was no room: then the consumer was kept from running, and nothing is learnt about publishing.
fn burst<W: Way>(producer: &mut W::Producer, taken: &mut Taken) {
    taken.take_if(BURST, || {
        // The compiler knows nothing of the message, but has it in registers, as a caller would.
        (0..BURST).all(|n| W::push(producer, record(black_box(n as u64))))
    });
}

fn pause(length: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < length {
        spin_loop();
    }
}

struct SameCore;
impl Scene for SameCore {
    fn turn<W: Way>(Ends { producers, consumer }: &mut Ends<W>, taken: &mut Taken) {
        let mut sum = 0;
        for _ in 0..BURSTS {
            taken.take_if(BURST, || {
                let is_whole = (0..BURST).all(|n| W::push(&mut producers[0], record(black_box(n as u64))));
                W::take_all(consumer, &mut sum);
                is_whole
            });
        }
        black_box(sum);
    }
}

struct Drain;
impl Scene for Drain {
    fn turn<W: Way>(Ends { producers, consumer }: &mut Ends<W>, taken: &mut Taken) {
        let mut sum = 0;
        for _ in 0..BURSTS {
            (0..BURST).for_each(|n| assert!(W::push(&mut producers[0], record(black_box(n as u64)))));
            taken.take(BURST, || assert_eq!(W::take_all(consumer, &mut sum), BURST));
        }
        black_box(sum);
    }
}

struct Refused;
impl Scene for Refused {
    fn turn<W: Way>(Ends { producers, .. }: &mut Ends<W>, taken: &mut Taken) {
        let id = black_box(next_id());
        while W::push(&mut producers[0], again(id, 0)) {}
        for _ in 0..BURSTS {
            taken.take(BURST, || {
                for n in 0..BURST {
                    // In registers, as in the other rows; a record in memory would be copied, which takes longer than to refuse it.
                    let record = again(id, black_box(n as u64));
                    assert!(!W::push(&mut producers[0], record), "nobody drains");
                }
            });
        }
    }
}

/// Runs `produce` here while the consumer is awake on the other core.
fn with_consumer<W: Way>(consumer: &mut W::Consumer, produce: impl FnOnce()) {
    let (is_ready, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            pin_this_thread(Last);
            let mut sum = 0;
            loop {
                let is_last = is_done.load(Ordering::Acquire);
                let taken = W::take_all(consumer, &mut sum);
                is_ready.store(true, Ordering::Release);
                if is_last {
                    break;
                }
                // As the pump does, and as the rivals profit from too: whoever chases takes the line from the producer.
                if taken < 16 {
                    pause(Duration::from_nanos(1_500));
                }
            }
            black_box(sum);
        });
        while !is_ready.load(Ordering::Acquire) {
            spin_loop();
        }
        produce();
        is_done.store(true, Ordering::Release);
    });
}

struct OtherCore;
impl Scene for OtherCore {
    fn turn<W: Way>(Ends { producers, consumer }: &mut Ends<W>, taken: &mut Taken) {
        with_consumer::<W>(consumer, || {
            for _ in 0..BURSTS {
                burst::<W>(&mut producers[0], taken);
                pause(Duration::from_micros(5));
            }
        });
    }
}

struct Sparse;
impl Scene for Sparse {
    fn turn<W: Way>(Ends { producers, consumer }: &mut Ends<W>, taken: &mut Taken) {
        with_consumer::<W>(consumer, || sparse::<W>(&mut producers[0], taken));
    }
}

/// A message every microsecond, timed with the processor's own counter; what reading it takes is taken off.
///
/// That counter may move in steps of 10 ns. Steps fall where they like, so the mean of some is right where each is not: a
/// sample is the mean of eight.
fn sparse<W: Way>(producer: &mut W::Producer, taken: &mut Taken) {
    let counter = counter();
    const GROUP: usize = 8;
    for _ in 0..BURST / GROUP {
        let (mut is_whole, mut nanos) = (true, 0.0);
        for n in 0..GROUP {
            pause(Duration::from_micros(1));
            let begun = counter.clock.raw();
            is_whole &= W::push(producer, record(black_box(n as u64)));
            nanos += counter.nanos(begun, counter.clock.raw()) - counter.reading;
        }
        if is_whole {
            taken.push_nanos((nanos / GROUP as f64).max(0.0));
        }
    }
}

struct Counter {
    clock: quanta::Clock,
    nanos_per_tick: f64,
    /// Nanoseconds between two readings with nothing in between.
    reading: f64,
}

impl Counter {
    fn nanos(&self, begun: u64, ended: u64) -> f64 {
        ended.saturating_sub(begun) as f64 * self.nanos_per_tick
    }
}

fn counter() -> &'static Counter {
    static COUNTER: std::sync::OnceLock<Counter> = std::sync::OnceLock::new();
    COUNTER.get_or_init(|| {
        let clock = quanta::Clock::new();
        const TICKS: u64 = 1 << 40;
        let nanos_per_tick = clock.delta_as_nanos(0, TICKS) as f64 / TICKS as f64;
        let mut counter = Counter { clock, nanos_per_tick, reading: 0.0 };
        let mut readings: Vec<_> = (0..10_001)
            .map(|_| {
                let begun = counter.clock.raw();
                counter.nanos(begun, counter.clock.raw())
            })
            .collect();
        readings.sort_unstable_by(f64::total_cmp);
        // The mean of what lies in the middle, for the same reason.
        let middle = &readings[readings.len() / 10..readings.len() * 9 / 10];
        counter.reading = middle.iter().sum::<f64>() / middle.len() as f64;
        counter
    })
}

struct Saturated;
impl Scene for Saturated {
    fn turn<W: Way>(Ends { producers, consumer }: &mut Ends<W>, taken: &mut Taken) {
        const MESSAGES: usize = 20_000;
        let arrived = AtomicUsize::new(0);
        let is_ready = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                pin_this_thread(Last);
                let mut sum = 0;
                is_ready.store(true, Ordering::Release);
                let mut all = 0;
                while all < MESSAGES {
                    let taken = W::take_all(consumer, &mut sum);
                    all += taken;
                    if taken < 16 {
                        pause(Duration::from_nanos(1_500));
                    }
                }
                arrived.store(all, Ordering::Release);
                black_box(sum);
            });
            while !is_ready.load(Ordering::Acquire) {
                spin_loop();
            }
            taken.take(MESSAGES, || {
                for n in 0..MESSAGES {
                    while !W::push(&mut producers[0], record(black_box(n as u64))) {
                        spin_loop();
                    }
                }
                while arrived.load(Ordering::Acquire) < MESSAGES {
                    spin_loop();
                }
            });
        });
    }
}

/// Both cores do `produce` at once, round by round; what came of it is drained while both wait.
fn both<W: Way>(
    Ends { producers, consumer }: &mut Ends<W>,
    taken: &mut Taken,
    rounds: usize,
    produce: impl Fn(&mut W::Producer, &mut Taken) + Sync,
) {
    let (round, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut others = taken.beside();
    let [here, there] = &mut producers[..] else { unreachable!("there are two") };
    thread::scope(|scope| {
        scope.spawn(|| {
            pin_this_thread(Last);
            for turn in 1..=rounds {
                while round.load(Ordering::Acquire) != turn {
                    spin_loop();
                }
                produce(there, &mut others);
                done.store(turn, Ordering::Release);
            }
        });
        let mut sum = 0;
        for turn in 1..=rounds {
            round.store(turn, Ordering::Release);
            produce(here, taken);
            while done.load(Ordering::Acquire) != turn {
                spin_loop();
            }
            W::take_all(consumer, &mut sum);
        }
        black_box(sum);
    });
    taken.join(others);
    pin_this_thread(First);
}

/// There is no third core for the consumer, so it lives on the second producer's.
struct TwoSaturated;
impl Scene for TwoSaturated {
    fn turn<W: Way>(Ends { producers, consumer }: &mut Ends<W>, taken: &mut Taken) {
        const EACH: usize = 10_000;
        const BETWEEN_DRAINS: usize = 256;
        let [here, there] = &mut producers[..] else { unreachable!("there are two") };
        let (is_ready, is_begun, is_done) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                pin_this_thread(Last);
                let (mut sum, mut all) = (0, 0);
                is_ready.store(true, Ordering::Release);
                while !is_begun.load(Ordering::Acquire) {
                    spin_loop();
                }
                for n in 0..EACH {
                    while !W::push(there, record(black_box(n as u64))) {
                        all += W::take_all(consumer, &mut sum);
                    }
                    if n % BETWEEN_DRAINS == 0 {
                        all += W::take_all(consumer, &mut sum);
                    }
                }
                while all < 2 * EACH {
                    all += W::take_all(consumer, &mut sum);
                }
                is_done.store(true, Ordering::Release);
                black_box(sum);
            });
            while !is_ready.load(Ordering::Acquire) {
                spin_loop();
            }
            taken.take(2 * EACH, || {
                is_begun.store(true, Ordering::Release);
                for n in 0..EACH {
                    while !W::push(here, record(black_box(n as u64))) {
                        spin_loop();
                    }
                }
                while !is_done.load(Ordering::Acquire) {
                    spin_loop();
                }
            });
        });
    }
}

struct TwoProducers;
impl Scene for TwoProducers {
    fn turn<W: Way>(ends: &mut Ends<W>, taken: &mut Taken) {
        both(ends, taken, BURSTS, |producer, taken| burst::<W>(producer, taken));
    }
}

struct TwoSparse;
impl Scene for TwoSparse {
    fn turn<W: Way>(ends: &mut Ends<W>, taken: &mut Taken) {
        both(ends, taken, 2, |producer, taken| sparse::<W>(producer, taken));
    }
}
