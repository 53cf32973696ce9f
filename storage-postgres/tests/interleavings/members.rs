//! Who is there and who owns what: evictions, leaves, releases, joins.

use std::time::Duration;

use whizbang_storage::*;
use whizbang_storage_conformance::{Got, numbers, stored, subscription};

use crate::stage::{Play, Player, Scene, Stage, check, holds, is_found, message};

/// An owner that was silent appends while another one evicts it, or it leaves.
struct Evict {
    leaves: bool,
}

impl Play for Evict {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        a.appends(&[message(1, 0)]).await;
        a.said.clear();
        scene.fall_silent(&mut [&mut b]).await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        if self.leaves {
            let leave = Membership::Leave { running: &[] };
            let batch = WorkBatch { membership: Some(leave), ..a.member.batch() };
            a.say(batch).await;
        } else {
            a.appends(&[message(2, 0)]).await;
        }
    }

    async fn second(&self, b: &mut Player) {
        b.beats().await;
    }

    async fn audit(&self, scene: &mut Scene, a: Player, mut b: Player) -> Result<(), String> {
        b.all_answered()?;
        if !a.evicted() {
            a.all_answered()?;
        }
        let was_applied = !self.leaves && !a.evicted();
        // It has shown that it lives, or it is gone: in the end b has everything.
        scene.fall_silent(&mut [&mut b]).await;
        let expected: &[_] = if was_applied { &[(0, 1, 1), (0, 2, 2)] } else { &[(0, 1, 1)] };
        let seen = b.sees().await;
        check(seen == expected, || format!("{seen:?} instead of {expected:?}, {:?}", a.said))?;
        let owners = scene.owners().await;
        check(owners.values().all(|owner| *owner == (true, 2)), || format!("{owners:?}"))?;
        b.appends(&[message(3, 0)]).await;
        b.all_answered()?;
        let next = b.sees().await.last().copied();
        check(next == Some((0, expected.len() as u64 + 1, 3)), || format!("then {next:?}"))
    }
}

/// One gives partitions back while another one joins.
struct ReleaseAndJoin;

impl Play for ReleaseAndJoin {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        (scene.joined().await, scene.player().await)
    }

    async fn first(&self, a: &mut Player) {
        let release = |partition: u32| Release {
            partition: Partition(partition),
            epoch: a.member.epoch(partition),
            running: &[],
        };
        let releases = [release(0), release(1)];
        let batch = WorkBatch { membership: Some(Membership::Release(&releases)), ..a.member.batch() };
        a.say(batch).await;
    }

    async fn second(&self, b: &mut Player) {
        b.joins("group", "all").await;
    }

    async fn audit(&self, scene: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        a.member.heartbeat().await;
        b.member.heartbeat().await;
        a.member.heartbeat().await;
        let both = (a.member.owned.len(), b.member.owned.len());
        let twice = a.member.owned.keys().any(|partition| b.member.owned.contains_key(partition));
        let owners = scene.owners().await;
        check(both == (2, 2) && !twice, || format!("{both:?} {owners:?}"))?;
        let epochs: Vec<i64> = owners.values().map(|(_, epoch)| *epoch).collect();
        check(epochs == [2, 2, 1, 1], || format!("epochs {epochs:?}"))
    }
}

/// Two evict the same dead one.
struct TwoEvictors;

impl Play for TwoEvictors {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        // The first players are the ones to be stopped.
        let (mut a, mut b) = (scene.player().await, scene.player().await);
        let mut dead = scene.joined().await;
        dead.appends(&[message(1, 0), message(2, 3)]).await;
        for player in [&mut a, &mut b] {
            player.member.join(Some("group"), &[subscription("all")], &[]).await;
        }
        scene.fall_silent(&mut [&mut a, &mut b]).await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        a.beats().await;
    }

    async fn second(&self, b: &mut Player) {
        b.beats().await;
    }

    async fn audit(&self, scene: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let mut seen = a.sees().await;
        seen.extend(b.sees().await);
        seen.sort_unstable();
        let owners = scene.owners().await;
        check(owners.values().all(|owner| *owner == (true, 2)), || format!("{owners:?}"))?;
        check(seen == [(0, 1, 1), (3, 1, 2)], || format!("{seen:?}"))
    }
}

