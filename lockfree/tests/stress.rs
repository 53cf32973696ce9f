//! Threads, random sizes, publishers that end or die in the middle of a claim: every byte is checked.
#![cfg(not(lockfree_loom))]

mod common;

use common::{block_on, content};
use std::collections::HashMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use whizbang_lockfree::*;

#[derive(Debug, Clone, Copy)]
struct Header {
    producer: u32,
    nth: u32,
    /// Whether the producer promised order, by owning its ring.
    is_ordered: bool,
}

/// A plain message of 72 bytes whose every byte follows from its header.
#[derive(Clone, Copy)]
struct Plain([u8; 72]);

struct Check;
impl Sink for Check {
    type At<'a> = &'a mut Option<Plain>;
}

struct Copied;
impl Visit<Plain, Check> for Copied {
    fn visit(message: &Plain, out: &mut &mut Option<Plain>) {
        **out = Some(*message);
    }
}

/// Both kinds of producers behind one set of verbs.
enum Way {
    Shared(Producers<Header, Check>),
    Own(Publisher<Header, Check>),
}

impl Way {
    fn try_push(
        &mut self,
        header: Header,
        random: &mut fastrand::Rng,
        length: usize,
    ) -> Result<Ticket, PushError> {
        let content = || content(header.producer, header.nth, length);
        match (self, random.u8(..3)) {
            (Way::Shared(way), 0) => way.try_push(header, &content().collect::<Vec<_>>()),
            (Way::Own(way), 0) => way.try_push(header, &content().collect::<Vec<_>>()),
            (Way::Shared(way), 1) => {
                way.try_push_plain::<_, Copied>(header, plain(header)).map_err(|back| back.reason)
            }
            (Way::Own(way), 1) => {
                way.try_push_plain::<_, Copied>(header, plain(header)).map_err(|back| back.reason)
            }
            (Way::Shared(way), _) => encode(way.try_claim(length + 50)?, content(), header),
            (Way::Own(way), _) => encode(way.try_claim(length + 50)?, content(), header),
        }
    }

    /// Begins to encode and panics.
    fn die(&mut self) {
        let died = catch_unwind(AssertUnwindSafe(|| {
            let claim = match self {
                Way::Shared(way) => way.try_claim(64),
                Way::Own(way) => way.try_claim(64),
            };
            if let Ok(mut claim) = claim {
                claim.write_all(&[0xDD; 40]).unwrap();
            }
            std::panic::resume_unwind(Box::new("an encoder that fails"));
        }));
        assert!(died.is_err());
    }

    fn room(&self) -> Room<'_> {
        match self {
            Way::Shared(way) => way.room(),
            Way::Own(way) => way.room(),
        }
    }

    fn answered(&self, ticket: Ticket) -> Answered<'_> {
        match self {
            Way::Shared(way) => way.answered(ticket),
            Way::Own(way) => way.answered(ticket),
        }
    }
}

fn plain(header: Header) -> Plain {
    let mut content = content(header.producer, header.nth, 72);
    Plain(std::array::from_fn(|_| content.next().unwrap()))
}

fn encode(
    mut claim: Claim<'_, Header, Check>,
    content: impl Iterator<Item = u8>,
    header: Header,
) -> Result<Ticket, PushError> {
    content.for_each(|byte| claim.write_all(&[byte]).unwrap());
    Ok(claim.commit(header))
}

/// What happens now and then: at one in 256 messages, and under Miri, which gets to see a dozen, at one in 8.
fn is_now_and_then(random: &mut fastrand::Rng) -> bool {
    random.u8(..) < if cfg!(miri) { 32 } else { 1 }
}

/// Payload bytes that are usual, and those of now and then. Miri takes milliseconds for each.
const USUAL: usize = if cfg!(miri) { 20 } else { 90 };
const LARGE: usize = if cfg!(miri) { 120 } else { 900 };

/// Pushes until the rings are closed; returns how many were accepted.
fn produce(producers: &Producers<Header, Check>, producer: u32, seed: u64) -> u32 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut accepted = 0;
    let mut current = None;
    loop {
        // Every now and then the way ends, with or without an answer outstanding, and another one is taken.
        let way = current.get_or_insert_with(|| match producers.publisher() {
            Ok(own) if producer.is_multiple_of(2) => Way::Own(own),
            _ => Way::Shared(producers.clone()),
        });
        // Order is promised by a publisher, not across two of them that took different rings.
        let header = Header { producer, nth: accepted, is_ordered: matches!(way, Way::Own(_)) };
        let length_max = if is_now_and_then(&mut random) { LARGE } else { USUAL };
        let length = random.usize(..length_max);
        match way.try_push(header, &mut random, length) {
            Ok(ticket) => {
                accepted += 1;
                if is_now_and_then(&mut random) {
                    block_on(way.answered(ticket)).expect("the consumer answers all before it goes");
                }
            }
            Err(PushError::Full) => block_on(way.room()),
            Err(PushError::Closed) => return accepted,
            Err(PushError::TooLarge { bytes_max }) => panic!("{length} of {bytes_max}"),
        }
        if is_now_and_then(&mut random) {
            way.die();
            current = None;
        }
    }
}

