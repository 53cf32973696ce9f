//! Three processes over one PostgreSQL, treated badly again and again: nothing is lost, invented, doubled or reordered, and
//! nobody waits for long.
//!
//! `WHIZBANG_ROUNDS` asks for more rounds, `WHIZBANG_SEED` repeats one's choices.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::example;
use fastrand::Rng;
use whizbang_cluster_example::audit::Sender;
use whizbang_cluster_example::instances::{Instance, Order};
use whizbang_postgres_cluster::{Cluster, Direction, Fault, Options, Proxy};

#[path = "../../tests/common/mod.rs"]
mod common;

const TIME_TO_LIVE: Duration = Duration::from_millis(1_500);
/// As the program has them.
const PARTITIONS: usize = 32;
/// After a kill: the time to live, and this for noticing it.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// After somebody has left in order.
const LEFT_WITHIN: Duration = Duration::from_millis(200);
/// Longer than anything takes on a slow machine: whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages that each sends in a second: few enough for a busy machine and programs that are not optimized.
const RATE: &str = "150";

/// Tests that measure how long something takes do not run beside each other.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn instances_that_are_killed_or_suspended_or_leave_take_nothing_with_them() {
    let _alone = alone();
    let cluster = Cluster::start(Options::default()).expect("a server");
    let mut fleet = Fleet::new(&cluster.url());
    let rounds = number_of("WHIZBANG_ROUNDS").unwrap_or(3);
    let (mut killed, mut suspended, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        killed.push(fleet.kill());
        fleet.join();
        suspended.push(fleet.suspend_past_its_time());
        left.push(fleet.leave());
        fleet.join();
    }
    fleet.balance(&cluster.url());
    println!("taken over {killed:.2?} after a kill, {suspended:.2?} after SIGSTOP, {left:.2?} after leaving");
    // Whatever else the machine does makes it longer, never shorter.
    let best = |rounds: &[Duration]| rounds.iter().min().copied().unwrap_or(Duration::MAX);
    assert!(best(&killed) <= TIME_TO_LIVE + NOTICED_WITHIN, "taken over {killed:?} after a kill");
    assert!(best(&suspended) <= TIME_TO_LIVE + NOTICED_WITHIN, "taken over {suspended:?} after SIGSTOP");
    assert!(best(&left) <= LEFT_WITHIN, "taken over {left:?} after it had left");
}

#[test]
fn connections_that_are_cut_anywhere_lose_nothing_and_double_nothing() {
    let _alone = alone();
    let cluster = Cluster::start(Options::default()).expect("a server");
    let proxy = Proxy::in_front_of(&cluster).expect("a proxy");
    let mut fleet = Fleet::new(&proxy.url());
    let faults = number_of("WHIZBANG_ROUNDS").unwrap_or(1) * 100;
    let mut cut = 0;
    while cut < faults {
        let fault = match fleet.rng.u32(0..10) {
            0..4 => Fault::CutAfterBytes(Direction::ToServer, fleet.rng.u64(0..30_000)),
            4..8 => Fault::CutAfterBytes(Direction::ToClient, fleet.rng.u64(0..30_000)),
            _ => Fault::SwallowAnswer,
        };
        let before = proxy.faults();
        proxy.arm(fault);
        let begun = Instant::now();
        while proxy.faults() == before {
            assert!(begun.elapsed() < PATIENCE, "nothing passes any more: {fault:?}");
            fleet.nobody_has_ended();
            std::thread::sleep(Duration::from_millis(1));
        }
        cut += 1;
    }
    println!("{cut} connections were cut");
    fleet.balance(&cluster.url());
}

#[test]
fn a_server_that_crashes_and_comes_back_has_everything_it_acknowledged() {
    let _alone = alone();
    let cluster = Cluster::start(Options::default()).expect("a server");
    let fleet = Fleet::new(&cluster.url());
    for round in 1..=number_of("WHIZBANG_ROUNDS").unwrap_or(1) {
        fleet.works();
        type End = fn(&Cluster) -> Result<(), whizbang_postgres_cluster::ClusterError>;
        let ends: [(&str, End); 3] =
            [("crashes", Cluster::crash), ("is killed", Cluster::kill), ("is stopped", Cluster::stop)];
        for (what, end) in ends {
            end(&cluster).expect("it runs");
            fleet.nobody_has_ended();
            cluster.start_again().expect("it starts again");
            let again = fleet.works();
            println!("round {round}: the server {what}; all work again {again:.2?} after it came back");
        }
        cluster.refuse_writes().expect("it runs");
        std::thread::sleep(TIME_TO_LIVE / 2);
        fleet.nobody_has_ended();
        cluster.accept_writes().expect("it runs");
        let again = fleet.works();
        println!("round {round}: the server refused writes; all work again {again:.2?} after it took them");
    }
    fleet.balance(&cluster.url());
}

/// Three instances under load.
struct Fleet {
    program: PathBuf,
    url: String,
    living: Vec<Instance>,
    /// What those said that are gone.
    gone: Vec<(u64, Sender)>,
    rng: Rng,
}

