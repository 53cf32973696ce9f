//! Several processes over one PostgreSQL: they share the work, one is killed in the middle, and in the end the books are
//! balanced.
//!
//! ```text
//! cargo run --release --example cluster -- --instances 3 --messages 200000
//! ```
//!
//! Without `--url` it starts a private PostgreSQL server that is gone with the program. The program starts itself once for
//! each instance; each sends its part of the messages, handles those in the partitions it owns, and says on its standard
//! output how it is. When half of the messages are durable, one instance is killed (SIGKILL) and a new one is started.
//! A message is a command whose receptor publishes an event into the message's stream; the event's receptor keeps a tally
//! per stream. The audit reads every stream and compares it with what the senders were told.
#![allow(clippy::disallowed_types, reason = "they count and order nothing")]

use std::io::{self, IsTerminal, Write};
use std::process::{Command as Process, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use whizbang::{
    AnyReader, Command, Context, Engine, Event, Failure, Message, Options, PlainReceptor, Projection,
    Receptor, Service, State, StoreReader, StreamKey, Ticket, Version, dispatcher,
};
use whizbang_examples::audit::{self, Audit, Findings, Sender};
use whizbang_examples::instances::{Instance, Order, Said};
use whizbang_examples::table::Table;
use whizbang_postgres_cluster::Cluster;
use whizbang_storage::{Page, WorkStore};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

type Failed = Box<dyn std::error::Error + Send + Sync>;

// ---- messages, receptors, state --------------------------------------------------------------------------------------

/// Asks for something to be done in a stream.
#[derive(Serialize, Deserialize, Command)]
#[message(name = "cluster.work", version = 1, codec = postcard)]
struct Work {
    #[stream]
    stream: u64,
    sender: u64,
    number: u64,
    payload: [u64; 12],
}

/// Says that it was done.
#[derive(Serialize, Deserialize, Event)]
#[message(name = "cluster.done", version = 1, codec = postcard)]
struct Done {
    #[stream]
    stream: u64,
    sender: u64,
    number: u64,
}

/// What was done in a stream, in which order.
#[derive(Default, Serialize, Deserialize)]
struct Tally(audit::Tally);

impl Projection for Tally {
    const NAME: &'static str = "cluster.tally";
}

struct Worker {
    handled: Arc<AtomicU64>,
}

impl PlainReceptor<Work> for Worker {
    fn receive_now(&self, work: Work, mut cx: Context<'_>) -> Result<(), Failure> {
        cx.publish(&Done { stream: work.stream, sender: work.sender, number: work.number })?;
        self.handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Clerk;

impl Receptor<Done> for Clerk {
    async fn receive(&self, done: Done, mut cx: Context<'_>) -> Result<(), Failure> {
        let mut tally = cx.load::<Tally>().await?.unwrap_or_default();
        tally.0.add(done.sender, done.number);
        cx.save(&tally)?;
        Ok(())
    }
}

dispatcher! {
    struct Office { worker: Worker, clerk: Clerk }
    command Work => worker;
    event Done => clerk;
}

// ---- the program -----------------------------------------------------------------------------------------------------

/// Runs several processes over one PostgreSQL, kills one in the middle, and balances the books.
#[derive(Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit code: 0 when nothing was lost, invented, doubled or reordered, 3 when something was, 1 when it could \
    not go on, 2 for wrong arguments."
)]
struct Arguments {
    #[command(flatten)]
    run: Run,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    place: Place,

    /// Processes that share the work.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=64))]
    instances: u64,

    /// Messages that all of them send together.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,

    /// Let everybody live.
    #[arg(long)]
    no_kill: bool,
}

/// Where the messages are, and in how many streams.
#[derive(Args, Clone)]
struct Place {
    /// The server, `postgres://…`; a private one is started if there is none. `sqlite:PATH` takes a file instead.
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// The schema in that database; it is left there.
    #[arg(long, value_name = "NAME", default_value = "whizbang_cluster")]
    schema: String,

    /// Streams that the messages belong to.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    streams: u64,

    /// After so many milliseconds of silence an instance is taken for dead.
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    time_to_live: u64,
}

#[derive(Subcommand)]
enum Role {
    /// One of the processes.
    #[command(hide = true)]
    Instance(Part),
    /// Only the audit: waits until everything is handled, and compares.
    #[command(hide = true)]
    Audit(Books),
}

#[derive(Args)]
struct Part {
    #[command(flatten)]
    place: Place,

    /// The number it sends under.
    #[arg(long)]
    sender: u64,

    /// Messages it sends.
    #[arg(long, default_value_t = u64::MAX)]
    messages: u64,

    /// Messages it sends in a second, at most.
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Args)]
struct Books {
    #[command(flatten)]
    place: Place,

