//! The table: what the parts of the engine cost in the process, each row beside a floor and rivals, in one run.
//!
//! ```text
//! cargo bench -p whizbang-benches                                   # all rows
//! cargo bench -p whizbang-benches -- --rows publish invoke          # rows whose names contain one of these
//! cargo bench -p whizbang-benches -- --samples 50 --json table.json
//! ```
//!
//! A row's contestants take turns, A B B A, so that a machine that speeds up or slows down does so for all of them; each
//! turn is one or more short samples, and the median of all is what counts. Threads are pinned: producers on the first
//! core, the consumer on the last. Inputs are hidden from the optimiser. Allocations are counted in turns of their own.
#![forbid(unsafe_code)]

mod calls;
mod cores;
mod engines;
mod print;
mod queues;
mod rings;
mod routes;
mod rows;
mod small;
mod waking;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use whizbang_benches::machine::Machine;

use crate::rows::{Measured, Table};

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

/// The raw results of one run.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    samples: usize,
    rows: Vec<Measured>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let machine = Machine::here();
    let mut table = Table::new(arguments.rows, arguments.samples.max(3), arguments.list);
    if !arguments.list {
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

    let rows = table.into_measured();
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let machine = machine.at_the_end();
    println!("\n{machine}");
    print::verdicts(&rows);
    let Some(path) = arguments.json else { return ExitCode::SUCCESS };
    let results = Results { machine, samples: arguments.samples, rows };
    let written = serde_json::to_vec_pretty(&results)
        .map_err(|error| error.to_string())
        .and_then(|json| std::fs::write(&path, json).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} was not written: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
