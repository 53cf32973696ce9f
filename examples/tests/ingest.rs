//! `ingest` as a program: what it says, how it ends, and what is in the database then.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{Said, program, run};
use deliveries::Deliveries;
use tempfile::TempDir;

mod common;
mod deliveries;

/// What `ingest` takes when nothing is said.
const TIME_TO_LIVE: Duration = Duration::from_millis(2_000);

/// A directory with an input, and a place for a database.
struct Scratch {
    directory: TempDir,
}

impl Scratch {
    fn new(input: impl AsRef<[u8]>) -> Self {
        let scratch = Self { directory: tempfile::tempdir().expect("a scratch directory") };
        std::fs::write(scratch.input(), input).expect("the scratch directory can be written");
        scratch
    }

    fn input(&self) -> PathBuf {
        self.directory.path().join("deliveries.jsonl")
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("webhooks.db")
    }

    fn ingest(&self, more: &[&str]) -> Said {
        self.ingest_file(&self.input(), more)
    }

    fn ingest_file(&self, input: &Path, more: &[&str]) -> Said {
        let (input, database) = (input.to_str().expect("text"), self.database());
        run("ingest", [&[input, "--db", database.to_str().expect("text")], more].concat())
    }

    fn deliveries(&self) -> Deliveries {
        Deliveries::of_database(&self.database(), TIME_TO_LIVE)
    }
}

/// Lines of deliveries `from..to`, to a few repositories.
fn lines(from: usize, to: usize) -> String {
    (from..to).fold(String::new(), |mut lines, number| {
        let (repository, event) = (number % 3, ["push", "issues"][number % 2]);
        writeln!(
            lines,
            r#"{{"delivery":"d-{number}","event":"{event}","action":null,"repository":"ferris/boat-{repository}","payload":{{"number":{number}}}}}"#
        )
        .expect("a string can be written");
        lines
    })
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/deliveries.jsonl")
}

#[test]
fn every_delivery_of_the_sample_is_counted_once_and_the_second_time_all_are_duplicates() {
    let scratch = Scratch::new("");
    let expected = Deliveries::of_lines(&std::fs::read_to_string(sample()).expect("the sample is there"));
    let first = scratch.ingest_file(&sample(), &[]);
    assert_eq!((first.code, &*first.err), (Some(0), ""), "{first:?}");
    assert!(
        first.out.contains("40 handled, 0 duplicates, 0 skipped, 0 failed, 40 in the database"),
        "{}",
        first.out
    );
    for ((repository, event), count) in &expected.counts {
        let row = [repository, event, &count.to_string(), "0"];
        let is_row = |line: &str| line.split_whitespace().eq(row);
        assert_eq!(first.out.lines().filter(|line| is_row(line)).count(), 1, "{row:?} in\n{}", first.out);
    }
    assert_eq!(scratch.deliveries(), expected);

    let second = scratch.ingest_file(&sample(), &[]);
    assert_eq!((second.code, &*second.err), (Some(0), ""), "{second:?}");
    assert!(
        second.out.contains("0 handled, 40 duplicates, 0 skipped, 0 failed, 40 in the database"),
        "{}",
        second.out
    );
    for ((repository, event), count) in &expected.counts {
        let row = [repository, event, &count.to_string(), &count.to_string()];
        let is_row = |line: &str| line.split_whitespace().eq(row);
        assert_eq!(second.out.lines().filter(|line| is_row(line)).count(), 1, "{row:?} in\n{}", second.out);
    }
    assert_eq!(scratch.deliveries(), expected);
}