    /// What each sender says: number:attempted:acknowledged.
    #[arg(long = "sender", value_parser = parse_sender)]
    senders: Vec<(u64, Sender)>,

    /// Seconds until everything must be handled.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

const PARTITIONS: u32 = 32;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Failed::from).and_then(|runtime| match arguments.role {
        None => runtime.block_on(run(arguments.run)),
        Some(Role::Instance(part)) => runtime.block_on(instance(part)).map(|()| true),
        Some(Role::Audit(books)) => runtime.block_on(balance(&books)),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

// ---- the storage line ------------------------------------------------------------------------------------------------

impl Place {
    fn service(&self) -> Service {
        let time_to_live = Duration::from_millis(self.time_to_live);
        Service { partitions: PARTITIONS, time_to_live, ..Service::named("cluster") }
    }

    async fn store(&self) -> Result<Store, Failed> {
        let (url, service) = (self.url.as_deref().unwrap_or_default(), self.service());
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Store::Sqlite(Box::new(
                SqliteOptions { service, ..SqliteOptions::default() }.open(path)?,
            )));
        }
        let options =
            PostgresOptions { service, schema: self.schema.clone(), ..PostgresOptions::from_url(url)? };
        options.migrate().await?;
        Ok(Store::Postgres(Box::new(options.open().await?)))
    }

    /// An engine over it. Nothing but this knows which storage it is.
    async fn engine(&self, office: Office) -> Result<Engine<Office>, Failed> {
        let options = Options { give_back_within: Duration::from_secs(2), ..Options::default() };
        let builder = Engine::builder(office).options(options);
        Ok(match self.store().await? {
            Store::Postgres(store) => builder.storage(*store).start().await?,
            Store::Sqlite(store) => builder.storage(*store).start().await?,
        })
    }

    /// Its reading side.
    async fn reader(&self) -> Result<AnyReader, Failed> {
        Ok(match self.store().await? {
            Store::Postgres(store) => AnyReader::new(store.reader()),
            Store::Sqlite(store) => AnyReader::new(store.reader()),
        })
    }
}

enum Store {
    Postgres(Box<PostgresStore>),
    Sqlite(Box<SqliteStore>),
}

// ---- one of the processes --------------------------------------------------------------------------------------------

/// What an instance counts.
#[derive(Default)]
struct Counts {
    handled: Arc<AtomicU64>,
    attempted: AtomicU64,
    acknowledged: AtomicU64,
    enough: AtomicBool,
    sent: AtomicBool,
    left: AtomicBool,
}

async fn instance(part: Part) -> Result<(), Failed> {
    let counts = Arc::new(Counts::default());
    let office = Office { worker: Worker { handled: Arc::clone(&counts.handled) }, clerk: Clerk };
    let engine = part.place.engine(office).await?;
    counts.say(&engine);

    let leave = listen(Arc::clone(&counts));
    let sending = send(&engine, &part, &counts);
    let reporting = report(&engine, &counts);
    tokio::pin!(reporting);
    tokio::select! {
        sent = sending => sent?,
        ended = &mut reporting => return ended,
    }
    counts.sent.store(true, Ordering::Relaxed);
    counts.say(&engine);
    tokio::select! {
        () = leave.notified() => {}
        ended = &mut reporting => return ended,
    }
    let stopped = engine.stop(Duration::from_secs(10)).await;
    if !stopped.all_durable {
        return Err("it left before everything was durable".into());
    }
    counts.left.store(true, Ordering::Relaxed);
    counts.say(&engine);
    Ok(())
}

