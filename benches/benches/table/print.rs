//! The table as people read it.

use crate::rows::{Finished, Floor, Measured, Must, Ours, Rival, Role};

pub(crate) fn head() {
    println!(
        "{:<6} {:<50} {:>9}   {:<19} {:>9} {:>7} {:>8}",
        "", "ns per operation", "median", "(p10 – p90)", "p99", "allocs", "ratio"
    );
}

/// One row: ours first, then the floor, then rivals from the fastest on. The ratio is to the first of ours.
pub(crate) fn row(row: &Measured) {
    let must = match row.must {
        None => String::new(),
        Some(Must::Median(max)) => format!("  must: ≤ {max}"),
        Some(Must::MedianAndP99(median, p99)) => format!("  must: ≤ {median}, p99 ≤ {p99}"),
        Some(Must::OverFloor(more)) => format!("  must: ≤ floor + {more}"),
    };
    println!("\n{}: {}{must}", row.name, row.title);
    let base = first(row, Ours).map_or(f64::NAN, |ours| ours.figures.p50);
    for role in [Ours, Floor, Rival] {
        let mut some: Vec<&Finished> = row.contestants.iter().filter(|one| one.role == role).collect();
        if role == Rival {
            some.sort_by(|a, b| a.figures.p50.total_cmp(&b.figures.p50));
        }
        for Finished { name, figures, allocations, .. } in some {
            let role = match role {
                Ours => "ours",
                Floor => "floor",
                Rival => "rival",
            };
            let spread = format!("({} – {})", number(figures.p10), number(figures.p90));
            let allocations = allocations.map_or("–".to_owned(), |count| number(count).to_string());
            println!(
                "{role:<6} {name:<50} {:>9}   {spread:<19} {:>9} {allocations:>7} {:>7.2}x",
                number(figures.p50),
                number(figures.p99),
                figures.p50 / base
            );
        }
    }
}

/// What was reached, what was not, and who was faster.
pub(crate) fn verdicts(rows: &[Measured]) {
    println!("\nmusts:");
    for row in rows {
        let (Some(must), Some(ours)) = (row.must, first(row, Ours)) else { continue };
        let figures = &ours.figures;
        let (holds, text) = match must {
            Must::Median(max) => (figures.p50 <= max, format!("{} of {max}", number(figures.p50))),
            Must::MedianAndP99(max, p99_max) => (
                figures.p50 <= max && figures.p99 <= p99_max,
                format!("{} of {max}, p99 {} of {p99_max}", number(figures.p50), number(figures.p99)),
            ),
            Must::OverFloor(more) => {
                let floor = first(row, Floor).map_or(f64::NAN, |floor| floor.figures.p50);
                let over = figures.p50 - floor;
                (over <= more, format!("floor {} {over:+.2} of {more}", number(floor)))
            }
        };
        println!("  {} {:<28} {text} ns", if holds { "met   " } else { "MISSED" }, row.name);
    }
    println!("\nrivals ahead of the first of ours:");
    let mut is_behind = false;
    for row in rows {
        let Some(ours) = first(row, Ours) else { continue };
        for rival in row.contestants.iter().filter(|one| one.role == Rival) {
            if rival.figures.p50 < ours.figures.p50 {
                is_behind = true;
                let (rivals, ours) = (rival.figures.p50, ours.figures.p50);
                let less = (1.0 - rivals / ours) * 100.0;
                println!(
                    "  {:<28} {} takes {} ns, ours {}: {less:.0} % less",
                    row.name,
                    rival.name,
                    number(rivals),
                    number(ours)
                );
            }
        }
    }
    if !is_behind {
        println!("  none");
    }
}

fn first(row: &Measured, role: Role) -> Option<&Finished> {
    row.contestants.iter().find(|one| one.role == role)
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value.abs() < 100.0 => format!("{value:.2}"),
        value if value.abs() < 1_000.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
