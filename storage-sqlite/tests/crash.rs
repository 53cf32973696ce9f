//! Processes that are killed at any moment lose nothing that was answered, and nothing is handled twice or out of order.
//!
//! Each process joins, sends commands of a few streams, and handles what it is handed: a handled command becomes one event,
//! its *effect*, in the unit that settles it. It says on its standard output what it is about to send and what was answered.
//! In the end one last process drains everything, and the effects of each stream must be exactly its commands, in order.
//! `WHIZBANG_CRASHES` says how many processes are killed (50).

use std::path::Path;
use std::thread;
use std::time::Duration;

use whizbang_storage::Service;
use whizbang_storage_conformance::kills::{self, Running, Told, Worker};
use whizbang_storage_sqlite::{SqliteOptions, SqliteStore};

#[test]
fn nothing_is_lost_doubled_or_reordered_by_kills() {
    let kills: u64 = std::env::var("WHIZBANG_CRASHES").map_or(50, |kills| kills.parse().unwrap());
    let seed =
        std::env::var("WHIZBANG_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("WHIZBANG_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut told = Told::default();
    for round in 1..=kills {
        told.absorb(&killed(&path, round, Duration::from_micros(random.u64(1_000..120_000))));
    }
    let mut last = Worker::join(open(&path, kills::service(kills::TIME_TO_LIVE)), kills + 1);
    last.drain();
    let report = told.check(&last);
    println!("{report:?}");
    assert!(report.answered > kills, "the processes got something done: {report:?}");
    assert!(report.is_clean(), "{report:?}");
}

/// Two processes work on one file at the same time, and nobody is killed.
#[test]
fn two_processes_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    // So long that on a busy machine neither takes the other for dead.
    let time_to_live = [("WHIZBANG_TIME_TO_LIVE", Path::new("3000"))];
    let [mut one, mut two] = [1, 2].map(|round| Running::start(&path, round, &time_to_live));
    one.wait_for("@answered", 50);
    two.wait_for("@answered", 50);
    let mut told = Told::default();
    told.absorb(&one.kill());
    told.absorb(&two.kill());
    let mut last = Worker::join(open(&path, kills::service(Duration::from_secs(3))), 3);
    last.drain();
    let report = told.check(&last);
    println!("{report:?}");
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn the_check_counts_what_is_lost_a_ghost_doubled_reordered_or_half_there() {
    let id = |round: u128, number: u128| round << 64 | number;
    let mut told = Told::default();
    let list = |numbers: &[u128]| numbers.iter().map(u128::to_string).collect::<Vec<_>>().join(" ");
    // The first process was answered twice and killed while the third batch was on its way.
    told.absorb(&format!(
        "@sends {}\n@answered\n@sends {}\n@answered\n@sends {}\n",
        list(&[id(1, 1), id(1, 2)]),
        list(&[id(1, 3)]),
        list(&[id(1, 4), id(1, 5)])
    ));
    told.absorb(&format!("@sends {}\n@answered\n", list(&[id(2, 1)])));
    let (one, two) = (vec![id(1, 1), id(2, 1), id(1, 2)], vec![id(1, 3)]);
    let clean = |effects: [Vec<u128>; 2]| told.compare(&effects);
    assert!(clean([one.clone(), two.clone()]).is_clean());
    // All of a batch that was not answered may be there.
    assert!(clean([one.clone(), vec![id(1, 3), id(1, 4), id(1, 5)]]).is_clean());
    let lost = clean([one.clone(), vec![]]);
    assert_eq!((&lost.lost[..], lost.is_clean()), (&[id(1, 3)][..], false));
    let half = clean([one.clone(), vec![id(1, 3), id(1, 5)]]);
    assert_eq!((half.halves.len(), half.is_clean()), (1, false));
    let ghost = clean([one.clone(), vec![id(1, 3), id(3, 1)]]);
    assert_eq!((&ghost.ghosts[..], ghost.is_clean()), (&[id(3, 1)][..], false));
    let doubled = clean([one.clone(), vec![id(1, 3), id(1, 2)]]);
    assert_eq!((&doubled.doubled[..], doubled.is_clean()), (&[id(1, 2)][..], false));
    let reordered = clean([vec![id(1, 2), id(2, 1), id(1, 1)], two]);
    assert_eq!((&reordered.reordered[..], reordered.is_clean()), (&[(id(1, 2), id(1, 1))][..], false));
}

/// What is run in the processes that are killed.
#[test]
#[ignore = "the other tests start it, in processes of its own"]
fn the_process_that_is_killed() {
    kills::be_the_process_that_is_killed(open);
}

/// Runs a process for so long, kills it, and gives back what it said.
fn killed(path: &Path, round: u64, after: Duration) -> String {
    let running = Running::start(path, round, &[]);
    thread::sleep(after);
    running.kill()
}

fn open(path: &Path, service: Service) -> SqliteStore {
    let options = SqliteOptions { service, ..SqliteOptions::default() };
    options.open(path).expect("the file can be opened after any crash")
}
