//! A private PostgreSQL server for as long as this program runs.
//!
//! ```text
//! cargo run -p whizbang-postgres-cluster
//! ```
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::process::ExitCode;

use whizbang_postgres_cluster::{Cluster, ClusterError, Options};

fn main() -> ExitCode {
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
