//! The examples that check themselves: their exit codes, and what they say.

use common::run;

mod common;

#[test]
fn everything_the_quickstart_claims_holds() {
    let said = run::<&str>("quickstart", []);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert!(!said.out.contains("FAILED"), "{}", said.out);
    for claim in [
        "ns a call",
        "dispatches made 0 allocations",
        "attempt 3 handled it",
        "Dead {",
        "0 were handled twice",
    ] {
        assert!(said.out.contains(claim), "{claim:?} is not in\n{}", said.out);
    }
}

#[test]
fn a_backend_of_ones_own_goes_on_where_a_process_ended() {
    let said = run::<&str>("file_storage", []);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert!(said.out.contains("1000 commands became 1000 events"), "{}", said.out);
}

#[test]
fn a_store_of_ones_own_sees_everything() {
    let said = run::<&str>("custom_storage", []);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert!(said.out.contains("batches carried 1000 messages"), "{}", said.out);
    let program = include_str!("../examples/custom_storage.rs");
    assert!(program.lines().count() < 150, "a backend is shown in under 150 lines");
}

#[test]
fn an_argument_that_is_not_known_is_refused_and_help_is_given_to_who_asks() {
    for name in ["quickstart", "file_storage", "custom_storage", "ingest"] {
        let said = run(name, ["--nonsense"]);
        assert_eq!(said.code, Some(2), "{name}: {said:?}");
        assert!(said.out.is_empty() && said.err.contains("--nonsense"), "{name}: {said:?}");
        let said = run(name, ["--help"]);
        assert_eq!(said.code, Some(0), "{name}: {said:?}");
        assert!(said.out.contains(&format!("Usage: {name}")), "{name}: {said:?}");
    }
}
