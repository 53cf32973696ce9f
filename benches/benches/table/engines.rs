//! Publishing into a whole engine, whose pump runs on the other core and whose store forgets everything.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use whizbang::{
    Command, Context, Dispatcher, Durability, Engine, Event, Failure, MemoryStore, Message, MessageId,
    Options, PlainReceptor, Publisher, Service, Unit, dispatcher,
};
use whizbang_storage::{Abilities, Answer, AppendAnswer, Hint, StoreError, UnitAnswer, WorkBatch, WorkStore};

use crate::calls::ready;
use crate::cores::{self, First, Last, pin_this_thread};
use crate::rows::{Floor, Must, Ours, Rival, Row, Table, Taken};

pub(crate) fn rows(table: &mut Table) {
    if !cores::are_two() {
        return;
    }
    let median = |max| Some(Must::Median(max));
    table.row(
        "publish-1",
        "an engine takes a plain message of 64 bytes, its pump awake on the other core",
        median(12.0),
        |row| {
            publishing(row, Sums::example);
            let running = Running::start();
            let mut publisher = running.publisher();
            row.turn(Ours, "publisher.try_publish(event), of the stream of a number", move |taken| {
                bursts(taken, &running, || publisher.try_publish(AccountSums::example()).is_ok());
            });
            let running = Running::start();
            let mut publisher = running.publisher();
            row.turn(Ours, "publisher.try_publish(event), JSON, encoded by the pump", move |taken| {
                bursts(taken, &running, || publisher.try_publish(SumsAsJson::example()).is_ok());
            });
        },
    );
    table.row(
        "publish-2",
        "the same from two threads on both cores, while the pump waits for the store",
        Some(Must::MedianAndP99(15.0, 60.0)),
        |row| two_producers(row, Sums::example),
    );
    table.row("publish-strings", "an event that owns two strings, postcard", None, |row| {
        publishing(row, Note::example);
        row.call(Floor, "make the event and drop it", || black_box(Note::example()));
    });
    table.row("publish-json", "an event that owns two strings, JSON", None, |row| {
        publishing(row, NoteAsJson::example);
        let mut buffer = Vec::with_capacity(1_024);
        row.call(Floor, "make the event, encode it into a vector, drop it", move || {
            buffer.clear();
            black_box(NoteAsJson::example()).encode(&mut buffer)
        });
    });
    table.row(
        "publish-strings-2",
        "the event that owns two strings, postcard, from both cores",
        None,
        |row| {
            two_producers(row, Note::example);
        },
    );
    table.row("publish-json-2", "the event that owns two strings, JSON, from both cores", None, |row| {
        two_producers(row, NoteAsJson::example);
    });
    table.row(
        "command-event",
        "command → receptor → publish one plain event → return",
        median(15.0),
        commands,
    );
    table.row("build-batch", "drain plain messages and build the batch, per message", median(25.0), |row| {
        building(row, "plain, postcard", |publisher| publisher.try_publish(Sums::example()).is_ok());
        building(row, "plain, JSON", |publisher| publisher.try_publish(SumsAsJson::example()).is_ok());
        building(row, "owning strings, encoded already", |publisher| {
            publisher.try_publish(Note::example()).is_ok()
        });
    });
}

// ---- rows ------------------------------------------------------------------------------------------------------------

const BURST: usize = 128;
const BURSTS: usize = 20;

/// Once round a ring of the default size, in steps with which the pump keeps up: the first time round, its memory is not even there.
fn warm_up(mut publish: impl FnMut() -> bool) {
    const RECORD_BYTES: usize = 128;
    const STEP: usize = 512;
    for _ in 0..Options::default().ring_bytes / RECORD_BYTES / STEP {
        (0..STEP).for_each(|_| _ = publish());
        pause(Duration::from_micros(50));
    }
}

/// Samples of a burst, with pauses in which the pump catches up; a burst that was refused teaches nothing.
fn bursts<D: Dispatcher>(taken: &mut Taken, running: &Running<D>, mut publish: impl FnMut() -> bool) {
    warm_up(&mut publish);
    running.wake();
    for _ in 0..BURSTS {
        taken.take_if(BURST, || (0..BURST).all(|_| publish()));
        pause(Duration::from_micros(10));
    }
}

