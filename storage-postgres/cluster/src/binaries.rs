//! Finding PostgreSQL's server programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ClusterError;
use crate::account::in_path;

/// The oldest version that will do.
pub(crate) const MAJOR_MIN: u32 = 14;

/// A directory to take the programs from, before all others.
const VARIABLE: &str = "WHIZBANG_POSTGRES_BIN";

/// The programs of one version.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) postgres: PathBuf,
    pub(crate) initdb: PathBuf,
    pub(crate) pg_ctl: PathBuf,
}

impl Binaries {
    /// The first directory that has everything in a version that will do: the one that `WHIZBANG_POSTGRES_BIN` names,
    /// `PATH`, where Debian and others put them (newest first), and what `pg_config` says.
    pub(crate) fn find() -> Result<Self, ClusterError> {
        let mut looked_in = Vec::new();
        for directory in candidates() {
            match Self::in_directory(&directory) {
                Ok(binaries) => return Ok(binaries),
                Err(why) => looked_in.push(format!("{} ({why})", directory.display())),
            }
        }
        if looked_in.is_empty() {
            looked_in.push("PATH, /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, pg_config".to_owned());
        }
        Err(ClusterError::Missing { looked_in })
    }

    fn in_directory(directory: &Path) -> Result<Self, String> {
        let program = |name: &str| {
            let path = directory.join(name);
            if path.is_file() { Ok(path) } else { Err(format!("no {name}")) }
        };
        let found =
            Self { postgres: program("postgres")?, initdb: program("initdb")?, pg_ctl: program("pg_ctl")? };
        let said =
            Command::new(&found.postgres).arg("--version").output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&said.stdout);
        match major(&said) {
            Some(major) if major >= MAJOR_MIN => Ok(found),
            Some(major) => Err(format!("version {major}")),
            None => Err(format!("no version in {:?}", said.trim())),
        }
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(directory) = std::env::var_os(VARIABLE) {
        // Who names one wants that and no other.
        return vec![directory.into()];
    }
    let mut directories = Vec::new();
    // A link in PATH leads to where its companions are.
    let linked = in_path("postgres").and_then(|program| fs::canonicalize(program).ok());
    directories.extend(linked.and_then(|program| program.parent().map(Path::to_owned)));
    directories.extend(numbered("/usr/lib/postgresql", ""));
    directories.extend(numbered("/usr", "pgsql-"));
    if let Some(program) = in_path("pg_config")
        && let Ok(said) = Command::new(program).arg("--bindir").output()
    {
        directories.push(String::from_utf8_lossy(&said.stdout).trim().into());
    }
    let mut seen = std::collections::HashSet::new();
    directories.retain(|directory| directory.is_dir() && seen.insert(directory.clone()));
    directories
}

/// `bin` in those directories of `parent` whose name is a number after `prefix`, the largest number first.
fn numbered(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let number = |name: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path().join("bin"))))
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The major version in what `postgres --version` says.
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_each_kind_of_release_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(major("command not found\n"), None);
    }

    #[test]
    fn the_newest_directory_comes_first() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["9", "14", "17", "common"] {
            fs::create_dir_all(scratch.path().join(name).join("bin")).unwrap();
        }
        let found = numbered(scratch.path().to_str().unwrap(), "");
        let expected = ["17", "14", "9"].map(|name| scratch.path().join(name).join("bin"));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_directory_without_the_programs_is_told_with_what_is_missing() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(Binaries::in_directory(scratch.path()).unwrap_err(), "no postgres");
    }
}
