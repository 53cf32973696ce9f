//! The scripts of the workspace tell what they do to whoever asks, and begin nothing with an argument they do not know.
#![cfg(unix)]

use std::fs;
use std::path::PathBuf;

use common::Said;

mod common;

fn scripts() -> Vec<PathBuf> {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");
    fs::read_dir(scripts).expect("they are there").map(|script| script.expect("readable").path()).collect()
}

fn run(script: &PathBuf, argument: &str) -> Said {
    Said::by(common::command(script, [argument]).spawn().expect("it can be run"))
}

#[test]
fn help_is_what_stands_at_the_top_of_the_script() {
    for script in scripts() {
        let text = fs::read_to_string(&script).expect("text");
        let head: Vec<&str> = text.lines().skip(1).map_while(|line| line.strip_prefix('#')).collect();
        for argument in ["--help", "-h"] {
            let said = run(&script, argument);
            assert_eq!(said.code, Some(0), "{script:?}: {said:?}");
            let expected = head.iter().map(|line| line.strip_prefix(' ').unwrap_or(line));
            assert!(said.out.lines().eq(expected), "{script:?}: {said:?}");
        }
    }
}

#[test]
fn an_argument_that_is_not_known_is_refused_before_anything_is_done() {
    for script in scripts() {
        let said = run(&script, "--nonsense");
        assert_eq!((said.code, &*said.out), (Some(2), ""), "{script:?}: {said:?}");
        assert!(said.err.contains("--nonsense"), "{script:?}: {said:?}");
    }
}
