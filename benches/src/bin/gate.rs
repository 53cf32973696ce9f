//! One scenario, over and over, for `scripts/gates` to count its instructions under callgrind.
//!
//! ```text
//! gate invoke        # prints how many operations there were
//! gate --list        # the scenarios
//! ```
//!
//! Only what happens inside `measured_by_callgrind` is counted; everything before it is preparation.
#![forbid(unsafe_code)]

use std::future::Future;
use std::hint::black_box;
use std::num::NonZeroU128;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use serde::{Deserialize, Serialize};
use whizbang::{
    Command, Context, Engine, Event, Failure, MemoryStore, Options, PlainReceptor, Receptor, Service, Unit,
    dispatcher,
};
use whizbang_lockfree::{Consumer, Doorbell, DrainLimit, NoSink, Producers, RingsConfig, rings};
use whizbang_storage::{
    Abilities, Answer, Append, AppendAnswer, ContentType, Epoch, HandOut, Hint, InstanceId, Join, Membership,
    MessageId, MessageKind, OnDead, Partition, Position, Sender, Settled, StartAt, StoreError, StreamId,
    SubscriptionId, SubscriptionSpec, WorkBatch, WorkStore,
};

/// Prepares and measures; says how many operations that were.
type Scenario = fn() -> usize;

const SCENARIOS: [(&str, Scenario); 5] =
    [("invoke", invoke), ("emit", emit), ("publish", publish), ("drain", drain), ("exchange", exchange)];

fn main() -> ExitCode {
    let asked = std::env::args().nth(1).unwrap_or_default();
    if asked == "--list" {
        SCENARIOS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    match SCENARIOS.iter().find(|(name, _)| *name == asked) {
        Some((_, scenario)) => {
            println!("{}", scenario());
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("no scenario {asked:?}; --list names them");
            ExitCode::FAILURE
        }
    }
}

/// What callgrind is told to count, by this name.
#[inline(never)]
fn measured_by_callgrind(run: &mut dyn FnMut()) {
    run();
}

/// Enough that what happens once does not show.
const OPERATIONS: usize = 10_000;

/// A command of 64 bytes to its receptor, whose function is not inlined.
fn invoke() -> usize {
    let app = App { worker: Worker };
    let mut sum = 0;
    measured_by_callgrind(&mut || {
        for n in 0..OPERATIONS as u64 {
            sum += ready(app.invoke(Work { key: black_box(n), words: [n; 7] })).unwrap_or_default();
        }
    });
    black_box(sum);
    OPERATIONS
}

/// An event into the unit of a handler.
fn emit() -> usize {
    let mut unit = Unit::default();
    let mut emit = |n| {
        unit.clear();
        Context::collecting(&mut unit).publish(&Sums { account: black_box(n), sums: [n; 7] }).is_ok()
    };
    assert!(emit(1), "a unit takes a small event");
    measured_by_callgrind(&mut || (0..OPERATIONS as u64).for_each(|n| assert!(emit(n))));
    OPERATIONS
}

/// A plain event of 64 bytes into the ring of an engine whose pump is busy with the store.
fn publish() -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime with a timer can be made");
    let busy = Arc::new(Busy::default());
    let store = BusyStore {
        inner: MemoryStore::new(Service::default()).expect("the default can be"),
        busy: Arc::clone(&busy),
    };
    let options = Options { group: None, ring_bytes: 16 << 20, ..Options::default() };
    let starting = Engine::builder(App { worker: Worker }).storage(store).options(options).start();
    let engine = runtime.block_on(starting).expect("the engine starts");
    let mut publisher = engine.publisher().expect("there is a ring");
    let mut publish = |n| publisher.try_publish(Sums { account: black_box(n), sums: [n; 7] }).is_ok();
    assert!(publish(1), "the ring is empty");
    busy.wait();
    assert!(publish(2), "the ring has room");
    measured_by_callgrind(&mut || (0..OPERATIONS as u64).for_each(|n| assert!(publish(n))));
    busy.end();
    OPERATIONS
}

/// Records of 64 bytes out of a ring.
fn drain() -> usize {
    let config = RingsConfig { ring_bytes: 4 << 20, ..RingsConfig::default() };
    let (producers, mut consumer): (Producers<u64, NoSink>, Consumer<u64, NoSink>) =
        rings(config, &Doorbell::new()).expect("bounds that can be");
    for n in 0..OPERATIONS as u64 {
        producers.try_push(n, &[7; 64]).expect("there is room");
    }
    let mut sum = 0;
    measured_by_callgrind(&mut || {
        let batch = consumer.drain(DrainLimit::NONE);
        for record in &batch {
            sum += record.header() + record.bytes().map_or(0, |bytes| u64::from(bytes[0]));
        }
        batch.finish();
    });
    assert!(sum > 0);
    OPERATIONS
}

