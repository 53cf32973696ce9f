//! Versions that are expected by several instances at the same moment.

mod fixture;

use fixture::OnServer;
use futures_util::future::join_all;
use whizbang_storage::*;
use whizbang_storage_conformance::{Member, Message, World, group, subscription};
use whizbang_storage_postgres::PostgresStore;

/// Sends an event that expects a version.
async fn send(member: &mut Member<PostgresStore>, event: Message, version: u64, moves: bool) -> UnitAnswer {
    let stream = event.stream.unwrap();
    let (emits, expects) = ([event.append()], [Expected { stream, version: Version(version) }]);
    let units = [Unit { expects: &expects, ..group(&emits) }];
    let batch = WorkBatch { units: &units, arrivals: moves.then_some(9), ..member.batch() };
    member.ok(batch).await.units[0].clone()
}

/// Rounds in which everybody expects the version that the stream has.
async fn race(members: &mut [Member<PostgresStore>], stream: StreamId) {
    for round in 0..40 {
        let sent = members.iter_mut().enumerate().map(|(nth, member)| {
            let event = Message::event(round * 10 + nth as u64, stream);
            send(member, event, round, round % 3 == 0)
        });
        let answers = join_all(sent).await;
        let conflict = UnitAnswer::StreamConflict { stream, actual: Version(round + 1) };
        let lost = answers.iter().filter(|answer| **answer == conflict).count();
        let won = answers.iter().filter(|answer| matches!(answer, UnitAnswer::Applied { .. })).count();
        assert_eq!((won, lost), (1, answers.len() - 1), "round {round}: {answers:?}");
    }
}

#[tokio::test]
async fn of_all_that_expect_a_version_at_once_one_is_applied() {
    let mut world = World::<OnServer>::new(1).await;
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(world.joined().await);
    }
    let stream = world.stream_in(0, 1);
    race(&mut members, stream).await;
    members[0].move_arrivals().await;
    assert_eq!(members[1].history(stream, 0, 99).await.len(), 40);
}

#[tokio::test]
async fn it_is_so_where_nobody_writes_the_partition() {
    let mut world = World::<OnServer>::new(1).await;
    let mut members = Vec::new();
    for _ in 0..4 {
        let mut member = world.member().await;
        member.join(None, &[], &[]).await;
        members.push(member);
    }
    race(&mut members, world.stream_in(0, 1)).await;
}

/// Each expects something of what the other writes: nobody waits for somebody who waits for it.
#[tokio::test]
async fn two_that_expect_something_of_each_other_do_not_get_stuck() {
    let mut world = World::<OnServer>::new(2).await;
    let (mut a, mut b) = (world.joined_with(&[subscription("all")]).await, world.joined().await);
    a.release(&[Partition(1)]).await;
    assert_eq!(b.heartbeat().await.owned.len(), 1);
    for round in 0..40 {
        let of_b = Message::event(round, world.stream_in(1, 1));
        let of_a = Message::event(round + 1_000, world.stream_in(0, 1));
        let (one, other) =
            futures_util::future::join(send(&mut a, of_b, round, true), send(&mut b, of_a, round, true))
                .await;
        assert!(matches!((one, other), (UnitAnswer::Applied { .. }, UnitAnswer::Applied { .. })));
    }
}