/// Drains until the end; returns how many came from each producer.
fn consume(
    mut consumer: Consumer<Header, Check>,
    bell: &Doorbell,
    seed: u64,
    enough: u64,
) -> HashMap<u32, u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen: HashMap<u32, Vec<bool>> = HashMap::new();
    let mut newest: HashMap<(u32, usize), u32> = HashMap::new();
    let mut count = 0;
    loop {
        let limit = DrainLimit { records: random.usize(1..64), bytes: random.usize(1..4096) };
        let batch = consumer.drain(limit);
        for record in &batch {
            let header = *record.header();
            match record.bytes() {
                Some(bytes) => {
                    assert!(
                        content(header.producer, header.nth, bytes.len()).eq(bytes.iter().copied()),
                        "{header:?}"
                    )
                }
                None => {
                    let mut out = None;
                    assert!(record.visit(&mut &mut out));
                    assert_eq!(out.unwrap().0, plain(header).0, "{header:?}");
                }
            }
        }
        // Some batches are given up once, as after a panic; they must come again and count once.
        if is_now_and_then(&mut random) {
            drop(batch);
            continue;
        }
        for record in &batch {
            let header = record.header();
            if header.is_ordered {
                let newest = newest.entry((header.producer, record.ticket().ring())).or_default();
                assert!(*newest <= header.nth, "{header:?} after {newest}");
                *newest = header.nth;
            }
            let seen = seen.entry(header.producer).or_default();
            seen.resize(seen.len().max(header.nth as usize + 1), false);
            assert!(!std::mem::replace(&mut seen[header.nth as usize], true), "{header:?} came twice");
        }
        count += batch.len() as u64;
        let is_empty = batch.is_empty();
        batch.finish();
        consumer.wake();
        if count >= enough {
            consumer.close();
        }
        if consumer.is_closed_and_empty() {
            break;
        }
        if is_empty {
            bell.rest(Rest::default(), || consumer.has_news());
        }
    }
    seen.into_iter()
        .map(|(producer, seen)| {
            assert!(seen.iter().all(|seen| *seen), "producer {producer} lost a message");
            (producer, seen.len() as u32)
        })
        .collect()
}

fn stress(fences: Fences, producers_count: u32, enough: u64, seed: u64) {
    let bell = Doorbell::with_fences(fences);
    // So small that they come round and fill up, also with the few messages that Miri sees.
    let ring_bytes = if cfg!(miri) { 512 } else { 4096 };
    let config = RingsConfig { seats: 2, stripes: 2, publishers_max: 2, ring_bytes };
    let (producers, consumer) = rings::<Header, Check>(config, &bell).unwrap();
    let accepted = Mutex::new(HashMap::new());
    let drained = thread::scope(|scope| {
        for producer in 0..producers_count {
            let (producers, accepted) = (producers.clone(), &accepted);
            scope.spawn(move || {
                let count = produce(&producers, producer, seed + u64::from(producer));
                if count > 0 {
                    accepted.lock().unwrap().insert(producer, count);
                }
            });
        }
        let consumed = scope.spawn(|| consume(consumer, &bell, seed, enough));
        consumed.join().unwrap()
    });
    assert_eq!(drained, accepted.into_inner().unwrap());
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no membarrier: this would be the next one again")]
fn every_byte_accepted_is_drained_once_with_the_fences_of_this_machine() {
    stress(Fences::detect(), 5, 200_000, 1);
}

#[test]
fn every_byte_accepted_is_drained_once_with_symmetric_fences() {
    let (producers, enough) = if cfg!(miri) { (2, 12) } else { (5, 200_000) };
    // Miri's seeds are seeds of the traffic as well.
    let seed = if cfg!(miri) { seed_of_miri() } else { 2 };
    stress(Fences::Symmetric, producers, enough, seed);
}

/// Where Miri put this test's stack, which it chooses by its seed.
fn seed_of_miri() -> u64 {
    let somewhere = 0_u8;
    (&raw const somewhere).addr() as u64
}

#[test]
#[cfg_attr(miri, ignore = "each seed of the one above closes at another moment")]
fn closing_at_any_moment_loses_nothing() {
    for seed in 0..300 {
        stress(Fences::detect(), 3, seed % 70, 100 + seed);
    }
}
