//! Carrying a batch out: decided on what is remembered, sent, and decided again on what turned out to be otherwise.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whizbang_storage::turn::Turn;
use whizbang_storage::{Answer, InstanceId, Membership, StoreError, Timestamp, WorkBatch};

use super::{Memory, PostgresStore};
use crate::alone;
use crate::change::{Change, Sent};
use crate::changes::{Changes, settle_down, undo};
use crate::error::Stop;
use crate::exchange::{Decided, Desktop, Way};
use crate::glance::{glance, is_worth_it};
use crate::housekeeping::Reach;
use crate::load::{Extent, load_arrivals, put_arrivals};
use crate::look_up::{Facts, Need, look_up};
use crate::state::State;
use crate::wire::{Call, Outcome, Reply};

/// So often a batch is decided anew because something turned out to be otherwise.
const ROUNDS_MAX: u32 = 64;
/// Exchanges after which what they moved is written into rows of its own.
const FOLD_AFTER: u32 = 64;
/// Another part of the log is written when one is as large as this.
const SEGMENT_BYTES: i64 = 32 << 20;
/// So many streams' versions are kept at a time before a part with old events is emptied.
const STREAMS_KEPT: i32 = 1_000;
/// How far the clock of the server may be behind what is taken for it here.
const CLOCKS_MAY_DIFFER: Duration = Duration::from_millis(250);

