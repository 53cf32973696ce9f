//! One door to the primitives: what the model checker does not see, nobody uses.
#![cfg(not(any(lockfree_loom, miri)))]

use std::fs;
use std::path::Path;

/// Each with what stands in `sync.rs` instead.
const BEHIND_THE_DOOR: &[(&str, &str)] = &[
    ("sync::atomic", "sync::{AtomicU32, ...}"),
    ("std::sync::Mutex", "sync::Mutex"),
    ("std::sync::Condvar", "a doorbell"),
    ("std::sync::Arc", "sync::Arc"),
    ("std::cell::UnsafeCell", "sync::UnsafeCell"),
    ("std::hint::spin_loop", "sync::spin"),
    ("parking_lot", "sync::Mutex"),
    ("crossbeam_queue", "sync::Shelf"),
    ("loom::", "sync"),
    ("thread::park", "sync::park"),
    ("Ordering::SeqCst", "an edge"),
    ("Ordering::AcqRel", "an edge"),
];

/// Where an edge is made of orderings.
const MAKERS: &[&str] = &["sync.rs", "edges.rs"];

#[test]
fn nobody_goes_past_sync_rs_to_the_primitives() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut looked_at = 0;
    let mut past = Vec::new();
    for entry in fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if MAKERS.contains(&name.as_str()) {
            continue;
        }
        looked_at += 1;
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            // An ordering stronger than Relaxed has a name, and the name stands where the ordering is needed.
            let bare = ["Ordering::Acquire", "Ordering::Release"].iter().find(|bare| line.contains(**bare));
            let door = BEHIND_THE_DOOR.iter().find(|(primitive, _)| line.contains(primitive));
            if let Some((primitive, instead)) = door {
                past.push(format!("{name}:{}: {primitive}: use {instead}", number + 1));
            }
            if let Some(bare) = bare {
                past.push(format!("{name}:{}: {bare}: use an edge", number + 1));
            }
        }
    }
    assert!(looked_at > 10, "the sources are not where they were");
    assert!(past.is_empty(), "{past:#?}");
}
