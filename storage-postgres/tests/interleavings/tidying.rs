//! One tidies up, or migrates, while the other one works.

use whizbang_storage::*;
use whizbang_storage_conformance::{Message, stored, subscription};

use crate::stage::{Play, Player, Scene, check, holds, message};

/// One reads and settles its partitions while another one tidies up.
struct Housekeeping;

impl Play for Housekeeping {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        let messages: Vec<Message> = (1..=6).map(|n| message(n, 0)).collect();
        stored(&a.member.append(&messages).await);
        a.member.read(0, 0).await;
        a.member.settle(0, 1, 2).await;
        b.member.heartbeat().await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let (settled, reads) = ([a.member.range(0, 4, 5)], [a.member.reads(0, 0)]);
        let batch = WorkBatch { settled: &settled, reads: &reads, ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        let batch = WorkBatch { housekeeping: Some(100), ..b.member.batch() };
        b.say(batch).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let seen = a.sees().await;
        check(seen == [(0, 3, 3), (0, 6, 6)], || format!("{seen:?} are left"))?;
        let settled = a.member.settle(0, 3, 6).await;
        check(settled == SettledAnswer::Applied, || format!("{settled:?}"))?;
        let removed = b.member.housekeep(100).await;
        check(removed == 4, || format!("{removed} removed at the end"))
    }
}

/// One joins with a subscription that begins where the log does, while whoever writes there tidies up and goes on.
struct JoinAndTrim;

impl Play for JoinAndTrim {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, b) = (scene.joined().await, scene.player().await);
        let messages: Vec<Message> = (1..=6).map(|n| message(n, 0)).collect();
        stored(&a.member.append(&messages).await);
        a.member.read(0, 0).await;
        a.member.settle(0, 1, 4).await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let messages = [message(7, 0)];
        let appends: Vec<Append<'_>> = messages.iter().map(Message::append).collect();
        let batch = WorkBatch { appends: &appends, housekeeping: Some(100), ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        b.member.join(Some("second"), &[subscription("all")], &[]).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        // All that was there before it joined is there, or it was tidied up before; whatever was not settled is there.
        let seen: Vec<u64> = b.sees().await.into_iter().map(|(.., number)| number).collect();
        let whole = [1, 2, 3, 4, 5, 6, 7];
        check(seen == whole || seen == whole[4..], || format!("it sees {seen:?}"))?;
        let settled = b.member.settle(0, 1, 7).await;
        check(settled == SettledAnswer::Applied, || format!("{settled:?}"))?;
        a.member.read(0, 6).await;
        a.member.settle(0, 5, 7).await;
        let removed = a.member.housekeep(100).await;
        let left = if seen == whole { 7 } else { 3 };
        check(removed == left, || format!("{removed} removed at the end instead of {left}"))?;
        let lag: u64 = a.member.statistics().await.subscriptions.iter().map(|each| each.lag).sum();
        check(lag == 0, || format!("{lag} messages wait at the end"))
    }
}

/// One migrates while another one works: there is nothing to do, and it is in nobody's way.
struct Migrate;

impl Play for Migrate {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let b = scene.joined().await;
        let mut a = scene.player().await;
        a.name = scene.name_of(1);
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let mut options = a.member.store.options().clone();
        options.server.application_name(&a.name);
        options.migrate().await.expect("it is up to date");
    }

    async fn second(&self, b: &mut Player) {
        b.appends(&[message(1, 0)]).await;
        b.beats().await;
    }

    async fn audit(&self, _: &mut Scene, _: Player, mut b: Player) -> Result<(), String> {
        b.all_answered()?;
        let seen = b.sees().await;
        check(seen == [(0, 1, 1)], || format!("{seen:?}"))
    }
}

#[tokio::test]
async fn housekeeping_and_settling() {
    holds(Housekeeping).await;
}

#[tokio::test]
async fn a_join_from_the_beginning_and_trimming() {
    holds(JoinAndTrim).await;
}

#[tokio::test]
async fn a_migration_and_an_exchange() {
    holds(Migrate).await;
}
