//! One test's world: a database, the clock it runs on, and the processes that work on it.

use std::num::NonZeroU128;
use std::time::Duration;

use whizbang_storage::{
    InstanceId, OnDead, Partition, Sender, Service, StartAt, StreamId, SubscriptionSpec, TestClock,
};

use crate::{Fixture, Member, OpenError};

/// One test's database and clock.
pub struct World<F: Fixture> {
    /// The backend's part.
    pub fixture: F,
    /// The store's clock: only the test moves it.
    pub clock: TestClock,
    /// The service that members open.
    pub service: Service,
    instances: u32,
}

impl<F: Fixture> World<F> {
    /// A world whose service has so many partitions, a time to live of 10 s, and everything else at its default.
    pub async fn new(partitions: u32) -> Self {
        let time_to_live = Duration::from_secs(10);
        Self::with(Service { partitions, time_to_live, ..Service::named("conformance") }).await
    }

    /// A world with this service.
    pub async fn with(service: Service) -> Self {
        let clock = TestClock::new();
        Self { fixture: F::fresh(clock.clone()).await, clock, service, instances: 0 }
    }

    /// A process that has opened the service and said nothing yet.
    pub async fn member(&mut self) -> Member<F::Store> {
        self.member_of(self.service.clone()).await.expect("the service can be opened")
    }

    /// A process that has opened some service.
    ///
    /// # Errors
    /// What the fixture says.
    pub async fn member_of(&mut self, service: Service) -> Result<Member<F::Store>, OpenError> {
        self.instances += 1;
        Ok(Member::new(self.fixture.open(service).await?, sender(self.instances)))
    }

    /// A process that has joined the group `"group"` with one subscription, `"all"`.
    pub async fn joined(&mut self) -> Member<F::Store> {
        self.joined_with(&[subscription("all")]).await
    }

    /// A process that has joined the group `"group"` with these subscriptions.
    pub async fn joined_with(&mut self, subscriptions: &[SubscriptionSpec<'_>]) -> Member<F::Store> {
        let mut member = self.member().await;
        member.join(Some("group"), subscriptions, &[]).await;
        member
    }

    /// A process is killed. Nobody evicts it before its time.
    pub async fn kill(&mut self, member: Member<F::Store>) {
        self.fixture.crash(vec![member.store]).await;
    }

    /// Kills a process and lets another evict it: the survivor keeps the silence short and takes over what it can.
    pub async fn kill_and_evict(&mut self, dead: Member<F::Store>, survivor: &mut Member<F::Store>) {
        self.kill(dead).await;
        self.outlive(survivor).await;
    }

    /// The time to live passes while only this process shows signs of life; then it takes over what it can.
    pub async fn outlive(&mut self, survivor: &mut Member<F::Store>) {
        for _ in 0..4 {
            survivor.heartbeat().await;
            self.clock.advance(self.service.time_to_live / 4);
        }
        survivor.heartbeat().await;
    }

    /// Moves the clock, in steps that keep these members alive.
    pub async fn pass(&mut self, time: Duration, members: &mut [&mut Member<F::Store>]) {
        let step = self.service.time_to_live / 4;
        let mut left = time;
        while left > Duration::ZERO {
            let now = left.min(step);
            self.clock.advance(now);
            left -= now;
            for member in members.iter_mut() {
                member.heartbeat().await;
            }
        }
    }

    /// A stream that lies in a partition; the same for the same number.
    pub fn stream_in(&self, partition: u32, number: u32) -> StreamId {
        stream_in(self.service.partitions, Partition(partition), number)
    }
}

/// A stream that lies in a partition where there are `partitions`; the same for the same number.
pub fn stream_in(partitions: u32, partition: Partition, number: u32) -> StreamId {
    (0u32..)
        .map(|n| StreamId::from_key(format!("stream {number} {n}")))
        .find(|stream| stream.partition(partitions) == partition)
        .expect("a hash reaches every partition")
}

/// A process's name, before its first batch.
pub fn sender(number: u32) -> Sender {
    let number = u128::from(number) << 64;
    Sender {
        instance: InstanceId::from_bits(NonZeroU128::MIN.saturating_add(number)),
        start_token: 0x5EED,
        number: 0,
    }
}

/// A subscription that starts at the first message, skips dead ones, and gives up after ten attempts.
pub fn subscription(name: &str) -> SubscriptionSpec<'_> {
    SubscriptionSpec { name, start: StartAt::First, on_dead: OnDead::Skip, attempts_max: 10 }
}
