//! What one thread can see of a set of rings.
#![cfg(not(lockfree_loom))]

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use whizbang_lockfree::*;

/// A sink that borrows, for one look, what the consumer has.
struct Log;
impl Sink for Log {
    type At<'a> = &'a mut Vec<String>;
}

struct AsText;
impl<M: std::fmt::Debug + 'static> Visit<M, Log> for AsText {
    fn visit(message: &M, out: &mut &mut Vec<String>) {
        out.push(format!("{message:?}"));
    }
}

struct Panics;
impl Visit<u64, Log> for Panics {
    fn visit(_: &u64, _: &mut &mut Vec<String>) {
        panic!("a visit that panics");
    }
}

type Header = (u64, u32);

fn small() -> (Producers<Header, Log>, Consumer<Header, Log>) {
    let config = RingsConfig { seats: 0, stripes: 1, publishers_max: 2, ring_bytes: 256 };
    rings(config, &Doorbell::new()).unwrap()
}

fn payloads(batch: &Drained<'_, Header, Log>) -> Vec<Vec<u8>> {
    batch.records().map(|record| record.bytes().unwrap().to_vec()).collect()
}

#[test]
fn what_is_pushed_is_drained_in_order() {
    let (producers, mut consumer) = small();
    for n in 0..3 {
        producers.try_push((n, 1), &n.to_le_bytes()).unwrap();
    }
    let batch = consumer.drain(DrainLimit::NONE);
    assert_eq!(batch.len(), 3);
    for (n, record) in (0..).zip(&batch) {
        assert_eq!(record.header(), &(n, 1));
        assert_eq!(record.bytes(), Some(&n.to_le_bytes()[..]));
    }
}

