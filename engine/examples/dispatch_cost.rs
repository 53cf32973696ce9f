//! What a dispatch costs, beside what there is to compare it with: `cargo run --release -p whizbang --example dispatch_cost`.
//!
//! Every figure is the median of many short samples, taken in turns within one run, so that they can be compared with
//! each other although the machine's speed drifts. All loops hide their input from the optimiser.
#![allow(missing_docs)]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use whizbang::dispatch::{Handed, HasOnePlainReceptorIn, Kind, Routed};
use whizbang::{
    Command, Context, Dispatcher, Event, Failure, Message, MessageId, PlainReceptor, Receptor, StreamId,
    dispatcher,
};
use whizbang_storage::{Condition, Epoch, LaneState, Origin, Partition, Position, SubscriptionId};

const SAMPLES: usize = 401;
const CALLS: u32 = 4_096;

fn main() {
    println!(
        "ns a call, median of {SAMPLES} samples of {CALLS} calls (the fastest and the slowest tenth beside it)\n"
    );
    calls::<2>();
    calls::<8>();
    calls::<16>();
    routing();
    publishing();
}

// ---- calls -----------------------------------------------------------------------------------------------------------

/// A command of `8 * N` bytes.
#[derive(Clone, Copy)]
struct Work<const N: usize>([u64; N]);

impl<const N: usize> Message for Work<N> {
    const NAME: &'static str = match N {
        2 => "cost.work-16",
        8 => "cost.work-64",
        _ => "cost.work-128",
    };
    const VERSION: u16 = 1;
    const KIND: whizbang::MessageKind = whizbang::MessageKind::Command;
    const CONTENT_TYPE: whizbang::ContentType = whizbang::ContentType::JSON;
    type Reply = u64;

    fn stream(&self) -> Option<StreamId> {
        None
    }

    fn encode(&self, _: &mut impl whizbang::codec::Buffer) -> Result<(), whizbang::codec::EncodeError> {
        Err(whizbang::codec::EncodeError::new(Self::NAME, "it is never stored"))
    }

    fn decode(_: u16, _: whizbang::ContentType, _: &[u8]) -> Result<Self, whizbang::codec::DecodeError> {
        Err(whizbang::codec::DecodeError::payload(Self::NAME, "it is never stored"))
    }
}
impl<const N: usize> Command for Work<N> {}

struct Worker {
    salt: u64,
}

impl Worker {
    /// What every variant below does in the end.
    #[inline(always)]
    fn work<const N: usize>(&self, work: &Work<N>) -> Result<u64, Failure> {
        if work.0[0] == u64::MAX {
            return Err(Failure::dead("never in this program"));
        }
        Ok(work.0[N - 1].wrapping_add(self.salt))
    }

    #[inline(never)]
    fn function<const N: usize>(&self, work: Work<N>) -> Result<u64, Failure> {
        self.work(&work)
    }
}

trait DynWorker<const N: usize> {
    fn call(&self, work: Work<N>) -> Result<u64, Failure>;
}

impl<const N: usize> DynWorker<N> for Worker {
    fn call(&self, work: Work<N>) -> Result<u64, Failure> {
        self.work(&work)
    }
}

/// Inlined where the compiler wants to.
struct Inlined(Worker);
impl<const N: usize> Receptor<Work<N>> for Inlined {
    async fn receive(&self, work: Work<N>, _: Context<'_>) -> Result<u64, Failure> {
        self.0.work(&work)
    }
}

/// Its work is a function that is never inlined, as that of a large receptor.
struct Outlined(Worker);
impl<const N: usize> Receptor<Work<N>> for Outlined {
    async fn receive(&self, work: Work<N>, _: Context<'_>) -> Result<u64, Failure> {
        self.0.function(work)
    }
}

struct PlainOutlined(Worker);
impl<const N: usize> PlainReceptor<Work<N>> for PlainOutlined {
    #[inline]
    fn receive_now(&self, work: Work<N>, _: Context<'_>) -> Result<u64, Failure> {
        self.0.function(work)
    }
}

macro_rules! app {
    ($app:ident, $receptor:ty) => {
        dispatcher! {
            struct $app { worker: $receptor }
            command Work<2> => worker;
            command Work<8> => worker;
            command Work<16> => worker;
        }
    };
}
app!(InlinedApp, Inlined);
app!(OutlinedApp, Outlined);
app!(PlainApp, PlainOutlined);