/// Takes orders from standard input, whose end is the last of them.
fn listen(counts: Arc<Counts>) -> Arc<Notify> {
    let leave = Arc::new(Notify::new());
    let told = Arc::clone(&leave);
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            counts.enough.store(true, Ordering::Relaxed);
            if line == Order::Leave.word() {
                break;
            }
        }
        counts.enough.store(true, Ordering::Relaxed);
        told.notify_one();
    });
    leave
}

/// Sends what it has to, without waiting for one message before the next; returns when all of it is durable.
async fn send(engine: &Engine<Office>, part: &Part, counts: &Counts) -> Result<(), Failed> {
    const CHUNK: u64 = 250;
    let (chunks, mut sent) = mpsc::channel::<(u64, Ticket)>(64);
    let chunk = part.rate.map_or(CHUNK, |rate| ((rate / 100.0) as u64).clamp(1, CHUNK));
    let begun = Instant::now();
    let sending = async move {
        let mut publisher = engine.publisher()?;
        let mut number = 0;
        while number < part.messages && !counts.enough.load(Ordering::Relaxed) {
            let last = part.messages.min(number + chunk);
            // Said before the first of them goes: what nobody has attempted, nobody may find.
            counts.attempted.store(last, Ordering::Relaxed);
            counts.say(engine);
            let mut ticket = None;
            for number in number + 1..=last {
                let (stream, sender) = (number % part.place.streams, part.sender);
                let work = Work { stream, sender, number, payload: [number; 12] };
                ticket = Some(publisher.send(work).await.map_err(|error| error.to_string())?);
            }
            number = last;
            if let Some(ticket) = ticket {
                chunks.send((number, ticket)).await?;
            }
            if let Some(rate) = part.rate {
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
            }
        }
        Ok::<(), Failed>(())
    };
    let acknowledging = async {
        while let Some((number, ticket)) = sent.recv().await {
            engine.stored(ticket).await?;
            counts.acknowledged.store(number, Ordering::Relaxed);
        }
        Ok::<(), Failed>(())
    };
    tokio::try_join!(sending, acknowledging).map(drop)
}