#[test]
fn a_plain_message_is_looked_at_in_the_way_its_producer_chose() {
    #[derive(Debug)]
    #[allow(dead_code)]
    struct Padded(u8, u64, &'static str);
    let (producers, mut consumer) = small();
    producers.try_push_plain::<_, AsText>((1, 2), Padded(1, 2, "three")).unwrap();
    producers.try_push_plain::<_, AsText>((2, 2), u128::MAX).unwrap();
    producers.try_push((3, 2), b"bytes").unwrap();
    producers.try_push_plain::<_, AsText>((4, 2), ()).unwrap();
    let batch = consumer.drain(DrainLimit::NONE);
    let mut log = Vec::new();
    for record in &batch {
        assert_eq!(record.is_plain(), record.bytes().is_none());
        assert_eq!(record.visit(&mut &mut log), record.is_plain());
    }
    let max = format!("{:?}", u128::MAX);
    assert_eq!(log, ["Padded(1, 2, \"three\")", &max, "()"]);
}

#[test]
fn a_visit_that_panics_changes_nothing() {
    let (producers, mut consumer) = small();
    let ticket = producers.try_push_plain::<_, Panics>((1, 0), 7).unwrap();
    producers.try_push((2, 0), b"next").unwrap();
    for _ in 0..2 {
        let batch = consumer.drain(DrainLimit::NONE);
        let mut log = Vec::new();
        for record in &batch {
            let visited = catch_unwind(AssertUnwindSafe(|| record.visit(&mut &mut log)));
            assert_eq!(visited.is_err(), record.is_plain());
        }
        assert_eq!(batch.len(), 2, "unfinished, the same records come again");
    }
    consumer.drain(DrainLimit::NONE).finish();
    assert!(producers.passed(ticket) && consumer.is_empty());
}

#[test]
fn a_full_ring_gives_the_message_back() {
    let (producers, mut consumer) = small();
    let mut pushed = 0;
    let back = loop {
        match producers.try_push_plain::<_, AsText>((pushed, 0), [pushed; 3]) {
            Ok(_) => pushed += 1,
            Err(back) => break back,
        }
    };
    assert_eq!((back.reason, back.message), (PushError::Full, [pushed; 3]));
    assert_eq!(pushed, 4, "a record of 64 bytes, a ring of 256");
    assert_eq!(producers.try_push((0, 0), b"").unwrap_err(), PushError::Full);
    consumer.drain(DrainLimit { records: 1, ..DrainLimit::NONE }).finish();
    producers.try_push_plain::<_, AsText>((9, 0), [9; 3]).expect("one was freed");
}

#[test]
fn nothing_is_freed_before_its_batch_is_finished() {
    let (producers, mut consumer) = small();
    while producers.try_push((0, 0), b"").is_ok() {}
    drop(consumer.drain(DrainLimit::NONE));
    assert_eq!(producers.try_push((0, 0), b"").unwrap_err(), PushError::Full);
    consumer.drain(DrainLimit::NONE).finish();
    producers.try_push((0, 0), b"").unwrap();
}

#[test]
fn the_largest_record_fits_wherever_the_ring_stands_and_a_larger_one_never() {
    let (producers, mut consumer) = small();
    let bytes_max = producers.record_bytes_max();
    let largest = vec![0xA5; bytes_max];
    // Under Miri not every place that the ring can stand at, but the wrap at several.
    for step in 0..if cfg!(miri) { 12 } else { 40 } {
        producers.try_push((0, 0), &largest[..step % bytes_max]).unwrap();
        consumer.drain(DrainLimit::NONE).finish();
        producers.try_push((0, 0), &largest).expect("an empty ring takes it");
        let batch = consumer.drain(DrainLimit::NONE);
        assert_eq!(payloads(&batch), [&largest[..]]);
        batch.finish();
    }
    let too_large = vec![0; bytes_max + 1];
    assert_eq!(producers.try_push((0, 0), &too_large).unwrap_err(), PushError::TooLarge { bytes_max });
    assert_eq!(producers.try_claim(bytes_max + 1).unwrap_err(), PushError::TooLarge { bytes_max });
    let back = producers.try_push_plain::<_, AsText>((0, 0), [1_u8; 400]).unwrap_err();
    assert_eq!((back.reason, back.message), (PushError::TooLarge { bytes_max }, [1; 400]));
}

#[test]
fn a_claim_is_as_long_as_what_was_written() {
    let (producers, mut consumer) = small();
    let mut claim = producers.try_claim(20).unwrap();
    claim.extend_from_slice(b"not this").unwrap();
    claim.clear();
    write!(claim, "{}-{}", 12, 34).unwrap();
    assert_eq!((claim.written(), claim.remaining(), claim.as_bytes()), (5, 15, &b"12-34"[..]));
    assert_eq!(claim.extend_from_slice(&[0; 16]), Err(ClaimExceeded { bytes_max: 20 }));
    assert_eq!(claim.write_all(&[0; 16]).unwrap_err().kind(), std::io::ErrorKind::WriteZero);
    claim.clear();
    claim.extend_from_slice(b"12-34").unwrap();
    let first = claim.commit((1, 1));
    let second = producers.try_push((2, 2), b"").unwrap();
    assert_eq!(second.position() - first.position(), 32, "nothing was left between them");
    assert_eq!(payloads(&consumer.drain(DrainLimit::NONE)), [&b"12-34"[..], b""]);
}

#[test]
fn a_claim_that_is_dropped_or_whose_encoder_panics_never_was() {
    let (producers, mut consumer) = small();
    drop(producers.try_claim(60).unwrap());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut claim = producers.try_claim(60).unwrap();
        claim.extend_from_slice(b"half of a mess").unwrap();
        panic!("the encoder");
    }));
    assert!(panicked.is_err() && consumer.is_empty());
    producers.try_push((1, 1), b"whole").unwrap();
    assert_eq!(payloads(&consumer.drain(DrainLimit::NONE)), [b"whole"]);
}

#[test]
fn a_push_goes_round_a_stripe_that_is_taken() {
    let config = RingsConfig { seats: 0, stripes: 2, publishers_max: 0, ring_bytes: 1024 };
    let (producers, mut consumer) = rings::<Header, Log>(config, &Doorbell::new()).unwrap();
    let claim = producers.try_claim(8).unwrap();
    let beside = producers.try_push((1, 0), b"beside").unwrap();
    let inside = claim.commit((2, 0));
    assert_ne!(beside.ring(), inside.ring());
    assert_eq!(consumer.drain(DrainLimit::NONE).len(), 2);
    let one = producers.try_claim(8).unwrap();
    let two = producers.try_claim(8).unwrap();
    assert_eq!(producers.try_push((3, 0), b"").unwrap_err(), PushError::Full, "all stripes are taken");
    drop((one, two));
    producers.try_push((3, 0), b"").unwrap();
}

