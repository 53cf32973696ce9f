//! One run: what was asked for, the rows in order, and what is left behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use whizbang_benches::machine::Machine;
use whizbang_benches::table::Table as Results;

use crate::rows::{Counter, Counts, Outcome, Table};
use crate::{calls, cores, engines, print, rings, routes, small, waking};

/// Nanoseconds in the process, beside floors and rivals.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only rows whose names contain one of these.
    #[arg(long, num_args = 1..)]
    rows: Vec<String>,
    /// How many turns each contestant of a row has.
    #[arg(long, default_value_t = 200)]
    samples: usize,
    /// Write the raw results to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Names the rows and measures nothing.
    #[arg(long)]
    list: bool,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where counted allocations wait for the table.
fn counts_path() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("whizbang-allocations.json")
}

/// Measures times, or, with a counter, allocations.
pub(crate) fn run(counter: Option<Counter>) -> ExitCode {
    let arguments = Arguments::parse();
    let machine = Machine::here();
    let counts = std::fs::read(counts_path()).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let counts: Counts = counts.unwrap_or_default();
    let turns = arguments.samples.max(3);
    let mut table = Table::new(arguments.rows, turns, arguments.list, counter, counts);
    if counter.is_none() && !arguments.list {
        println!("{machine}\n");
        print::head();
    }
    cores::pin_this_thread(cores::First);

    calls::rows(&mut table);
    routes::rows(&mut table);
    small::rows(&mut table);
    rings::rows(&mut table);
    engines::rows(&mut table);
    waking::rows(&mut table);

    let Outcome { rows, counts, allocating } = table.into_outcome();
    let written = if arguments.list {
        Ok(())
    } else if counter.is_some() {
        write(&counts_path(), &counts).and_then(|()| match allocating[..] {
            [] => Ok(()),
            _ => Err(format!("these allocate, and must not: {}", allocating.join(", "))),
        })
    } else {
        let machine = machine.at_the_end();
        println!("\n{machine}");
        print::verdicts(&rows);
        let results = Results { machine, samples: turns, rows };
        arguments.json.map_or(Ok(()), |path| write(&path, &results))
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let json = serde_json::to_vec_pretty(value).map_err(|error| error.to_string())?;
    std::fs::write(path, json).map_err(|error| format!("{} was not written: {error}", path.display()))
}
