//! What a publish, a drain, a refusal, an answer and an id cost here, beside `ArrayQueue` and std's mpsc.
//!
//! `cargo run --release --example nanoseconds`. Each figure is the median over many bursts, all rivals in one
//! run; the project's claims are printed by `benches`, this is for tuning.
#![allow(clippy::disallowed_types, reason = "a measurement outside of the protocols")]

use crossbeam_queue::ArrayQueue;
use std::hint::black_box;
use std::num::NonZeroU128;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use whizbang_lockfree::ids::next_id;
use whizbang_lockfree::*;

const BURST: usize = 128;
const BURSTS: usize = 4_000;

/// What a record of the engine might carry besides the message.
#[derive(Clone, Copy)]
struct Header {
    id: NonZeroU128,
    stream: u128,
}

#[derive(Clone, Copy)]
struct Message([u64; 8]);

type Rival = (Header, Message);

struct Sum;
impl Sink for Sum {
    type At<'a> = &'a mut u64;
}
struct Add;
impl Visit<Message, Sum> for Add {
    #[inline]
    fn visit(message: &Message, out: &mut &mut u64) {
        **out = out.wrapping_add(message.0[0]);
    }
}

/// One way to hand messages over: how one is pushed, and how all that are there are taken.
trait Way: Send + Sync + 'static {
    type Producer: Send;
    type Consumer: Send;
    const NAME: &'static str;
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer);
    fn push(producer: &mut Self::Producer, header: Header, message: Message) -> bool;
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize;
}

struct Stripes<const SYMMETRIC: bool>;
struct Own;
struct Array;
struct Mpsc;

const ROOM: usize = 1 << 14;

fn ours(fences: Fences) -> (Producers<Header, Sum>, Consumer<Header, Sum>) {
    let config = RingsConfig { ring_bytes: ROOM * 128, ..RingsConfig::default() };
    rings(config, &Doorbell::with_fences(fences)).expect("bounds that can be")
}

fn drain(consumer: &mut Consumer<Header, Sum>, sum: &mut u64) -> usize {
    let batch = consumer.drain(DrainLimit::NONE);
    for record in &batch {
        *sum = sum.wrapping_add(record.header().id.get() as u64 ^ record.header().stream as u64);
        record.visit(&mut &mut *sum);
    }
    let len = batch.len();
    batch.finish();
    len
}

impl<const SYMMETRIC: bool> Way for Stripes<SYMMETRIC> {
    type Producer = Producers<Header, Sum>;
    type Consumer = Consumer<Header, Sum>;
    const NAME: &'static str = if SYMMETRIC { "stripes, symmetric fences" } else { "stripes" };
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let fences = if SYMMETRIC { Fences::Symmetric } else { Fences::detect() };
        let (way, consumer) = ours(fences);
        ((0..producers).map(|_| way.clone()).collect(), consumer)
    }
    #[inline]
    fn push(producer: &mut Self::Producer, header: Header, message: Message) -> bool {
        producer.try_push_plain::<_, Add>(header, message).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        drain(consumer, sum)
    }
}

impl Way for Own {
    type Producer = Publisher<Header, Sum>;
    type Consumer = Consumer<Header, Sum>;
    const NAME: &'static str = "exclusive publisher";
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let (way, consumer) = ours(Fences::detect());
        ((0..producers).map(|_| way.publisher().expect("a free ring")).collect(), consumer)
    }
    #[inline]
    fn push(producer: &mut Self::Producer, header: Header, message: Message) -> bool {
        producer.try_push_plain::<_, Add>(header, message).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        drain(consumer, sum)
    }
}

impl Way for Array {
    type Producer = Arc<ArrayQueue<Rival>>;
    type Consumer = Arc<ArrayQueue<Rival>>;
    const NAME: &'static str = "crossbeam ArrayQueue";
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let queue = Arc::new(ArrayQueue::new(ROOM));
        ((0..producers).map(|_| Arc::clone(&queue)).collect(), queue)
    }
    #[inline]
    fn push(producer: &mut Self::Producer, header: Header, message: Message) -> bool {
        producer.push((header, message)).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        let mut len = 0;
        while let Some((header, message)) = consumer.pop() {
            *sum = sum.wrapping_add(header.id.get() as u64 ^ header.stream as u64).wrapping_add(message.0[0]);
            len += 1;
        }
        len
    }
}

impl Way for Mpsc {
    type Producer = mpsc::SyncSender<Rival>;
    type Consumer = mpsc::Receiver<Rival>;
    const NAME: &'static str = "std sync_channel";
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let (sender, receiver) = mpsc::sync_channel(ROOM);
        ((0..producers).map(|_| sender.clone()).collect(), receiver)
    }
    #[inline]
    fn push(producer: &mut Self::Producer, header: Header, message: Message) -> bool {
        producer.try_send((header, message)).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        let mut len = 0;
        while let Ok((header, message)) = consumer.try_recv() {
            *sum = sum.wrapping_add(header.id.get() as u64 ^ header.stream as u64).wrapping_add(message.0[0]);
            len += 1;
        }
        len
    }
}

/// Nanoseconds for each push of a burst; none when the consumer was suspended for so long that the ring is full.
fn burst<W: Way>(producer: &mut W::Producer) -> Option<f64> {
    let begin = Instant::now();
    for n in 0..BURST {
        // The compiler knows neither the message nor the stream, but keeps both in registers, as a caller would.
        let n = black_box(n as u64);
        let header = Header { id: next_id(), stream: u128::from(n) };
        if !W::push(producer, header, Message([n; 8])) {
            return None;
        }
    }
    Some(begin.elapsed().as_nanos() as f64 / BURST as f64)
}

fn wait(length: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < length {
        std::hint::spin_loop();
    }
}

