//! Messages that both send: under the same keys, and into each other's partitions.

use whizbang_storage::*;

use crate::stage::{Play, Player, Scene, Stage, check, holds, is_found, message};

/// Both bring the same keys, in opposite orders.
struct Keys;

impl Play for Keys {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        a.member.release(&[Partition(0), Partition(1)]).await;
        b.member.heartbeat().await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        a.appends(&[message(1, 2).once(b"one"), message(2, 2).once(b"two"), message(3, 2)]).await;
    }

    async fn second(&self, b: &mut Player) {
        b.appends(&[message(4, 0).once(b"two"), message(5, 0).once(b"one"), message(6, 0)]).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let mut seen: Vec<u64> = a.sees().await.into_iter().chain(b.sees().await).map(|(.., n)| n).collect();
        seen.sort_unstable();
        let once = [[1, 2, 3, 6], [3, 4, 5, 6], [1, 3, 4, 6], [2, 3, 5, 6]];
        check(once.iter().any(|once| seen == once), || format!("{seen:?}: a key twice, or not at all"))
    }
}

/// An owner takes arrivals in while another one sends some.
struct Arrivals;

impl Play for Arrivals {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        b.appends(&[message(1, 0)]).await;
        a.said.clear();
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        let own = message(9, 0);
        let appends = [own.append()];
        let batch = WorkBatch { arrivals: Some(100), appends: &appends, ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        b.appends(&[message(2, 0), message(3, 1)]).await;
        b.appends(&[message(4, 0)]).await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let seen = a.sees().await;
        let is_lost = |number: &u64| !seen.iter().any(|(.., n)| n == number);
        let lost: Vec<u64> = [1, 2, 3, 4, 9].into_iter().filter(is_lost).collect();
        check(lost.is_empty(), || format!("arrivals {lost:?} are lost"))?;
        let sent = |own: bool| -> Vec<u64> {
            seen.iter()
                .filter(|(partition, _, n)| *partition == 0 && (*n == 9) == own)
                .map(|(.., n)| *n)
                .collect()
        };
        check(sent(false) == [1, 2, 4] && sent(true) == [9] && seen.len() == 5, || format!("{seen:?}"))?;
        let positions: Vec<u64> = seen.iter().filter(|(p, ..)| *p == 0).map(|(_, at, _)| *at).collect();
        check(positions == [1, 2, 3, 4], || format!("positions {positions:?}"))
    }
}

#[tokio::test]
async fn two_exchanges_with_the_same_keys_in_opposite_orders() {
    holds(Keys).await;
}

#[tokio::test]
async fn taking_arrivals_in_and_sending_some() {
    holds(Arrivals).await;
}

#[tokio::test]
async fn keys_that_nothing_keeps_apart_are_found() {
    let stage = Stage::new().await;
    let drop = format!("ALTER TABLE {}.dedup DROP CONSTRAINT dedup_pkey", stage.schema);
    stage.watcher.batch_execute(&drop).await.unwrap();
    is_found(stage, Keys, "[1, 2, 3, 4, 5, 6]: a key twice").await;
}

#[tokio::test]
async fn arrivals_that_are_looked_for_behind_the_last_transaction_only_are_found() {
    let stage = Stage::weakened(
        "come",
        "pg_snapshot_xip(p_seen::pg_snapshot)",
        "pg_snapshot_xip('1:1:'::pg_snapshot)",
    )
    .await;
    is_found(stage, Arrivals, "are lost").await;
}