/// Exchanges with the memory store: 1,000 messages are stored and handed out, and those before them are settled.
fn exchange() -> usize {
    const EXCHANGES: usize = 10;
    const MESSAGES: usize = 1_000;
    const STREAMS: u64 = 100;
    let service = Service::default();
    let partitions = service.partitions;
    let mut store = MemoryStore::new(service).expect("the default can be");
    let mut answer = Answer::default();
    let sender =
        |number| Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 1, number };
    let join = Join {
        group: Some("main"),
        subscriptions: &[SubscriptionSpec {
            name: "gate",
            start: StartAt::First,
            on_dead: OnDead::Skip,
            attempts_max: 10,
        }],
        types: &[],
    };
    let first = WorkBatch { membership: Some(Membership::Join(join)), ..WorkBatch::empty(sender(1)) };
    ready(store.process_work_batch(&first, &mut answer)).expect("it joins");
    let subscription = answer.membership.as_ref().expect("a join is answered").subscriptions[0];

    let streams: Vec<_> = (0..STREAMS).map(|n| StreamId::from_key(n.to_string())).collect();
    let batches: Vec<Vec<Append<'_>>> = (0..=EXCHANGES)
        .map(|batch| {
            (0..MESSAGES)
                .map(|n| message((batch * MESSAGES + n) as u128, streams[n % streams.len()]))
                .collect()
        })
        .collect();
    let mut positions = vec![(0_u64, 0_u64); partitions as usize];
    let mut number = 1;
    let mut exchange = |appends: &[Append<'_>]| {
        number += 1;
        let settled = ranges(&mut positions, subscription);
        let batch = WorkBatch {
            appends,
            settled: &settled,
            housekeeping: Some(2 * MESSAGES),
            ..WorkBatch::empty(sender(number))
        };
        ready(store.process_work_batch(&batch, &mut answer)).expect("the store has room");
        for (append, answered) in appends.iter().zip(&answer.appends) {
            let AppendAnswer::Stored { position, .. } = answered else { panic!("not stored: {answered:?}") };
            positions[append.lane().partition(partitions).0 as usize].1 = position.0;
        }
    };
    exchange(&batches[0]);
    measured_by_callgrind(&mut || batches[1..].iter().for_each(|batch| exchange(batch)));
    EXCHANGES * MESSAGES
}

/// What was handed out and is not settled, for each partition; it counts as settled then.
fn ranges(positions: &mut [(u64, u64)], subscription: SubscriptionId) -> Vec<Settled> {
    let mut settled = Vec::with_capacity(positions.len());
    for (partition, (done, given)) in positions.iter_mut().enumerate() {
        if *given > *done {
            settled.push(Settled {
                subscription,
                partition: Partition(partition as u32),
                epoch: Epoch(1),
                first: Position(*done + 1),
                last: Position(*given),
            });
            *done = *given;
        }
    }
    settled
}

fn message(number: u128, stream: StreamId) -> Append<'static> {
    let id = MessageId::from_bits(NonZeroU128::MIN.saturating_add(number << 64));
    Append {
        id,
        stream: Some(stream),
        kind: MessageKind::Command,
        type_name: "gate.message",
        type_version: 1,
        content_type: ContentType::POSTCARD,
        payload: &[7; 120],
        correlation: id.into(),
        causation: None,
        metadata: b"",
        dedup: None,
        due_in: None,
        hand_out: HandOut::Now,
    }
}

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

// ---- a store that keeps the pump busy --------------------------------------------------------------------------------

#[derive(Default)]
struct Busy {
    state: Mutex<BusyState>,
    changed: Condvar,
}

#[derive(Default)]
struct BusyState {
    is_busy: bool,
    is_over: bool,
}

impl Busy {
    fn change(&self, change: impl FnOnce(&mut BusyState), until: impl Fn(&BusyState) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.changed.notify_all();
        while !until(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Until the pump is in the store.
    fn wait(&self) {
        self.change(|_| {}, |state| state.is_busy);
    }

    fn end(&self) {
        self.change(|state| state.is_over = true, |_| true);
    }
}

struct BusyStore {
    inner: MemoryStore,
    busy: Arc<Busy>,
}

impl WorkStore for BusyStore {
    type Reader = <MemoryStore as WorkStore>::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        if !batch.appends.is_empty() {
            self.busy.change(|state| state.is_busy = true, |state| state.is_over);
        }
        self.inner.process_work_batch(batch, answer).await
    }

    fn reader(&self) -> Self::Reader {
        self.inner.reader()
    }

    fn service(&self) -> &Service {
        self.inner.service()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn on_hint(&mut self, hint: Hint) {
        self.inner.on_hint(hint);
    }
}

// ---- messages --------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "gate.work", version = 1, reply = u64, codec = postcard)]
struct Work {
    key: u64,
    words: [u64; 7],
}

#[derive(Clone, Copy, Serialize, Deserialize, Event)]
#[message(name = "gate.sums", version = 1, codec = postcard)]
struct Sums {
    #[stream]
    account: u64,
    sums: [u64; 7],
}

struct Worker;

impl Receptor<Work> for Worker {
    async fn receive(&self, work: Work, _: Context<'_>) -> Result<u64, Failure> {
        function(work)
    }
}

impl PlainReceptor<Sums> for Worker {
    fn receive_now(&self, _: Sums, _: Context<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

#[inline(never)]
fn function(work: Work) -> Result<u64, Failure> {
    if work.key == u64::MAX { Err(Failure::dead("never here")) } else { Ok(work.words[6]) }
}

dispatcher! {
    struct App { worker: Worker }
    command Work => worker;
    event Sums => worker;
}
