//! A private PostgreSQL server for as long as this program runs.
//!
//! ```text
//! cargo run -p whizbang-postgres-cluster
//! ```
//!
//! It takes no arguments, and so no parser of them either.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::process::ExitCode;

use whizbang_postgres_cluster::{Cluster, ClusterError, Options};

const HELP: &str = "\
A private PostgreSQL server for as long as this program runs.

Usage: whizbang-postgres-cluster

Prints two URLs of the server, over its socket and over the loopback address. It lies in a temporary directory, syncs what
it commits, and is gone with its data when the input ends (Ctrl-D) or the program does. It needs the server programs of
PostgreSQL 14 or newer; WHIZBANG_POSTGRES_BIN names their directory where they are not found by themselves.

Exit code: 0 when the input has ended, 1 when there is no server, 2 for wrong arguments.
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match &arguments[..] {
        [] => {}
        [help] if help == "--help" || help == "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        [unknown, ..] => {
            eprintln!("unknown argument: {} (there are none; try --help)", unknown.to_string_lossy());
            return ExitCode::from(2);
        }
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whizbang-postgres-cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), ClusterError> {
    let cluster = Cluster::start(Options::default())?;
    println!(
        "{}\n{}\nIt is gone when the input ends (Ctrl-D) or this program does.",
        cluster.url(),
        cluster.tcp_url()
    );
    // Both fail only when nobody is there any more, and then it is time to end.
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
