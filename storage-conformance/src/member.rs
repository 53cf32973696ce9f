//! One process of a service, as a test plays it.

use std::collections::BTreeMap;

use whizbang_storage::{
    Answer, Append, AppendAnswer, DeadLetter, Epoch, Join, KnownType, Limit, Membership, MembershipAnswer,
    Operation, OperationAnswer, Page, Partition, Position, Read, ReadAnswer, Release, Running, Sender,
    Settled, SettledAnswer, Statistics, StoreError, StoreReader, StreamId, SubscriptionId, SubscriptionSpec,
    Unit, UnitAnswer, Version, Whereabouts, WorkBatch, WorkStore,
};

use crate::{Got, Message};

/// One process: its store, its name, and what it was told. Batches are numbered by themselves.
pub struct Member<S: WorkStore> {
    /// Its handle on the database.
    pub store: S,
    /// Its name; `number` is that of its last answered batch.
    pub from: Sender,
    /// The last answer.
    pub answer: Answer,
    /// The numbers of the subscriptions it joined with.
    pub subscriptions: Vec<SubscriptionId>,
    /// What it owns, as it was last told.
    pub owned: BTreeMap<Partition, Epoch>,
}

/// More than any case has.
pub const ALL: Limit = Limit { messages: 1 << 20, bytes: 1 << 30 };

impl<S: WorkStore> Member<S> {
    /// A process that has said nothing yet.
    pub fn new(store: S, from: Sender) -> Self {
        Self { store, from, answer: Answer::default(), subscriptions: Vec::new(), owned: BTreeMap::new() }
    }

    /// The same process with its store wrapped, or unwrapped.
    pub fn map<T: WorkStore>(self, wrap: impl FnOnce(S) -> T) -> Member<T> {
        Member {
            store: wrap(self.store),
            from: self.from,
            answer: self.answer,
            subscriptions: self.subscriptions,
            owned: self.owned,
        }
    }