/// A publisher, the engine itself, and a channel that carries the event and an id.
fn publishing<E: Event>(row: &mut Row<'_>, make: impl Fn() -> E + Copy + 'static) {
    let running = Running::start();
    let mut publisher = running.publisher();
    row.turn(Ours, "publisher.try_publish(event)", move |taken| {
        bursts(taken, &running, || publisher.try_publish(make()).is_ok());
    });
    let running = Running::start();
    row.turn(Ours, "engine.try_publish(event)", move |taken| {
        bursts(taken, &running, || running.engine.try_publish(make()).is_ok());
    });
    row.turn(Rival, "tokio mpsc of the event and a new id, dropped there", move |taken| {
        let (sender, mut receiver) = mpsc::channel::<(std::num::NonZeroU128, E)>(1 << 14);
        let consumer = thread::spawn(move || {
            pin_this_thread(Last);
            loop {
                match receiver.try_recv() {
                    Ok(event) => drop(black_box(event)),
                    Err(mpsc::error::TryRecvError::Disconnected) => break,
                    Err(mpsc::error::TryRecvError::Empty) => pause(Duration::from_nanos(1_500)),
                }
            }
        });
        let publish = || sender.try_send((whizbang_lockfree::ids::next_id(), make())).is_ok();
        warm_up(publish);
        for _ in 0..BURSTS {
            taken.take_if(BURST, || (0..BURST).all(|_| publish()));
            pause(Duration::from_micros(10));
        }
        drop(sender);
        consumer.join().expect("the consumer only takes");
    });
}

fn pause(length: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < length {
        spin_loop();
    }
}

fn two_producers<E: Event>(row: &mut Row<'_>, make: impl Fn() -> E + Copy + Sync + 'static) {
    let running = Running::start();
    let (mut here, mut there) = (running.publisher(), running.publisher());
    row.turn(Ours, "a publisher each", move |taken| {
        let publish = move |publisher: &mut Publisher<App>| publisher.try_publish(make()).is_ok();
        both(
            taken,
            (&mut here, publish),
            (&mut there, publish),
            || running.gate.close(),
            || running.gate.open(),
        );
    });
    let running = Running::start();
    row.turn(Ours, "engine.try_publish(event)", move |taken| {
        let publish = move |engine: &mut &Engine<App>| engine.try_publish(make()).is_ok();
        let (mut here, mut there) = (&running.engine, &running.engine);
        both(
            taken,
            (&mut here, publish),
            (&mut there, publish),
            || running.gate.close(),
            || running.gate.open(),
        );
    });
    type Channel<E> = mpsc::Sender<(std::num::NonZeroU128, E)>;
    let (sender, mut receiver) = mpsc::channel(1 << 14);
    row.turn(Rival, "tokio mpsc of the event and a new id", move |taken| {
        let publish = move |sender: &mut Channel<E>| {
            sender.try_send((whizbang_lockfree::ids::next_id(), make())).is_ok()
        };
        let (mut here, mut there): (Channel<E>, Channel<E>) = (sender.clone(), sender.clone());
        both(
            taken,
            (&mut here, publish),
            (&mut there, publish),
            || (),
            || while receiver.try_recv().is_ok() {},
        );
    });
}

/// Both cores publish a burst at once; what came of it is taken away while both wait.
fn both<P: Send>(
    taken: &mut Taken,
    (here, publish): (&mut P, impl Fn(&mut P) -> bool),
    (there, publish_there): (&mut P, impl Fn(&mut P) -> bool + Sync),
    mut close: impl FnMut(),
    mut open: impl FnMut(),
) {
    let (round, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut others = taken.beside();
    warm_up(|| publish(here));
    let is_warm = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin_this_thread(Last);
            warm_up(|| publish_there(there));
            is_warm.store(true, Ordering::Release);
            for turn in 1..=BURSTS {
                while round.load(Ordering::Acquire) != turn {
                    spin_loop();
                }
                others.take_if(BURST, || (0..BURST).all(|_| publish_there(there)));
                done.store(turn, Ordering::Release);
            }
        });
        while !is_warm.load(Ordering::Acquire) {
            spin_loop();
        }
        open();
        for turn in 1..=BURSTS {
            close();
            // The pump meets the closed store with this one, and is out of the way.
            publish(here);
            pause(Duration::from_micros(100));
            round.store(turn, Ordering::Release);
            taken.take_if(BURST, || (0..BURST).all(|_| publish(here)));
            while done.load(Ordering::Acquire) != turn {
                spin_loop();
            }
            open();
            pause(Duration::from_micros(100));
        }
    });
    taken.join(others);
}

