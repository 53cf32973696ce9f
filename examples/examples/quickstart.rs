//! A first look, in three parts: what a dispatch costs, what durable messages do, and what a crash leaves.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Nothing here is taken on trust: every claim that is printed was just measured or checked, and the exit code says
//! whether all of them held.

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command as Process, ExitCode, Stdio};
use std::task::{self, Poll, Waker};
use std::time::{Duration, Instant};

use clap::Parser;
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use whizbang::{
    Command, Context, Engine, Event, Failure, Handled, Projection, Receptor, Service, StoreReader, StreamId,
    Version, dispatcher,
};
use whizbang_storage::{Page, WorkStore};
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Failed = Box<dyn std::error::Error>;

// ---- a bank in miniature ---------------------------------------------------------------------------------------------

/// Asks for something, and is handled by exactly one receptor.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[message(name = "bank.deposit", version = 1)]
struct Deposit {
    /// Messages of one stream are handled one after the other, in the order in which they were sent.
    #[stream]
    account: String,
    number: u64,
    cents: u64,
}

/// Says what happened, and is handled by whoever wants to know.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[message(name = "bank.deposited", version = 1)]
struct Deposited {
    #[stream]
    account: String,
    number: u64,
    cents: u64,
}

/// A question that is only ever asked directly.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Command)]
#[message(name = "bank.interest", version = 1, reply = u64)]
struct Interest {
    cents: u64,
    per_mille: u64,
}

/// State of an account, kept by the receptor of its events.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Balance {
    account: String,
    deposits: u64,
    cents: u64,
}

impl Projection for Balance {
    const NAME: &'static str = "bank.balance";
}

struct Teller {
    /// How long a deposit takes.
    pace: Duration,
}

impl Teller {
    #[inline(never)]
    fn interest(&self, question: Interest) -> Result<u64, Failure> {
        let cents = question.cents.checked_mul(question.per_mille);
        cents.map(|cents| cents / 1_000).ok_or_else(|| Failure::dead("nobody has that much"))
    }
}

impl Receptor<Interest> for Teller {
    async fn receive(&self, question: Interest, _: Context<'_>) -> Result<u64, Failure> {
        self.interest(question)
    }
}

impl Receptor<Deposit> for Teller {
    async fn receive(&self, deposit: Deposit, mut cx: Context<'_>) -> Result<(), Failure> {
        let Deposit { account, number, cents } = deposit;
        if account == "slow bank" && cx.attempt() < 3 {
            println!("    attempt {} of deposit {number}: the slow bank does not answer", cx.attempt());
            return Err(Failure::msg("the slow bank does not answer"));
        }
        if cents == 0 {
            return Err(Failure::dead("a deposit of nothing"));
        }
        if !self.pace.is_zero() {
            tokio::time::sleep(self.pace).await;
        }
        // The event and the fact that the deposit is handled are stored together, or neither is.
        cx.publish(&Deposited { account, number, cents })?;
        Ok(())
    }
}

struct Ledger;

impl Receptor<Deposited> for Ledger {
    async fn receive(&self, event: Deposited, mut cx: Context<'_>) -> Result<(), Failure> {
        let mut balance = cx.load::<Balance>().await?.unwrap_or_default();
        balance.account = event.account;
        balance.deposits += 1;
        balance.cents += event.cents;
        cx.save(&balance)?;
        Ok(())
    }
}

dispatcher! {
    struct Bank { teller: Teller, ledger: Ledger }
    command Interest => teller;
    command Deposit => teller with { retry_first: Duration::from_millis(20), jitter: 0.0, attempts_max: 5 };
    event Deposited => ledger;
}

/// Shows dispatch, durable messages and a crash, in files that are gone afterwards.
#[derive(Parser)]
#[command(
    after_help = "Exit code: 0 when everything held that was claimed, 1 when not, 2 for wrong arguments."
)]
struct Arguments {
    /// The second process of the third part: deposits into this database until it aborts.
    #[arg(long, hide = true, value_name = "PATH")]
    deposit_until_it_dies: Option<PathBuf>,
}

