//! Writes `docs/benchmarks.md` and its plots from raw results, so that no figure in it was typed by hand.
//!
//! ```text
//! report benches/results docs          # reads the first folder, writes into the second
//! report --as-rival lifecycle.json     # a lifecycle as a line of rivals.jsonl
//! ```
//!
//! It reads what is there of `table.json` (the table), `idle.json`, `floors.json`, `build.json`, `rivals.jsonl` (a line a run)
//! and `lifecycle-*.json`.
#![forbid(unsafe_code)]

mod lives;
mod musts;
mod pages;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use whizbang_benches::build::Build;
use whizbang_benches::floors::Floors;
use whizbang_benches::idle::Idle;
use whizbang_benches::lifecycle::Lifecycle;
use whizbang_benches::rivals::RivalRun;
use whizbang_benches::table::Table;

type Failed = Box<dyn std::error::Error>;

/// All raw results that there are.
#[derive(Default)]
struct Results {
    table: Option<Table>,
    idle: Option<Idle>,
    build: Option<Build>,
    floors: Option<Floors>,
    rivals: Vec<RivalRun>,
    lifecycles: Vec<Lifecycle>,
}

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let done = match &arguments[..] {
        [option, file] if option.as_os_str() == "--as-rival" => as_rival(file),
        [from, to] => read(from).and_then(|results| write(&results, to)),
        _ => Err("usage: report RESULTS DOCS, or report --as-rival LIFECYCLE".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn as_rival(file: &Path) -> Result<(), Failed> {
    let life: Lifecycle = json(file)?.ok_or_else(|| format!("{} is not there", file.display()))?;
    println!("{}", serde_json::to_string(&RivalRun::from(life))?);
    Ok(())
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
        Ok(lines) => {
            let runs = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>();
            runs.map_err(|error| format!("{}: {error}", rivals.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{}: {error}", rivals.display()).into()),
    };
    Ok(Results {
        table: json(&from.join("table.json"))?,
        idle: json(&from.join("idle.json"))?,
        build: json(&from.join("build.json"))?,
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