impl Fleet {
    fn new(url: &str) -> Self {
        let seed = number_of("WHIZBANG_SEED").unwrap_or_else(|| Rng::new().u64(..));
        println!("to repeat this: WHIZBANG_SEED={seed}");
        let (program, url, rng) = (example("cluster"), url.to_owned(), Rng::with_seed(seed));
        let mut fleet = Self { program, url, living: Vec::new(), gone: Vec::new(), rng };
        for _ in 0..3 {
            fleet.join();
        }
        fleet
    }

    fn command(&self, role: &str, url: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(role).args(["--url", url, "--streams", "100"]);
        command.arg("--time-to-live").arg(TIME_TO_LIVE.as_millis().to_string());
        command
    }

    /// Starts one more, and waits until everybody has a share and works.
    fn join(&mut self) {
        let sender = (self.living.len() + self.gone.len()) as u64 + 1;
        let mut command = self.command("instance", &self.url);
        command.args(["--sender", &sender.to_string(), "--rate", RATE]);
        self.living.push(Instance::start(command, sender).expect("it starts"));
        let least = PARTITIONS / self.living.len();
        self.until("all have a share", |fleet| {
            let partitions = fleet.living.iter().map(|instance| instance.said().partitions);
            partitions.clone().all(|owned| owned >= least) && partitions.sum::<usize>() == PARTITIONS
        });
        self.works();
    }

    /// Kills one in the middle of its work; returns how long its partitions had no owner.
    fn kill(&mut self) -> Duration {
        let mut killed = self.any();
        let at = Instant::now();
        let said = killed.kill().expect("it can be killed");
        self.gone.push((killed.sender, said.sender));
        self.taken_over();
        at.elapsed()
    }

    /// Suspends one until it is taken for dead, and lets it go on; returns how long its partitions had no owner.
    fn suspend_past_its_time(&mut self) -> Duration {
        let suspended = self.any();
        let evictions = suspended.said().evictions;
        suspended.suspend().expect("it can be suspended");
        let at = Instant::now();
        self.taken_over();
        let without = at.elapsed();
        suspended.resume().expect("it can go on");
        // What it had in hand is refused: it learns that it was evicted, and comes back under another id.
        suspended.wait("it joins again", PATIENCE, |said| said.evictions > evictions).unwrap();
        self.living.push(suspended);
        self.until("all have a share again", |fleet| {
            fleet.living.iter().all(|instance| instance.said().partitions >= PARTITIONS / fleet.living.len())
        });
        self.works();
        without
    }

    /// Lets one leave in order; returns how long its partitions had no owner.
    fn leave(&mut self) -> Duration {
        let mut leaving = self.any();
        leaving.tell(Order::Leave);
        let at = leaving.wait("it leaves", PATIENCE, |said| said.left).unwrap();
        self.taken_over();
        let without = at.elapsed();
        let said = leaving.finish().expect("it ends");
        self.gone.push((leaving.sender, said.sender));
        without
    }

    fn any(&mut self) -> Instance {
        let index = self.rng.usize(..self.living.len());
        self.living.swap_remove(index)
    }

    /// Waits until those that live have everything.
    fn taken_over(&self) {
        self.until("everything has an owner", |fleet| {
            fleet.living.iter().map(|instance| instance.said().partitions).sum::<usize>() == PARTITIONS
        });
    }

    /// Waits until everybody has sent and handled something more; returns how long that took.
    fn works(&self) -> Duration {
        let begun = Instant::now();
        let before: Vec<_> = self.living.iter().map(Instance::said).collect();
        self.until("all work", |fleet| {
            fleet.living.iter().zip(&before).all(|(instance, before)| {
                let said = instance.said();
                said.sender.acknowledged > before.sender.acknowledged && said.handled > before.handled
            })
        });
        begun.elapsed()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            self.nobody_has_ended();
            let said: Vec<_> = self.living.iter().map(Instance::said).collect();
            assert!(begun.elapsed() < PATIENCE, "it takes too long: {what}; {said:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn nobody_has_ended(&self) {
        let ended: Vec<String> = self.living.iter().filter_map(Instance::end).collect();
        assert!(ended.is_empty(), "by themselves: {ended:?}");
    }

    /// Lets everybody finish, and compares what was acknowledged with what is there.
    fn balance(mut self, url: &str) {
        self.living.iter_mut().for_each(|instance| instance.tell(Order::Enough));
        self.until("all is durable", |fleet| fleet.living.iter().all(|instance| instance.said().sent));
        let mut audit = self.command("audit", url);
        let living = self.living.iter().map(|instance| (instance.sender, instance.said().sender));
        for (sender, Sender { attempted, acknowledged }) in living.chain(self.gone.iter().copied()) {
            audit.arg("--sender").arg(format!("{sender}:{attempted}:{acknowledged}"));
        }
        let said = audit.stdin(Stdio::null()).output().expect("the audit runs");
        let [out, err] = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(said.status.success(), "{out}{err}");
        println!("{out}");
        for mut instance in self.living.drain(..) {
            instance.tell(Order::Leave);
            instance.wait("it leaves", PATIENCE, |said| said.left).unwrap();
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
