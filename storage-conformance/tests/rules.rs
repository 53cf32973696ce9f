//! Every rule on the page of `WorkStore` names a case that proves it, and the case exists.

use std::collections::BTreeSet;

use whizbang_storage_conformance::{CASES, rules};

const SOURCES: &[(&str, &str)] = &[
    ("membership", include_str!("../src/cases/membership.rs")),
    ("once", include_str!("../src/cases/once.rs")),
    ("appending", include_str!("../src/cases/appending.rs")),
    ("reading", include_str!("../src/cases/reading.rs")),
    ("settling", include_str!("../src/cases/settling.rs")),
    ("parked", include_str!("../src/cases/parked/waiting.rs")),
    ("parked", include_str!("../src/cases/parked/suspects.rs")),
    ("parked", include_str!("../src/cases/parked/dead.rs")),
    ("events", include_str!("../src/cases/events.rs")),
    ("housekeeping", include_str!("../src/cases/housekeeping.rs")),
    ("enqueue", include_str!("../src/cases/enqueue.rs")),
    ("trouble", include_str!("../src/cases/trouble.rs")),
];

/// The scenarios that carry a letter; the others are 1 to 87.
const LETTERED: &[&str] = &[
    "14a", "14b", "14c", "20a", "20b", "20c", "20d", "23a", "40a", "40b", "46a", "46b", "53a", "58a", "58b",
    "61a", "64a", "80a",
];

#[test]
fn every_rule_names_a_case_that_exists() {
    let rules = rules();
    assert!(rules.len() > 40, "only {} rules were found", rules.len());
    for rule in &rules {
        assert!(!rule.cases.is_empty(), "no case proves: {}", rule.text);
        for named in &rule.cases {
            assert!(
                CASES.iter().any(|(group, case, _)| *named == format!("{group}::{case}")),
                "there is no case {named}, named by: {}",
                rule.text
            );
        }
    }
}

#[test]
fn the_list_has_every_case_once() {
    let listed: BTreeSet<(&str, &str)> = CASES.iter().map(|(group, case, _)| (*group, *case)).collect();
    assert_eq!(listed.len(), CASES.len());
    // A case that is written but not listed would never run.
    for (group, source) in SOURCES {
        let written = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .filter_map(|line| line.split_once('<'))
            .map(|(name, _)| (*group, name));
        for case in written {
            assert!(listed.contains(&case), "{case:?} is written but not listed");
        }
    }
}

#[test]
fn every_scenario_has_a_case_that_says_so() {
    // "Scenario 79: …", and further ones of the same case as "80a. …".
    let lines = SOURCES.iter().flat_map(|(_, source)| source.lines());
    let said = lines.filter_map(|line| line.strip_prefix("/// Scenario")).flat_map(str::split_whitespace);
    let said: BTreeSet<&str> = said.filter_map(|word| word.strip_suffix([':', '.'])).collect();
    let all = (1..=87).map(|number| number.to_string()).chain(LETTERED.iter().map(|of| (*of).to_owned()));
    let missing: Vec<String> = all.filter(|scenario| !said.contains(&scenario[..])).collect();
    assert_eq!(missing, [""; 0], "no case says that it is these scenarios");
}
