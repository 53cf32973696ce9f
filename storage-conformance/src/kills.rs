//! Processes that are killed while they work, and the check of what came of it.
//!
//! A process joins, sends commands of a few streams and handles what it is handed: a handled command becomes one event, its
//! *effect*, in the unit that settles it. It says on its standard output what it is about to send and what was answered. In the end
//! one last process drains everything, and the effects of each stream must be exactly its commands, in order.
//!
//! The process is an ignored test of the program that starts it:
//!
//! ```no_run
//! use std::time::Duration;
//! use whizbang_storage_conformance::kills::{self, Running, Told, Worker};
//! # use whizbang_storage::{MemoryStore, Service};
//! # fn open(path: &std::path::Path, service: Service) -> MemoryStore { unimplemented!() }
//!
//! # let path = std::path::Path::new("a.db");
//! // #[test] #[ignore = "the other tests start it"]
//! fn the_process_that_is_killed() {
//!     kills::be_the_process_that_is_killed(open);
//! }
//!
//! let mut told = Told::default();
//! for round in 1..=50 {
//!     let running = Running::start(path, round, &[]);
//!     std::thread::sleep(Duration::from_millis(round));
//!     told.absorb(&running.kill());
//! }
//! let mut last = Worker::join(open(path, kills::service(kills::TIME_TO_LIVE)), 51);
//! last.drain();
//! assert!(told.check(&last).is_clean());
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU128;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whizbang_storage::{
    Answer, Append, ContentType, Delivery, Epoch, HandOut, InstanceId, Join, LaneState, Limit, Membership,
    MessageId, MessageKind, NotApplied, OnDead, Page, Partition, Position, Read, ReadAnswer, Sender, Service,
    Settle, StartAt, StoreError, StoreReader, StreamId, SubscriptionId, SubscriptionSpec, Unit, Version,
    WorkBatch, WorkStore,
};

use crate::{OwnedBatch, Seen};

/// Streams of commands.
const STREAMS: u64 = 12;

/// Distinguishes a command from its effect.
const EFFECT: u128 = 1 << 100;

const SOME: Limit = Limit { messages: 200, bytes: 1 << 20 };

fn id(bits: u128) -> MessageId {
    MessageId::from_bits(NonZeroU128::new(bits).expect("rounds count from 1"))
}

/// The number of a process and of its command, in the order in which they were sent.
fn command_id(round: u64, number: u64) -> u128 {
    u128::from(round) << 64 | u128::from(number) << 8 | u128::from(number % STREAMS)
}

fn stream_of(command: u128) -> StreamId {
    StreamId::from_key(format!("stream {}", command & 0xFF))
}

/// Effects stand in a stream of their own, in the same order.
fn effects_of(stream: u64) -> StreamId {
    StreamId::from_key(format!("effects {stream}"))
}

fn message(bits: u128, stream: StreamId, kind: MessageKind, payload: &[u8]) -> Append<'_> {
    Append {
        id: id(bits),
        stream: Some(stream),
        kind,
        type_name: "crash.message",
        type_version: 1,
        content_type: ContentType::JSON,
        payload,
        correlation: id(bits).into(),
        causation: None,
        metadata: b"",
        dedup: None,
        due_in: None,
        hand_out: HandOut::Later,
    }
}

/// One process, as long as it lives.
#[derive(Debug)]
pub struct Worker<S> {
    store: S,
    instance: InstanceId,
    number: u64,
    subscription: SubscriptionId,
    owned: BTreeMap<Partition, (Epoch, Position)>,
    answer: Answer,
    /// The last batch that was answered, and how.
    last: Option<(OwnedBatch, Seen)>,
}

/// So short that nobody waits long for what a killed process had.
pub const TIME_TO_LIVE: Duration = Duration::from_millis(200);

/// The service of all these processes.
pub fn service(time_to_live: Duration) -> Service {
    Service { partitions: 8, time_to_live, ..Service::named("kills") }
}

