//! Every statement finds its rows along an index, on tables that have grown.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::*;
use rusqlite::Connection;
use whizbang_storage::*;

/// Rows of each of the seven large tables: a million together.
const ROWS: i64 = 150_000;

/// Statements that look at every row of a table, and why they may.
const MAY_SCAN: &[(&str, &str)] = &[
    ("schema_version", "a table of one row"),
    ("count_tables", "the schema, when a database is opened"),
    ("add_service", "the services, when one is added"),
    ("old_segments", "the largest segment is the end of its index"),
    ("lane_is_parked", "the constant row of an EXISTS"),
    ("parks_any", "the constant row of an EXISTS"),
    ("count_arrivals", "the constant row of two counts"),
    ("stream_version", "the constant row of two look-ups"),
    ("runs_between", "the largest place is the end of its range"),
];

#[test]
fn no_statement_scans_or_sorts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let one = Instance::join(open(&path, &TestClock::new()), 1, "g", &["s"]);
    let sql = one.store.connect().unwrap();
    sql.pragma_update(None, "synchronous", "OFF").unwrap();
    grow(&sql);

    let statements = statements();
    assert!(statements.len() > 80, "{} statements found", statements.len());
    let mut bad = Vec::new();
    for (name, text) in &statements {
        for step in plan(&sql, text) {
            let scans = step.starts_with("SCAN") && step != "SCAN CONSTANT ROW";
            let sorts = step.contains("USE TEMP B-TREE");
            let allowed = MAY_SCAN.iter().any(|(may, _)| may == name);
            if sorts || scans && !allowed {
                bad.push(format!("{name}: {step}"));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn the_check_notices_a_scan_and_a_sort() {
    let directory = tempfile::tempdir().unwrap();
    let one = Instance::join(open(&directory.path().join("a.db"), &TestClock::new()), 1, "g", &["s"]);
    let sql = one.store.connect().unwrap();
    let steps = plan(&sql, "SELECT * FROM whizbang_parked WHERE attempts = 1 ORDER BY error");
    assert!(steps.iter().any(|step| step.starts_with("SCAN")), "{steps:?}");
    assert!(steps.iter().any(|step| step.contains("USE TEMP B-TREE")), "{steps:?}");
}

fn statements() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql");
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn plan(sql: &Connection, text: &str) -> Vec<String> {
    let mut explain = sql.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
    for index in 1..=explain.parameter_count() {
        explain.raw_bind_parameter(index, rusqlite::types::Null).unwrap();
    }
    let mut rows = explain.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get(3).unwrap());
    }
    steps
}

fn grow(sql: &Connection) {
    let fill = |text: &str| {
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) ";
        sql.execute(&format!("{numbers}{text}"), [ROWS]).unwrap();
    };
    sql.execute_batch("BEGIN").unwrap();
    fill("INSERT INTO whizbang_run SELECT ((i % 4) << 40) | i, 1, 1, i, 0, 10, NULL FROM n");
    fill("INSERT INTO whizbang_segment_use SELECT i, 1, 10, 10, x'00' FROM n");
    fill(
        "INSERT INTO whizbang_event SELECT ((i % 4) << 40) | i, CAST(substr(i % 1000 || '0123456789012345', 1, 16) AS BLOB),
         i, i, x'00' FROM n",
    );
    fill(
        "INSERT INTO whizbang_arrival SELECT NULL, i % 4, nullif(i % 3, 0), x'01', CAST(i AS BLOB), x'00' FROM n",
    );
    fill("INSERT INTO whizbang_dedup SELECT (1 << 40) + i, i, i, i, x'01', CAST(i AS BLOB) FROM n");
    fill(
        "INSERT INTO whizbang_parked SELECT NULL, 1 + i % 2, i % 4, i, CAST(i % 1000 AS BLOB), 1 + i % 5, 1, 0, 0, i, 0, 0,
         x'01', i, 0, 1, '', 0, 0, 't', 1, 1, NULL, x'00' FROM n",
    );
    fill("INSERT INTO whizbang_projection SELECT NULL, 1, 'p', CAST(i AS BLOB), 1, x'00' FROM n");
    sql.execute_batch("COMMIT").unwrap();
}
