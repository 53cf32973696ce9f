//! The simulation is exact, and it sees.

use std::sync::Once;

use whizbang_simulation::planted::{DEFECTS, find};
use whizbang_simulation::{Report, Scale, Setting, simulate};

/// Planned panics of handlers are part of a run; those of a test are not.
fn hide_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload_as_str() != Some("planned") {
                usual(panic);
            }
        }));
    });
}

fn first_with(setting: Setting, seeds: std::ops::Range<u64>) -> Option<Report> {
    hide_planned_panics();
    seeds.map(|seed| simulate(seed, setting)).find(|report| !report.violations.is_empty())
}

#[test]
fn the_same_seed_is_the_same_run() {
    hide_planned_panics();
    let setting = Setting { is_verbose: true, ..Setting::default() };
    for seed in 0..40 {
        let (first, second) = (simulate(seed, setting), simulate(seed, setting));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_on_another_thread() {
    hide_planned_panics();
    for seed in 0..20 {
        let here = simulate(seed, Setting::default());
        let there = std::thread::spawn(move || {
            simulate(seed + 1_000, Setting::default());
            simulate(seed, Setting::default())
        });
        assert_eq!(here, there.join().unwrap());
    }
}

#[test]
fn seeds_differ() {
    hide_planned_panics();
    let mut traces: Vec<u64> = (0..40).map(|seed| simulate(seed, Setting::default()).trace).collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 40);
}

#[test]
fn the_first_seeds_hold_and_contain_something() {
    hide_planned_panics();
    let (mut stored, mut handled, mut deaths, mut evictions) = (0, 0, 0, 0);
    for seed in 0..200 {
        let report = simulate(seed, Setting::default());
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        stored += report.stored;
        handled += report.handled;
        deaths += report.deaths;
        evictions += report.evictions;
    }
    // Far below what they contain, far above nothing.
    assert!(stored > 2_000 && handled > 4_000, "{stored} stored, {handled} handled");
    assert!(deaths > 100 && evictions > 50, "{deaths} deaths, {evictions} evictions");
}

#[test]
fn without_faults_and_mishaps_all_is_well_too() {
    let scale = Scale { mishaps_max: 0, faults: false, ..Scale::default() };
    let failed = first_with(Setting { scale, ..Setting::default() }, 0..60);
    assert!(failed.is_none(), "{failed:#?}");
}

#[test]
fn every_planted_defect_is_found_within_ten_thousand_seeds() {
    let mut missed = Vec::new();
    for &defect in DEFECTS {
        match first_with(Setting { planted: Some(defect), ..Setting::default() }, 0..10_000) {
            Some(report) => println!("{:32} seed {:5}  {}", defect.name, report.seed, report.violations[0]),
            None => missed.push(defect.name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn a_defect_is_found_by_its_name_only() {
    assert_eq!(find("wakes-nobody").map(|defect| defect.name), Some("wakes-nobody"));
    assert_eq!(find("wakes"), None);
}
