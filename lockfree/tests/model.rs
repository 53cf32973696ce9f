//! Random operations beside a plain model: queues of byte vectors that know what was promised.
#![cfg(not(lockfree_loom))]

use proptest::prelude::*;
use std::collections::VecDeque;
use whizbang_lockfree::*;

const RING_BYTES: usize = 512;
/// Head and header of a record with a `u32` for a header, and what it is rounded up to.
const FRONT: usize = 32;
const UNIT: usize = 16;

#[derive(Debug, Clone)]
enum Operation {
    /// Pushes so many bytes through a producer: 0 is the stripe, 1 and 2 are publishers, each with the ring of its
    /// number, as a publisher that is replaced leaves the only free one.
    Push(usize, usize),
    /// Claims, writes, and commits or drops.
    Claim {
        producer: usize,
        claimed: usize,
        written: usize,
        is_committed: bool,
    },
    /// Drains at most so many records and bytes, and finishes or gives up.
    Drain {
        records: usize,
        bytes: usize,
        is_finished: bool,
    },
    /// Ends a publisher and takes a new one.
    Replace(usize),
    Close,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let producer = 0..3_usize;
    let operation = prop_oneof![
        6 => (producer.clone(), 0..300_usize).prop_map(|(producer, bytes)| Operation::Push(producer, bytes)),
        4 => (producer, 0..260_usize, 0..260_usize, any::<bool>()).prop_map(
            |(producer, claimed, written, is_committed)| Operation::Claim { producer, claimed, written, is_committed }
        ),
        4 => (0..6_usize, 0..700_usize, prop::bool::weighted(0.8)).prop_map(
            |(records, bytes, is_finished)| Operation::Drain { records, bytes, is_finished }
        ),
        1 => (1..3_usize).prop_map(Operation::Replace),
        1 => Just(Operation::Close),
    ];
    prop::collection::vec(operation, 1..if cfg!(miri) { 16 } else { 120 })
}

/// What is known of one ring, by arithmetic alone.
#[derive(Default)]
struct Plain {
    records: VecDeque<(u32, Vec<u8>, u64)>,
    head: u64,
    tail: u64,
}

impl Plain {
    /// Where a record for `bytes` would begin, if it fits.
    fn place(&self, bytes: usize) -> Option<u64> {
        let need = stride(bytes);
        let before_wrap = RING_BYTES as u64 - self.tail % RING_BYTES as u64;
        let start = if need > before_wrap { self.tail + before_wrap } else { self.tail };
        (start + need - self.head <= RING_BYTES as u64).then_some(start)
    }
}

fn stride(bytes: usize) -> u64 {
    (FRONT + bytes).next_multiple_of(UNIT) as u64
}

fn bytes_of(n: u32, length: usize) -> Vec<u8> {
    (0..length).map(|at| (n as usize + at) as u8).collect()
}

struct World {
    producers: Producers<u32, NoSink>,
    publishers: Vec<Option<Publisher<u32, NoSink>>>,
    consumer: Consumer<u32, NoSink>,
    rings: Vec<Plain>,
    is_closed: bool,
    tickets: Vec<Ticket>,
    next: u32,
}

impl World {
    fn new() -> World {
        let config = RingsConfig { seats: 0, stripes: 1, publishers_max: 2, ring_bytes: RING_BYTES };
        let (producers, consumer) = rings(config, &Doorbell::new()).unwrap();
        let publishers =
            vec![None, Some(producers.publisher().unwrap()), Some(producers.publisher().unwrap())];
        let rings = (0..3).map(|_| Plain::default()).collect();
        World { producers, publishers, consumer, rings, is_closed: false, tickets: Vec::new(), next: 0 }
    }

    /// What a push or a claim of `bytes` must answer, with the ring it goes to.
    fn expect(&self, producer: usize, bytes: usize) -> Result<u64, PushError> {
        let bytes_max = RING_BYTES / 2 - FRONT;
        if self.is_closed {
            return Err(PushError::Closed);
        }
        if bytes > bytes_max {
            return Err(PushError::TooLarge { bytes_max });
        }
        self.rings[producer].place(bytes).ok_or(PushError::Full)
    }

    fn accepted(&mut self, producer: usize, ticket: Ticket, n: u32, payload: Vec<u8>, start: u64) {
        let ring = producer;
        let end = start + stride(payload.len());
        assert_eq!((ticket.ring(), ticket.position()), (ring, end));
        self.rings[ring].tail = end;
        self.rings[ring].records.push_back((n, payload, end));
        self.tickets.push(ticket);
    }