#[test]
fn a_file_that_is_read_twice_brings_deliveries_of_two_names() {
    let scratch = Scratch::new(lines(0, 10));
    let said = scratch.ingest(&["--repeat", "3"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("30 handled, 0 duplicates"), "{}", said.out);
    let first = &scratch.deliveries().in_order["ferris/boat-0"];
    let expected =
        ["d-0", "d-3", "d-6", "d-9", "d-0#2", "d-3#2", "d-6#2", "d-9#2", "d-0#3", "d-3#3", "d-6#3", "d-9#3"];
    assert_eq!(*first, expected);

    let said = scratch.ingest(&["--count", "37"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("7 handled, 30 duplicates, 0 skipped, 0 failed, 37 in the database"),
        "{}",
        said.out
    );
    let said = scratch.ingest(&["--repeat", "2", "--count", "1000"]);
    assert!(
        said.out.contains("0 handled, 20 duplicates, 0 skipped, 0 failed, 37 in the database"),
        "{}",
        said.out
    );
}

#[test]
fn broken_lines_are_named_and_skipped_and_the_exit_code_says_so() {
    let whole = lines(0, 4);
    let whole: Vec<&str> = whole.lines().collect();
    let long = format!(r#"{{"delivery":"long","event":"e","payload":"{}"}}"#, "x".repeat(30_000_000));
    let large = format!(r#"{{"delivery":"large","event":"e","payload":"{}"}}"#, "x".repeat(1_050_000));
    let name = format!(r#"{{"delivery":"{}","event":"e","payload":0}}"#, "n".repeat(600));
    let mut input = Vec::new();
    let broken: [&[u8]; 9] = [
        b"not json at all",
        b"{\"delivery\":\"d\",\"event\":\"push\"",
        b"{\"delivery\":\"d\",\"payload\":{}}",
        b"{\"delivery\":\"d\",\"event\":\"\xff\",\"payload\":{}}",
        b"{\"delivery\":\"\",\"event\":\"push\",\"payload\":{}}",
        b"[1,2,3]",
        long.as_bytes(),
        large.as_bytes(),
        name.as_bytes(),
    ];
    for (index, broken) in broken.iter().enumerate() {
        let good = whole.get(index).copied().unwrap_or_default();
        input.extend_from_slice(&[good.as_bytes(), b"\n", broken, b"\n"].concat());
    }
    let scratch = Scratch::new(input);
    let said = scratch.ingest(&[]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(
        said.out.contains("4 handled, 0 duplicates, 9 skipped, 0 failed, 4 in the database"),
        "{}",
        said.out
    );
    for (line, what) in [
        (2, "not a JSON object"),
        (4, "EOF while parsing an object (column 30)"),
        (6, "missing field `event` (column 29)"),
        (8, "not valid UTF-8 (byte 26)"),
        (10, "`delivery` is empty"),
        (12, "not a JSON object"),
        (14, "30.0 MB long, at most 1.1 MB can be taken in"),
        (16, "larger than the 1048576 bytes"),
        (18, "the key has 600 bytes"),
    ] {
        let is_it = |said: &str| said.contains(&format!("line {line}:")) && said.contains(what);
        assert_eq!(
            said.err.lines().filter(|said| is_it(said)).count(),
            1,
            "line {line}, {what:?} in\n{}",
            said.err
        );
    }
    assert_eq!(said.err.lines().count(), 9, "{}", said.err);
    assert_eq!(scratch.deliveries(), Deliveries::of_lines(&whole.join("\n")));
}

#[test]
fn standard_input_is_read_to_its_end() {
    let scratch = Scratch::new("");
    let expected = lines(0, 100);
    let mut ingest = program("ingest", ["-", "--db"]);
    let mut child = ingest.arg(scratch.database()).stdin(Stdio::piped()).spawn().expect("ingest starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(expected.as_bytes()).expect("ingest reads");
    drop(input);
    let said = Said::by(child);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert_eq!(scratch.deliveries(), Deliveries::of_lines(&expected));
    let said = scratch.ingest_file(Path::new("-"), &["--repeat", "2"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("standard input can be read only once"), "{}", said.err);
}

#[test]
fn an_input_without_deliveries_is_said_to_be_one() {
    for (input, more) in [("", &[][..]), ("\n\n", &[]), ("", &["--count", "5"])] {
        let said = Scratch::new(input).ingest(more);
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
        assert!(said.out.contains("there was no delivery in the input"), "{}", said.out);
    }
    let said = Scratch::new("broken\n").ingest(&["--count", "5"]);
    assert_eq!(said.code, Some(3), "a file of broken lines is not read for ever: {said:?}");
}

#[test]
fn what_cannot_be_opened_is_named() {
    let scratch = Scratch::new(lines(0, 1));
    let missing = scratch.ingest_file(Path::new("/no/such/file.jsonl"), &[]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("/no/such/file.jsonl: No such file"), "{}", missing.err);
    assert!(!scratch.database().exists(), "nothing is made before the input is there");

    let input = scratch.input();
    let at = |database: &Path| {
        let said = run("ingest", [input.as_os_str(), "--db".as_ref(), database.as_os_str()]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(said.out, "");
        said.err
    };
    let directory = at(scratch.directory.path());
    assert!(directory.contains("it is a directory"), "{directory}");
    let nowhere = at(&scratch.directory.path().join("no/such/directory.db"));
    assert!(nowhere.contains("no/such/directory.db") && nowhere.contains("No such file"), "{nowhere}");
    let text = at(&input);
    assert!(text.contains("is not a SQLite database") && text.contains("left as it is"), "{text}");
    assert_eq!(std::fs::read_to_string(&input).expect("readable"), lines(0, 1));

    let usage = run("ingest", ["--db"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
}

#[test]
fn runs_on_one_database_agree_on_the_time_to_live() {
    let scratch = Scratch::new(lines(0, 1));
    assert_eq!(scratch.ingest(&[]).code, Some(0));
    let said = scratch.ingest(&["--time-to-live", "500"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("time_to_live = 2s") && said.err.contains("500ms"), "{}", said.err);
}

#[test]
fn two_processes_share_one_database() {
    let scratch = Scratch::new(lines(0, 3_000));
    let input = scratch.input();
    let start = || {
        let mut ingest =
            program("ingest", [input.as_os_str(), "--db".as_ref(), scratch.database().as_os_str()]);
        ingest.spawn().expect("ingest starts")
    };
    let (one, two) = (start(), start());
    let [one, two] = [one, two].map(Said::by);
    assert_eq!((one.code, two.code), (Some(0), Some(0)), "{one:?} {two:?}");
    let handled = |said: &Said| {
        let line = said.out.lines().find(|line| line.contains(" handled, ")).expect("it says how many");
        line.split(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(handled(&one) + handled(&two), 3_000, "each delivery is new to one of them");
    assert_eq!(scratch.deliveries().counts, Deliveries::of_lines(&lines(0, 3_000)).counts);
}

/// A file may not grow beyond a bound: what a full disk looks like to a program, without filling one.
#[cfg(target_os = "linux")]
#[test]
fn without_room_it_says_so_and_goes_on_when_there_is_some() {
    let scratch = Scratch::new(lines(0, 20_000));
    let mut bounded = std::process::Command::new("sh");
    // The signal would end the program before the failed write is seen. 512-byte blocks.
    bounded.args(["-c", r#"trap "" XFSZ; ulimit -f 2000; exec "$0" "$@""#]).arg(common::example("ingest"));
    bounded.arg(scratch.input()).arg("--db").arg(scratch.database()).args(["--patience", "1"]);
    bounded.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = Said::by(bounded.spawn().expect("sh can be run"));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("waiting for the database"), "{}", said.err);
    assert!(said.err.contains("start it again when that is mended"), "{}", said.err);

    let said = scratch.ingest(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(scratch.deliveries(), Deliveries::of_lines(&lines(0, 20_000)));
}

#[test]
fn real_deliveries_are_counted_as_they_stand_in_the_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/github-webhooks.jsonl");
    let Ok(lines) = std::fs::read_to_string(&file) else {
        // Past the test's own capture of what is printed, which nobody sees when it passes.
        let said =
            writeln!(std::io::stderr(), "NOT TESTED with real deliveries: there is no {}", file.display());
        return said.expect("standard error can be written");
    };
    let scratch = Scratch::new("");
    let said = scratch.ingest_file(&file, &[]);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert!(said.out.contains(&format!("{} handled, 0 duplicates", lines.lines().count())), "{}", said.out);
    assert_eq!(scratch.deliveries(), Deliveries::of_lines(&lines));
    let said = scratch.ingest_file(&file, &[]);
    assert!(said.out.contains(&format!("0 handled, {} duplicates", lines.lines().count())), "{}", said.out);
    assert_eq!(scratch.deliveries(), Deliveries::of_lines(&lines));
}
