//! Every statement finds its rows along an index, on tables of a million rows each, with the planner's statistics and without.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::*;
use rusqlite::types::Value;
use rusqlite::{Connection, StatementStatus, params_from_iter};
use whizbang_storage::*;

/// Rows of each of the seven tables that grow with what is sent.
const ROWS: i64 = 1_000_000;

/// Steps in which every row of a table is looked at, and why they may.
const MAY_SCAN: &[(&str, &str, &str)] = &[
    ("schema_version", "SCAN whizbang_schema", "a table of one row"),
    ("count_tables", "SCAN sqlite_schema", "the schema, when a database is opened"),
    ("add_departed", "SCAN s", "a row for each instance, each subscription and each 32 partitions"),
    ("instances", "SCAN s", "a row for each instance, each subscription and each 32 partitions"),
    ("count_projections", "SCAN whizbang_projection", "counts all of them, for people"),
    ("groups", "SCAN whizbang_work_group", "a handful of groups"),
    ("named_subscriptions", "SCAN g", "a handful of groups"),
    ("named_subscriptions", "SCAN s", "a handful of subscriptions"),
    ("subscriptions", "SCAN g", "a handful of groups"),
    ("subscriptions", "SCAN s", "a handful of subscriptions"),
];

/// Instructions of SQLite's virtual machine that a hot statement may take; one that walks through a backlog takes a million.
const INSTRUCTIONS_MAX: i32 = 2_000;

#[test]
fn no_statement_scans_or_sorts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let one = Instance::join(open(&path, &TestClock::new()), 1, "g", &["s"]);
    let sql = one.store.connect().unwrap();
    // Nobody else has it open, so that it need not be written twice.
    drop(one);
    sql.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(())).unwrap();
    grow(&sql);
    let statements = statements();
    assert!(statements.len() > 80, "{} statements found", statements.len());
    let mut bad = find_bad(&sql, &statements, "without statistics");
    sql.execute_batch("ANALYZE").unwrap();
    bad.extend(find_bad(&sql, &statements, "with statistics"));
    assert!(bad.is_empty(), "{bad:#?}");
    for (name, scan, _) in MAY_SCAN {
        assert!(plan(&sql, &statements[*name]).iter().any(|step| step == scan), "{name} needs no excuse");
    }
}

/// Everything that is wrong with a statement's plan, or with what it does.
fn find_bad(sql: &Connection, statements: &BTreeMap<String, String>, when: &str) -> Vec<String> {
    let mut bad = Vec::new();
    for (name, text) in statements {
        for step in plan(sql, text).into_iter().filter(|step| is_bad(step)) {
            if !MAY_SCAN.iter().any(|(may, scan, _)| may == name && *scan == step) {
                bad.push(format!("{name}, {when}: {step}"));
            }
        }
    }
    for (name, values) in hot() {
        let mut statement = sql.prepare(&statements[name]).unwrap();
        let mut rows = statement.query(params_from_iter(values)).unwrap();
        let mut found = 0;
        while rows.next().unwrap().is_some() {
            found += 1;
        }
        drop(rows);
        let instructions = statement.get_status(StatementStatus::VmStep);
        if instructions > INSTRUCTIONS_MAX {
            bad.push(format!("{name}, {when}: {instructions} instructions for {found} rows"));
        }
    }
    bad
}

fn is_bad(step: &str) -> bool {
    let scans = step.starts_with("SCAN") && step != "SCAN CONSTANT ROW";
    scans || step.contains("USE TEMP B-TREE") || step.contains("AUTOMATIC")
}

