//! Runs seeds, and says which of them fail.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use whizbang_simulation::planted::{self, DEFECTS};
use whizbang_simulation::{Report, Scale, Setting, simulate};

/// Simulates the whole engine over a store that fails; one seed is one run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this seed only, and print what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// The first of many seeds.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// Stop after so many seconds, whatever is left.
    #[arg(long)]
    seconds: Option<u64>,
    /// Messages in a run at the most.
    #[arg(long, default_value_t = Scale::default().messages_max)]
    messages: usize,
    /// Crashes, pauses, leaves and joins in a run at the most.
    #[arg(long, default_value_t = Scale::default().mishaps_max)]
    mishaps: usize,
    /// Calls to the store do not fail.
    #[arg(long)]
    no_faults: bool,
    /// Give the engine or the store this defect.
    #[arg(long)]
    plant: Option<String>,
    /// Look for every defect that can be planted; each has to be found within `seeds`.
    #[arg(long)]
    planted: bool,
    /// With `--seed`: print every line of the run.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Planned panics of handlers are part of a run.
    std::panic::set_hook(Box::new(|_| {}));
    let plant = match arguments.plant.as_deref().map(|name| planted::find(name).ok_or(name)).transpose() {
        Ok(plant) => plant,
        Err(name) => {
            eprintln!("there is no defect `{name}`; there are:");
            DEFECTS.iter().for_each(|defect| eprintln!("  {:32} {}", defect.name, defect.what));
            return ExitCode::from(2);
        }
    };
    if arguments.seed.is_none() && (arguments.seeds == 0 || arguments.seconds == Some(0)) {
        eprintln!("--seeds 0 and --seconds 0 would run nothing, which looks like a good run");
        return ExitCode::from(2);
    }
    let setting = Setting {
        scale: Scale {
            messages_max: arguments.messages,
            mishaps_max: arguments.mishaps,
            faults: !arguments.no_faults,
        },
        planted: plant,
        is_verbose: arguments.trace,
    };
    if arguments.planted {
        return look_for_defects(&arguments, setting);
    }
    if let Some(seed) = arguments.seed {
        let report = simulate(seed, setting);
        report.lines.iter().for_each(|line| println!("{line}"));
        print(&arguments, &report);
        return code(report.violations.is_empty());
    }
    many(&arguments, setting)
}

fn many(arguments: &Arguments, setting: Setting) -> ExitCode {
    let began = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let (mut runs, mut failed, mut steps, mut stored, mut deaths) = (0_u64, 0_u64, 0, 0, 0);
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            break;
        }
        let report = simulate(seed, setting);
        runs += 1;
        steps += report.steps;
        stored += report.stored;
        deaths += report.deaths;
        if !report.violations.is_empty() {
            failed += 1;
            print(arguments, &report);
            if failed == 10 {
                break;
            }
        }
    }
    let took = began.elapsed();
    println!(
        "{runs} seeds in {:.1} s: {:.0} a minute; {steps} steps, {stored} messages acknowledged, {deaths} deaths, {failed} seeds failed",
        took.as_secs_f64(),
        runs as f64 * 60.0 / took.as_secs_f64(),
    );
    code(failed == 0)
}

fn look_for_defects(arguments: &Arguments, setting: Setting) -> ExitCode {
    let mut missed = 0;
    for &defect in DEFECTS {
        let setting = Setting { planted: Some(defect), ..setting };
        let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
        let found = seeds.map(|seed| simulate(seed, setting)).find(|report| !report.violations.is_empty());
        match found {
            Some(report) => println!("{:32} seed {:5}  {}", defect.name, report.seed, report.violations[0]),
            None => {
                missed += 1;
                println!("{:32} not found in {} seeds: {}", defect.name, arguments.seeds, defect.what);
            }
        }
    }
    code(missed == 0)
}

fn print(arguments: &Arguments, report: &Report) {
    let Report { seed, violations, trace, steps, .. } = report;
    println!("seed {seed}: {steps} steps, trace {trace:016x}");
    violations.iter().for_each(|violation| println!("  {violation}"));
    if !violations.is_empty() && arguments.seed.is_none() {
        let mut again = format!("cargo run --profile simulation -p whizbang-simulation -- --seed {seed}");
        let usual = Scale::default();
        if arguments.messages != usual.messages_max {
            again.push_str(&format!(" --messages {}", arguments.messages));
        }
        if arguments.mishaps != usual.mishaps_max {
            again.push_str(&format!(" --mishaps {}", arguments.mishaps));
        }
        if arguments.no_faults {
            again.push_str(" --no-faults");
        }
        if let Some(plant) = &arguments.plant {
            again.push_str(&format!(" --plant {plant}"));
        }
        println!("  again, line by line: {again} --trace");
    }
}

fn code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
