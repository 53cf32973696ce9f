//! The ways to hand a message from one thread to another: ours and the rivals, as they are on the registry.
//!
//! All carry the same record: an id, a stream and 64 bytes. All are bounded alike, and are used without waiting.

use std::num::NonZeroU128;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use disruptor::Producer as _;
use tokio::sync::mpsc;
use whizbang_lockfree::ids::next_id;
use whizbang_lockfree::{
    Consumer, Doorbell, DrainLimit, Fences, Producers, Publisher, RingsConfig, Sink, Visit, rings,
};

/// What the engine's records carry besides the message.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    id: NonZeroU128,
    stream: u128,
}

/// A plain message of 64 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Plain([u64; 8]);

type Record = (Header, Plain);

/// The `n`th record, with an id of its own.
#[inline(always)]
pub(crate) fn record(n: u64) -> Record {
    (Header { id: next_id(), stream: u128::from(n) }, Plain([n; 8]))
}

/// The `n`th record, with an id that it had before.
#[inline(always)]
pub(crate) fn again(id: NonZeroU128, n: u64) -> Record {
    (Header { id, stream: u128::from(n) }, Plain([n; 8]))
}

/// One way to hand messages over.
pub(crate) trait Way: 'static {
    /// As it is called in the table.
    const NAME: &'static str;
    /// Whether several may push.
    const IS_SHARED: bool;
    type Producer: Send;
    type Consumer: Send;
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer);
    /// Whether there was room.
    fn push(producer: &mut Self::Producer, record: Record) -> bool;
    /// Takes what is there, and looks at each; how many there were.
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize;
}

/// Records that each of them has room for: as many as our rings of the default size have.
pub(crate) const ROOM: usize = 1 << 11;

#[inline(always)]
fn look(sum: &mut u64, header: &Header, message: &Plain) {
    *sum = sum.wrapping_add(header.id.get() as u64 ^ header.stream as u64).wrapping_add(message.0[0]);
}

// ---- ours ------------------------------------------------------------------------------------------------------------

pub(crate) struct Sum;
impl Sink for Sum {
    type At<'a> = &'a mut u64;
}
struct Add;
impl Visit<Plain, Sum> for Add {
    #[inline]
    fn visit(message: &Plain, out: &mut &mut u64) {
        **out = out.wrapping_add(message.0[0]);
    }
}

fn ours(seats: usize, fences: Fences) -> (Producers<Header, Sum>, Consumer<Header, Sum>) {
    let config = RingsConfig { seats, ring_bytes: ROOM * 128, ..RingsConfig::default() };
    rings(config, &Doorbell::with_fences(fences)).expect("bounds that can be")
}

fn drain(consumer: &mut Consumer<Header, Sum>, sum: &mut u64) -> usize {
    let batch = consumer.drain(DrainLimit::NONE);
    let (mut len, mut headers) = (0, 0_u64);
    for record in &batch {
        len += 1;
        headers = headers.wrapping_add(record.header().id.get() as u64 ^ record.header().stream as u64);
        record.visit(&mut &mut *sum);
    }
    batch.finish();
    *sum = sum.wrapping_add(headers);
    len
}

pub(crate) struct Own;
impl Way for Own {
    const NAME: &'static str = "publisher (a ring of one's own)";
    const IS_SHARED: bool = true;
    type Producer = Publisher<Header, Sum>;
    type Consumer = Consumer<Header, Sum>;
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let (way, consumer) = ours(SEATS, Fences::detect());
        ((0..producers).map(|_| way.publisher().expect("a free ring")).collect(), consumer)
    }
    #[inline(always)]
    fn push(producer: &mut Self::Producer, (header, message): Record) -> bool {
        producer.try_push_plain::<_, Add>(header, message).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        drain(consumer, sum)
    }
}

/// As many as a set has by default: each thread of the table finds one.
const SEATS: usize = 8;

/// The way in for everybody: through the ring of the thread's seat, or through a stripe when there are no seats.
pub(crate) struct Everybody<const SEATED: bool, const SYMMETRIC: bool>;
impl<const SEATED: bool, const SYMMETRIC: bool> Way for Everybody<SEATED, SYMMETRIC> {
    const NAME: &'static str = match (SEATED, SYMMETRIC) {
        (true, false) => "producers, the ring of the thread's seat",
        (true, true) => "producers, the same where membarrier is missing",
        (false, false) => "producers, a stripe, as without a seat",
        (false, true) => "producers, a stripe, where membarrier is missing",
    };
    const IS_SHARED: bool = true;
    type Producer = Producers<Header, Sum>;
    type Consumer = Consumer<Header, Sum>;
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let fences = if SYMMETRIC { Fences::Symmetric } else { Fences::detect() };
        let (way, consumer) = ours(if SEATED { SEATS } else { 0 }, fences);
        ((0..producers).map(|_| way.clone()).collect(), consumer)
    }
    #[inline(always)]
    fn push(producer: &mut Self::Producer, (header, message): Record) -> bool {
        producer.try_push_plain::<_, Add>(header, message).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        drain(consumer, sum)
    }
}

// ---- rivals ----------------------------------------------------------------------------------------------------------

pub(crate) struct Rtrb;
impl Way for Rtrb {
    const NAME: &'static str = "rtrb (one producer, no doorbell, no close)";
    const IS_SHARED: bool = false;
    type Producer = rtrb::Producer<Record>;
    type Consumer = rtrb::Consumer<Record>;
    fn pair(_: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let (producer, consumer) = rtrb::RingBuffer::new(ROOM);
        (vec![producer], consumer)
    }
    #[inline(always)]
    fn push(producer: &mut Self::Producer, record: Record) -> bool {
        producer.push(record).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        let all = consumer.slots();
        let Ok(chunk) = consumer.read_chunk(all) else { return 0 };
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(|(header, message)| look(sum, header, message));
        chunk.commit_all();
        all
    }
}

