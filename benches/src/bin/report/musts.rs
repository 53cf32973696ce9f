//! The first table of the page: what must hold, and whether it does.

use std::fmt::Write;

use whizbang_benches::build::SECONDS_MAX;
use whizbang_benches::floors::Floors;
use whizbang_benches::reference::relative;
use whizbang_benches::rivals::{OURS, RivalRun};
use whizbang_benches::table::Row;

use crate::Results;
use crate::lives::{is_default, median};
use crate::svg::short;

/// Messages a second that must go through their whole life.
const STORES: [(&str, &str, f64); 3] = [
    ("memory", "memory", 1.5e6),
    ("sqlite", "SQLite FULL", 300e3),
    ("postgres", "PostgreSQL, fsync on", 100e3),
];

pub(crate) fn write(page: &mut String, results: &Results) {
    let mut rows = String::new();
    let mut row = |what: &str, must: &str, reached: &str, is_met: bool| {
        let verdict = if is_met { "met" } else { "**missed**" };
        let _ = writeln!(rows, "| {what} | {must} | {reached} | {verdict} |");
    };
    for one in rows_of(results) {
        let (Some(must), Some((is_met, reached))) = (one.must, one.verdict()) else { continue };
        row(&format!("`{}`: {}", one.name, one.title), &must.to_string(), &format!("{reached} ns"), is_met);
        for ratio in relative(one, rows_of(results)) {
            row(
                &format!("`{}`, as a ratio", one.name),
                "as where it was set",
                &ratio.to_string(),
                ratio.is_met(),
            );
        }
    }
    for (store, name, must) in STORES {
        let rates: Vec<f64> = results
            .lifecycles
            .iter()
            .filter(|one| one.store == store && is_default(one))
            .map(|one| one.settled_per_second)
            .collect();
        if rates.is_empty() {
            continue;
        }
        let reached = median(rates.clone());
        let beside = beside(results, store, reached);
        row(
            &format!(
                "publish → stored → handled → settled, {name}, 120 bytes, median of {} runs",
                rates.len()
            ),
            &format!("≥ {}/s", short(must)),
            &format!("{}/s{beside}", short(reached)),
            reached >= must,
        );
    }
    for verdict in results.idle.iter().flat_map(|idle| idle.verdicts()) {
        row(verdict.what, &verdict.must, &verdict.reached, verdict.is_met);
    }
    if let Some(build) = &results.build {
        row(
            &format!("`{}` from clean, {} jobs", build.what, build.jobs),
            &format!("≤ {SECONDS_MAX} s"),
            &format!("{:.0} s", build.seconds),
            build.seconds <= SECONDS_MAX,
        );
    }
    if rows.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "\n## What must hold\n\nNanoseconds were promised on one machine. Where a rival or a floor was measured there too, the must is also \
         judged as a ratio to it in one run: \"1.5 of 2.44 × rtrb\", for instance, would be 1.5 times what rtrb takes here, and may be 2.44 times.\n\n\
         | what | must | reached | |\n|---|---|---|---|\n{rows}"
    );
    if let Some(idle) = &results.idle {
        let _ = write!(page, "\nThe idle engine (`idle`): {}.\n", idle.machine);
    }
}

/// What was measured in the process.
fn rows_of(results: &Results) -> &[Row] {
    results.table.as_ref().map_or(&[], |table| &table.rows)
}

/// Floor and best rival beside what ours reached, where both were measured.
fn beside(results: &Results, store: &str, ours: f64) -> String {
    let mut beside = String::new();
    if let Some((way, floor)) = results.floors.as_ref().and_then(|floors| floor_of(floors, store)) {
        let _ = write!(beside, "; floor {} ({way}), ours is {:.2} of it", short(floor), ours / floor);
    }
    if let Some((name, rate)) = rival_of(&results.rivals, store) {
        let _ = write!(beside, "; best rival {name} {}", short(rate));
    }
    beside
}

/// The fastest way that a store's rows have.
fn floor_of<'f>(floors: &'f Floors, store: &str) -> Option<(&'f str, f64)> {
    let of_store = floors.rows.iter().filter(|row| row.way.to_lowercase().starts_with(store));
    let fastest = of_store.max_by(|a, b| a.per_second.total_cmp(&b.per_second))?;
    Some((&fastest.way, fastest.per_second))
}

/// The rival with the highest median on a store.
fn rival_of<'r>(runs: &'r [RivalRun], store: &str) -> Option<(&'r str, f64)> {
    let of_store = || runs.iter().filter(|run| run.backend == store && run.name != OURS);
    let median_of =
        |name: &str| median(of_store().filter(|run| run.name == name).map(|run| run.per_second).collect());
    of_store().map(|run| (run.name.as_str(), median_of(&run.name))).max_by(|a, b| a.1.total_cmp(&b.1))
}
