//! Explores all models and their twins, and prints a table.

fn main() -> std::process::ExitCode {
    whizbang_loom_tests::run()
}
