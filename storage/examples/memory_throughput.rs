//! What a message costs in `MemoryStore`: appended and handed out by one batch, settled and trimmed by the next.
//!
//! `cargo run --release -p whizbang-storage --example memory_throughput`

use std::hint::black_box;
use std::num::NonZeroU128;
use std::time::Instant;

use whizbang_storage::*;

const BATCH: usize = 4_000;
const BATCHES: usize = 1_000;
const PAYLOAD: [u8; 120] = [7; 120];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for partitions in [1, 16, 128] {
        for kind in [MessageKind::Command, MessageKind::Event] {
            let mut samples = run(partitions, kind)?;
            samples.sort_by(f64::total_cmp);
            println!(
                "{partitions:>4} partitions, {kind:?}: {:.0} ns a message (median of {BATCHES} batches of {BATCH}; best tenth {:.0})",
                samples[BATCHES / 2],
                samples[BATCHES / 10],
            );
        }
    }
    Ok(())
}

/// Nanoseconds a message, for each batch: short samples, so that a busy machine disturbs few of them.
fn run(partitions: u32, kind: MessageKind) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let service =
        Service { partitions, event_retention: Some(std::time::Duration::ZERO), ..Service::default() };
    let mut store = MemoryStore::new(service)?;
    let mut answer = Answer::default();
    let subscriptions =
        [SubscriptionSpec { name: "all", start: StartAt::First, on_dead: OnDead::Skip, attempts_max: 10 }];
    let mut from = Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 1, number: 1 };
    let mut batch = WorkBatch::empty(from);
    batch.membership =
        Some(Membership::Join(Join { group: Some("bench"), subscriptions: &subscriptions, types: &[] }));
    block_on(store.process_work_batch(&batch, &mut answer))?;
    let subscription = answer.membership.as_ref().ok_or("a join is answered")?.subscriptions[0];

    let mut ids = 1u128 << 80;
    let mut appends = Vec::with_capacity(BATCH);
    let mut settled: Vec<Settled> = Vec::new();
    let mut samples = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        appends.clear();
        for n in 0..BATCH {
            ids += 0x9E37_79B9;
            let id = MessageId::from_bits(NonZeroU128::new(ids).ok_or("ids grow")?);
            appends.push(Append {
                id,
                stream: Some(StreamId::from_key((n as u64 % 1_000).to_le_bytes())),
                kind,
                type_name: "bench.message",
                type_version: 1,
                content_type: ContentType::JSON,
                payload: &PAYLOAD,
                correlation: id.into(),
                causation: None,
                metadata: &[],
                dedup: None,
                due_in: None,
                hand_out: HandOut::Now,
            });
        }
        from.number += 1;
        let started = Instant::now();
        let batch = WorkBatch {
            appends: &appends,
            settled: &settled,
            housekeeping: Some(BATCH * 2),
            ..WorkBatch::empty(from)
        };
        block_on(store.process_work_batch(black_box(&batch), &mut answer))?;
        samples.push(started.elapsed().as_nanos() as f64 / BATCH as f64);
        // What was handed out is done at once: one range per partition, settled by the next batch.
        let mut ranges = vec![None::<(Position, Position)>; partitions as usize];
        for (append, stored) in appends.iter().zip(&answer.appends) {
            let AppendAnswer::Stored { position, handed_out: true, .. } = *stored else {
                return Err(format!("not handed out: {stored:?}").into());
            };
            let range = &mut ranges[append.lane().partition(partitions).0 as usize];
            *range = Some(range.map_or((position, position), |(first, _)| (first, position)));
        }
        settled.clear();
        for (index, range) in ranges.iter().enumerate() {
            settled.extend(range.map(|(first, last)| Settled {
                subscription,
                partition: Partition(index as u32),
                epoch: Epoch(1),
                first,
                last,
            }));
        }
    }
    Ok(samples)
}

/// The store never waits, so neither do we.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => unreachable!("the memory store answers at once"),
    }
}