    /// An empty batch, to be filled: [`send`](Self::send) gives it the next number.
    pub const fn batch(&self) -> WorkBatch<'static> {
        WorkBatch::empty(self.from)
    }

    /// Sends a batch under the next number. The number is used up if the batch is answered.
    ///
    /// # Errors
    /// What the store says.
    pub async fn send(&mut self, batch: WorkBatch<'_>) -> Result<&Answer, StoreError> {
        let from = Sender { number: self.from.number + 1, ..self.from };
        self.send_as(from, batch).await
    }

    /// Sends a batch under the last number again.
    ///
    /// # Errors
    /// What the store says.
    pub async fn repeat(&mut self, batch: WorkBatch<'_>) -> Result<&Answer, StoreError> {
        self.send_as(self.from, batch).await
    }

    /// Sends a batch under any name and number.
    ///
    /// # Errors
    /// What the store says.
    pub async fn send_as(&mut self, from: Sender, batch: WorkBatch<'_>) -> Result<&Answer, StoreError> {
        let batch = WorkBatch { from, ..batch };
        self.store.process_work_batch(&batch, &mut self.answer).await?;
        self.from = from;
        if let Some(told) = &self.answer.membership {
            self.owned = told.owned.iter().map(|owned| (owned.partition, owned.epoch)).collect();
        }
        Ok(&self.answer)
    }

    /// Sends a batch that must be answered.
    pub async fn ok(&mut self, batch: WorkBatch<'_>) -> &Answer {
        self.send(batch).await.expect("the batch is answered")
    }

    /// Joins a group, or none.
    pub async fn join(
        &mut self,
        group: Option<&str>,
        subscriptions: &[SubscriptionSpec<'_>],
        types: &[KnownType<'_>],
    ) -> MembershipAnswer {
        let join = Membership::Join(Join { group, subscriptions, types });
        let told = self.says(join).await;
        self.subscriptions.clone_from(&told.subscriptions);
        told
    }

    /// Sends nothing but a membership.
    pub async fn says(&mut self, membership: Membership<'_>) -> MembershipAnswer {
        let batch = WorkBatch { membership: Some(membership), ..self.batch() };
        let answer = self.ok(batch).await;
        answer.membership.clone().expect("a membership is answered")
    }

    /// Shows that it is alive.
    pub async fn heartbeat(&mut self) -> MembershipAnswer {
        self.says(Membership::Heartbeat).await
    }

    /// Leaves; what is named was still running.
    pub async fn leave(&mut self, running: &[Running]) -> MembershipAnswer {
        self.says(Membership::Leave { running }).await
    }

    /// Gives these partitions back with nothing running.
    pub async fn release(&mut self, partitions: &[Partition]) -> MembershipAnswer {
        let releases: Vec<Release<'_>> = partitions
            .iter()
            .map(|partition| Release { partition: *partition, epoch: self.epoch(partition.0), running: &[] })
            .collect();
        self.says(Membership::Release(&releases)).await
    }

    /// The epoch under which it owns a partition, as it was last told; 0 if it does not.
    pub fn epoch(&self, partition: u32) -> Epoch {
        self.owned.get(&Partition(partition)).copied().unwrap_or(Epoch(0))
    }

    /// Its only, or first, subscription.
    pub fn subscription(&self) -> SubscriptionId {
        self.subscriptions[0]
    }

    /// Appends messages.
    pub async fn append(&mut self, messages: &[Message]) -> Vec<AppendAnswer> {
        let appends: Vec<Append<'_>> = messages.iter().map(Message::append).collect();
        let batch = WorkBatch { appends: &appends, ..self.batch() };
        self.ok(batch).await.appends.clone()
    }

    /// Sends units.
    pub async fn units(&mut self, units: &[Unit<'_>]) -> Vec<UnitAnswer> {
        let batch = WorkBatch { units, ..self.batch() };
        self.ok(batch).await.units.clone()
    }

    /// Settles the positions from `first` to `last` of its first subscription.
    pub async fn settle(&mut self, partition: u32, first: u64, last: u64) -> SettledAnswer {
        let settled = [self.range(partition, first, last)];
        let batch = WorkBatch { settled: &settled, ..self.batch() };
        self.ok(batch).await.settled[0]
    }

    /// A range of its first subscription.
    pub fn range(&self, partition: u32, first: u64, last: u64) -> Settled {
        Settled {
            subscription: self.subscription(),
            partition: Partition(partition),
            epoch: self.epoch(partition),
            first: Position(first),
            last: Position(last),
        }
    }

    /// A read of its first subscription.
    pub fn reads(&self, partition: u32, after: u64) -> Read {
        Read {
            subscription: self.subscription(),
            partition: Partition(partition),
            epoch: self.epoch(partition),
            after: Position(after),
            limit: ALL,
        }
    }

    /// Reads everything of its first subscription behind a position.
    pub async fn read(&mut self, partition: u32, after: u64) -> Vec<Got> {
        let read = self.reads(partition, after);
        self.reading(read).await.0
    }

    /// Carries out a read that must be answered with messages; what was read, and how far the read looked.
    pub async fn reading(&mut self, read: Read) -> (Vec<Got>, u64) {
        let reads = [read];
        let batch = WorkBatch { reads: &reads, ..self.batch() };
        let answer = self.ok(batch).await;
        match &answer.reads[0] {
            ReadAnswer::Messages { messages, through } => {
                (Got::all(&answer.page)[messages.clone()].to_vec(), through.0)
            }
            other => panic!("{other:?} instead of messages"),
        }
    }

    /// Carries out one read; what it was answered.
    pub async fn try_read(&mut self, read: Read) -> ReadAnswer {
        let reads = [read];
        let batch = WorkBatch { reads: &reads, ..self.batch() };
        self.ok(batch).await.reads[0].clone()
    }

    /// Asks for work that is due.
    pub async fn due(&mut self) -> Vec<Got> {
        self.due_within(ALL).await
    }

    /// Asks for so much work that is due.
    pub async fn due_within(&mut self, limit: Limit) -> Vec<Got> {
        let batch = WorkBatch { due: Some(limit), ..self.batch() };
        let answer = self.ok(batch).await;
        Got::all(&answer.page)[answer.due.clone()].to_vec()
    }

    /// Moves arrivals into the log; the partitions they went into, with their heads.
    pub async fn move_arrivals(&mut self) -> Vec<(u32, u64)> {
        let batch = WorkBatch { arrivals: Some(1 << 20), ..self.batch() };
        let moved = &self.ok(batch).await.moved;
        moved.iter().map(|(partition, head)| (partition.0, head.0)).collect()
    }

    /// Carries out one operation.
    pub async fn operate(&mut self, operation: Operation<'_>) -> OperationAnswer {
        let operations = [operation];
        let batch = WorkBatch { operations: &operations, ..self.batch() };
        self.ok(batch).await.operations[0]
    }

    /// Removes at most so many rows that nobody needs; how many it were.
    pub async fn housekeep(&mut self, rows_max: usize) -> usize {
        let batch = WorkBatch { housekeeping: Some(rows_max), ..self.batch() };
        self.ok(batch).await.removed
    }

    /// Where its first subscription stands in a partition: everything up to here is settled.
    pub async fn low(&mut self, partition: u32) -> u64 {
        let subscription = self.subscription();
        let told = self.heartbeat().await;
        let owned = told.owned.iter().find(|owned| owned.partition.0 == partition);
        let cursors = &owned.expect("the partition is owned").cursors;
        let cursor = cursors.iter().find(|cursor| cursor.subscription == subscription);
        cursor.expect("the subscription has a cursor").low.0
    }

    /// Counts of everything.
    pub async fn statistics(&self) -> Statistics {
        self.store.reader().statistics().await.expect("the reading side answers")
    }

    /// The first hundred dead letters.
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        let letters = self.store.reader().dead_letters(None, 100).await;
        letters.expect("the reading side answers")
    }

    /// What has become of a message.
    pub async fn whereabouts(&self, message: &Message) -> Whereabouts {
        let found = self.store.reader().whereabouts(message.id, message.stream).await;
        found.expect("the reading side answers")
    }

    /// The events of a stream behind a version, at most so many.
    pub async fn history(&self, stream: StreamId, after: u64, messages_max: usize) -> Vec<Got> {
        let mut page = Page::default();
        let read = self.store.reader().history(stream, Version(after), messages_max, &mut page).await;
        read.expect("the reading side answers");
        Got::all(&page)
    }
}

/// The positions of what was stored, in order; anything else is an error of the test.
pub fn stored(answers: &[AppendAnswer]) -> Vec<u64> {
    let position = |answer: &AppendAnswer| match answer {
        AppendAnswer::Stored { position, .. } => position.0,
        other => panic!("{other:?} instead of stored"),
    };
    answers.iter().map(position).collect()
}

/// Whether all of these units were applied.
pub fn applied(answers: &[UnitAnswer]) -> bool {
    answers.iter().all(|answer| matches!(answer, UnitAnswer::Applied { .. }))
}