#[test]
fn a_publisher_that_ended_leaves_its_ring_to_the_next() {
    let (producers, mut consumer) = small();
    let mut first = producers.publisher().unwrap();
    let second = producers.publisher().unwrap();
    assert_eq!(producers.publisher().unwrap_err(), NoRing { publishers_max: 2 });
    let before = first.try_push((1, 0), b"first").unwrap();
    drop((first, second));
    let third = producers.publisher().unwrap();
    let mut fourth = producers.publisher().expect("the undrained ring, as no other is left");
    let after = fourth.try_push((2, 0), b"fourth").unwrap();
    assert_eq!(before.ring(), after.ring());
    assert!(before.position() < after.position(), "positions never come again");
    let batch = consumer.drain(DrainLimit::NONE);
    assert_eq!(payloads(&batch), [&b"first"[..], b"fourth"]);
    batch.finish();
    drop((third, fourth));
}

#[test]
fn a_claim_that_a_publisher_forgot_stops_neither_it_nor_the_end() {
    let (producers, mut consumer) = small();
    let mut publisher = producers.publisher().unwrap();
    std::mem::forget(publisher.try_claim(8).unwrap());
    publisher.try_push((1, 0), b"next").unwrap();
    std::mem::forget(publisher.try_claim(8).unwrap());
    drop(publisher);
    producers.close();
    let batch = consumer.drain(DrainLimit::NONE);
    assert_eq!(payloads(&batch), [b"next"]);
    batch.finish();
    assert!(consumer.is_closed_and_empty());
}

#[test]
fn after_the_close_nothing_comes_in_and_everything_comes_out() {
    let (producers, mut consumer) = small();
    let mut publisher = producers.publisher().unwrap();
    producers.try_push((1, 0), b"a").unwrap();
    publisher.try_push((1, 0), b"b").unwrap();
    let claim = producers.try_claim(8).unwrap();
    producers.close();
    producers.close();
    assert!(producers.is_closed() && publisher.is_closed());
    assert_eq!(publisher.try_push((0, 0), b"").unwrap_err(), PushError::Closed);
    assert_eq!(producers.clone().try_push((0, 0), b"").unwrap_err(), PushError::Closed);
    let back = publisher.try_push_plain::<_, AsText>((0, 0), 5_u8).unwrap_err();
    assert_eq!((back.reason, back.message), (PushError::Closed, 5));
    consumer.drain(DrainLimit::NONE).finish();
    assert!(consumer.is_empty() && !consumer.is_closed_and_empty(), "a claim from before the close is out");
    assert!(!consumer.has_news());
    claim.commit((2, 0));
    assert!(consumer.has_news());
    consumer.drain(DrainLimit::NONE).finish();
    assert!(consumer.is_closed_and_empty() && consumer.has_news());
    assert_eq!(producers.try_claim(1).unwrap_err(), PushError::Closed);
}

/// Who is told that a ring is full waits for room, which a closed ring never has.
#[test]
fn a_ring_that_is_full_and_closed_says_that_it_is_closed() {
    fn refused(mut push: impl FnMut(&[u8]) -> Result<Ticket, PushError>, bytes: usize) -> [PushError; 2] {
        while push(&[]).is_ok() {}
        [push(&[]).unwrap_err(), push(&vec![0; bytes]).unwrap_err()]
    }
    // This thread pushes through the ring of its seat, or through a stripe where there are no seats.
    for seats in [64, 0] {
        let config = RingsConfig { seats, stripes: 1, publishers_max: 1, ring_bytes: 256 };
        let (producers, _consumer) = rings::<Header, Log>(config, &Doorbell::new()).unwrap();
        let mut publisher = producers.publisher().unwrap();
        let bytes_max = producers.record_bytes_max();
        for expected in [[PushError::Full, PushError::TooLarge { bytes_max }], [PushError::Closed; 2]] {
            let bytes = bytes_max + 1;
            assert_eq!(refused(|payload| publisher.try_push((0, 0), payload), bytes), expected);
            assert_eq!(refused(|payload| producers.try_push((0, 0), payload), bytes), expected);
            producers.close();
        }
    }
}