impl PostgresStore {
    /// Carries a batch out; what is remembered afterwards.
    pub(super) async fn attempt(
        &mut self,
        batch: &WorkBatch<'_>,
        digest: u64,
        memory: Option<Memory>,
        answer: &mut Answer,
    ) -> Result<Option<Memory>, Stop> {
        let sender = batch.from.instance;
        if core::mem::take(&mut self.transacts) {
            // Its caller did not wait for the end of a transaction: nothing of this batch may become a part of it.
            self.link = None;
        }
        // Another server may have taken over: what is remembered is not what is committed there.
        let memory = if self.connect().await? { None } else { memory };
        // Whoever joins may find that others are gone; whoever clears up does so for all.
        let joins = matches!(batch.membership, Some(Membership::Join(_)));
        let clears_up = batch.housekeeping.is_some() && Reach::of(batch) == Reach::All;
        let mut extent = if joins || clears_up { Extent::All } else { Extent::Mine };
        let mut facts = Facts::default();
        // Whether what is remembered is of this very call.
        let mut is_new = false;
        let mut memory =
            match memory.filter(|memory| memory.sender == sender && !self.callers.is_unsure(batch)) {
                Some(memory) => memory,
                None => {
                    is_new = true;
                    self.load(batch, extent, None).await?
                }
            };
        for _ in 0..ROUNDS_MAX {
            (facts.is_fresh, facts.has_all) = (is_new, is_new && extent == Extent::All);
            if self.others_send && !facts.has_arrivals && is_worth_it(batch, &memory.state) {
                let client = &self.link()?.client;
                let glance = glance(client, &self.statements, &mut memory.state, sender).await?;
                self.clock = Some((glance.clock, Instant::now()));
                (self.others_send, facts.has_arrivals) = (glance.has_come, true);
                if glance.is_changed {
                    memory = self.load(batch, extent, Some(memory)).await?;
                    (facts.has_heads, is_new) = (false, true);
                    continue;
                }
            }
            let turn = match self.turn(batch, digest, &memory) {
                Ok(turn @ (Turn::Join | Turn::Next)) => turn,
                _ if !is_new => {
                    is_new = true;
                    memory = self.load(batch, extent, Some(memory)).await?;
                    continue;
                }
                Ok(repeat) => {
                    self.repeat(batch, repeat, &memory, answer);
                    if repeat == Turn::Repeat && self.untold == Some((sender, batch.from.number)) {
                        self.tell_membership(batch, &mut memory.state, self.now(), answer);
                        self.callers.keep(batch, digest, answer);
                        self.untold = None;
                    }
                    return Ok(Some(memory));
                }
                Err(error) => return Err(error.into()),
            };
            // What was sent under this number before is not there, and cannot come any more.
            self.callers.set_sure(sender);
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
                    tracing::debug!(number = batch.from.number, "a batch needs all others to wait");
                    return self.attempt_alone(batch, digest, answer).await;
                }
                Decided::Look(needs) if needs.contains(&Need::Fresh) => {
                    memory = self.load(batch, extent, Some(memory)).await?;
                    is_new = true;
                    continue;
                }
                Decided::Look(needs) => {
                    let link = self.link.as_ref().ok_or(Stop::Damaged("there is no connection"))?;
                    look_up(&link.client, &self.statements, &mut memory.state, &mut facts, &needs).await?;
                    continue;
                }
            };
            let call = Call {
                // Whoever is silent was looked for.
                silence: self.silence(batch, &memory.state).filter(|_| !facts.has_all),
                awaits_arrivals: !facts.has_arrivals,
                ..self.call(batch, digest, &memory.state, &changes, now, answer.removed)
            };
            let reply = self.send(&call, batch, &mut memory.state, &changes, answer).await?;
            self.note_clock(&reply);
            if reply.outcome != Outcome::Written {
                tracing::debug!(number = batch.from.number, outcome = ?reply.outcome, "a batch is decided again");
            }
            match reply.outcome {
                Outcome::Written => {
                    return self.written(batch, call, reply, memory, *changes, answer).await.map(Some);
                }
                Outcome::SomebodyIsSilent => {
                    undo(&mut memory.state, *changes);
                    extent = Extent::All;
                    memory = self.load(batch, extent, Some(memory)).await?;
                    (facts.has_heads, is_new) = (false, true);
                }
                Outcome::Changed | Outcome::OtherNumber => {
                    undo(&mut memory.state, *changes);
                    memory = self.load(batch, extent, Some(memory)).await?;
                    (facts.has_heads, is_new) = (false, true);
                }
                Outcome::ClocksDiffer => {
                    // The clock is set now.
                    undo(&mut memory.state, *changes);
                }
                Outcome::ArrivalsCame => {
                    undo(&mut memory.state, *changes);
                    self.others_send = true;
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
        let mut facts = Facts { is_fresh: true, has_all: true, ..Facts::default() };
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
        self.transacts = true;
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
        // The server's, read after the last lock.
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
        let call = Call {
            tolerance: None,
            ..self.call(batch, digest, &memory.state, &changes, now, answer.removed)
        };
        let reply = self.send(&call, batch, &mut memory.state, &changes, answer).await?;
        self.note_clock(&reply);
        if reply.outcome != Outcome::Written {
            tracing::debug!(outcome = ?reply.outcome, "decided again, alone");
            reply.learn(&changes, facts)?;
            self.roll_back().await;
            return Ok(None);
        }
        self.link()?.client.batch_execute("COMMIT").await?;
        self.transacts = false;
        self.written(batch, call, reply, memory, *changes, answer).await.map(Some)
    }

    /// Others that have been silent for so long are looked for.
    fn silence(&self, batch: &WorkBatch<'_>, state: &State) -> Option<Duration> {
        let looks = batch.membership.is_some()
            && state.shared.truce.is_none_or(|until| self.now() >= until)
            && state.shared.living().any(|(id, _)| id != batch.from.instance);
        looks.then_some(self.options.service.time_to_live)
    }

    fn call(
        &self,
        batch: &WorkBatch<'_>,
        digest: u64,
        state: &State,
        changes: &Changes<'_>,
        now: Timestamp,
        removed: usize,
    ) -> Call<'static> {
        let service = &self.options.service;
        let compares = self.options.clock.is_none() && !matches!(batch.membership, Some(Membership::Join(_)));
        Call {
            text: "",
            service: self.agreed.service,
            instance: batch.from.instance,
            number: batch.from.number,
            digest,
            version: state.shared.version,
            now,
            // Whoever joins has just asked for the time.
            tolerance: compares.then(|| CLOCKS_MAY_DIFFER.min(service.time_to_live / 8)),
            lateness: service.time_to_live / 2,
            silence: None,
            lock_timeout: self.patience(),
            moves: batch.arrivals.is_some_and(|max| max > 0),
            awaits_arrivals: true,
            removed,
            // Whoever gives something away leaves nothing of it in rows that only it folds.
            folds: state.exchanges + 1 >= FOLD_AFTER || changes.shared.is_some(),
            channel: None,
            writes_all_heads: !changes.evicted.is_empty(),
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
        self.callers.keep(batch, call.digest, answer);
        let notifies = changes.news && self.options.notifications == crate::Notifications::On;
        let sent = Sent {
            sender: batch.from.instance,
            number: batch.from.number,
            digest: call.digest,
            now: call.now,
        };
        let change = changes.shared.as_ref().map(|before| Change::between(before, state, sent));
        let text = if change.is_some() { &self.statements.change } else { &self.statements.exchange };
        let call = Call { text, channel: notifies.then_some(&self.channel[..]), ..*call };
        let recycles = self.recycles;
        let client = &self.link()?.client;
        let sending = call.send(client, state, changes, change.as_ref(), self.answer_timeout());
        if !recycles {
            return sending.await;
        }
        // On the same way there and back. What goes wrong with it is tried again.
        let bytes = [(&SEGMENT_BYTES as _, tokio_postgres::types::Type::INT8)];
        let recycling = client.query_typed(&self.statements.recycle, &bytes);
        let now = call.now.micros();
        let step = [
            (&now as _, tokio_postgres::types::Type::INT8),
            (&STREAMS_KEPT as _, tokio_postgres::types::Type::INT4),
        ];
        let drops_events = self.options.service.event_retention.is_some();
        let events = async {
            match drops_events {
                true => client.query_typed(&self.statements.recycle_events, &step).await,
                false => Ok(Vec::new()),
            }
        };
        let (recycled, events, reply) = futures_util::future::join3(recycling, events, sending).await;
        if let Some(error) = recycled.err().as_ref().or(events.as_ref().err()) {
            tracing::debug!(%error, "the log was not recycled");
        }
        self.recycles = events.is_ok_and(|rows| rows.first().is_some_and(|row| row.get("more")));
        reply
    }

    /// Takes over what was written; what is remembered from then on.
    async fn written(
        &mut self,
        batch: &WorkBatch<'_>,
        call: Call<'_>,
        mut reply: Reply,
        mut memory: Memory,
        changes: Changes<'_>,
        answer: &mut Answer,
    ) -> Result<Memory, Stop> {
        let (sender, state) = (batch.from.instance, &mut memory.state);
        answer.removed = reply.removed;
        memory.removed = Some(reply.removed);
        let before = changes.shared.as_ref();
        let all = (0..self.options.service.partitions).map(whizbang_storage::Partition);
        let gains = before.is_some_and(|before| {
            let is_gained = |partition| {
                state.shared.writer(partition) == Some(sender) && before.writer(partition) != Some(sender)
            };
            all.into_iter().any(is_gained)
        });
        state.shared.version += i64::from(before.is_some());
        // As the server has noted it: when the batch was there.
        let at =
            reply.clock.filter(|clock| call.tolerance.is_some() && *clock > call.now).unwrap_or(call.now);
        if let Some(me) = state.shared.instances.get_mut(&sender) {
            (me.known.last, me.known.digest, me.last_seen) = (call.number, call.digest, at);
        }
        state.shared.last_commit = Some(at);
        if call.folds {
            state.unfolded.clear();
            state.exchanges = 0;
        } else {
            state.unfolded.extend(crate::wire::moved_places(state, &changes).into_keys());
            state.exchanges += 1;
        }
        self.recycles |= call.folds;
        // What comes is looked for before anything is moved; what this batch has moved did not come.
        if !reply.come.is_empty() {
            let moved: HashSet<i64> = changes.moved.iter().map(|(_, id, ..)| *id).collect();
            reply.come.retain(|(id, ..)| !moved.contains(id));
        }
        self.others_send |= !reply.come.is_empty();
        settle_down(state, changes, &reply.arrived, sender);
        take_arrivals(state, reply, sender);
        self.tell_membership(batch, state, call.now, answer);
        self.callers.keep(batch, call.digest, answer);
        if gains {
            // What has arrived there was nobody's business before. It is committed: whatever goes wrong from here on, the
            // answer is a repetition's.
            state.parts.iter_mut().for_each(|part| part.arrivals = Default::default());
            self.untold = Some((sender, call.number));
            let looked = load_arrivals(&self.link()?.client, &self.statements, state, sender).await;
            looked.map_err(|_| Stop::Silent)?;
            self.untold = None;
            self.tell_membership(batch, state, call.now, answer);
            self.callers.keep(batch, call.digest, answer);
        }
        Ok(memory)
    }
}

/// Adds arrivals that have come to those that are known.
fn take_arrivals(state: &mut State, reply: Reply, sender: InstanceId) {
    if let Reply { seen: Some(seen), come, .. } = reply {
        put_arrivals(state, sender, seen, come);
    }
}
