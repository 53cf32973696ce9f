//! Where figures were taken: without it they say nothing.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// A machine, and what else it did meanwhile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's name and release.
    pub kernel: String,
    /// The compiler on the path.
    pub rustc: String,
    /// The SQLite that is linked.
    pub sqlite: String,
    /// The PostgreSQL that is installed.
    pub postgres: String,
    /// The commit that the working directory is at.
    pub commit: String,
    /// When the run began.
    pub date: String,
    /// The one-minute load average when the run began.
    pub load_before: f64,
    /// The one-minute load average when it ended.
    pub load_after: f64,
}

impl Machine {
    /// Looks around. What cannot be found out is called unknown.
    pub fn here() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = load();
        Self {
            cpu: value_of(&cpu, "model name").unwrap_or("an unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: value_of(&memory, "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib >> 10),
            kernel: output("uname", &["-sr"]),
            rustc: output("rustc", &["--version"]),
            sqlite: rusqlite::version().to_owned(),
            postgres: output("psql", &["--version"]),
            commit: commit(),
            date: output("date", &["-u", "+%F %H:%M UTC"]),
            load_before: load,
            load_after: load,
        }
    }

    /// Notes how busy the machine was at the end.
    #[must_use]
    pub fn at_the_end(mut self) -> Self {
        self.load_after = load();
        self
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cpu,
            cores,
            memory_mib,
            kernel,
            rustc,
            sqlite,
            postgres,
            commit,
            date,
            load_before,
            load_after,
        } = self;
        let gib = (*memory_mib as f64 / 1024.0).round();
        write!(
            f,
            "{date}, commit {commit}; {cpu}, {cores} cores, {gib} GiB, {kernel}, {rustc}, SQLite {sqlite}, {postgres}; load average {load_before} at the start, {load_after} at the end"
        )
    }
}

/// The one-minute load average; -1 where nobody says.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(-1.0)
}

/// The value behind `key` and a colon, in lines of such.
fn value_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim())
}

/// The commit, and whether files have changed since; results and what is made of them do not count, as measuring writes them.
fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short", "HEAD"]);
    let measured = [":(top,exclude)benches/results", ":(top,exclude)docs/benchmarks*"];
    let status = Command::new("git").args(["status", "--porcelain", "--", ":(top)"]).args(measured).output();
    match status {
        Ok(status) if !status.stdout.is_empty() => commit + "-dirty",
        _ => commit,
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    if text.trim().is_empty() { format!("unknown {program}") } else { text.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_behind_its_key() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3.0GHz\n";
        assert_eq!(value_of(text, "model name"), Some("Some CPU @ 3.0GHz"));
        assert_eq!(value_of(text, "cores"), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_unknown() {
        assert_eq!(output("no-such-program", &[]), "unknown no-such-program");
    }
}
