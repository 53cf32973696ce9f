//! Runs each model and each twin in a process of its own, two at a time, and prints the table.
//!
//! A process of its own, because a twin may end in any way: a failed assertion, a deadlock that loom reports, or an
//! abort when a panic meets another.

use crate::coverage::Coverage;
use crate::models::{ALL, Depth, MODELS, Model};
use crate::verdict::{Ending, Found, complaints};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use whizbang_lockfree::model::{EDGES, End, STEPS, Weakening, weaken};

const BOOK: &str = include_str!("../../docs/memory-model.md");

/// A model that takes longer is cut, and fails; by default and in a deep run.
const SECONDS_MAX: [u64; 2] = [600, 7_200];
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
        ["--explore", name, preemptions, seconds_max, twin] => explore(
            name,
            preemptions.parse().expect("a number of preemptions"),
            seconds_max.parse().expect("seconds"),
            twin.parse().expect("a twin's number"),
        ),
        _ => match asked(&words) {
            Ok(asked) => run_all(&asked),
            Err(complaint) => {
                eprintln!("{complaint}");
                ExitCode::FAILURE
            }
        },
    }
}

fn asked(words: &[&str]) -> Result<Asked, String> {
    let (options, filters): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with("--"));
    if let Some(unknown) = options.iter().find(|option| **option != "--deep") {
        return Err(format!("unknown option {unknown}: there is only --deep"));
    }
    let filter = match filters[..] {
        [] => String::new(),
        [one] => one.to_string(),
        _ => return Err("one part of a name at a time".to_string()),
    };
    if !MODELS.iter().any(|model| model.name.contains(&filter)) {
        return Err(format!("no model has {filter:?} in its name"));
    }
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get());
    Ok(Asked { is_deep: !options.is_empty(), filter, jobs })
}

fn run_all(asked: &Asked) -> ExitCode {
    let begin = Instant::now();
    let gaps = coverage().gaps();
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
        "{} of {} models, {twins} twins, {} edges and steps have theirs, {:.0} s: {}",
        models.len(),
        MODELS.len(),
        if gaps.is_empty() { "all" } else { "not all" },
        begin.elapsed().as_secs_f64(),
        if failures == 0 { "all as it must be".to_string() } else { format!("{failures} FAILURES") }
    );
    if failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
        let Depth { preemptions, executions_min } = model.depth(is_deep);
        let failing = twins.iter().filter(|twin| twin.ending == Ending::Failed).count();
        println!(
            "{:36} {:>5} {:10} {:8.1}  {:8}  {failing} of {} fail",
            model.name,
            if preemptions == ALL { "all".to_string() } else { preemptions.to_string() },
            whole.executions,
            whole.seconds,
            whole.ending.word(),
            twins.len()
        );
        let names = model.twins.iter().map(|weakening| format!("{weakening:?}"));
        let twins: Vec<_> = names.zip(twins.iter().cloned()).collect();
        for complaint in complaints(whole, executions_min, &twins) {
            failures.fetch_add(1, Ordering::Relaxed);
            println!("  FAILURE: {complaint}");
        }
    }
}

/// All there is to weaken, beside what is weakened and told.
fn coverage() -> Coverage<'static> {
    let ends =
        EDGES.iter().flat_map(|edge| [End::Gives, End::Takes].map(|end| Weakening::Edge(edge.name, end)));
    let steps = STEPS.iter().map(|step| Weakening::Step(step.name));
    let twins = MODELS.iter().flat_map(|model| model.twins);
    let names = EDGES.iter().map(|edge| edge.name).chain(STEPS.iter().map(|step| step.name));
    Coverage {
        weakenings: ends.chain(steps).map(|weakening| format!("{weakening:?}")).collect(),
        twins: twins.map(|twin| format!("{twin:?}")).collect(),
        names: names.chain(MODELS.iter().map(|model| model.name)).collect(),
        book: BOOK,
    }
}

fn in_its_own_process(model: &Model, twin: usize, is_deep: bool) -> Found {
    let preemptions = model.depth(is_deep).preemptions.to_string();
    let seconds_max = SECONDS_MAX[usize::from(is_deep)].to_string();
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new(this)
        .args(["--explore", model.name, &preemptions, &seconds_max, &twin.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("this program can be run again");
    let said = String::from_utf8_lossy(&output.stdout);
    let mut words = said.lines().last().unwrap_or_default().split_whitespace();
    let mut found = Found {
        executions: words.next().and_then(|word| word.parse().ok()).unwrap_or_default(),
        seconds: words.next().and_then(|word| word.parse().ok()).unwrap_or_default(),
        ending: words
            .next()
            .and_then(|word| Ending::ALL.into_iter().find(|ending| ending.word() == word))
            .unwrap_or_default(),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    if found.ending == Ending::Silent && complaint.contains("panicked at") && twin > 0 {
        // A panic that met another one aborts before anything can be said; the first one was reported.
        found.ending = Ending::Failed;
    }
    if found.ending == Ending::Failed && complaint.contains("maximum number of branches") {
        found.ending = Ending::Endless;
    }
    if (twin == 0 && found.ending != Ending::Complete) || found.ending == Ending::Endless {
        print!("{complaint}");
    }
    found
}

/// Explores one model, whole or weakened, and says how it went on the last line.
fn explore(name: &str, preemptions: usize, seconds_max: u64, twin: usize) -> ExitCode {
    let model = MODELS.iter().find(|model| model.name == name).expect("a model's name");
    weaken(twin.checked_sub(1).map(|twin| model.twins[twin]));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = (preemptions != ALL).then_some(preemptions);
    builder.max_branches = BRANCHES_MAX;
    builder.max_duration = Some(Duration::from_secs(seconds_max));
    // Loom takes limits from its environment too. One of a user's own would cut a model and call it explored.
    (builder.max_permutations, builder.checkpoint_file) = (None, None);
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
    let length = begin.elapsed();
    let ending = match result {
        Err(_) => Ending::Failed,
        Ok(()) if length >= Duration::from_secs(seconds_max) => Ending::Cut,
        Ok(()) => Ending::Complete,
    };
    let executions = executions.load(Ordering::Relaxed);
    println!("\n{executions} {:.2} {}", length.as_secs_f64(), ending.word());
    ExitCode::SUCCESS
}