/// What runs in every exchange or for every message, with values for which there is a long backlog.
fn hot() -> Vec<(&'static str, Vec<Value>)> {
    let number = Value::Integer;
    let key = |number: i64| Value::Blob(format!("{number:016}").into_bytes());
    let place = |at: i64| (4 * at / ROWS) << 40 | at;
    let middle = ROWS / 2;
    let (first, last) = (number(place(middle)), number(place(middle) + 9));
    let whole = [number(2 << 40), number((3 << 40) - 1)];
    let [from, to] = whole;
    vec![
        ("arrived_before", vec![number(1), key(ROWS + 1)]),
        ("arrived_events", vec![number(2), key(middle)]),
        ("next_arrival", vec![number(2)]),
        ("undelayed_arrivals", vec![number(2), number(10)]),
        ("scheduled_arrivals", vec![number(2), number(i64::MAX), number(10)]),
        ("find_dedup", vec![number(middle), key(middle), number(1 << 40), number((2 << 40) - 1)]),
        ("lane_is_parked", vec![number(1), key(middle / 20), number(ROWS), number(0)]),
        ("find_parked", vec![number(1), number(1), number(middle - 1)]),
        ("parked_behind", vec![number(1), key(middle / 20), number(0)]),
        ("dead_behind", vec![number(1), key(middle / 20), number(0)]),
        ("waiting_until", vec![number(2), number(2), number(middle + 20)]),
        ("run_before", vec![from.clone(), first.clone()]),
        ("runs_between", vec![from.clone(), first.clone(), last.clone()]),
        ("run", vec![first.clone(), number(middle)]),
        ("events_between", vec![first, last]),
        ("stream_version", vec![number(1), key(middle / 10), from.clone(), to.clone()]),
        ("history", vec![key(middle / 10), number(0), from, to, number(10)]),
        ("revision", vec![number(1), Value::Text("p".to_owned()), key(middle)]),
        ("projection", vec![number(1), Value::Text("p".to_owned()), key(middle)]),
    ]
}

#[test]
fn the_check_notices_a_scan_and_a_sort() {
    let directory = tempfile::tempdir().unwrap();
    let one = Instance::join(open(&directory.path().join("a.db"), &TestClock::new()), 1, "g", &["s"]);
    let sql = one.store.connect().unwrap();
    let steps = plan(&sql, "SELECT * FROM whizbang_parked WHERE attempts = 1 ORDER BY error");
    assert_eq!(steps.iter().filter(|step| is_bad(step)).count(), 2, "{steps:?}");
    sql.execute_batch("CREATE TABLE big AS SELECT 1 AS a; CREATE TABLE other AS SELECT 1 AS a;").unwrap();
    let steps = plan(&sql, "SELECT * FROM big JOIN other USING (a)");
    assert!(steps.iter().any(|step| step.contains("AUTOMATIC") && is_bad(step)), "{steps:?}");
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

/// Rows as many messages leave them, in the order of their keys so that it takes seconds.
fn grow(sql: &Connection) {
    for text in [
        "INSERT INTO whizbang_run (place, span, messages, segment, start, length)
         SELECT (4 * i / ?1) << 40 | i, 1, 1, i, 0, 10 FROM n",
        "INSERT INTO whizbang_segment_use SELECT i, 1, 10, 10, x'00' FROM n",
        "INSERT INTO whizbang_event
         SELECT (4 * i / ?1) << 40 | i, CAST(printf('%016d', i / 10) AS BLOB), i, i, x'00' FROM n",
        "INSERT INTO whizbang_arrival
         SELECT NULL, 4 * i / ?1, nullif(i % 3, 0), x'01', CAST(printf('%016d', i) AS BLOB), x'00' FROM n",
        "INSERT INTO whizbang_dedup SELECT (1 << 40) + i, i, i, i, x'01', CAST(printf('%016d', i) AS BLOB) FROM n",
        "INSERT INTO whizbang_parked
         SELECT NULL, 1 + 2 * i / ?1, 4 * i / ?1, i, CAST(printf('%016d', i / 10) AS BLOB), 1 + i % 5, 1, 0, 0, i, 0, 0,
             CAST(printf('%016d', i / 100000) AS BLOB), i, 0, 1, '', 0, 0, 't', 1, 1, NULL, x'00' FROM n",
        "INSERT INTO whizbang_projection
         SELECT NULL, 1, 'p', CAST(printf('%016d', i) AS BLOB), 1, x'00' FROM n",
    ] {
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1) ";
        assert_eq!(sql.execute(&format!("{numbers}{text}"), [ROWS]).unwrap() as i64, ROWS);
    }
}