// ---- the three parts -------------------------------------------------------------------------------------------------

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let part = match &arguments.deposit_until_it_dies {
        Some(path) => deposit_until_it_dies(path),
        None => all_parts(),
    };
    match part {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("quickstart: not everything that was claimed holds");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn all_parts() -> Result<bool, Failed> {
    let started = Instant::now();
    let scratch = tempfile::tempdir()?;
    let mut checks = Checks { all_hold: true };
    // First, while this is the only thread: allocations are counted in the whole process.
    dispatch(&mut checks)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(durable(&scratch.path().join("bank.db"), &mut checks))?;
    runtime.block_on(crash(&scratch.path().join("crash.db"), &mut checks))?;
    println!("\nall of it took {:.2} s", started.elapsed().as_secs_f64());
    Ok(checks.all_hold)
}

/// Part one: a command is a call.
fn dispatch(checks: &mut Checks) -> Result<(), Failed> {
    const SAMPLES: usize = 201;
    const CALLS: u32 = 5_000;
    println!("1. dispatch: `bank.invoke(command)` finds its receptor at compile time\n");
    let bank = bank(Duration::ZERO);
    let question = Interest { cents: 12_345, per_mille: 25 };
    let (mut direct, mut dispatched) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
    // In turns, because a machine's speed drifts.
    for _ in 0..SAMPLES {
        direct.push(nanoseconds(CALLS, || bank.teller.interest(black_box(question))));
        dispatched.push(nanoseconds(CALLS, || ready(bank.invoke(black_box(question)))));
    }
    let region = Region::new(ALLOCATOR);
    nanoseconds(CALLS, || ready(bank.invoke(black_box(question))));
    let allocations = region.change().allocations;
    let (direct, dispatched) = (median(direct), median(dispatched));
    println!("    the function itself  {direct:5.2} ns a call");
    println!("    the same, dispatched {dispatched:5.2} ns a call, {:+.2} ns", dispatched - direct);
    println!("    (medians of {SAMPLES} samples of {CALLS} calls each)\n");
    checks.holds(allocations == 0, &format!("{CALLS} dispatches made {allocations} allocations"));
    Ok(())
}

/// What one of so many calls takes.
fn nanoseconds<T>(calls: u32, mut call: impl FnMut() -> T) -> f64 {
    let begun = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    begun.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// What `.await` does with a receptor that has nothing to wait for: one poll, and it is done.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("interest is computed without waiting"),
    }
}

/// Part two: a message that was sent is in the file before `send` returns, and handled afterwards.
async fn durable(path: &Path, checks: &mut Checks) -> Result<(), Failed> {
    println!("\n2. durable messages, in a SQLite file with synchronous=FULL\n");
    let engine = Engine::builder(bank(Duration::ZERO)).storage(store(path)?).start().await?;
    let deposit = |account: &str, number, cents| Deposit { account: account.to_owned(), number, cents };

    let begun = Instant::now();
    let receipt = engine.send(deposit("ada", 1, 500)).await?;
    println!("    deposit {} is durable after {:.2} ms", receipt.id(), begun.elapsed().as_secs_f64() * 1e3);
    checks.holds(receipt.handled().await? == Handled::Done, "and handled");

    // A publisher's messages are stored in the order in which it took them; they need not be awaited one by one.
    let mut publisher = engine.publisher()?;
    let mut last = None;
    for number in 2..=1_000 {
        last =
            Some(publisher.send(deposit(["ada", "grace", "barbara"][number as usize % 3], number, 1)).await?);
    }
    engine.stored(last.expect("some were sent")).await?;
    settled(&engine).await?;
    let histories = histories(engine.reader()).await?;
    let in_order = histories.values().all(|numbers| numbers.is_sorted_by(|one, next| one < next));
    let counts: Vec<String> =
        histories.iter().map(|(account, all)| format!("{account} {}", all.len())).collect();
    checks.holds(
        in_order,
        &format!("events are in the order of their commands in each stream: {}", counts.join(", ")),
    );

    println!("\n    a receptor that fails is tried again, here after 20 and 40 ms:");
    let receipt = engine.send(deposit("slow bank", 1_001, 700)).await?;
    checks.holds(receipt.handled().await? == Handled::Done, "attempt 3 handled it");

    println!("\n    a message that cannot be handled becomes a dead letter, and its stream goes on:");
    let nothing = engine.send(deposit("ada", 1_002, 0)).await?;
    let after = engine.send(deposit("ada", 1_003, 1)).await?;
    let dead = nothing.handled().await?;
    checks.holds(
        matches!(&dead, Handled::Dead { error, .. } if error == "a deposit of nothing"),
        &format!("{dead:?}"),
    );
    checks.holds(after.handled().await? == Handled::Done, "the deposit after it is handled");
    let letters = engine.reader().dead_letters(None, 10).await?;
    checks.holds(
        letters.iter().map(|letter| letter.message).eq([nothing.id()]),
        "it is kept, for somebody to send it again or discard it",
    );

    let stopped = engine.stop(Duration::from_secs(5)).await;
    checks.holds(
        stopped.all_durable && stopped.cancelled == 0,
        "the engine has stopped with nothing left undone",
    );
    Ok(())
}

