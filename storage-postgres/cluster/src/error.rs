//! Why there is no server.

use std::io;
use std::path::PathBuf;

/// Why a server could not be started, stopped or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// There are no server programs.
    #[error(
        "no PostgreSQL server programs, version {} or newer, in: {}; install them with: apt-get install postgresql",
        crate::binaries::MAJOR_MIN,
        looked_in.join(", ")
    )]
    Missing {
        /// Where they were looked for, and what was found there.
        looked_in: Vec<String>,
    },
    /// PostgreSQL does not run as root, and there is nobody else to run it as.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor a user `nobody`")]
    NoAccount,
    /// A file or a process could not be handled.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// One of PostgreSQL's own programs failed.
    #[error("{} failed: {output}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What it said.
        output: String,
    },
    /// The server ended, or was not ready in time, after it was started.
    #[error("the server {what}; its log:\n{log}")]
    NotReady {
        /// What it did instead of getting ready.
        what: &'static str,
        /// What it wrote since.
        log: String,
    },
    /// It is running already, or does not run.
    #[error("the server {0}")]
    State(&'static str),
}

impl ClusterError {
    /// For `map_err`: what could not be done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { what: what.into(), source }
    }
}