struct Figures {
    p50: f64,
    p99: f64,
}

fn figures(mut samples: Vec<f64>) -> Figures {
    samples.sort_by(f64::total_cmp);
    Figures { p50: samples[samples.len() / 2], p99: samples[samples.len() * 99 / 100] }
}

/// Publish and drain on one thread: (publish, drain) per message.
fn same_core<W: Way>() -> (Figures, Figures) {
    let (mut producers, mut consumer) = W::pair(1);
    let mut sum = 0;
    let (mut pushes, mut takes) = (Vec::new(), Vec::new());
    for _ in 0..BURSTS {
        pushes.extend(burst::<W>(&mut producers[0]));
        let begin = Instant::now();
        assert_eq!(W::take_all(&mut consumer, &mut sum), BURST);
        takes.push(begin.elapsed().as_nanos() as f64 / BURST as f64);
    }
    black_box(sum);
    (figures(pushes), figures(takes))
}

/// The consumer is awake on the other core and looks again after a short rest.
fn other_core<W: Way>() -> Figures {
    let (mut producers, mut consumer) = W::pair(1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sum = 0;
            while !done.load(Ordering::Relaxed) {
                if W::take_all(&mut consumer, &mut sum) < 16 {
                    wait(Duration::from_nanos(1_500));
                }
            }
            black_box(sum);
        });
        let mut samples = Vec::new();
        for _ in 0..BURSTS {
            samples.extend(burst::<W>(&mut producers[0]));
            wait(Duration::from_micros(5));
        }
        done.store(true, Ordering::Relaxed);
        figures(samples)
    })
}

/// Two producers push at once; what they pushed is drained while both wait.
fn two_producers<W: Way>() -> Figures {
    let (producers, mut consumer) = W::pair(2);
    let (ready, round) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let (ready, round) = (&ready, &round);
        let mut producers = producers.into_iter();
        let mut first = producers.next().expect("there are two");
        let mut second = producers.next().expect("there are two");
        let other = scope.spawn(move || {
            (1..=BURSTS as u32)
                .map(|turn| {
                    while round.load(Ordering::Acquire) != turn {
                        std::hint::spin_loop();
                    }
                    let sample = burst::<W>(&mut second);
                    ready.store(turn, Ordering::Release);
                    sample
                })
                .collect::<Vec<_>>()
        });
        let mut samples = Vec::new();
        let mut sum = 0;
        for turn in 1..=BURSTS as u32 {
            round.store(turn, Ordering::Release);
            samples.extend(burst::<W>(&mut first));
            while ready.load(Ordering::Acquire) != turn {
                std::hint::spin_loop();
            }
            assert_eq!(W::take_all(&mut consumer, &mut sum), 2 * BURST);
        }
        black_box(sum);
        samples.extend(other.join().expect("the other producer").into_iter().flatten());
        figures(samples)
    })
}

fn refusal<W: Way>() -> Figures {
    let (mut producers, _consumer) = W::pair(1);
    let header = Header { id: next_id(), stream: 0 };
    while W::push(&mut producers[0], header, Message([0; 8])) {}
    figures(
        (0..BURSTS)
            .map(|_| {
                let begin = Instant::now();
                for _ in 0..BURST {
                    assert!(!W::push(&mut producers[0], black_box(header), black_box(Message([1; 8]))));
                }
                begin.elapsed().as_nanos() as f64 / BURST as f64
            })
            .collect(),
    )
}

fn row<W: Way>() {
    let (push, take) = same_core::<W>();
    let (other, two, refused) = (other_core::<W>(), two_producers::<W>(), refusal::<W>());
    println!(
        "{:26} {:6.1} {:6.1} {:7.1} {:6.1} {:7.1} {:6.1} {:8.1}",
        W::NAME,
        push.p50,
        take.p50,
        other.p50,
        other.p99,
        two.p50,
        two.p99,
        refused.p50
    );
}

fn single(name: &str, mut run: impl FnMut()) {
    let samples = (0..BURSTS).map(|_| {
        let begin = Instant::now();
        (0..BURST).for_each(|_| run());
        begin.elapsed().as_nanos() as f64 / BURST as f64
    });
    let figures = figures(samples.collect());
    println!("{name:26} {:6.1}", figures.p50);
}

fn main() {
    println!("64 byte message, 32 byte header, new id; ns per message, p50 unless said");
    println!("fences: {:?}", Fences::detect());
    println!("{:26} {:>13} {:>14} {:>14} {:>8}", "", "same core", "other core", "two producers", "refused");
    println!("{:26} {:>6} {:>6} {:>7} {:>6} {:>7} {:>6}", "", "push", "drain", "p50", "p99", "p50", "p99");
    for _ in 0..2 {
        row::<Own>();
        row::<Stripes<false>>();
        row::<Stripes<true>>();
        row::<Array>();
        row::<Mpsc>();
    }
    single("next_id", || {
        black_box(next_id());
    });
    let (producers, mut consumer) = ours(Fences::detect());
    let ticket = producers.try_push(Header { id: next_id(), stream: 0 }, b"").expect("room");
    consumer.drain(DrainLimit::NONE).finish();
    single("passed", || {
        black_box(producers.passed(black_box(ticket)));
    });
    single("answered already, polled", || {
        let answered = std::pin::pin!(producers.answered(black_box(ticket)));
        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(answered.poll(cx).is_ready());
    });
    single("drain of nothing", || {
        let batch = consumer.drain(DrainLimit::NONE);
        assert!(batch.is_empty());
        batch.finish();
    });
    single("wake of nobody", || consumer.wake());
    let bell = Doorbell::new();
    single("rest with work", || {
        black_box(bell.rest(Rest { looks: 0, ..Rest::default() }, || true));
    });
}