/// Two join groups that nobody knows yet, with subscriptions that nobody knows yet.
struct TwoJoins;

impl Play for TwoJoins {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        (scene.player().await, scene.player().await)
    }

    async fn first(&self, a: &mut Player) {
        a.joins("first", "one").await;
    }

    async fn second(&self, b: &mut Player) {
        b.joins("second", "two").await;
    }

    async fn audit(&self, _: &mut Scene, mut a: Player, mut b: Player) -> Result<(), String> {
        a.all_answered()?;
        b.all_answered()?;
        let owned = [a.member.heartbeat().await.owned.len(), b.member.heartbeat().await.owned.len()];
        check(owned == [4, 4], || format!("they own {owned:?}"))?;
        let mut names: Vec<String> =
            a.member.statistics().await.subscriptions.into_iter().map(|one| one.name).collect();
        names.sort();
        check(names == ["one", "two"], || format!("{names:?} are subscribed"))
    }
}

/// An owner that was silent asks for what is due, of which it remembers that it is there and not what it is, while another one
/// takes it over, settles it and lets it go.
struct TakeOverParked;

impl Play for TakeOverParked {
    async fn set_up(&self, scene: &mut Scene) -> (Player, Player) {
        let (mut a, mut b) = (scene.joined().await, scene.joined().await);
        stored(&a.member.append(&[message(1, 0)]).await);
        let mut got = a.member.read(0, 0).await;
        // Handed out once more: from then on it is fetched when it is needed.
        a.member.units(&[got[0].retry_in(Duration::ZERO)]).await;
        got = a.member.due().await;
        a.member.units(&[got[0].retry_in(Duration::ZERO)]).await;
        scene.fall_silent(&mut [&mut b]).await;
        (a, b)
    }

    async fn first(&self, a: &mut Player) {
        a.due().await;
    }

    async fn second(&self, b: &mut Player) {
        b.beats().await;
        for got in b.due().await {
            let applied = b.member.units(&[got.done()]).await;
            assert!(matches!(applied[..], [UnitAnswer::Applied { .. }]), "{applied:?}");
        }
    }

    async fn audit(&self, scene: &mut Scene, a: Player, mut b: Player) -> Result<(), String> {
        b.all_answered()?;
        if !a.evicted() {
            a.all_answered()?;
        }
        let [a_got, b_got] = [&a, &b].map(|player| player.given.clone());
        check(a.evicted() == a_got.is_empty(), || format!("{a_got:?}, {:?}", a.said))?;
        check(numbers(a_got.iter().chain(&b_got)) == [1], || format!("{a_got:?} and {b_got:?}"))?;
        // What the one that lives was not given it is given in the end.
        scene.fall_silent(&mut [&mut b]).await;
        b.beats().await;
        let later: Vec<Got> = b.due().await;
        check(numbers(&later).len() == a_got.len(), || format!("{later:?} after {a_got:?}"))
    }
}

#[tokio::test]
async fn an_exchange_and_the_eviction_of_its_instance() {
    holds(Evict { leaves: false }).await;
}

#[tokio::test]
async fn a_leave_and_the_eviction_of_its_instance() {
    holds(Evict { leaves: true }).await;
}

#[tokio::test]
async fn a_release_and_a_join() {
    holds(ReleaseAndJoin).await;
}

#[tokio::test]
async fn two_evictions_of_one_instance() {
    holds(TwoEvictors).await;
}

#[tokio::test]
async fn two_joins_of_new_groups() {
    holds(TwoJoins).await;
}

#[tokio::test]
async fn asking_for_what_is_due_and_taking_it_over() {
    holds(TakeOverParked).await;
}

#[tokio::test]
async fn an_exchange_that_does_not_lock_its_instance_is_found() {
    let stage = Stage::weakened("exchange", "FOR NO KEY UPDATE", "").await;
    // What was answered as appended is not there.
    is_found(stage, Evict { leaves: false }, "[(0, 1, 1)] instead of [(0, 1, 1), (0, 2, 2)]").await;
}