fn commands(row: &mut Row<'_>) {
    let running = Running::start();
    let front = Front { orders: Orders { engine: Some(running.engine.clone()) } };
    row.turn(Ours, "the receptor publishes through the engine", move |taken| {
        bursts(taken, &running, || ready(front.invoke(black_box(Order::example()))).is_ok());
    });
    let front = Front { orders: Orders { engine: None } };
    let mut unit = Unit::default();
    row.call(Ours, "the receptor publishes into its unit", move || {
        unit.clear();
        ready(front.invoke_with(black_box(Order::example()), &mut unit))
    });
    let running = Running::start_with(Front { orders: Orders { engine: None } });
    row.turn(Ours, "engine.invoke_with(command, Accepted): a unit with an answer", move |taken| {
        bursts(taken, &running, || {
            let invoked = running.engine.invoke_with(black_box(Order::example()), Durability::Accepted);
            // It waits when the pump was kept from running for so long that there is no room.
            invoked.now_or_never().is_some_and(|invoked| invoked.is_ok())
        });
    });
    let orders = Orders { engine: None };
    let (mut unit, mut buffer) = (Unit::default(), Vec::with_capacity(1_024));
    row.call(Floor, "call the function, encode the event into a vector", move || {
        buffer.clear();
        unit.clear();
        let order = black_box(Order::example());
        black_box(orders.order(order)).encode(&mut buffer)
    });
}

fn building(row: &mut Row<'_>, name: &str, publish: fn(&mut Publisher<App>) -> bool) {
    const MESSAGES: usize = 4_096;
    let running = Running::start();
    let mut publisher = running.publisher();
    row.turn(Ours, name, move |taken| {
        running.gate.close();
        // The pump goes to the store with this one, and waits there.
        while !publish(&mut publisher) {
            pause(Duration::from_micros(100));
        }
        running.gate.wait_until_somebody_waits();
        let published = (0..MESSAGES).all(|_| publish(&mut publisher));
        running.gate.open_once();
        running.gate.wait_until_somebody_waits();
        // Between the answer to the first and the call with all others lie the drain and the building of their batch.
        if let (true, Some(took)) = (published, running.gate.between(MESSAGES)) {
            taken.push(took, MESSAGES);
        }
        running.gate.open();
        running.wake();
    });
}

// ---- an engine whose store forgets -----------------------------------------------------------------------------------

struct Running<D = App> {
    engine: Engine<D>,
    gate: Arc<Gate>,
    _runtime: Arc<Runtime>,
}

impl Running {
    fn start() -> Self {
        Self::start_with(App {})
    }

    fn publisher(&self) -> Publisher<App> {
        self.engine.publisher().expect("there are rings enough")
    }
}

impl<D: Dispatcher> Running<D> {
    /// Its pump and its runtime live on the last core, because threads begin where their makers are.
    fn start_with(dispatcher: D) -> Self {
        pin_this_thread(Last);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = Arc::new(runtime.expect("a runtime can be started"));
        let gate = Arc::new(Gate::default());
        let store = Forgetful {
            inner: MemoryStore::new(Service::default()).expect("the default can be"),
            gate: Arc::clone(&gate),
        };
        let options = Options { group: None, ..Options::default() };
        let starting = Engine::builder(dispatcher).storage(store).options(options).start();
        let engine = runtime.block_on(starting).expect("it can be started");
        pin_this_thread(First);
        Self { engine, gate, _runtime: runtime }
    }

    /// Has the pump make an exchange, so that it is awake.
    fn wake(&self) {
        let _ = self.engine.try_publish(Sums::example());
        pause(Duration::from_micros(50));
    }
}

/// Says that everything is stored, and keeps nothing: what is measured is the way there.
struct Forgetful {
    inner: MemoryStore,
    gate: Arc<Gate>,
}

impl WorkStore for Forgetful {
    type Reader = <MemoryStore as WorkStore>::Reader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        self.gate.enter(batch.appends.len());
        let rest = WorkBatch { appends: &[], units: &[], ..*batch };
        self.inner.process_work_batch(&rest, answer).await?;
        answer.appends.extend(batch.appends.iter().map(|_| AppendAnswer::Arrived));
        for unit in batch.units {
            let first = answer.emits.len();
            answer.emits.extend(unit.emits.iter().map(|_| AppendAnswer::Arrived));
            answer.units.push(UnitAnswer::Applied { emits: first..answer.emits.len() });
        }
        self.gate.leave();
        Ok(())
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

/// Where the pump waits while it is to be out of the way.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_closed: bool,
    /// So many may pass although it is closed.
    may_pass: usize,
    is_somebody_waiting: bool,
    left: Option<Instant>,
    entered: Option<(Instant, usize)>,
}

