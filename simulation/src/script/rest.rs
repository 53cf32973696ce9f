//! When it is calm: everything comes to rest, is shared fairly and stays quiet, and whoever is told to stop ends.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use whizbang::simulation::Holding;
use whizbang_storage::{MemoryReader, Statistics, StoreReader, WorkStore};
use whizbang_storage_conformance::Faults;

use super::{Care, Life, Role, Run};
use crate::station::Network;

/// How long everything may take to come to rest once nothing goes wrong any more.
const REST_WITHIN: Duration = Duration::from_secs(60);

impl Run {
    /// From now on nothing goes wrong.
    pub(super) fn calm(&self) {
        self.journal.line(|| "it is calm".to_owned());
        self.journal.with(|notes| notes.is_calm = true);
        for process in self.processes.borrow().iter() {
            process.faults.iter().for_each(Faults::stop);
            process.networks.iter().for_each(Network::calm);
        }
    }

    /// Waits until everything is handled and nobody holds anything any more.
    pub(super) async fn rest(&self) {
        let ttl = self.shape.service.time_to_live;
        let rested = timeout(REST_WITHIN, async {
            let mut since = None;
            while !self.journal.has_violations() {
                sleep(Duration::from_millis(50)).await;
                since = match self.unrest().await {
                    Some(_) => None,
                    None => since.or(Some(Instant::now())),
                };
                // Whoever was taken for dead has noticed by then.
                if since.is_some_and(|since| since.elapsed() > 2 * ttl) {
                    return;
                }
            }
        });
        if rested.await.is_err() {
            let why = self.unrest().await.unwrap_or_default();
            self.journal.violation(format!("{REST_WITHIN:?} after the last fault: {why}"));
        }
    }

    /// What is not at rest yet.
    async fn unrest(&self) -> Option<String> {
        let producing = self.journal.with(|notes| notes.producing);
        if producing > 0 {
            return Some(format!("{producing} producers still wait"));
        }
        let statistics = self.statistics().await;
        let open = |of: &whizbang_storage::SubscriptionStatistics| of.lag + of.parked + of.unroutable > 0;
        if statistics.subscriptions.iter().any(|of| of.paused) {
            self.by_one_of(0, async |_, engine| {
                // When it fails, the next look tries again.
                let _ = engine.resume("totals").await;
            });
            return Some("the perspective is paused".to_owned());
        }
        if statistics.subscriptions.iter().any(|of| of.name == "strict" && of.dead > 0) {
            // Now one, now the other; whoever is asked may be on its way out.
            let (which, care) = match self.scheduler.steps() % 3 {
                0 => (0, Care::Discard),
                which => (which as usize, Care::Requeue),
            };
            self.look_after_the_strict(which, care);
            return Some("the strict subscription stands still".to_owned());
        }
        if statistics.arrivals > 0 || statistics.subscriptions.iter().any(open) {
            let open = statistics.subscriptions.iter().map(|of| {
                let whizbang_storage::SubscriptionStatistics { name, lag, parked, unroutable, .. } = of;
                format!("{name}: {lag} unsettled, {parked} parked, {unroutable} unroutable")
            });
            let open: Vec<_> = open.collect();
            return Some(format!("{} arrivals wait; {}", statistics.arrivals, open.join("; ")));
        }
        let processes = self.processes.borrow();
        let mut running = 0;
        for (place, process) in processes.iter().enumerate() {
            match process.state {
                Life::Gone => continue,
                Life::Leaves if process.stopped.is_some() && self.scheduler.alive(process.id).is_empty() => {
                    continue;
                }
                Life::Leaves => {
                    return Some(format!(
                        "process {place} has not ended: {:?}",
                        self.scheduler.alive(process.id)
                    ));
                }
                Life::Runs => {}
            }
            let Some(engine) = &process.engine else {
                return Some(format!("process {place} has not started"));
            };
            let health = engine.health();
            if health.state != whizbang::State::Running {
                let error = health.storage_away.map(|away| away.error);
                return Some(format!("process {place} is {:?}: {error:?}", health.state));
            }
            if health.in_flight > 0 || self.scheduler.is_paused(process.id) {
                return Some(format!("process {place} has {} messages in flight", health.in_flight));
            }
            if let Some(holding) =
                process.gauges.read().into_iter().find(|holding| *holding != Holding::default())
            {
                return Some(format!("a worker of process {place} holds {holding:?}"));
            }
            running += 1;
        }
        if statistics.instances.len() != running {
            return Some(format!("{} instances are alive, and {running} run", statistics.instances.len()));
        }
        self.unfair_share()
    }

    /// Who has too much or too little.
    fn unfair_share(&self) -> Option<String> {
        let processes = self.processes.borrow();
        let engines =
            processes.iter().filter(|process| process.state == Life::Runs && process.role == Role::Member);
        let owned: Vec<usize> =
            engines.filter_map(|process| Some(process.engine.as_ref()?.health().partitions_owned)).collect();
        let partitions = self.shape.service.partitions as usize;
        // The contract's measure: nobody holds less than the whole part of an equal share.
        let share = partitions / owned.len().max(1);
        let is_fair = owned.iter().sum::<usize>() == partitions && owned.iter().all(|owned| *owned >= share);
        (!is_fair).then(|| format!("{partitions} partitions are shared as {owned:?}"))
    }

    pub(super) fn look_at_shares(&self) {
        if let Some(unfair) = self.unfair_share() {
            self.journal.violation(unfair);
        }
    }

    /// An idle group makes no calls but heartbeats, and evicts nobody.
    pub(super) async fn stay_quiet(&self) {
        let ttl = self.shape.service.time_to_live;
        let evictions = self.journal.with(|notes| notes.evictions);
        sleep(Duration::from_millis(200)).await;
        let calls = self.watch.calls();
        sleep(3 * ttl).await;
        let calls = self.watch.calls() - calls;
        let every = self.shape.options.heartbeat_every.unwrap_or(ttl / 3);
        let running =
            self.processes.borrow().iter().filter(|process| process.state == Life::Runs).count() as u64;
        let heartbeats = running * (3 * ttl).as_micros().div_ceil(every.as_micros()) as u64;
        if calls > heartbeats + running {
            self.journal
                .violation(format!("{calls} calls of an idle group; {heartbeats} would be heartbeats"));
        }
        if self.journal.with(|notes| notes.evictions) != evictions {
            self.journal.violation("an idle engine was evicted".to_owned());
        }
    }

    pub(super) async fn leave_all(&self) {
        while let Some(place) = self.pick(0) {
            self.leave(place, Duration::from_secs(10));
        }
        let ended = timeout(Duration::from_secs(20), async {
            while self.processes.borrow().iter().any(|process| {
                process.state == Life::Leaves
                    && (process.stopped.is_none() || !self.scheduler.alive(process.id).is_empty())
            }) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        if ended.await.is_err() {
            let processes = self.processes.borrow();
            let alive: Vec<_> = processes.iter().map(|process| self.scheduler.alive(process.id)).collect();
            drop(processes);
            self.journal.violation(format!("engines that were stopped have not ended: {alive:?}"));
        }
    }

    pub(super) fn reader(&self) -> MemoryReader {
        let store = self.database.open(self.shape.service.clone()).expect("it was opened like this before");
        store.reader()
    }

    async fn statistics(&self) -> Statistics {
        self.reader().statistics().await.expect("memory can be read")
    }
}
