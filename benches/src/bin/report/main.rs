//! Writes `docs/benchmarks.md` and its plots from raw results, so that no figure in it was typed by hand.
//!
//! ```text
//! report benches/results docs          # reads the first folder, writes into the second
//! ```
//!
//! It reads what is there of `table.json` (the table), `floors.json`, `rivals.jsonl` (a line a run) and `lifecycle-*.json`.
#![forbid(unsafe_code)]

mod pages;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use whizbang_benches::floors::Floors;
use whizbang_benches::lifecycle::Lifecycle;
use whizbang_benches::rivals::RivalRun;
use whizbang_benches::table::Table;

type Failed = Box<dyn std::error::Error>;

/// All raw results that there are.
struct Results {
    table: Option<Table>,
    floors: Option<Floors>,
    rivals: Vec<RivalRun>,
    lifecycles: Vec<Lifecycle>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: report RESULTS DOCS");
        return ExitCode::FAILURE;
    };
    match read(&from).and_then(|results| write(&results, &to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn read(from: &Path) -> Result<Results, Failed> {
    let mut lifecycles = Vec::new();
    let mut names: Vec<PathBuf> = fs::read_dir(from)
        .map_err(|error| format!("{}: {error}", from.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    names.sort();
    for path in names {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("lifecycle-") && name.ends_with(".json") {
            lifecycles.extend(json::<Lifecycle>(&path)?);
        }
    }
    let rivals = from.join("rivals.jsonl");
    let rivals = match fs::read_to_string(&rivals) {
        Ok(lines) => lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?,
        Err(_) => Vec::new(),
    };
    Ok(Results {
        table: json(&from.join("table.json"))?,
        floors: json(&from.join("floors.json"))?,
        rivals,
        lifecycles,
    })
}

/// What a file holds; `None` when there is none.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failed> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display()).into()),
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes);
            value.map(Some).map_err(|error| format!("{}: {error}", path.display()).into())
        }
    }
}

fn write(results: &Results, to: &Path) -> Result<(), Failed> {
    let plots = to.join("benchmarks");
    fs::create_dir_all(&plots)?;
    let page = pages::page(results, &mut |name, svg| fs::write(plots.join(name), svg))?;
    fs::write(to.join("benchmarks.md"), page)?;
    Ok(())
}