impl Gate {
    fn close(&self) {
        self.state.lock().is_closed = true;
    }

    fn open(&self) {
        let mut state = self.state.lock();
        (state.is_closed, state.may_pass) = (false, 0);
        self.changed.notify_all();
    }

    /// Lets one pass that waits.
    fn open_once(&self) {
        let mut state = self.state.lock();
        (state.may_pass, state.is_somebody_waiting) = (1, false);
        self.changed.notify_all();
    }

    fn wait_until_somebody_waits(&self) {
        let mut state = self.state.lock();
        while !state.is_somebody_waiting {
            self.changed.wait(&mut state);
        }
    }

    /// The time from the last answer to the call after it, if that had so many messages.
    fn between(&self, messages: usize) -> Option<Duration> {
        let state = self.state.lock();
        let ((entered, len), left) = (state.entered?, state.left?);
        (len == messages).then(|| entered.saturating_duration_since(left))
    }

    fn enter(&self, messages: usize) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.entered = Some((now, messages));
        while state.is_closed && state.may_pass == 0 {
            state.is_somebody_waiting = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
        state.is_somebody_waiting = false;
        state.may_pass = state.may_pass.saturating_sub(1);
    }

    fn leave(&self) {
        self.state.lock().left = Some(Instant::now());
    }
}

// ---- messages --------------------------------------------------------------------------------------------------------

macro_rules! sums {
    ($ty:ident $name:literal $codec:ident $(#[$stream:ident])?) => {
        /// A plain event of 64 bytes.
        #[derive(Clone, Copy, Serialize, Deserialize, Event)]
        #[message(name = $name, version = 1, codec = $codec)]
        struct $ty {
            $(#[$stream])?
            account: u64,
            sums: [u64; 7],
        }

        impl $ty {
            #[inline(always)]
            fn example() -> Self {
                let n = black_box(7);
                Self { account: n, sums: [n; 7] }
            }
        }
    };
}
sums!(Sums "table.sums" postcard);
sums!(AccountSums "table.account-sums" postcard #[stream]);
sums!(SumsAsJson "table.sums-as-json" json);

macro_rules! note {
    ($ty:ident $name:literal $codec:ident) => {
        /// An event that owns memory.
        #[derive(Clone, Serialize, Deserialize, Event)]
        #[message(name = $name, version = 1, codec = $codec)]
        struct $ty {
            #[stream]
            account: u64,
            title: String,
            text: String,
        }

        impl $ty {
            fn example() -> Self {
                Self {
                    account: black_box(7),
                    title: black_box("a title as they are").to_owned(),
                    text: black_box("a text of some sixty characters, as a short remark might be").to_owned(),
                }
            }
        }
    };
}
note!(Note "table.note" postcard);
note!(NoteAsJson "table.note-as-json" json);

dispatcher! {
    struct App {}
    event Sums => ;
    event AccountSums => ;
    event SumsAsJson => ;
    event Note => ;
    event NoteAsJson => ;
}

#[derive(Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "table.order", version = 1, reply = u64)]
struct Order {
    #[stream]
    account: u64,
    sum: u64,
}

impl Order {
    fn example() -> Self {
        Self { account: 7, sum: 12 }
    }
}

struct Orders {
    /// Where it publishes at once; without it, into its unit.
    engine: Option<Engine<App>>,
}

impl Orders {
    fn order(&self, order: Order) -> Sums {
        Sums { account: order.account, sums: [order.sum; 7] }
    }
}

impl PlainReceptor<Order> for Orders {
    #[inline]
    fn receive_now(&self, order: Order, mut cx: Context<'_>) -> Result<u64, Failure> {
        let event = self.order(order);
        match &self.engine {
            Some(engine) => drop(engine.try_publish(event).map_err(|_| Failure::msg("no room"))?),
            None => drop::<MessageId>(cx.publish(&event)?),
        }
        Ok(order.sum)
    }
}

dispatcher! {
    struct Front { orders: Orders }
    command Order => orders;
    event Sums => ;
}
