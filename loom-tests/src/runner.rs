//! Runs each model and each twin in a process of its own, two at a time, and prints the table.
//!
//! A process of its own, because a twin may end in any way: a failed assertion, a deadlock that loom reports, or an
//! abort when a panic meets another.

use crate::coverage;
use crate::models::{MODELS, Model};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use whizbang_lockfree::model::weaken;

/// A model that takes longer is cut, and fails.
const SECONDS_MAX: u64 = 240;
/// Operations in one execution; more mean that somebody loops without being woken.
const BRANCHES_MAX: usize = 20_000;

/// What the command line asked for.
struct Asked {
    is_deep: bool,
    /// Only models whose name contains this.
    filter: String,
    jobs: usize,
}

/// Explores everything and prints it; fails when anything is not as it must be.
pub fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--explore", name, bound, twin] => {
            explore(name, bound.parse().expect("a bound"), twin.parse().expect("a twin"))
        }
        _ => run_all(&Asked {
            is_deep: words.contains(&"--deep"),
            filter: words.iter().find(|word| !word.starts_with("--")).unwrap_or(&"").to_string(),
            jobs: std::thread::available_parallelism().map_or(1, |jobs| jobs.get()),
        }),
    }
}

/// What one process found out.
#[derive(Debug, Default, Clone)]
struct Found {
    executions: usize,
    seconds: f64,
    /// How it ended: the whole output's last word, or nothing when it never got to say it.
    verdict: String,
}

fn run_all(asked: &Asked) -> ExitCode {
    let begin = Instant::now();
    let gaps = coverage::gaps();
    gaps.iter().for_each(|gap| println!("GAP: {gap}"));
    println!("{:36} {:>5} {:>10} {:>8}  {:8}  twins", "model", "bound", "executions", "seconds", "explored");
    let models: Vec<_> = MODELS.iter().filter(|model| model.name.contains(&asked.filter)).collect();
    // One task for the model, then one for each of its twins.
    let tasks: Vec<_> =
        models.iter().flat_map(|model| (0..=model.twins.len()).map(move |twin| (*model, twin))).collect();
    let found = Mutex::new(vec![None; tasks.len()]);
    let next = AtomicUsize::new(0);
    let failures = AtomicUsize::new(gaps.len());
    let printed = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((model, twin)) = tasks.get(index) else {
                        return;
                    };
                    let result = in_its_own_process(model, *twin, asked.is_deep);
                    let mut found = found.lock().expect("no holder panics");
                    found[index] = Some(result);
                    print_ready(
                        &models,
                        &found,
                        &mut printed.lock().expect("no holder panics"),
                        asked.is_deep,
                        &failures,
                    );
                }
            });
        }
    });
    let failures = failures.into_inner();
    let twins: usize = models.iter().map(|model| model.twins.len()).sum();
    println!(
        "{} models, {twins} twins, {} edges and steps without a gap, {:.0} s: {}",
        models.len(),
        if gaps.is_empty() { "all" } else { "not all" },
        begin.elapsed().as_secs_f64(),
        if failures == 0 { "all as it must be".to_string() } else { format!("{failures} FAILURES") }
    );
    if models.is_empty() || failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints the lines of the models that are through, in order.
fn print_ready(
    models: &[&Model],
    found: &[Option<Found>],
    printed: &mut usize,
    is_deep: bool,
    failures: &AtomicUsize,
) {
    while let Some(model) = models.get(*printed) {
        let first: usize = models[..*printed].iter().map(|model| model.twins.len() + 1).sum();
        let of_model = &found[first..=first + model.twins.len()];
        let Some(of_model) = of_model.iter().cloned().collect::<Option<Vec<_>>>() else {
            return;
        };
        *printed += 1;
        let (whole, twins) = of_model.split_first().expect("the model comes first");
        let bound = bound(model, is_deep);
        let failing = twins.iter().filter(|twin| twin.verdict == "failed").count();
        println!(
            "{:36} {bound:5} {:10} {:8.1}  {:8}  {failing} of {} fail",
            model.name,
            whole.executions,
            whole.seconds,
            whole.verdict,
            twins.len()
        );
        let complain = |what: String| {
            failures.fetch_add(1, Ordering::Relaxed);
            println!("  FAILURE: {what}");
        };
        if whole.verdict != "complete" {
            complain(format!(
                "the model was {}",
                if whole.verdict.is_empty() { "aborted" } else { &whole.verdict }
            ));
        } else if whole.executions < model.floor {
            complain(format!("{} executions, fewer than the {} recorded", whole.executions, model.floor));
        }
        for (twin, weakening) in twins.iter().zip(model.twins) {
            if twin.verdict != "failed" {
                complain(format!("{weakening:?} goes unnoticed: {} after {}", twin.verdict, twin.executions));
            }
        }
    }
}

fn bound(model: &Model, is_deep: bool) -> usize {
    if is_deep { model.bound.deep } else { model.bound.default }
}

fn in_its_own_process(model: &Model, twin: usize, is_deep: bool) -> Found {
    let bound = bound(model, is_deep).to_string();
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new(this)
        .args(["--explore", model.name, &bound, &twin.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("this program can be run again");
    let said = String::from_utf8_lossy(&output.stdout);
    let mut words = said.lines().last().unwrap_or_default().split_whitespace();
    let mut found = Found {
        executions: words.next().and_then(|word| word.parse().ok()).unwrap_or_default(),
        seconds: words.next().and_then(|word| word.parse().ok()).unwrap_or_default(),
        verdict: words.next().unwrap_or_default().to_string(),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    if found.verdict.is_empty() && !complaint.is_empty() && twin > 0 {
        // A panic that met another one aborts before anything can be said; the first one was reported.
        found.verdict = "failed".to_string();
    }
    if found.verdict == "failed" && (twin == 0 || complaint.contains("maximum number of branches")) {
        print!("{complaint}");
        found.verdict = "failed here".to_string();
    }
    found
}

/// Explores one model, whole or weakened, and says how it went on the last line.
fn explore(name: &str, bound: usize, twin: usize) -> ExitCode {
    let model = MODELS.iter().find(|model| model.name == name).expect("a model's name");
    weaken(twin.checked_sub(1).map(|twin| model.twins[twin]));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = BRANCHES_MAX;
    builder.max_duration = Some(Duration::from_secs(SECONDS_MAX));
    let executions = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&executions);
    let body = model.body;
    let begin = Instant::now();
    let result = std::panic::catch_unwind(|| {
        builder.check(move || {
            counting.fetch_add(1, Ordering::Relaxed);
            body();
        });
    });
    let seconds = begin.elapsed().as_secs_f64();
    let verdict = match result {
        Err(_) => "failed",
        Ok(()) if begin.elapsed() >= Duration::from_secs(SECONDS_MAX) => "cut",
        Ok(()) => "complete",
    };
    println!("\n{} {seconds:.2} {verdict}", executions.load(Ordering::Relaxed));
    ExitCode::SUCCESS
}