#[test]
fn limits_hold_and_rings_take_turns() {
    let config = RingsConfig { seats: 0, stripes: 1, publishers_max: 3, ring_bytes: 4096 };
    let (producers, mut consumer) = rings::<u32, NoSink>(config, &Doorbell::new()).unwrap();
    let mut publishers: Vec<_> = (0..3).map(|_| producers.publisher().unwrap()).collect();
    for n in 0..20 {
        for publisher in &mut publishers {
            publisher.try_push(n, b"").unwrap();
        }
    }
    let of_ring = |batch: &Drained<'_, u32, NoSink>, ring| {
        batch.records().filter(|record| record.ticket().ring() == ring).count()
    };
    let batch = consumer.drain(DrainLimit { records: 6, ..DrainLimit::NONE });
    assert_eq!([1, 2, 3].map(|ring| of_ring(&batch, ring)), [2, 2, 2]);
    batch.finish();
    let mut firsts = Vec::new();
    for _ in 0..3 {
        let batch = consumer.drain(DrainLimit { records: 1, ..DrainLimit::NONE });
        firsts.push(batch.records().next().unwrap().ticket().ring());
        batch.finish();
    }
    firsts.sort_unstable();
    assert_eq!(firsts, [1, 2, 3], "one record at a time still serves every ring");
    let bytes_each = 32;
    let batch = consumer.drain(DrainLimit { bytes: 5 * bytes_each, ..DrainLimit::NONE });
    assert_eq!(batch.len(), 5);
    drop(batch);
    let batch = consumer.drain(DrainLimit { bytes: 1, ..DrainLimit::NONE });
    assert_eq!(batch.len(), 1, "a record larger than the limit is taken alone");
    drop(batch);
    assert!(consumer.drain(DrainLimit { records: 0, ..DrainLimit::NONE }).is_empty());
    let batch = consumer.drain(DrainLimit::NONE);
    assert_eq!(batch.len(), 60 - 9);
    assert_eq!(batch.records().count(), 51);
}

#[test]
fn bounds_that_cannot_be_are_refused() {
    let ask = |stripes, publishers_max, ring_bytes| {
        rings::<u64, NoSink>(RingsConfig { seats: 0, stripes, publishers_max, ring_bytes }, &Doorbell::new())
            .map(drop)
    };
    assert_eq!(ask(0, 4, 1024), Err(ConfigError::NoStripes));
    assert_eq!(ask(1, 0, 1000), Err(ConfigError::RingBytes { asked: 1000, bytes_min: 128 }));
    assert_eq!(ask(1, 0, 64), Err(ConfigError::RingBytes { asked: 64, bytes_min: 128 }));
    assert_eq!(ask(1, 0, 1 << 40), Err(ConfigError::RingBytes { asked: 1 << 40, bytes_min: 128 }));
    assert!(matches!(ask(usize::MAX, 1, 1024), Err(ConfigError::TooManyRings { .. })));
    assert_eq!(ask(1, 0, 128), Ok(()));
}

#[test]
fn an_arena_comes_back_empty_and_no_larger_than_allowed() {
    let pool = ArenaPool::new(1, 64 * 1024);
    let arena = pool.take();
    arena.alloc_layout(std::alloc::Layout::new::<[u8; 1_000_000]>());
    drop(arena);
    let arena = pool.take();
    let kept = arena.allocated_bytes();
    assert!((64 * 1024..128 * 1024).contains(&kept), "{kept}");
    let other = pool.take();
    assert_eq!(other.allocated_bytes(), 0, "the pool kept one");
    drop(arena);
    drop(other);
    assert_eq!(pool.take().allocated_bytes(), kept, "the second to come back found no place");
}

#[test]
fn handles_can_be_sent_and_shared_and_records_cannot() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Producers<Header, Log>>();
    sync::<Producers<Header, Log>>();
    send::<Publisher<Header, Log>>();
    send::<Consumer<Header, Log>>();
    send::<Herald>();
    sync::<Herald>();
    send::<Doorbell>();
    sync::<Doorbell>();
    send::<Answered<'static>>();
    send::<Room<'_>>();
    send::<Arena>();
    send::<ArenaPool>();
    sync::<ArenaPool>();
    send::<Drained<'_, Header, Log>>();
}
