//! One door to the primitives: what the model checker does not see, nobody uses.
#![cfg(not(any(lockfree_loom, miri)))]

use std::fs;
use std::path::{Path, PathBuf};

/// Paths below `std`, `core` and `alloc`, and whole crates; each with what stands in `sync.rs` instead.
const BEHIND_THE_DOOR: &[(&str, &str)] = &[
    ("sync::atomic", "sync::{AtomicU32, ...}"),
    ("sync::Mutex", "sync::Mutex"),
    ("sync::RwLock", "sync::Mutex"),
    ("sync::Condvar", "a doorbell"),
    ("sync::Barrier", "a doorbell"),
    ("sync::mpsc", "a ring"),
    ("sync::Arc", "sync::Arc"),
    ("cell::UnsafeCell", "sync::UnsafeCell"),
    ("hint::spin_loop", "sync::spin"),
    ("thread::park", "sync::park"),
    ("thread::yield_now", "sync::spin"),
    ("parking_lot", "sync::Mutex"),
    ("crossbeam_queue", "sync::Shelf"),
    ("crossbeam_utils::atomic", "sync::{AtomicU32, ...}"),
    ("crossbeam_utils::sync", "sync::park"),
    ("loom", "sync"),
];

/// With one of these imported by its own name, what lies in it could be named without being seen here.
const IN_WHOLE: &[&str] = &["sync", "cell", "sync::*", "cell::*"];

/// An ordering stronger than Relaxed has a name, and the name stands where the ordering is needed.
const BARE: &[&str] = &[
    "Ordering::Acquire",
    "Ordering::Release",
    "Ordering::AcqRel",
    "Ordering::SeqCst",
    "Ordering::*",
    "Ordering::{",
];

/// Where an edge is made of orderings.
const MAKERS: &[&str] = &["sync.rs", "edges.rs"];

#[test]
fn nobody_goes_past_sync_rs_to_the_primitives() {
    let mut sources = Vec::new();
    sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    assert!(sources.len() > 10, "the sources are not where they were");
    let complaints: Vec<_> = sources
        .iter()
        .filter(|path| !MAKERS.iter().any(|maker| path.ends_with(maker)))
        .flat_map(|path| {
            let found = ways_past(&fs::read_to_string(path).unwrap());
            found.into_iter().map(move |found| format!("{}: {found}", path.display()))
        })
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_way_past_is_found() {
    for planted in [
        "use std::sync::atomic::AtomicU32;",
        "use std::sync::{Once, atomic::{AtomicU32, Ordering}};",
        "use std::{\n    cell::UnsafeCell,\n    fmt,\n};",
        "use core::sync::atomic as plain;",
        "use std::sync;",
        "use std::sync::{self, Once};",
        "use std::cell::*;",
        "pub(crate) use parking_lot::Mutex;",
        "fn f() { std::sync::Mutex::new(1); }",
        "fn f() { std::thread::park(); }",
        "static COUNT: ::core::sync::atomic::AtomicU32 = one();",
        "fn f() { use loom::thread; }",
        "fn f() { count.load(Ordering::Acquire); }",
        "fn f() { fence(crate::sync::Ordering::SeqCst); }",
        "use crate::sync::Ordering::{Relaxed, SeqCst};",
    ] {
        assert!(!ways_past(planted).is_empty(), "not found: {planted}");
    }
}

#[test]
fn what_comes_through_the_door_is_nothing_to_complain_about() {
    for fine in [
        "use crate::sync::{Arc, AtomicU32, Mutex, Ordering, UnsafeCell, park};",
        "fn f() { count.load(Ordering::Relaxed); crate::sync::park(); }",
        "static ONCE: std::sync::Once = std::sync::Once::new();",
        "use std::cell::Cell;",
        "// as std::sync::atomic::fence(Ordering::SeqCst) does",
        "//! for the loom::model that stands there",
    ] {
        assert_eq!(ways_past(fine), Vec::<String>::new(), "{fine}");
    }
}

fn sources_in(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_in(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Whatever names a primitive, imported or in place.
fn ways_past(source: &str) -> Vec<String> {
    let code: Vec<_> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut paths = Vec::new();
    for import in code.split("use ").skip(1) {
        flatten("", import.split(';').next().unwrap_or_default(), &mut paths);
    }
    let in_place = code.split(|c: char| !(c.is_alphanumeric() || "_:*{".contains(c)));
    paths.extend(in_place.map(|path| path.trim_start_matches("::").to_owned()));
    let mut found = Vec::new();
    for path in &paths {
        let standard = ["std::", "core::", "alloc::"].iter().find_map(|root| path.strip_prefix(root));
        let is_whole = |whole: &&str| standard == Some(*whole);
        if let Some(whole) = IN_WHOLE.iter().find(|whole| is_whole(whole)) {
            found.push(format!("{path}: name what you need of {whole}"));
        }
        let below = |primitive: &str| {
            standard.unwrap_or(path).strip_prefix(primitive).is_some_and(|rest| !rest.starts_with('_'))
        };
        let is_ours = standard.is_none() && path.starts_with("sync::");
        if let Some((primitive, instead)) = BEHIND_THE_DOOR.iter().find(|(it, _)| below(it) && !is_ours) {
            found.push(format!("{path}: {primitive}: use {instead}"));
        }
        if BARE.iter().any(|bare| path.contains(bare)) {
            found.push(format!("{path}: use an edge"));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The single paths of an import: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn flatten(before: &str, import: &str, into: &mut Vec<String>) {
    let import = import.trim();
    let Some((front, group)) = import.split_once('{') else {
        let name = import.split_whitespace().next().unwrap_or_default();
        let path = format!("{before}{name}");
        into.push(path.trim_start_matches("::").trim_end_matches("::self").to_owned());
        return;
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let before = format!("{before}{}", front.trim());
    let mut depth = 0;
    let parts = group.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).for_each(|part| flatten(&before, part, into));
}
