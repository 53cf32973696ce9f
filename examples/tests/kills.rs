//! `ingest` killed at random moments, again and again: in the end the database holds what an undisturbed run would have.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Said, example};
use deliveries::Deliveries;
use fastrand::Rng;

mod common;
mod deliveries;

/// As short as is sensible, because every run after a kill waits for it.
const TIME_TO_LIVE: Duration = Duration::from_millis(60);

/// Kills in all; `WHIZBANG_KILLS` asks for more.
const KILLS: u64 = 200;

#[test]
fn nothing_is_lost_or_handled_twice_or_out_of_order_however_often_it_is_killed() {
    let number_of = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number_of("WHIZBANG_KILLS").unwrap_or(KILLS);
    let seed = number_of("WHIZBANG_SEED").unwrap_or_else(|| Rng::new().u64(..));
    println!("to repeat this: WHIZBANG_SEED={seed} WHIZBANG_KILLS={kills}");
    let program = example("ingest");
    let (mut done, mut round) = (0, 0);
    while done < kills {
        round += 1;
        done += one_database(&program, Rng::with_seed(seed.wrapping_add(round)), kills - done);
    }
    println!("{done} kills in {round} databases");
}

/// Takes a file in under kills until a run gets through, then looks at what there is. Returns how often it was killed.
fn one_database(program: &Path, mut rng: Rng, kills_max: u64) -> u64 {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (input, database) = (scratch.path().join("deliveries.jsonl"), scratch.path().join("webhooks.db"));
    let lines = deliveries(&mut rng);
    std::fs::write(&input, &lines).expect("the scratch directory can be written");
    let command = || {
        let mut command = Command::new(program);
        command.arg(&input).arg("--db").arg(&database);
        command.arg("--time-to-live").arg(TIME_TO_LIVE.as_millis().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    // From "not yet begun" to "through, though it had to wait for its predecessor's partitions".
    let mut longest = TIME_TO_LIVE * 4;
    let mut kills = 0;
    while kills < kills_max {
        let mut child = command().spawn().expect("ingest starts");
        let until = Instant::now() + longest.mul_f64(rng.f64());
        let ended = loop {
            match child.try_wait().expect("a child can be waited for") {
                Some(ended) => break Some(ended),
                None if Instant::now() >= until => break None,
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        match ended {
            Some(status) => {
                assert!(status.success(), "ingest ended with {status}: {}", rest(&mut child));
                break;
            }
            None => {
                child.kill().expect("a child can be killed");
                child.wait().expect("a child can be waited for");
                kills += 1;
                // So that on a slow machine too some run gets through.
                longest = longest.mul_f64(1.05).min(Duration::from_secs(5));
            }
        }
    }
    let last = Said::by(command().stdout(Stdio::piped()).spawn().expect("ingest starts"));
    assert_eq!(last.code, Some(0), "{last:?}");
    let found = Deliveries::of_database(&database, TIME_TO_LIVE);
    let expected = Deliveries::of_lines(&lines);
    if found != expected {
        // What is needed to find out why.
        let kept = scratch.keep();
        panic!(
            "after {kills} kills {} holds something else:\n{}",
            kept.display(),
            differences(&found, &expected)
        );
    }
    kills
}

fn rest(child: &mut std::process::Child) -> String {
    let mut text = String::new();
    let err = child.stderr.as_mut().expect("it is caught");
    std::io::Read::read_to_string(err, &mut text).expect("text");
    text
}

/// A few hundred deliveries of all sizes, most of one repository, some of them twice.
fn deliveries(rng: &mut Rng) -> String {
    let mut lines = Vec::<u8>::new();
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..rng.usize(100..600) {
        let is_repeated = !ids.is_empty() && rng.u8(..) < 10;
        let id =
            if is_repeated { ids[rng.usize(..ids.len())].clone() } else { format!("d-{:016x}", rng.u64(..)) };
        let repository = match rng.u8(0..10) {
            0..6 => r#""ferris/lighthouse""#.to_owned(),
            6 => "null".to_owned(),
            _ => format!(r#""ferris/boat-{}""#, rng.u8(0..12)),
        };
        let event = ["push", "issues", "star"][rng.usize(0..3)];
        let text = "~".repeat(if rng.u8(..) < 8 { rng.usize(..200_000) } else { rng.usize(..3_000) });
        writeln!(
            lines,
            r#"{{"delivery":"{id}","event":"{event}","action":null,"repository":{repository},"payload":{{"text":"{text}"}}}}"#
        )
        .expect("memory can be written");
        ids.push(id);
    }
    String::from_utf8(lines).expect("text")
}

/// The first places where two differ, in words.
fn differences(found: &Deliveries, expected: &Deliveries) -> String {
    let mut text = String::new();
    for (of, count) in &expected.counts {
        let counted = found.counts.get(of).unwrap_or(&0);
        if counted != count {
            text += &format!("{of:?}: counted {counted}, should be {count}\n");
        }
    }
    for (repository, expected) in &expected.in_order {
        let nothing = Vec::new();
        let found = found.in_order.get(repository).unwrap_or(&nothing);
        let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
        if found != expected {
            text += &format!(
                "{repository}: {} events, should be {}; from version {} on {:?}, should be {:?}\n",
                found.len(),
                expected.len(),
                same + 1,
                &found[same..found.len().min(same + 3)],
                &expected[same..expected.len().min(same + 3)]
            );
        }
    }
    text
}