fn calls<const N: usize>()
where
    Work<N>: whizbang::HasOneReceptorIn<InlinedApp, Reply = u64>
        + whizbang::HasOneReceptorIn<OutlinedApp, Reply = u64>
        + HasOnePlainReceptorIn<PlainApp, Reply = u64>,
{
    let worker = || Worker { salt: black_box(7) };
    let (direct, outlined) = (worker(), OutlinedApp { worker: Outlined(worker()) });
    let dynamic: &dyn DynWorker<N> = black_box(&direct);
    let (inlined, plain) =
        (InlinedApp { worker: Inlined(worker()) }, PlainApp { worker: PlainOutlined(worker()) });
    let template = black_box(Work([1_u64; N]));
    let work = || *black_box(&template);

    let mut table = Table::new(&format!("a command of {} bytes", 8 * N));
    table.row("function, inlined", || direct.work(&work()));
    table.row("invoke(…).await, receptor inlined", || ready(inlined.invoke(work())));
    table.row("function, not inlined", || direct.function(work()));
    table.row("dyn call", || dynamic.call(work()));
    table.row("invoke(…).await, its function not inlined", || ready(outlined.invoke(work())));
    table.row("invoke(…).await, plain, its function not inlined", || ready(plain.invoke(work())));
    table.row("invoke_now(…), its function not inlined", || plain.invoke_now(work()));
    table.print();
}

/// The result of a future that never waits.
#[inline(always)]
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("these receptors never wait"),
    }
}

// ---- routing ---------------------------------------------------------------------------------------------------------

macro_rules! kinds {
    ($($ty:ident $number:literal $name:literal $factor:literal,)*) => {
        $(
            #[derive(Clone, Copy, Serialize, Deserialize, Command)]
            #[message(name = $name, version = 1, codec = postcard)]
            struct $ty(u8);

            impl PlainReceptor<$ty> for Ten {
                #[inline]
                fn receive_now(&self, command: $ty, _: Context<'_>) -> Result<(), Failure> {
                    black_box(u64::from(command.0) * $factor);
                    Ok(())
                }
            }

            impl Receptor<$ty> for TenAsync {
                async fn receive(&self, command: $ty, _: Context<'_>) -> Result<(), Failure> {
                    black_box(u64::from(command.0) * $factor);
                    Ok(())
                }
            }
        )*

        dispatcher! {
            struct TenApp { ten: Ten }
            $(command $ty => ten;)*
        }
        dispatcher! {
            struct TenAsyncApp { ten: TenAsync }
            $(command $ty => ten;)*
        }

        /// What routing cannot be cheaper than: one `match` on a number that is known, written by hand.
        #[inline(never)]
        fn matched(kind: u16, message: &Handed<'_>, ten: &Ten) -> Result<(), Failure> {
            match kind {
                $($number => {
                    let command = $ty::decode(message.type_version, message.content_type, message.payload)?;
                    ten.receive_now(command, Context::none())
                })*
                _ => Err(Failure::msg("unknown")),
            }
        }

        #[inline(never)]
        fn boxed<'a>(
            kind: u16,
            message: &Handed<'_>,
            ten: &'a TenAsync,
        ) -> Result<std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>, Failure> {
            match kind {
                $($number => {
                    let command = $ty::decode(message.type_version, message.content_type, message.payload)?;
                    Ok(Box::pin(ten.receive(command, Context::none())))
                })*
                _ => Err(Failure::msg("unknown")),
            }
        }

        const NAMES: [&str; 10] = [$($name),*];
    };
}

struct Ten;
struct TenAsync;

kinds! {
    K0 0 "orders.create" 3, K1 1 "orders.created" 5, K2 2 "orders.cancel" 7, K3 3 "orders.cancelled" 11,
    K4 4 "payments.charge" 13, K5 5 "payments.charged" 17, K6 6 "payments.refund" 19, K7 7 "payments.refunded" 23,
    K8 8 "shipping.ship" 29, K9 9 "shipping.shipped" 31,
}

fn routing() {
    let (plain, asynchronous) = (TenApp { ten: Ten }, TenAsyncApp { ten: TenAsync });
    for (title, kinds) in [
        ("stored messages of 10 kinds, always the same", vec![4_u16; 1_024]),
        ("stored messages of 10 kinds, at random", random_kinds(1_024)),
    ] {
        let messages: Vec<Handed<'_>> = kinds.iter().map(|kind| handed(NAMES[usize::from(*kind)])).collect();
        let mut table = Table::new(title);
        let mut at = 0;
        let mut next = move || {
            at = (at + 1) % 1_024;
            at
        };
        let mut at_0 = next;
        let (kinds, messages) = (&kinds, &messages);
        table.row("match by hand, plain receptors", || {
            let at = at_0();
            matched(kinds[at], &messages[at], &plain.ten)
        });
        let mut at_1 = next;
        table.row("route by number, plain receptors", || {
            let at = at_1();
            done(plain.route(0, Kind(kinds[at]), &messages[at], Context::none()))
        });
        let mut at_2 = next;
        table.row("resolve by name, then route, plain receptors", || {
            let at = at_2();
            let kind = TenApp::resolve(messages[at].type_name).expect("it is in the table");
            done(plain.route(0, kind, &messages[at], Context::none()))
        });
        let mut at_3 = next;
        table.row("route by number, async receptors, polled", || {
            let at = at_3();
            match asynchronous.route(0, Kind(kinds[at]), &messages[at], Context::none()) {
                Routed::Running(future) => ready(future),
                _ => unreachable!("they are async"),
            }
        });
        table.row("match by hand, boxed async receptors, polled", || {
            let at = next();
            ready(boxed(kinds[at], &messages[at], &asynchronous.ten)?)
        });
        table.print();
    }
}

