//! A service's handle on its database: carries a batch out in one round trip where it can, and finds out what became of it
//! where that is not known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use whizbang_storage::refuse::LastAnswer;
use whizbang_storage::turn::{Turn, turn};
use whizbang_storage::{
    Abilities, Answer, Hint, InstanceId, Service, StoreError, Timestamp, WorkBatch, WorkStore,
};

use crate::error::{Aftermath, Stop};
use crate::exchange::{Changes, Decided, Desktop, Facts, Need, Way, undo};
use crate::link::Link;
use crate::load::{Extent, carry_over, load, load_arrivals, look_up};
use crate::schema::Agreed;
use crate::state::State;
use crate::statements::Statements;
use crate::tls::Connector;
use crate::wire::{Call, Outcome, Reply};
use crate::{OpenError, PostgresOptions, PostgresReader, alone};

/// So many instances may send through one handle before the first one's last answer is forgotten.
const ANSWERS_MAX: usize = 64;
/// So often a batch is decided anew because something turned out to be otherwise.
const ROUNDS_MAX: u32 = 64;
/// So often a batch is sent again inside, before its caller is told.
const ATTEMPTS_MAX: u32 = 6;
/// The first pause between them; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(4);
/// Exchanges after which what they moved is written into rows of its own.
const FOLD_AFTER: u32 = 64;
/// Another part of the log is written when one is as large as this.
const SEGMENT_BYTES: i64 = 32 << 20;
/// How far the clock of the server may be from where it is expected.
const CLOCKS_MAY_DIFFER: Duration = Duration::from_millis(250);

/// A service's messages in a PostgreSQL database.
///
/// The handle belongs to one engine. Other engines, in this process or another, on this machine or another, open handles of
/// their own. It has one connection, made on the runtime that sends the first batch; the reading side has its own.
///
/// # Cancel safety
/// A [`process_work_batch`](WorkStore::process_work_batch) that is dropped is as one whose answer was lost.
pub struct PostgresStore {
    options: PostgresOptions,
    agreed: Agreed,
    connector: Connector,
    statements: Arc<Statements>,
    link: Option<Link>,
    memory: Option<Memory>,
    /// A batch was sent for this instance, and nobody knows what became of it.
    unsure: Option<InstanceId>,
    clock: Option<(Timestamp, Instant)>,
    /// The next exchange takes along that parts of the log may be emptied.
    recycles: bool,
    answers: Vec<(InstanceId, LastAnswer)>,
    hint: Arc<Mutex<Option<Hint>>>,
    channel: String,
    reader: PostgresReader,
}

/// What is remembered, and for whom.
struct Memory {
    sender: InstanceId,
    state: State,
    /// What the sender's last exchange removed.
    removed: Option<usize>,
}

impl PostgresOptions {
    /// Opens the service, which is made known to the schema when nobody opened it before. The schema must be there: see
    /// [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// [`OpenError`]: every reason has a text that says what to do.
    pub async fn open(self) -> Result<PostgresStore, OpenError> {
        let connector = self.connector()?;
        let agreed = self.agree().await?;
        let reader = PostgresReader::new(&self, &connector, agreed)?;
        Ok(PostgresStore {
            statements: Arc::new(Statements::new(&self.schema, agreed.service)),
            channel: format!("{}/{}", self.schema, agreed.service),
            options: self,
            agreed,
            connector,
            link: None,
            memory: None,
            unsure: None,
            clock: None,
            recycles: false,
            answers: Vec::new(),
            hint: Arc::default(),
            reader,
        })
    }
}

impl PostgresStore {
    /// The options it was opened with.
    pub fn options(&self) -> &PostgresOptions {
        &self.options
    }

    /// Enqueues into this store's service in transactions of your own, with its limits and its clock.
    pub fn enqueuer(&self) -> crate::Enqueuer {
        crate::Enqueuer::new(&self.options, self.agreed)
    }