impl<S: WorkStore> Worker<S> {
    /// A process that has opened the [`service`] and joins; rounds count from 1, and each has a number of its own.
    pub fn join(store: S, round: u64) -> Self {
        let mut worker = Self {
            store,
            instance: InstanceId::from_bits(NonZeroU128::new(round.into()).expect("rounds count from 1")),
            number: 0,
            subscription: SubscriptionId(0),
            owned: BTreeMap::new(),
            answer: Answer::default(),
            last: None,
        };
        let specs = [SubscriptionSpec {
            name: "s",
            start: StartAt::First,
            on_dead: OnDead::Halt,
            attempts_max: u32::MAX,
        }];
        let join = Join { group: Some("g"), subscriptions: &specs, types: &[] };
        worker
            .send(WorkBatch { membership: Some(Membership::Join(join)), ..WorkBatch::empty(worker.from()) });
        let told = worker.answer.membership.as_ref().expect("a join is answered");
        worker.subscription = told.subscriptions[0];
        worker
    }

    fn from(&self) -> Sender {
        Sender { instance: self.instance, start_token: 1, number: self.number + 1 }
    }

    /// Sends a batch until it is answered.
    fn send(&mut self, batch: WorkBatch<'_>) {
        loop {
            match block_on(self.store.process_work_batch(&batch, &mut self.answer)) {
                Ok(()) => break,
                Err(error @ StoreError::NotApplied(NotApplied::Busy(_))) => say(&format!("@busy {error}")),
                Err(error @ (StoreError::NotApplied(_) | StoreError::Unknown(_))) => {
                    say(&format!("@trouble {error:?}"));
                    if let StoreError::NotApplied(_) = error {
                        self.repeat_the_last();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.last = Some((OwnedBatch::from(&batch), Seen::from(&self.answer)));
        self.number += 1;
        if let Some(told) = &self.answer.membership {
            let before = core::mem::take(&mut self.owned);
            for owned in &told.owned {
                let known = before.get(&owned.partition).filter(|(epoch, _)| *epoch == owned.epoch);
                let from = known
                    .map_or(owned.cursors.first().map_or(Position::START, |c| c.read_from), |known| known.1);
                self.owned.insert(owned.partition, (owned.epoch, from));
            }
        }
    }

    /// A batch was definitely not applied: the one before is still the last, and answered as it was.
    fn repeat_the_last(&mut self) {
        let Some((batch, seen)) = &self.last else {
            return;
        };
        let mut answer = Answer::default();
        match block_on(batch.send_to(&mut self.store, &mut answer)) {
            Ok(()) if Seen::from(&answer) == *seen => say("@repeated"),
            // The disk may be too full even to look.
            Err(StoreError::NotApplied(_)) => {}
            other => say(&format!("@forgotten {other:?}")),
        }
    }

    /// Sends these commands, asks for work, and handles it.
    fn round(&mut self, commands: &[u128], beats: bool) {
        let appends: Vec<_> = commands
            .iter()
            .map(|command| message(*command, stream_of(*command), MessageKind::Command, b"do it"))
            .collect();
        let reads: Vec<_> = self
            .owned
            .iter()
            .map(|(partition, (epoch, after))| Read {
                subscription: self.subscription,
                partition: *partition,
                epoch: *epoch,
                after: *after,
                limit: SOME,
            })
            .collect();
        self.send(WorkBatch {
            membership: beats.then_some(Membership::Heartbeat),
            appends: &appends,
            arrivals: Some(100),
            due: Some(SOME),
            reads: &reads,
            housekeeping: Some(1_000),
            ..WorkBatch::empty(self.from())
        });
        let through: Vec<_> = self
            .answer
            .reads
            .iter()
            .map(|read| match read {
                ReadAnswer::Messages { through, .. } => Some(*through),
                ReadAnswer::Fenced | ReadAnswer::Paused => None,
            })
            .collect();
        for (read, through) in reads.iter().zip(through) {
            match (self.owned.get_mut(&read.partition), through) {
                (Some(owned), Some(through)) if owned.0 == read.epoch => owned.1 = through,
                _ => drop(self.owned.remove(&read.partition)),
            }
        }
        self.handle();
    }

    /// Answers everything in the page: with its effect, or by putting it behind what its lane waits for.
    fn handle(&mut self) {
        let page = self.answer.page.clone();
        let effects: Vec<[Append<'_>; 1]> = page
            .iter()
            .map(|handed| {
                let command = handed.id.bits().get();
                let stream = effects_of((command & 0xFF) as u64);
                [message(command | EFFECT, stream, MessageKind::Event, b"done")]
            })
            .collect();
        let units: Vec<_> = page
            .iter()
            .zip(&effects)
            .map(|(handed, effect)| {
                let is_command = handed.kind == MessageKind::Command;
                let free = handed.lane == LaneState::Free;
                Unit {
                    delivery: Some(Delivery {
                        subscription: handed.subscription,
                        partition: handed.partition,
                        position: handed.position,
                        lane: handed.lane_id(),
                        epoch: handed.epoch,
                        attempt: handed.attempt,
                    }),
                    settle: if free { Settle::Done } else { Settle::Defer },
                    emits: if is_command && free { effect } else { &[] },
                    expects: &[],
                    projections: &[],
                }
            })
            .collect();
        self.send(WorkBatch { units: &units, ..WorkBatch::empty(self.from()) });
    }

    /// Works until nothing is left.
    pub fn drain(&mut self) {
        let started = Instant::now();
        let mut quiet = 0;
        while quiet < 3 {
            self.round(&[], true);
            let left = block_on(self.store.reader().statistics()).expect("the file can be read");
            let works = left.arrivals > 0 || left.subscriptions.iter().any(|s| s.lag + s.parked > 0);
            quiet = if works { 0 } else { quiet + 1 };
            assert!(started.elapsed() < Duration::from_secs(60), "never done: {left:?}");
            if works {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Sends commands and handles them for ever, saying what it does.
fn work_until_killed<S: WorkStore>(store: S, round: u64) {
    let mut worker = Worker::join(store, round);
    let mut random = fastrand::Rng::new();
    let mut number = 0;
    for turn in 0.. {
        let count = random.u64(0..40);
        let commands: Vec<u128> = (number..number + count).map(|n| command_id(round, n)).collect();
        number += count;
        let list: Vec<String> = commands.iter().map(u128::to_string).collect();
        say(&format!("@sends {}", list.join(" ")));
        worker.round(&commands, turn % 4 == 0);
        say("@answered");
    }
}

/// One line to the parent, whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("somebody listens");
    out.flush().expect("somebody listens");
}

/// A process that works until it is killed: the ignored test `the_process_that_is_killed` of this very program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    listening: JoinHandle<()>,
}

impl Running {
    /// Starts it on the database at this path, with this in its environment: `WHIZBANG_TIME_TO_LIVE`, in milliseconds, or what a
    /// [`faulty_disk`] needs.
    pub fn start(path: &Path, round: u64, environment: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a program has a path"))
            .args(["--exact", "the_process_that_is_killed", "--ignored", "--nocapture", "--test-threads=1"])
            .env("WHIZBANG_CHILD", path)
            .env("WHIZBANG_ROUND", round.to_string())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process can be started");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let listening = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut said = heard.lock().expect("nobody panics under it");
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, said, listening }
    }

    /// How often it said something like this so far.
    pub fn count(&self, what: &str) -> usize {
        let said = self.said.lock().expect("nobody panics under it");
        said.lines().filter(|line| line.contains(what)).count()
    }

    /// Waits until it has said it so often.
    pub fn wait_for(&mut self, what: &str, count: usize) {
        let started = Instant::now();
        while self.count(what) < count {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "it ended by itself: {ended:?}");
            let waited = started.elapsed();
            assert!(
                waited < Duration::from_secs(60),
                "{what} was said {} of {count} times",
                self.count(what)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills it; all that it said.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
        self.listening.join().expect("listening does not panic");
        core::mem::take(&mut self.said.lock().expect("nobody panics under it"))
    }
}

/// What is run in the process that is killed; nothing, where nobody has started it as that.
pub fn be_the_process_that_is_killed<S: WorkStore>(open: impl FnOnce(&Path, Service) -> S) {
    let variable = |name| std::env::var(name).ok();
    if let (Some(path), Some(round)) = (variable("WHIZBANG_CHILD"), variable("WHIZBANG_ROUND")) {
        let millis = variable("WHIZBANG_TIME_TO_LIVE").map(|millis| millis.parse().expect("a number"));
        let time_to_live = millis.map_or(TIME_TO_LIVE, Duration::from_millis);
        work_until_killed(open(Path::new(&path), service(time_to_live)), round.parse().expect("a number"));
    }
}

/// What the processes said.
#[derive(Debug, Default)]
pub struct Told {
    answered: BTreeSet<u128>,
    /// Of each process the last batch, which was not answered: all of it is there, or nothing.
    open: Vec<Vec<u128>>,
}

/// What came of the commands, by their ids.
#[derive(Debug, Default)]
pub struct Report {
    /// Commands that were answered.
    pub answered: u64,
    /// Effects that are there.
    pub effects: u64,
    /// Answered, and without an effect.
    pub lost: Vec<u128>,
    /// Effects of what nobody sent.
    pub ghosts: Vec<u128>,
    /// Handled more than once.
    pub doubled: Vec<u128>,
    /// Of one process and one stream, and handled in another order.
    pub reordered: Vec<(u128, u128)>,
    /// Batches that were not answered, and of which only some is there.
    pub halves: Vec<Vec<u128>>,
}

impl Report {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.ghosts.is_empty()
            && self.doubled.is_empty()
            && self.reordered.is_empty()
            && self.halves.is_empty()
    }
}

impl Told {
    /// Takes what a process has said in its whole life.
    pub fn absorb(&mut self, said: &str) {
        let mut sent: Option<Vec<u128>> = None;
        for line in said.lines() {
            if let Some((_, list)) = line.split_once("@sends") {
                let numbers = list.split_whitespace().map(|number| number.parse().expect("a whole line"));
                sent = Some(numbers.collect());
            } else if line.contains("@answered") {
                self.answered.extend(sent.take().into_iter().flatten());
            }
        }
        self.open.extend(sent);
    }

    /// Compares what was said with the effects that are there.
    pub fn check<S: WorkStore>(&self, last: &Worker<S>) -> Report {
        let effects = (0..STREAMS).map(|stream| {
            let mut page = Page::default();
            block_on(last.store.reader().history(effects_of(stream), Version(0), usize::MAX, &mut page))
                .expect("the file can be read");
            page.iter().map(|effect| effect.id.bits().get() & !EFFECT).collect()
        });
        self.compare(&effects.collect::<Vec<Vec<u128>>>())
    }

    /// Compares what was said with the commands whose effects are there, of each stream in the stream's order.
    pub fn compare(&self, effects: &[Vec<u128>]) -> Report {
        let mut report = Report { answered: self.answered.len() as u64, ..Report::default() };
        let open: BTreeSet<u128> = self.open.iter().flatten().copied().collect();
        let mut seen = BTreeSet::new();
        for stream in effects {
            let mut before: BTreeMap<u128, u128> = BTreeMap::new();
            for &command in stream {
                report.effects += 1;
                if !seen.insert(command) {
                    report.doubled.push(command);
                }
                if !self.answered.contains(&command) && !open.contains(&command) {
                    report.ghosts.push(command);
                }
                // Each process's commands of a stream stay in the order in which it sent them.
                if let Some(earlier) = before.insert(command >> 64, command)
                    && earlier >= command
                {
                    report.reordered.push((earlier, command));
                }
            }
        }
        report.lost = self.answered.difference(&seen).copied().collect();
        let is_half = |batch: &&Vec<u128>| {
            let there = batch.iter().filter(|command| seen.contains(*command)).count();
            there != 0 && there != batch.len()
        };
        report.halves = self.open.iter().filter(is_half).cloned().collect();
        report
    }
}

/// Compiles, into this directory, a library that lets the disk of a process fail, where Linux loads it before all others:
/// `LD_PRELOAD` names the library and `FAULTY_DISK` a file whose content says how writes to `*.db`, `*.db-wal` and `*.new` fail: `eio`,
/// `enospc`, `short` (half of it is written), `fsync`, or `room N` (no file has room behind its byte `N`). Anything else: they do not.
///
/// # Panics
/// Without a C compiler.
pub fn faulty_disk(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("faulty_disk.c"), directory.join("faulty_disk.so"));
    std::fs::write(&source, include_str!("faulty_disk.c")).expect("the directory can be written");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let status = compile.status().expect("there is a C compiler");
    assert!(status.success(), "the library is compiled");
    library
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers always starts").block_on(future)
}