fn done<F>(routed: Routed<F>) -> Result<(), Failure> {
    match routed {
        Routed::Done(result) => result,
        _ => unreachable!("they are plain"),
    }
}

fn random_kinds(count: usize) -> Vec<u16> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 10) as u16
        })
        .collect()
}

fn handed(type_name: &'static str) -> Handed<'static> {
    let id: MessageId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("a UUID");
    Handed {
        id,
        stream: None,
        version: None,
        kind: whizbang::MessageKind::Command,
        type_name,
        type_version: 1,
        content_type: whizbang::ContentType::POSTCARD,
        payload: &[5],
        metadata: &[],
        correlation: id.into(),
        causation: None,
        subscription: SubscriptionId(1),
        partition: Partition(0),
        position: Position(1),
        epoch: Epoch(1),
        attempt: 1,
        origin: Origin::Log,
        lane: LaneState::Free,
        condition: Condition::Whole,
    }
}

// ---- publishing ------------------------------------------------------------------------------------------------------

macro_rules! event {
    ($ty:ident $name:literal $codec:ident) => {
        #[derive(Clone, Copy, Serialize, Deserialize, Event)]
        #[message(name = $name, version = 1, codec = $codec)]
        struct $ty {
            #[stream]
            order: u64,
            customer: u64,
            cents: u32,
            lines: u16,
            express: bool,
        }

        impl $ty {
            fn example() -> Self {
                Self { order: 123_456_789, customer: 4_711, cents: 129_900, lines: 3, express: true }
            }
        }
    };
}
event!(Compact "cost.compact" postcard);
event!(Readable "cost.readable" json);

/// What a handler pays for an event: encoding it is the floor, and the hash of its stream's key comes on top.
fn publishing() {
    let (compact, readable) = (black_box(Compact::example()), black_box(Readable::example()));
    let (mut first, mut second) = (Vec::with_capacity(1_024), Vec::with_capacity(1_024));
    let (mut third, mut fourth) = (whizbang::Unit::default(), whizbang::Unit::default());
    let mut table = Table::new("an event of 5 fields, published into a handler's unit");
    table.row("encode into a vector, postcard", || {
        first.clear();
        black_box(&compact).encode(&mut first)
    });
    table.row("publish, postcard", || {
        third.clear();
        Context::collecting(&mut third).publish(black_box(&compact))
    });
    table.row("encode into a vector, JSON", || {
        second.clear();
        black_box(&readable).encode(&mut second)
    });
    table.row("publish, JSON", || {
        fourth.clear();
        Context::collecting(&mut fourth).publish(black_box(&readable))
    });
    table.print();
}

// ---- measuring -------------------------------------------------------------------------------------------------------

type Row<'r> = (&'r str, Box<dyn FnMut() -> f64 + 'r>);

struct Table<'r> {
    title: String,
    rows: Vec<Row<'r>>,
}

impl<'r> Table<'r> {
    fn new(title: &str) -> Self {
        Self { title: title.to_owned(), rows: Vec::new() }
    }

    /// One sample is a loop of calls; its time is shared out among them.
    fn row<T>(&mut self, name: &'r str, mut call: impl FnMut() -> T + 'r) {
        let sample = move || {
            let start = Instant::now();
            for _ in 0..CALLS {
                black_box(call());
            }
            start.elapsed().as_nanos() as f64 / f64::from(CALLS)
        };
        self.rows.push((name, Box::new(sample)));
    }

    fn print(mut self) {
        let mut samples = vec![Vec::with_capacity(SAMPLES); self.rows.len()];
        for _ in 0..SAMPLES {
            for ((_, sample), taken) in self.rows.iter_mut().zip(&mut samples) {
                taken.push(sample());
            }
        }
        println!("{}", self.title);
        for ((name, _), mut taken) in self.rows.into_iter().zip(samples) {
            taken.sort_by(f64::total_cmp);
            let at = |part: f64| taken[((SAMPLES - 1) as f64 * part) as usize];
            println!("  {name:<52} {:>7.2}   ({:.2} – {:.2})", at(0.5), at(0.1), at(0.9));
        }
        println!();
    }
}