fn empty() -> Record {
    (Header { id: NonZeroU128::MIN, stream: 0 }, Plain([0; 8]))
}

fn poll<B: DisruptorBarrier>(poller: &mut disruptor::EventPoller<Record, B>, sum: &mut u64) -> usize {
    B::poll(poller, sum)
}

/// The two kinds of barrier differ in their types only, and the trait that they share is private.
trait DisruptorBarrier: Sized {
    fn poll(poller: &mut disruptor::EventPoller<Record, Self>, sum: &mut u64) -> usize;
}

macro_rules! barrier {
    ($barrier:ty) => {
        impl DisruptorBarrier for $barrier {
            fn poll(poller: &mut disruptor::EventPoller<Record, Self>, sum: &mut u64) -> usize {
                let Ok(mut events) = poller.poll() else { return 0 };
                let mut len = 0;
                for (header, message) in &mut events {
                    look(sum, header, message);
                    len += 1;
                }
                len
            }
        }
    };
}
barrier!(disruptor::SingleProducerBarrier);
barrier!(disruptor::MultiProducerBarrier);

pub(crate) struct DisruptorOne;
impl Way for DisruptorOne {
    const NAME: &'static str = "disruptor, single producer";
    const IS_SHARED: bool = false;
    type Producer = disruptor::SingleProducer<Record, disruptor::SingleConsumerBarrier>;
    type Consumer = disruptor::EventPoller<Record, disruptor::SingleProducerBarrier>;
    fn pair(_: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let builder = disruptor::build_single_producer(ROOM, empty, disruptor::BusySpin);
        let (poller, builder) = builder.new_event_poller();
        (vec![builder.build()], poller)
    }
    #[inline(always)]
    fn push(producer: &mut Self::Producer, record: Record) -> bool {
        producer.try_publish(|slot| *slot = record).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        poll(consumer, sum)
    }
}

pub(crate) struct DisruptorMany;
impl Way for DisruptorMany {
    const NAME: &'static str = "disruptor, multi producer";
    const IS_SHARED: bool = true;
    type Producer = disruptor::MultiProducer<Record, disruptor::SingleConsumerBarrier>;
    type Consumer = disruptor::EventPoller<Record, disruptor::MultiProducerBarrier>;
    fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
        let builder = disruptor::build_multi_producer(ROOM, empty, disruptor::BusySpin);
        let (poller, builder) = builder.new_event_poller();
        let producer = builder.build();
        ((0..producers).map(|_| producer.clone()).collect(), poller)
    }
    #[inline(always)]
    fn push(producer: &mut Self::Producer, record: Record) -> bool {
        producer.try_publish(|slot| *slot = record).is_ok()
    }
    fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
        poll(consumer, sum)
    }
}

/// A way whose ends are values with a method each.
macro_rules! queue {
    ($way:ident $name:literal, $producer:ty, $consumer:ty, $make:expr, $push:expr, $take:expr) => {
        pub(crate) struct $way;
        impl Way for $way {
            const NAME: &'static str = $name;
            const IS_SHARED: bool = true;
            type Producer = $producer;
            type Consumer = $consumer;
            fn pair(producers: usize) -> (Vec<Self::Producer>, Self::Consumer) {
                let (producer, consumer) = $make;
                (vec![producer; producers], consumer)
            }
            #[inline(always)]
            fn push(producer: &mut Self::Producer, record: Record) -> bool {
                let push: fn(&mut $producer, Record) -> bool = $push;
                push(producer, record)
            }
            fn take_all(consumer: &mut Self::Consumer, sum: &mut u64) -> usize {
                let take: fn(&mut $consumer) -> Option<Record> = $take;
                let mut len = 0;
                while let Some((header, message)) = take(consumer) {
                    look(sum, &header, &message);
                    len += 1;
                }
                len
            }
        }
    };
}

queue!(
    Array "crossbeam ArrayQueue",
    Arc<ArrayQueue<Record>>,
    Arc<ArrayQueue<Record>>,
    {
        let queue = Arc::new(ArrayQueue::new(ROOM));
        (Arc::clone(&queue), queue)
    },
    |queue, record| queue.push(record).is_ok(),
    |queue| queue.pop()
);
queue!(
    Channel "crossbeam-channel",
    crossbeam_channel::Sender<Record>,
    crossbeam_channel::Receiver<Record>,
    crossbeam_channel::bounded(ROOM),
    |sender, record| sender.try_send(record).is_ok(),
    |receiver| receiver.try_recv().ok()
);
queue!(
    Tokio "tokio mpsc",
    mpsc::Sender<Record>,
    mpsc::Receiver<Record>,
    mpsc::channel(ROOM),
    |sender, record| sender.try_send(record).is_ok(),
    |receiver| receiver.try_recv().ok()
);
queue!(
    Flume "flume",
    flume::Sender<Record>,
    flume::Receiver<Record>,
    flume::bounded(ROOM),
    |sender, record| sender.try_send(record).is_ok(),
    |receiver| receiver.try_recv().ok()
);
queue!(
    Kanal "kanal",
    kanal::Sender<Record>,
    kanal::Receiver<Record>,
    kanal::bounded(ROOM),
    |sender, record| matches!(sender.try_send(record), Ok(true)),
    |receiver| receiver.try_recv().ok().flatten()
);
