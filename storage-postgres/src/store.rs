//! A service's handle on its database: carries a batch out in one round trip where it can, and finds out what became of it
//! where that is not known.

mod attempt;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use whizbang_storage::callers::Callers;
use whizbang_storage::turn::{Turn, turn};
use whizbang_storage::{
    Abilities, Answer, Hint, InstanceId, Service, StoreError, Timestamp, WorkBatch, WorkStore,
};

use crate::error::{Aftermath, Stop};
use crate::fence::fence;
use crate::freeze::freeze;
use crate::link::Link;
use crate::load::{Extent, carry_over, load, load_rest};
use crate::schema::Agreed;
use crate::state::State;
use crate::statements::Statements;
use crate::tls::Connector;
use crate::wire::Reply;
use crate::{OpenError, PostgresOptions, PostgresReader};

/// So often a batch is sent again inside, before its caller is told.
const ATTEMPTS_MAX: u32 = 6;
/// The first pause between them; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(4);

/// A service's messages in a PostgreSQL database.
///
/// The handle belongs to one engine. Other engines, in this process or another, on this machine or another, open handles of
/// their own. It has one connection, made on the runtime that sends the first batch; the reading side has its own.
///
/// # Cancel safety
/// A [`process_work_batch`](WorkStore::process_work_batch) that is dropped is as one whose answer was lost: the same batch, sent
/// again, is answered, and was applied once.
pub struct PostgresStore {
    options: PostgresOptions,
    agreed: Agreed,
    connector: Connector,
    statements: Arc<Statements>,
    link: Option<Link>,
    memory: Option<Memory>,
    callers: Callers,
    /// A batch of this instance is being carried out. Still there when the next one comes: its caller did not wait.
    under_way: Option<InstanceId>,
    /// The connection is in a transaction of several statements, unless that was ended.
    transacts: bool,
    clock: Option<(Timestamp, Instant)>,
    /// Something has come from other instances of late.
    others_send: bool,
    /// The next exchange takes along that parts of the log may be emptied.
    recycles: bool,
    /// The instance and number of a batch whose kept answer says nothing yet of what had arrived in the partitions it took.
    untold: Option<(InstanceId, u64)>,
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
            callers: Callers::default(),
            under_way: None,
            transacts: false,
            clock: None,
            others_send: false,
            recycles: false,
            untold: None,
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
        if let Some(dropped) = self.under_way.replace(batch.from.instance) {
            self.callers.set_unsure(dropped);
        }
        let outcome = self.try_until_answered(batch, answer).await;
        self.under_way = None;
        if outcome.is_ok() {
            self.callers.set_answered(batch);
        }
        outcome
    }

    async fn try_until_answered(
        &mut self,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let digest = batch.digest();
        let (began, mut attempts, mut pause) = (Instant::now(), 0, PAUSE);
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
                self.callers.set_unsure(batch.from.instance);
            }
            attempts += 1;
            tracing::debug!(?stop, attempts, "a batch was not answered");
            let is_unsure = self.callers.is_unsure(batch);
            if aftermath == Aftermath::NotApplied && !is_unsure {
                return Err(stop.into());
            }
            // Who waits for a lock waits long each time: its caller is told before it would be taken for dead.
            let takes_long = began.elapsed() >= self.options.service.time_to_live;
            if attempts >= ATTEMPTS_MAX || takes_long || matches!(stop, Stop::Contract(_)) {
                return Err(match StoreError::from(stop) {
                    StoreError::NotApplied(why) if is_unsure => StoreError::Unknown(why.into()),
                    error => error,
                });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    fn turn(&self, batch: &WorkBatch<'_>, digest: u64, memory: &Memory) -> Result<Turn, StoreError> {
        let known = memory.state.shared.instances.get(&batch.from.instance).map(|instance| instance.known);
        turn(known, batch, digest, self.callers.kept(batch, digest).is_some())
    }

    fn repeat(&self, batch: &WorkBatch<'_>, turn: Turn, memory: &Memory, answer: &mut Answer) {
        if let Some(kept) = self.callers.kept(batch, batch.digest()) {
            answer.clone_from(kept);
        }
        if let Some(removed) = memory.removed {
            answer.removed = removed;
        }
        if turn == Turn::RepeatEvicted {
            answer.without_work();
        }
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

    /// Reads again what may have changed of what was remembered; what an earlier call of an unsure sender has sent comes to its end
    /// first.
    async fn load(
        &mut self,
        batch: &WorkBatch<'_>,
        extent: Extent,
        previous: Option<Memory>,
    ) -> Result<Memory, Stop> {
        let sender = batch.from.instance;
        if !self.callers.is_unsure(batch) {
            return self.load_now(sender, extent, previous).await;
        }
        let fenced = fence(&self.link()?.client, &self.statements, sender, self.patience()).await;
        if let Err(stop) = fenced {
            self.roll_back().await;
            return Err(stop);
        }
        self.load_now(sender, extent, None).await
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
        let kept = previous.map(|previous| carry_over(&mut loaded.state, previous.state, sender));
        let kept = kept.unwrap_or_default();
        load_rest(client, &self.statements, &mut loaded.state, sender, extent, &kept).await?;
        self.clock = Some((loaded.clock, Instant::now()));
        Ok(Memory { sender, state: loaded.state, removed: loaded.removed })
    }

    /// Ends a transaction that is not wanted; a connection that cannot is given up.
    async fn roll_back(&mut self) {
        self.transacts = false;
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
        let link = Link::make(&self.connector, channel, &self.hint).await?;
        // Whichever server this is, and whoever had connected to it before: nothing is read there before that.
        freeze(&link.client, &self.statements, self.patience()).await?;
        self.link = Some(link);
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