    fn run(&mut self, operation: Operation) {
        let n = self.next;
        self.next += 1;
        match operation {
            Operation::Push(producer, length) => {
                let expected = self.expect(producer, length);
                let payload = bytes_of(n, length);
                let pushed = match &mut self.publishers[producer] {
                    None => self.producers.try_push(n, &payload),
                    Some(own) => own.try_push(n, &payload),
                };
                assert_eq!(pushed.is_ok(), expected.is_ok(), "{pushed:?}, not {expected:?}");
                match (pushed, expected) {
                    (Ok(ticket), Ok(start)) => self.accepted(producer, ticket, n, payload, start),
                    (pushed, expected) => assert_eq!(pushed.unwrap_err(), expected.unwrap_err()),
                }
            }
            Operation::Claim { producer, claimed, written, is_committed } => {
                let expected = self.expect(producer, claimed);
                let payload = bytes_of(n, written.min(claimed));
                let claim = match &mut self.publishers[producer] {
                    None => self.producers.try_claim(claimed),
                    Some(own) => own.try_claim(claimed),
                };
                let mut claim = match (claim, expected) {
                    (Ok(claim), Ok(_)) => claim,
                    (claim, expected) => return assert_eq!(claim.unwrap_err(), expected.unwrap_err()),
                };
                payload.chunks(7).for_each(|part| claim.extend_from_slice(part).unwrap());
                if written > claimed {
                    let over = vec![0; written - claimed];
                    assert_eq!(claim.extend_from_slice(&over), Err(ClaimExceeded { bytes_max: claimed }));
                }
                assert_eq!(claim.as_bytes(), payload);
                if is_committed {
                    let ticket = claim.commit(n);
                    self.accepted(producer, ticket, n, payload, expected.unwrap());
                }
            }
            Operation::Drain { records, bytes, is_finished } => {
                self.drain(DrainLimit { records, bytes }, is_finished)
            }
            Operation::Replace(producer) => {
                self.publishers[producer] = None;
                self.publishers[producer] =
                    Some(self.producers.publisher().expect("one was just given back"));
            }
            Operation::Close => {
                // Once in a while, so that most runs go on for long.
                if n.is_multiple_of(5) {
                    self.producers.close();
                    self.is_closed = true;
                }
            }
        }
        for ticket in &self.tickets {
            assert_eq!(self.producers.passed(*ticket), ticket.position() <= self.rings[ticket.ring()].head);
        }
        let is_empty = self.rings.iter().all(|ring| ring.records.is_empty());
        assert_eq!(self.consumer.is_empty(), is_empty);
        assert_eq!(self.consumer.is_closed_and_empty(), is_empty && self.is_closed);
    }

    fn drain(&mut self, limit: DrainLimit, is_finished: bool) {
        let waiting = self.rings.iter().any(|ring| !ring.records.is_empty());
        let batch = self.consumer.drain(limit);
        let mut taken = [0; 3];
        let mut bytes = 0;
        for record in &batch {
            let ring = record.ticket().ring();
            let (n, payload, end) = &self.rings[ring].records[taken[ring]];
            assert_eq!((record.header(), record.bytes()), (n, Some(&payload[..])));
            assert_eq!(record.ticket().position(), *end);
            taken[ring] += 1;
            bytes += stride(payload.len()) as usize;
        }
        assert_eq!(batch.len(), taken.iter().sum::<usize>());
        assert!(batch.len() <= limit.records);
        assert!(bytes <= limit.bytes || batch.len() == 1, "{bytes} of {}", limit.bytes);
        if waiting && limit.records > 0 && limit.bytes > 0 {
            assert!(!batch.is_empty(), "a drain makes progress");
        }
        if is_finished {
            batch.finish();
            for (ring, taken) in self.rings.iter_mut().zip(taken) {
                if let Some((_, _, end)) = ring.records.drain(..taken).next_back() {
                    ring.head = end;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Under Miri each seed draws its own.
        cases: if cfg!(miri) { 1 } else { 2_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rings_do_what_a_plain_queue_would(operations in operations()) {
        let mut world = World::new();
        operations.into_iter().for_each(|operation| world.run(operation));
        world.drain(DrainLimit::NONE, true);
        prop_assert!(world.consumer.is_empty());
    }
}