/// Part three: another process takes deposits and dies in the middle; this one opens what it left.
async fn crash(path: &Path, checks: &mut Checks) -> Result<(), Failed> {
    println!("\n3. a crash: another process takes deposits until it aborts\n");
    let mut child = Process::new(std::env::current_exe()?);
    child.arg("--deposit-until-it-dies").arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = child.spawn()?;
    let told = BufReader::new(child.stdout.take().expect("it is piped"));
    let acknowledged: Vec<u64> =
        told.lines().map(|line| line?.parse::<u64>().map_err(Failed::from)).collect::<Result<_, _>>()?;
    let status = child.wait()?;
    checks.holds(
        !status.success(),
        &format!(
            "it died ({status}) when it had sent {DEPOSITS} deposits, and said of {} that they are durable",
            acknowledged.len()
        ),
    );

    let store = store(path)?;
    let left = store.reader().statistics().await?;
    let left: u64 = left.subscriptions.iter().map(|subscription| subscription.lag).sum();
    checks.holds(left > 0, &format!("{left} messages in the file were not handled yet"));
    println!("    (deposits get there together, so it may hold more than the process lived to speak of)");

    let begun = Instant::now();
    let engine = Engine::builder(bank(Duration::ZERO)).storage(store).start().await?;
    settled(&engine).await?;
    println!("    opened again; everything was handled after {:.2} s", begun.elapsed().as_secs_f64());

    let histories = histories(engine.reader()).await?;
    let all: Vec<u64> = histories.values().flatten().copied().collect();
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    let lost = acknowledged.iter().filter(|number| !distinct.contains(number)).count();
    checks.holds(lost == 0, &format!("{lost} of the {} deposits it spoke of are lost", acknowledged.len()));
    checks.holds(
        all.len() == distinct.len(),
        &format!(
            "of {} deposits that were in the file, {} were handled twice",
            distinct.len(),
            all.len() - distinct.len()
        ),
    );
    let in_order = histories.values().all(|numbers| numbers.is_sorted());
    checks.holds(in_order, "each account has them in the order in which they were sent");
    let mut balances = BTreeMap::new();
    for projection in engine.reader().projections(Balance::NAME, b"", 100).await? {
        let balance: Balance = serde_json::from_slice(&projection.state)?;
        balances.insert(balance.account, (balance.deposits, balance.cents));
    }
    let sums = histories
        .into_iter()
        .map(|(account, numbers)| (account, (numbers.len() as u64, numbers.iter().sum())));
    checks.holds(
        balances == sums.collect(),
        "every event was counted once: balances are the sums of the histories",
    );
    engine.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// What the process that dies sends. It dies when it has said of half of them that they are durable.
const DEPOSITS: u64 = 120;

/// The process that dies: tells its parent the number of every deposit that is durable, while its teller lags behind.
fn deposit_until_it_dies(path: &Path) -> Result<bool, Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let engine = Engine::builder(bank(Duration::from_millis(2))).storage(store(path)?).start().await?;
        let (mut publisher, mut out) = (engine.publisher()?, std::io::stdout().lock());
        let mut tickets = Vec::new();
        for number in 1..=DEPOSITS {
            let account = ["ada", "grace", "barbara"][number as usize % 3].to_owned();
            tickets.push((number, publisher.send(Deposit { account, number, cents: number }).await?));
        }
        for (number, ticket) in tickets {
            engine.stored(ticket).await?;
            writeln!(out, "{number}")?;
            out.flush()?;
            if number == DEPOSITS / 2 {
                std::process::abort();
            }
        }
        Err("it should have died".into())
    })
}

// ---- helpers ---------------------------------------------------------------------------------------------------------

/// Claims, and whether all of them hold.
struct Checks {
    all_hold: bool,
}

impl Checks {
    fn holds(&mut self, holds: bool, claim: &str) {
        println!("    [{}] {claim}", if holds { "ok" } else { "FAILED" });
        self.all_hold &= holds;
    }
}

fn bank(pace: Duration) -> Bank {
    Bank { teller: Teller { pace }, ledger: Ledger }
}

fn store(path: &Path) -> Result<SqliteStore, Failed> {
    // How long a process may be silent before others take over its work: short, so that nobody has to wait here.
    let service = Service { time_to_live: Duration::from_millis(300), ..Service::named("bank") };
    Ok(SqliteOptions { service, ..SqliteOptions::default() }.open(path)?)
}

/// Waits until every message has been handled, those that handling brought forth included.
async fn settled(engine: &Engine<Bank>) -> Result<(), Failed> {
    loop {
        let statistics = engine.reader().statistics().await?;
        let waiting: u64 = statistics.subscriptions.iter().map(|of| of.lag + of.parked + of.unroutable).sum();
        if waiting + statistics.arrivals == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The numbers of all deposits, by account, in the order of their events.
async fn histories(reader: &impl StoreReader) -> Result<BTreeMap<String, Vec<u64>>, Failed> {
    let mut histories = BTreeMap::new();
    for account in ["ada", "grace", "barbara"] {
        let mut page = Page::default();
        reader.history(StreamId::from_key(account), Version(0), 10_000, &mut page).await?;
        let number = |payload| serde_json::from_slice::<Deposited>(payload).map(|event| event.number);
        let numbers = page.iter().map(|event| number(event.payload)).collect::<Result<_, _>>()?;
        histories.insert(account.to_owned(), numbers);
    }
    Ok(histories)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
