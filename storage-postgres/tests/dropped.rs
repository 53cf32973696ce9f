//! A caller that does not wait for its batch: the call is dropped after every message that goes to the server or comes from it, with
//! the connection left open, or lost. The same batch, sent again, is answered, and was applied once.

mod fixture;

use std::sync::Arc;

use fixture::schema_name;
use whizbang_postgres_cluster::{Cluster, Direction, Fault, Proxy};
use whizbang_storage::*;
use whizbang_storage_conformance::{Member, Message, sender, stored, stream_in, subscription};
use whizbang_storage_postgres::{PostgresOptions, PostgresStore};

const PARTITIONS: u32 = 4;

/// What becomes of the connection behind which a call was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    IsLost,
}

/// Every message of the service goes through here.
struct Stage {
    proxy: Arc<Proxy>,
    options: PostgresOptions,
    members: u32,
}

impl Stage {
    async fn new() -> Self {
        let proxy = Arc::new(Proxy::in_front_of(Cluster::shared()).unwrap());
        let options = PostgresOptions {
            schema: schema_name(),
            service: Service { partitions: PARTITIONS, ..Service::named("dropped") },
            notifications: whizbang_storage_postgres::Notifications::Off,
            ..PostgresOptions::from_url(&proxy.url()).unwrap()
        };
        options.migrate().await.unwrap();
        Self { proxy, options, members: 0 }
    }

    async fn member(&mut self) -> Member<PostgresStore> {
        self.members += 1;
        Member::new(self.options.clone().open().await.unwrap(), sender(self.members))
    }

    async fn joined(&mut self) -> Member<PostgresStore> {
        let mut member = self.member().await;
        member.join(Some("group"), &[subscription("all")], &[]).await;
        member
    }

    /// Sends a batch, does not wait for what lies behind so many messages, and sends it again. Whether there were so many.
    async fn drop_after(
        &self,
        member: &mut Member<PostgresStore>,
        batch: WorkBatch<'_>,
        (direction, messages, then): (Direction, u64, Then),
    ) -> bool {
        let before = self.proxy.faults();
        self.proxy.arm(Fault::HoldAfterMessages(direction, messages));
        let is_held = async {
            while !self.proxy.is_held() {
                tokio::task::yield_now().await;
            }
        };
        let was_dropped = tokio::select! {
            biased;
            answered = member.send(batch) => {
                answered.expect("it is answered");
                false
            }
            () = is_held => true,
        };
        self.proxy.disarm();
        if then == Then::IsLost && was_dropped {
            self.proxy.cut_all();
        }
        self.proxy.release();
        if was_dropped {
            member.ok(batch).await;
        }
        self.proxy.faults() > before
    }
}

const EVERY_WAY: [(Direction, Then); 4] = [
    (Direction::ToServer, Then::GoesOn),
    (Direction::ToServer, Then::IsLost),
    (Direction::ToClient, Then::GoesOn),
    (Direction::ToClient, Then::IsLost),
];

#[tokio::test]
async fn messages_and_events_of_a_dropped_call_are_there_once() {
    for (direction, then) in EVERY_WAY {
        let mut stage = Stage::new().await;
        let mut member = stage.joined().await;
        let stream = stream_in(PARTITIONS, Partition(0), 1);
        for messages in 0.. {
            let first = 2 * messages;
            let sent = [
                Message::event(first, stream).once(&first.to_be_bytes()),
                Message::command(first + 1).of(stream),
            ];
            let appends: Vec<_> = sent.iter().map(Message::append).collect();
            let batch = WorkBatch { appends: &appends, ..member.batch() };
            if !stage.drop_after(&mut member, batch, (direction, messages, then)).await {
                println!("{direction:?}, {then:?}: {messages} messages");
                assert!(messages > 3, "an exchange is more than that");
                break;
            }
            let stored = stored(&member.append(&[Message::command(1 << 20).of(stream)]).await);
            assert_eq!(stored, [3 * messages + 3], "{direction:?} after {messages}, {then:?}");
        }
    }
}

#[tokio::test]
async fn who_joined_in_a_dropped_call_is_there_once() {
    for (direction, then) in EVERY_WAY {
        let mut stage = Stage::new().await;
        for messages in 0.. {
            // Whoever was there before would be looked at as well.
            stage.options.service.name = format!("dropped after {messages}");
            let mut member = stage.member().await;
            let subscriptions = [subscription("all")];
            let join = Join { group: Some("group"), subscriptions: &subscriptions, types: &[] };
            let batch = WorkBatch { membership: Some(Membership::Join(join)), ..member.batch() };
            let goes_on = stage.drop_after(&mut member, batch, (direction, messages, then)).await;
            assert_eq!(member.owned.len(), PARTITIONS as usize, "{direction:?} after {messages}, {then:?}");
            if !goes_on {
                println!("{direction:?}, {then:?}: {messages} messages");
                assert!(messages > 3, "a join is more than that");
                break;
            }
        }
    }
}

/// A batch that is carried out in a transaction of several round trips.
#[tokio::test]
async fn an_operation_of_a_dropped_call_is_done_once() {
    for (direction, then) in EVERY_WAY {
        let mut stage = Stage::new().await;
        let mut member = stage.joined().await;
        let stream = stream_in(PARTITIONS, Partition(0), 1);
        for messages in 0.. {
            let operations = [Operation::Pause(member.subscription())];
            let sent = [Message::command(messages).of(stream)];
            let appends: Vec<_> = sent.iter().map(Message::append).collect();
            let batch = WorkBatch { operations: &operations, appends: &appends, ..member.batch() };
            let goes_on = stage.drop_after(&mut member, batch, (direction, messages, then)).await;
            let stored = stored(&member.append(&[Message::command(1 << 20).of(stream)]).await);
            assert_eq!(stored, [2 * messages + 2], "{direction:?} after {messages}, {then:?}");
            if !goes_on {
                assert!(messages > 10, "it is several round trips");
                break;
            }
        }
    }
}
