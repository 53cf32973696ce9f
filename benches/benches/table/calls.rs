//! Invoking a command, beside calling the function that it comes to, and beside asking an actor.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use kameo::prelude::{Actor, ActorRef, Spawn};
use whizbang::codec::{Buffer, DecodeError, EncodeError};
use whizbang::dispatch::HasOnePlainReceptorIn;
use whizbang::{
    Command, ContentType, Context, Failure, HasOneReceptorIn, Message, MessageKind, PlainReceptor, Receptor,
    StreamId, dispatcher,
};

use crate::rows::{Floor, Must, Ours, Rival, Row, Table};

pub(crate) fn rows(table: &mut Table) {
    let must = Some(Must::OverFloor(1.0));
    table.row("invoke-inlined", "a command of 64 bytes, its receptor small", must, inlined::<8>);
    table.row("invoke-16", "a command of 16 bytes, its function not inlined", must, outlined::<2>);
    table.row("invoke-64", "a command of 64 bytes, its function not inlined", must, |row| {
        outlined::<8>(row);
        actor(row);
    });
    table.row("invoke-128", "a command of 128 bytes, its function not inlined", must, outlined::<16>);
}

/// The result of a future that never waits: what an `.await` costs when there is nothing to wait for.
#[inline(always)]
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

fn inlined<'r, const N: usize>(row: &mut Row<'r>)
where
    Work<N>: HasOneReceptorIn<InlinedApp, Reply = u64>,
{
    let (direct, app) = (worker(), InlinedApp { worker: Inlined(worker()) });
    row.call(Ours, "invoke(command).await", move || ready(app.invoke(work::<N>())));
    row.call(Floor, "the function", move || direct.work(&work::<N>()));
}

fn outlined<'r, const N: usize>(row: &mut Row<'r>)
where
    Work<N>: HasOneReceptorIn<OutlinedApp, Reply = u64> + HasOnePlainReceptorIn<PlainApp, Reply = u64>,
{
    let direct = worker();
    let dynamic: Box<dyn DynWorker<N>> = black_box(Box::new(worker()));
    let app = OutlinedApp { worker: Outlined(worker()) };
    let (plain, now) =
        (PlainApp { worker: PlainOutlined(worker()) }, PlainApp { worker: PlainOutlined(worker()) });
    row.call(Ours, "invoke(command).await", move || ready(app.invoke(work::<N>())));
    row.call(Ours, "invoke(command).await, plain receptor", move || ready(plain.invoke(work::<N>())));
    row.call(Ours, "invoke_now(command), plain receptor", move || now.invoke_now(work::<N>()));
    row.call(Floor, "the function", move || direct.function(work::<N>()));
    row.call(Floor, "the function through a dyn trait", move || dynamic.call(work::<N>()));
}

/// Asking an actor on the same thread: its mailbox, and a channel for the reply.
fn actor(row: &mut Row<'_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let actor = runtime.block_on(async { ActorWorker::spawn(worker()) });
    const ASKS: usize = 256;
    row.turn(Rival, "kameo: ask(command).await", move |taken| {
        taken.take(ASKS, || {
            runtime.block_on(async {
                for _ in 0..ASKS {
                    black_box(actor.ask(work::<8>()).await.expect("the actor lives"));
                }
            });
        });
    });
}

/// A command of `8 * N` bytes.
#[derive(Clone, Copy)]
struct Work<const N: usize>([u64; N]);

/// A command that the optimiser knows nothing about.
#[inline(always)]
fn work<const N: usize>() -> Work<N> {
    static WORDS: [u64; 16] = [1; 16];
    let words = black_box(&WORDS);
    Work(*words.first_chunk().expect("there are enough"))
}

// Never stored, so nothing is written for that.
impl<const N: usize> Message for Work<N> {
    const NAME: &'static str = match N {
        2 => "table.work-16",
        8 => "table.work-64",
        _ => "table.work-128",
    };
    const VERSION: u16 = 1;
    const KIND: MessageKind = MessageKind::Command;
    const CONTENT_TYPE: ContentType = ContentType::JSON;
    type Reply = u64;

    fn stream(&self) -> Option<StreamId> {
        None
    }

    fn encode(&self, _: &mut impl Buffer) -> Result<(), EncodeError> {
        Err(EncodeError::new(Self::NAME, "it is never stored"))
    }

    fn decode(_: u16, _: ContentType, _: &[u8]) -> Result<Self, DecodeError> {
        Err(DecodeError::payload(Self::NAME, "it is never stored"))
    }
}
impl<const N: usize> Command for Work<N> {}

struct Worker {
    salt: u64,
}

fn worker() -> Worker {
    Worker { salt: black_box(7) }
}

impl Worker {
    /// What every contestant does in the end.
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

struct ActorWorker(Worker);

impl Actor for ActorWorker {
    type Args = Worker;
    type Error = std::convert::Infallible;

    async fn on_start(worker: Worker, _: ActorRef<Self>) -> Result<Self, Self::Error> {
        Ok(Self(worker))
    }
}

impl kameo::message::Message<Work<8>> for ActorWorker {
    type Reply = u64;

    async fn handle(&mut self, work: Work<8>, _: &mut kameo::message::Context<Self, u64>) -> u64 {
        self.0.function(work).unwrap_or_default()
    }
}