/// How long the database may be away before somebody is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says how it is whenever that is something else, and ten times a second; returns when it cannot go on.
async fn report(engine: &Engine<Office>, counts: &Counts) -> Result<(), Failed> {
    let (mut partitions, mut said_at, mut told) = (usize::MAX, Instant::now(), false);
    loop {
        let health = engine.health();
        match &health.storage_away {
            Some(away) if !told && away.since.elapsed() >= PATIENCE => {
                eprintln!("cluster: the database has been away for {PATIENCE:?}: {}", away.error);
                told = true;
            }
            Some(_) => {}
            None => told = false,
        }
        if health.state == State::Failed {
            return Err(health
                .storage_away
                .map_or("the engine has failed".to_owned(), |away| away.error)
                .into());
        }
        if health.partitions_owned != partitions || said_at.elapsed() >= Duration::from_millis(100) {
            (partitions, said_at) = (health.partitions_owned, Instant::now());
            counts.say(engine);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Counts {
    fn say(&self, engine: &Engine<Office>) {
        let health = engine.health();
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        // Acknowledged first: it never says more than was attempted.
        let acknowledged = number(&self.acknowledged);
        let said = Said {
            partitions: health.partitions_owned,
            handled: number(&self.handled),
            evictions: health.evictions,
            sender: Sender { attempted: number(&self.attempted), acknowledged },
            sent: self.sent.load(Ordering::Relaxed),
            left: self.left.load(Ordering::Relaxed),
        };
        // Nobody listens any more: its input has ended, too, and it is about to leave.
        let _ = writeln!(io::stdout(), "{}", said.line());
    }
}

// ---- who starts, kills and watches them ------------------------------------------------------------------------------

async fn run(run: Run) -> Result<bool, Failed> {
    let mut place = run.place.clone();
    let private = match &place.url {
        Some(_) => None,
        None => Some(Cluster::start(whizbang_postgres_cluster::Options::default())?),
    };
    if let Some(cluster) = &private {
        println!("a private PostgreSQL server at {}", cluster.tcp_url());
        place.url = Some(cluster.url());
    }
    let reader = place.reader().await?;
    let mut team = Team::new(place.clone(), run.messages);
    let each = run.messages.div_ceil(run.instances);
    let mut left = run.messages;
    while left > 0 && team.members.len() < run.instances as usize {
        team.start(each.min(left))?;
        left -= each.min(left);
    }
    let kills = !run.no_kill && team.members.len() > 1;
    let begun = Instant::now();
    let mut takeover = None;
    if kills {
        team.watch(|team| team.sum(|said| said.sender.acknowledged) >= run.messages / 2).await?;
        let (killed, at) = team.kill_one()?;
        team.watch(|team| team.partitions() == PARTITIONS as usize).await?;
        takeover = Some(at.elapsed());
        team.tell(&format!(
            "the others have its partitions, {:.2} s after the kill",
            at.elapsed().as_secs_f64()
        ));
        let part = killed.part - killed.instance.said().sender.acknowledged;
        team.dead.push(killed);
        team.start(part)?;
    }
    team.watch(|team| team.members.iter().all(|member| member.instance.said().sent)).await?;
    let dead = tokio::select! {
        dead = everything_handled(&reader, Duration::MAX) => dead?,
        ended = team.watch(|_| false) => return Err(ended.err().unwrap_or_else(|| "it ended early".into())),
    };
    let took = begun.elapsed();
    team.leave().await?;

    let found = audit(&reader, &place, &team.senders()).await?;
    report_all(&team, &found, took, takeover)?;
    if dead > 0 {
        println!("{dead} messages failed for good");
    }
    Ok(found.is_clean() && dead == 0)
}

/// The processes.
struct Team {
    place: Place,
    members: Vec<Member>,
    /// Those that were killed.
    dead: Vec<Member>,
    board: Board,
}

struct Member {
    instance: Instance,
    /// Messages it was to send.
    part: u64,
    bar: ProgressBar,
}

impl Team {
    fn new(place: Place, messages: u64) -> Self {
        Self { place, members: Vec::new(), dead: Vec::new(), board: Board::new(messages) }
    }

    /// Starts one that sends so many messages.
    fn start(&mut self, messages: u64) -> Result<(), Failed> {
        let sender = (self.members.len() + self.dead.len()) as u64 + 1;
        let Place { url, schema, streams, time_to_live } = &self.place;
        let mut program = Process::new(std::env::current_exe()?);
        program.arg("instance").args(["--url", url.as_deref().unwrap_or_default(), "--schema", schema]);
        let numbers = [("--streams", *streams), ("--time-to-live", *time_to_live), ("--sender", sender)];
        for (name, value) in numbers.into_iter().chain([("--messages", messages)]) {
            program.arg(name).arg(value.to_string());
        }
        let instance = Instance::start(program, sender)?;
        self.tell(&format!("instance {sender} was started: process {}", instance.process()));
        let bar = self.board.line();
        self.members.push(Member { instance, part: messages, bar });
        Ok(())
    }

    /// Kills the one that has most to lose.
    fn kill_one(&mut self) -> Result<(Member, Instant), Failed> {
        let partitions = |member: &Member| member.instance.said().partitions;
        let most = (0..self.members.len()).max_by_key(|index| partitions(&self.members[*index]));
        let mut killed = self.members.remove(most.ok_or("there is nobody to kill")?);
        let at = Instant::now();
        let said = killed.instance.kill()?;
        killed.bar.finish_and_clear();
        let sender = killed.instance.sender;
        self.tell(&format!("instance {sender} was killed; it had {} partitions", said.partitions));
        Ok((killed, at))
    }

    /// Shows how they are until something has come to pass.
    async fn watch(&mut self, until: impl Fn(&Self) -> bool) -> Result<(), Failed> {
        while !until(self) {
            if let Some(ended) = self.members.iter().find(|member| member.instance.has_ended()) {
                return Err(format!("instance {} has ended by itself", ended.instance.sender).into());
            }
            self.board.show(&self.members, &self.dead);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Lets all of them leave in order.
    async fn leave(&mut self) -> Result<(), Failed> {
        self.members.iter_mut().for_each(|member| member.instance.tell(Order::Leave));
        let left = |team: &Self| team.members.iter().all(|member| member.instance.said().left);
        while !left(self) {
            if let Some(ended) = self.members.iter().find(|member| {
                let instance = &member.instance;
                instance.has_ended() && !instance.said().left
            }) {
                return Err(format!("instance {} has not left in order", ended.instance.sender).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.members.iter().for_each(|member| member.bar.finish_and_clear());
        self.board.all.finish_and_clear();
        Ok(())
    }

    fn everybody(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.dead)
    }

    fn sum(&self, of: impl Fn(&Said) -> u64) -> u64 {
        self.everybody().map(|member| of(&member.instance.said())).sum()
    }

    /// Partitions of those that live.
    fn partitions(&self) -> usize {
        self.members.iter().map(|member| member.instance.said().partitions).sum()
    }

    fn senders(&self) -> Vec<(u64, Sender)> {
        self.everybody().map(|member| (member.instance.sender, member.instance.said().sender)).collect()
    }

    fn tell(&self, what: &str) {
        self.board.tell(what);
    }
}

/// What is on the screen while they work: a line each and one for all; where there is no screen, a line a second.
struct Board {
    lines: MultiProgress,
    all: ProgressBar,
    is_screen: bool,
    begun: Instant,
    /// When it was drawn last, and what was counted then, per sender.
    drawn: Option<(Instant, Vec<(u64, Said)>)>,
}

impl Board {
    fn new(messages: u64) -> Self {
        let lines = MultiProgress::new();
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} durable  {msg}");
        let all = lines.add(ProgressBar::new(messages).with_style(style.expect("the template is right")));
        Self { lines, all, is_screen: io::stderr().is_terminal(), begun: Instant::now(), drawn: None }
    }

    fn line(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg}").expect("the template is right");
        self.lines.insert_before(&self.all, ProgressBar::new_spinner().with_style(style))
    }

    fn show(&mut self, members: &[Member], dead: &[Member]) {
        let every = Duration::from_millis(if self.is_screen { 200 } else { 1_000 });
        if self.drawn.as_ref().is_some_and(|(at, _)| at.elapsed() < every) {
            return;
        }
        let everybody = members.iter().chain(dead).map(|member| &member.instance);
        let now: Vec<(u64, Said)> = everybody.map(|instance| (instance.sender, instance.said())).collect();
        let (before_at, before) = self.drawn.take().unwrap_or((self.begun, Vec::new()));
        let seconds = before_at.elapsed().as_secs_f64();
        let said_before =
            |sender: u64| before.iter().find(|(each, _)| *each == sender).map(|(_, said)| *said);
        let mut text = String::new();
        for (member, (sender, said)) in members.iter().zip(&now) {
            let before = said_before(*sender).unwrap_or_default();
            let rate = |of: fn(&Said) -> u64| (of(said) - of(&before)) as f64 / seconds;
            let (durable, handled) = (rate(|said| said.sender.acknowledged), rate(|said| said.handled));
            let line = format!(
                "instance {sender}  {:>2} partitions  {durable:>7.0} durable/s  {handled:>7.0} handled/s",
                said.partitions
            );
            text = text + "\n    " + &line;
            member.bar.set_message(line);
        }
        let sum = |of: fn(&Said) -> u64| now.iter().map(|(_, said)| of(said)).sum::<u64>();
        let (durable, handled) = (sum(|said| said.sender.acknowledged), sum(|said| said.handled));
        self.all.set_position(durable);
        self.all.set_message(format!("{handled} handled"));
        if !self.is_screen {
            self.tell(&format!("{durable} durable, {handled} handled{text}"));
        }
        self.drawn = Some((Instant::now(), now));
    }

    fn tell(&self, what: &str) {
        let text = format!("{:>6.2} s  {what}", self.begun.elapsed().as_secs_f64());
        self.lines.suspend(|| println!("{text}"));
    }
}

// ---- the books -------------------------------------------------------------------------------------------------------

async fn balance(books: &Books) -> Result<bool, Failed> {
    let reader = books.place.reader().await?;
    let dead = everything_handled(&reader, Duration::from_secs(books.patience)).await?;
    let found = audit(&reader, &books.place, &books.senders).await?;
    println!("{found}\n{dead} failed for good");
    for letter in reader.dead_letters(None, 10).await? {
        println!("  {}: {:?}, {}", letter.type_name, letter.reason, letter.error);
    }
    Ok(found.is_clean() && dead == 0)
}

/// Waits until nothing waits any more; says how many messages failed for good.
async fn everything_handled(reader: &AnyReader, patience: Duration) -> Result<u64, Failed> {
    let begun = Instant::now();
    loop {
        let statistics = reader.statistics().await?;
        let each = statistics.subscriptions.iter();
        let waiting =
            each.map(|each| each.lag + each.parked + each.unroutable).sum::<u64>() + statistics.arrivals;
        if waiting == 0 {
            return Ok(statistics.subscriptions.iter().map(|each| each.dead).sum());
        }
        if begun.elapsed() > patience {
            return Err(format!("{waiting} messages still wait: {statistics:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads every stream, and compares.
async fn audit(reader: &AnyReader, place: &Place, senders: &[(u64, Sender)]) -> Result<Findings, Failed> {
    const PAGE: usize = 10_000;
    let mut audit = Audit::new();
    senders.iter().for_each(|(sender, said)| audit.sender(*sender, *said));
    for stream in 0..place.streams {
        let id = stream.stream_id();
        let mut version = Version(0);
        loop {
            let mut page = Page::default();
            reader.history(id, version, PAGE, &mut page).await?;
            for event in page.iter() {
                let next = Version(version.0 + 1);
                let done = Done::decode(event.type_version, event.content_type, event.payload)?;
                if event.version != Some(next) || done.stream != stream {
                    return Err(format!("stream {stream} has something else at version {next:?}").into());
                }
                audit.effect(stream, done.sender, done.number);
                version = next;
            }
            if page.len() < PAGE {
                break;
            }
        }
        let kept = reader.projection(Tally::NAME, &id.to_bytes()).await?;
        let kept: Tally =
            kept.map(|kept| serde_json::from_slice(&kept.state)).transpose()?.unwrap_or_default();
        audit.tally(stream, kept.0);
    }
    Ok(audit.finish())
}

fn report_all(team: &Team, found: &Findings, took: Duration, takeover: Option<Duration>) -> io::Result<()> {
    let mut table = Table::new(["instance", "durable", "handled", "evicted", "end"]);
    let mut everybody: Vec<&Member> = team.everybody().collect();
    everybody.sort_by_key(|member| member.instance.sender);
    for member in everybody {
        let Said { handled, evictions, sender, left, .. } = member.instance.said();
        let numbers = [member.instance.sender, sender.acknowledged, handled, evictions];
        let [instance, durable, handled, evictions] = numbers.map(|number| number.to_string());
        let end = if left { "left" } else { "was killed" }.to_owned();
        table.row([instance, durable, handled, evictions, end]);
    }
    let seconds = took.as_secs_f64();
    let mut out = io::stdout().lock();
    writeln!(out, "\n{table}")?;
    let rate = found.effects as f64 / seconds;
    writeln!(
        out,
        "{} messages were sent, handled and tallied in {seconds:.2} s, {rate:.0} a second",
        found.effects
    )?;
    if let Some(takeover) = takeover {
        let ttl = team.place.time_to_live as f64 / 1_000.0;
        let takeover = takeover.as_secs_f64();
        writeln!(
            out,
            "the partitions of the killed one were taken over after {takeover:.2} s (time to live {ttl:.2} s)"
        )?;
    }
    writeln!(out, "audit: {found}")
}

fn parse_sender(text: &str) -> Result<(u64, Sender), String> {
    let numbers: Result<Vec<u64>, _> = text.split(':').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([sender, attempted, acknowledged]) => {
            Ok((*sender, Sender { attempted: *attempted, acknowledged: *acknowledged }))
        }
        _ => Err("three numbers: number:attempted:acknowledged".to_owned()),
    }
}