    async fn process(&mut self, batch: &WorkBatch<'_>, answer: &mut Answer) -> Result<(), StoreError> {
        let digest = batch.digest();
        let (mut attempts, mut pause) = (0, PAUSE);
        loop {
            answer.clear();
            // Taken out: should this future be dropped, nothing that may be half done is remembered.
            let memory = self.memory.take();
            let patience = self.answer_timeout() * 4;
            let attempt = self.attempt(batch, digest, memory, answer);
            let stop = match tokio::time::timeout(patience, attempt).await {
                Ok(Ok(memory)) => {
                    self.memory = memory;
                    return Ok(());
                }
                Ok(Err(stop)) => stop,
                Err(_) => Stop::Silent,
            };
            answer.clear();
            if stop.breaks_connection() {
                self.link = None;
            }
            let aftermath = stop.aftermath();
            if aftermath == Aftermath::Unknown {
                self.unsure = Some(batch.from.instance);
            }
            attempts += 1;
            tracing::debug!(?stop, attempts, "a batch was not answered");
            if aftermath == Aftermath::NotApplied && self.unsure.is_none() {
                return Err(stop.into());
            }
            if attempts >= ATTEMPTS_MAX || matches!(stop, Stop::Contract(_)) {
                let unsure = self.unsure.is_some();
                return Err(match StoreError::from(stop) {
                    StoreError::NotApplied(why) if unsure => StoreError::Unknown(why.into()),
                    error => error,
                });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Carries a batch out; what is remembered afterwards.
    async fn attempt(
        &mut self,
        batch: &WorkBatch<'_>,
        digest: u64,
        memory: Option<Memory>,
        answer: &mut Answer,
    ) -> Result<Option<Memory>, Stop> {
        let sender = batch.from.instance;
        // Whoever joins under a new id does not ask what became of the old one's batch.
        self.unsure = self.unsure.filter(|of| *of == sender);
        // Another server may have taken over: what is remembered is not what is committed there.
        let memory = if self.connect().await? { None } else { memory };
        // Whether what is remembered is of this very call.
        let mut is_new = false;
        let mut memory = match memory.filter(|memory| memory.sender == sender && self.unsure.is_none()) {
            Some(memory) => memory,
            None => {
                is_new = true;
                self.load(sender, None).await?
            }
        };
        let mut facts = Facts::default();
        for _ in 0..ROUNDS_MAX {
            let turn = match self.turn(batch, digest, &memory) {
                Ok(turn @ (Turn::Join | Turn::Next)) => turn,
                _ if !is_new => {
                    is_new = true;
                    memory = self.load(sender, Some(memory)).await?;
                    continue;
                }
                Ok(repeat) => {
                    self.repeat(batch, repeat, &memory, answer);
                    return Ok(Some(memory));
                }
                Err(error) => return Err(error.into()),
            };
            let now = self.now();
            let desktop = Desktop {
                service: &self.options.service,
                state: &mut memory.state,
                answer,
                facts: &facts,
                way: Way::Fast,
                now,
            };
            let changes = match desktop.decide(batch, turn, digest)? {
                Decided::Write(changes) => changes,
                Decided::Look(needs) if needs.contains(&Need::Alone) => {
                    return self.attempt_alone(batch, digest, answer).await;
                }
                Decided::Look(needs) if needs.contains(&Need::Fresh) => {
                    memory = self.load(sender, Some(memory)).await?;
                    (facts.is_fresh, is_new) = (true, true);
                    continue;
                }
                Decided::Look(needs) => {
                    let link = self.link.as_ref().ok_or(Stop::Damaged("there is no connection"))?;
                    look_up(&link.client, &self.statements, &mut memory.state, &mut facts, &needs).await?;
                    continue;
                }
            };
            let mut call = self.call(batch, digest, &memory.state, now, answer.removed);
            call.awaits_arrivals = !facts.has_arrivals;
            let reply = self.send(&call, batch, &mut memory.state, &changes, answer).await?;
            self.note_clock(&reply);
            match reply.outcome {
                Outcome::Written => {
                    let removed = reply.removed;
                    self.written(batch, call, reply, &mut memory.state, *changes, answer);
                    memory.removed = Some(removed);
                    self.recycles |= call.folds;
                    return Ok(Some(memory));
                }
                Outcome::SomebodyIsSilent => return self.attempt_alone(batch, digest, answer).await,
                Outcome::Changed | Outcome::OtherNumber => {
                    undo(&mut memory.state, *changes);
                    memory = self.load(sender, Some(memory)).await?;
                    (facts.is_fresh, facts.has_heads, is_new) = (false, false, true);
                }
                Outcome::ClocksDiffer => undo(&mut memory.state, *changes),
                Outcome::ArrivalsCame => {
                    undo(&mut memory.state, *changes);
                    take_arrivals(&mut memory.state, reply, sender);
                    // All that had come when the batch was sent is known. What comes from here on comes beside it.
                    facts.has_arrivals = true;
                }
                Outcome::Otherwise => {
                    reply.learn(&changes, &mut facts)?;
                    undo(&mut memory.state, *changes);
                }
            }
        }
        Err(Stop::Contract(StoreError::NotApplied(whizbang_storage::NotApplied::Busy(
            "others changed the service all the time".into(),
        ))))
    }

    /// Carries a batch out while no other instance of the service writes.
    async fn attempt_alone(
        &mut self,
        batch: &WorkBatch<'_>,
        digest: u64,
        answer: &mut Answer,
    ) -> Result<Option<Memory>, Stop> {
        let mut facts = Facts { is_fresh: true, ..Facts::default() };
        for _ in 0..ROUNDS_MAX {
            let done = self.try_alone(batch, digest, &mut facts, answer).await;
            match done {
                Ok(Some(memory)) => return Ok(Some(memory)),
                Ok(None) => {}
                Err(stop) => {
                    self.roll_back().await;
                    return Err(stop);
                }
            }
        }
        Err(Stop::Contract(StoreError::NotApplied(whizbang_storage::NotApplied::Busy(
            "others changed the service all the time".into(),
        ))))
    }

    /// None: something was otherwise, and the transaction was rolled back.
    async fn try_alone(
        &mut self,
        batch: &WorkBatch<'_>,
        digest: u64,
        facts: &mut Facts,
        answer: &mut Answer,
    ) -> Result<Option<Memory>, Stop> {
        let sender = batch.from.instance;
        let statements = Arc::clone(&self.statements);
        // Not in this transaction.
        self.recycles = false;
        {
            let client = &self.link()?.client;
            alone::begin(client, &statements, self.patience()).await?;
        }
        let mut memory = self.load_now(sender, Extent::All, None).await?;
        let turn = match self.turn(batch, digest, &memory) {
            Ok(turn @ (Turn::Join | Turn::Next)) => turn,
            Ok(repeat) => {
                self.repeat(batch, repeat, &memory, answer);
                self.roll_back().await;
                return Ok(Some(memory));
            }
            Err(error) => return Err(error.into()),
        };
        let now = self.now();
        let mut rounds = 0..ROUNDS_MAX;
        let changes = loop {
            if rounds.next().is_none() {
                return Err(Stop::Damaged("what was looked up is still missing"));
            }
            let desktop = Desktop {
                service: &self.options.service,
                state: &mut memory.state,
                answer,
                facts,
                way: Way::Alone,
                now,
            };
            match desktop.decide(batch, turn, digest)? {
                Decided::Write(changes) => break changes,
                Decided::Look(needs) => {
                    let client = &self.link()?.client;
                    look_up(client, &statements, &mut memory.state, facts, &needs).await?;
                }
            }
        };
        let before = changes.shared.clone().ok_or(Stop::Damaged("what all know was not kept"))?;
        let is_gone = |id: &InstanceId| before.instances.get(id).is_none_or(|one| !one.known.gone);
        let evicts = memory
            .state
            .shared
            .instances
            .iter()
            .any(|(id, one)| one.known.gone && is_gone(id) && *id != sender);
        alone::write(&self.link()?.client, &statements, &before, &memory.state, now).await?;
        memory.state.shared.version += 1;
        let call = Call {
            folds: true,
            writes_all_heads: evicts,
            silence: None,
            ..self.call(batch, digest, &memory.state, now, answer.removed)
        };
        let reply = self.send(&call, batch, &mut memory.state, &changes, answer).await?;
        self.note_clock(&reply);
        if reply.outcome != Outcome::Written {
            reply.learn(&changes, facts)?;
            self.roll_back().await;
            return Ok(None);
        }
        if let Some(me) = memory.state.shared.instances.get_mut(&sender) {
            (me.known.last, me.known.digest, me.last_seen) = (batch.from.number, digest, now);
        }
        let client = &self.link()?.client;
        alone::bury(client, &statements, &before, &memory.state, now).await?;
        client.batch_execute("COMMIT").await?;
        let removed = reply.removed;
        let shared = &memory.state.shared;
        let all = (0..self.options.service.partitions).map(whizbang_storage::Partition);
        let gains = all.into_iter().any(|partition| {
            shared.writer(partition) == Some(sender) && before.writer(partition) != Some(sender)
        });
        self.written(batch, call, reply, &mut memory.state, *changes, answer);
        memory.removed = Some(removed);
        if gains {
            // What has arrived there was nobody's business before.
            memory.state.parts.iter_mut().for_each(|part| part.arrivals = Default::default());
            // It is committed: whatever goes wrong from here on, the answer is a repetition's.
            let looked = load_arrivals(&self.link()?.client, &statements, &mut memory.state, sender).await;
            looked.map_err(|_| Stop::Silent)?;
            self.tell_membership(batch, &mut memory.state, call.now, answer);
            self.keep(batch, digest, answer);
        }
        Ok(Some(memory))
    }

    fn turn(&self, batch: &WorkBatch<'_>, digest: u64, memory: &Memory) -> Result<Turn, StoreError> {
        let known = memory.state.shared.instances.get(&batch.from.instance).map(|instance| instance.known);
        turn(known, batch, digest, self.kept(batch, digest).is_some())
    }

    /// The answer that was kept of this very batch.
    fn kept(&self, batch: &WorkBatch<'_>, digest: u64) -> Option<&Answer> {
        let kept = self.answers.iter().find(|(of, _)| *of == batch.from.instance);
        let (of, answer) = kept?.1.of(batch.from)?;
        (of == digest).then_some(answer)
    }

    fn repeat(&self, batch: &WorkBatch<'_>, turn: Turn, memory: &Memory, answer: &mut Answer) {
        if let Some(kept) = self.kept(batch, batch.digest()) {
            answer.clone_from(kept);
        }
        if let Some(removed) = memory.removed {
            answer.removed = removed;
        }
        if turn == Turn::RepeatEvicted {
            answer.without_work();
        }
    }

    fn keep(&mut self, batch: &WorkBatch<'_>, digest: u64, answer: &Answer) {
        let instance = batch.from.instance;
        let index = self.answers.iter().position(|(of, _)| *of == instance).unwrap_or_else(|| {
            if self.answers.len() >= ANSWERS_MAX {
                self.answers.remove(0);
            }
            self.answers.push((instance, LastAnswer::default()));
            self.answers.len() - 1
        });
        self.answers[index].1.keep(batch.from, digest, answer);
    }

    fn call(
        &self,
        batch: &WorkBatch<'_>,
        digest: u64,
        state: &State,
        now: Timestamp,
        removed: usize,
    ) -> Call<'static> {
        let service = &self.options.service;
        let looks = batch.membership.is_some()
            && state.shared.truce.is_none_or(|until| now >= until)
            && state.shared.living().any(|(id, _)| id != batch.from.instance);
        Call {
            text: "",
            service: self.agreed.service,
            instance: batch.from.instance,
            number: batch.from.number,
            digest,
            version: state.shared.version,
            now,
            tolerance: self.options.clock.is_none().then(|| CLOCKS_MAY_DIFFER.min(service.time_to_live / 8)),
            silence: looks.then_some(service.time_to_live),
            lock_timeout: self.patience(),
            moves: batch.arrivals.is_some_and(|max| max > 0),
            awaits_arrivals: true,
            removed,
            folds: state.exchanges + 1 >= FOLD_AFTER,
            channel: None,
            writes_all_heads: false,
        }
    }

    /// Sends what was decided. Its answer is kept before, because the server's may be lost.
    async fn send(
        &mut self,
        call: &Call<'_>,
        batch: &WorkBatch<'_>,
        state: &mut State,
        changes: &Changes<'_>,
        answer: &mut Answer,
    ) -> Result<Reply, Stop> {
        self.tell_membership(batch, state, call.now, answer);
        self.keep(batch, call.digest, answer);
        let notifies = changes.news && self.options.notifications == crate::Notifications::On;
        let call =
            Call { text: &self.statements.exchange, channel: notifies.then_some(&self.channel[..]), ..*call };
        let recycles = self.recycles;
        let client = &self.link()?.client;
        let sending = call.send(client, state, changes, self.answer_timeout());
        if !recycles {
            return sending.await;
        }
        // On the same way there and back. What goes wrong with it is tried again.
        let bytes = [(&SEGMENT_BYTES as _, tokio_postgres::types::Type::INT8)];
        let recycling = client.query_typed(&self.statements.recycle, &bytes);
        let (recycled, reply) = futures_util::future::join(recycling, sending).await;
        self.recycles = false;
        if let Err(error) = recycled {
            tracing::debug!(%error, "the log was not recycled");
        }
        reply
    }

    fn tell_membership(&self, batch: &WorkBatch<'_>, state: &mut State, now: Timestamp, answer: &mut Answer) {
        if batch.membership.is_none() {
            return;
        }
        let service = &self.options.service;
        // What a join was told of its subscriptions is known by their names.
        let told = crate::exchange::told(service, state, batch, now);
        answer.membership = Some(told);
    }

    /// Takes over what was written.
    fn written(
        &mut self,
        batch: &WorkBatch<'_>,
        call: Call<'_>,
        reply: Reply,
        state: &mut State,
        changes: Changes<'_>,
        answer: &mut Answer,
    ) {
        let sender = batch.from.instance;
        answer.removed = reply.removed;
        if let Some(me) = state.shared.instances.get_mut(&sender) {
            (me.known.last, me.known.digest, me.last_seen) = (call.number, call.digest, call.now);
        }
        state.shared.last_commit = Some(call.now);
        if call.folds {
            state.unfolded.clear();
            state.exchanges = 0;
        } else {
            state.unfolded.extend(crate::wire::moved_places(state, &changes).into_keys());
            state.exchanges += 1;
        }
        crate::exchange::settle_down(state, changes, &reply.arrived, sender);
        take_arrivals(state, reply, sender);
        self.tell_membership(batch, state, call.now, answer);
        self.keep(batch, call.digest, answer);
    }

    /// Reads again what may have changed of what was remembered.
    async fn load(&mut self, sender: InstanceId, previous: Option<Memory>) -> Result<Memory, Stop> {
        if self.unsure != Some(sender) {
            return self.load_now(sender, Extent::Mine, previous).await;
        }
        // Whatever was sent before ends first: it holds the instance's row.
        let statements = Arc::clone(&self.statements);
        let begin = format!("BEGIN; SET LOCAL lock_timeout = {}", self.patience().as_millis().max(1));
        {
            let client = &self.link()?.client;
            client.batch_execute(&begin).await?;
            let id = crate::wire::uuid(sender.to_bytes());
            let key = [
                (&statements.service as _, tokio_postgres::types::Type::INT4),
                (&id as _, tokio_postgres::types::Type::UUID),
            ];
            if let Err(error) = client.query_typed(&statements.lock_instance, &key).await {
                self.roll_back().await;
                return Err(error.into());
            }
        }
        let loaded = self.load_now(sender, Extent::Mine, None).await;
        self.roll_back().await;
        let loaded = loaded?;
        self.unsure = None;
        Ok(loaded)
    }

    async fn load_now(
        &mut self,
        sender: InstanceId,
        extent: Extent,
        previous: Option<Memory>,
    ) -> Result<Memory, Stop> {
        let partitions = self.options.service.partitions;
        let client = &self.link()?.client;
        let mut loaded = load(client, &self.statements, partitions, sender, extent).await?;
        let knows_arrivals =
            previous.is_some_and(|previous| carry_over(&mut loaded.state, previous.state, sender));
        if !knows_arrivals {
            load_arrivals(client, &self.statements, &mut loaded.state, sender).await?;
        }
        self.clock = Some((loaded.clock, Instant::now()));
        Ok(Memory { sender, state: loaded.state, removed: loaded.removed })
    }

    /// Ends a transaction that is not wanted; a connection that cannot is given up.
    async fn roll_back(&mut self) {
        if let Some(link) = &self.link
            && link.client.batch_execute("ROLLBACK").await.is_err()
        {
            self.link = None;
        }
    }

    /// Makes sure that there is a connection; says whether it is a new one.
    async fn connect(&mut self) -> Result<bool, Stop> {
        if self.link.as_ref().is_some_and(|link| !link.client.is_closed()) {
            return Ok(false);
        }
        let channel = (self.options.notifications == crate::Notifications::On).then_some(&self.channel[..]);
        self.link = Some(Link::make(&self.connector, channel, &self.hint).await?);
        Ok(true)
    }

    fn link(&self) -> Result<&Link, Stop> {
        self.link.as_ref().ok_or(Stop::Damaged("there is no connection"))
    }

    /// The store's clock, as far as it is known here; the server compares.
    fn now(&self) -> Timestamp {
        match (&self.options.clock, self.clock) {
            (Some(clock), _) => clock.now(),
            (None, Some((then, at))) => then.after(at.elapsed()),
            (None, None) => Timestamp::default(),
        }
    }

    fn note_clock(&mut self, reply: &Reply) {
        if let Some(clock) = reply.clock {
            self.clock = Some((clock, Instant::now()));
        }
    }

    /// How long a lock is waited for: less than half the time to live.
    fn patience(&self) -> Duration {
        self.options.service.time_to_live * 2 / 5
    }

    fn answer_timeout(&self) -> Duration {
        (self.options.service.time_to_live / 2).max(Duration::from_secs(2))
    }
}

/// Adds arrivals that have come to those that are known.
fn take_arrivals(state: &mut State, reply: Reply, sender: InstanceId) {
    let Reply { seen, come, .. } = reply;
    for (id, partition, due, arrival) in come {
        if state.shared.writer(partition) == Some(sender) && (partition.0 as usize) < state.parts.len() {
            state.part_mut(partition).arrivals.add(id, due, arrival);
        }
    }
    if let Some(seen) = seen {
        state.seen = seen;
    }
}

impl WorkStore for PostgresStore {
    type Reader = PostgresReader;

    async fn process_work_batch(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        self.process(batch, answer).await
    }

    fn reader(&self) -> PostgresReader {
        self.reader.clone()
    }

    fn service(&self) -> &Service {
        &self.options.service
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            shared_by_processes: true,
            user_transactions: true,
            notifications: self.options.notifications == crate::Notifications::On,
            durable: true,
        }
    }

    fn on_hint(&mut self, hint: Hint) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = Some(hint);
    }
}

impl core::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PostgresStore").field("options", &self.options).finish_non_exhaustive()
    }
}
