//! What the tests of the examples share: finding their programs, and running them.
#![allow(dead_code, reason = "each test uses its part")]

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

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
    command(example(name), arguments)
}

/// A command that runs a program with these arguments, without input, its output caught.
pub(crate) fn command<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
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
