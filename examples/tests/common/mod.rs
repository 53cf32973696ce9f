//! What the tests of the examples share: finding their programs, and looking into a database that `ingest` wrote.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use whizbang::{Service, StoreReader, StreamId, Version};
use whizbang_storage::{Page, WorkStore};
use whizbang_storage_sqlite::SqliteOptions;

/// The program of an example, built from the sources as they are now.
///
/// Cargo builds examples beside the tests, but not for `cargo test --test …`; then it is asked to.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/profile/deps");
    let program = profile.join("examples").join(name);
    if !is_fresh(&program) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--example", name]);
        cargo.arg("--target-dir").arg(profile.parent().expect("a profile lies in the target directory"));
        if profile.file_name() == Some(OsStr::new("release")) {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo can be run").success(), "example {name} does not build");
    }
    program
}

/// Whether nothing that the program was built from is newer than it is: cargo leaves a list of that.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let (Some(built), Ok(list)) = (modified(program), std::fs::read_to_string(program.with_extension("d")))
    else {
        return false;
    };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources).split_ascii_whitespace();
    let is_older =
        |source: &str| modified(Path::new(source)).is_some_and(|changed: SystemTime| changed <= built);
    sources.into_iter().all(is_older)
}

/// A command that runs an example with these arguments, without input, its output caught.
pub(crate) fn program<A: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(example(name));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Longer than any of them takes on a slow machine: one that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(240);

impl Said {
    /// Waits until a program ends, and catches what it says meanwhile.
    ///
    /// # Panics
    /// When it hangs; it is ended then.
    pub(crate) fn by(mut child: Child) -> Self {
        fn listen(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
            let mut pipe = pipe.expect("what it says is caught");
            std::thread::spawn(move || {
                let mut text = String::new();
                pipe.read_to_string(&mut text).expect("text");
                text
            })
        }
        let (out, err) = (listen(child.stdout.take()), listen(child.stderr.take()));
        let begun = Instant::now();
        let mut hangs = false;
        let status = loop {
            match child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE && !hangs => {
                    hangs = true;
                    child.kill().expect("a child can be killed");
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let [out, err] = [out, err].map(|text| text.join().expect("it was read"));
        let said = Self { code: status.code(), out, err };
        assert!(!hangs, "it did not end within {PATIENCE:?}: {said:?}");
        said
    }
}

/// Runs an example to its end.
pub(crate) fn run<A: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Said {
    Said::by(program(name, arguments).spawn().expect("the example can be run"))
}

/// Deliveries by repository and event.
pub(crate) type Counts = BTreeMap<(String, String), u64>;

/// What there is to know of deliveries: counts, and the order within each repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deliveries {
    pub(crate) counts: Counts,
    pub(crate) in_order: BTreeMap<String, Vec<String>>,
}

impl Deliveries {
    /// What should come out, computed from the lines alone: the first of each id counts.
    pub(crate) fn of_lines(lines: &str) -> Self {
        let mut expected = Self::default();
        let mut seen = std::collections::HashSet::new();
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("the lines are whole");
            let text = |member: &str| line[member].as_str().map(str::to_owned);
            let delivery = text("delivery").expect("every delivery has an id");
            let repository = text("repository").unwrap_or_else(|| "(none)".to_owned());
            if seen.insert(delivery.clone()) {
                let event = text("event").expect("every delivery has an event");
                *expected.counts.entry((repository.clone(), event)).or_default() += 1;
                expected.in_order.entry(repository).or_default().push(delivery);
            }
        }
        expected
    }

    /// What a database holds: the counts of its projections, and the history of every repository's stream, whose
    /// versions must be 1, 2, 3 ….
    pub(crate) fn of_database(path: &Path, time_to_live: Duration) -> Self {
        let service = Service { time_to_live, ..Service::named("webhooks") };
        let store =
            SqliteOptions { service, ..SqliteOptions::default() }.open(path).expect("the database opens");
        let reader = store.reader();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut found = Self::default();
            for projection in reader.projections("webhooks.counts", b"", 10_000).await.expect("readable") {
                let state: serde_json::Value = serde_json::from_slice(&projection.state).expect("JSON");
                let repository = state["repository"].as_str().expect("a name");
                for (event, count) in state["deliveries"].as_object().expect("counts by event") {
                    let count = count.as_u64().expect("a count");
                    found.counts.insert((repository.to_owned(), event.clone()), count);
                }
                let stream = StreamId::from_key(repository);
                let mut page = Page::default();
                reader.history(stream, Version(0), usize::MAX >> 1, &mut page).await.expect("readable");
                let versions: Vec<u64> =
                    page.iter().map(|event| event.version.expect("a version").0).collect();
                let expected: Vec<u64> = (1..=page.len() as u64).collect();
                assert_eq!(versions, expected, "versions of {repository}");
                let delivery = |payload: &[u8]| {
                    let event: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
                    event["delivery"].as_str().expect("an id").to_owned()
                };
                let deliveries = page.iter().map(|event| delivery(event.payload)).collect();
                found.in_order.insert(repository.to_owned(), deliveries);
            }
            found
        })
    }
}
