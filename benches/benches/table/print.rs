//! The table as people read it.

use whizbang_benches::reference::relative;
use whizbang_benches::table::{Contestant, Role, Row, number};

pub(crate) fn head() {
    println!(
        "{:<6} {:<62} {:>9}   {:<19} {:>9} {:>9} {:>7} {:>8}",
        "", "ns per operation", "median", "(p10 – p90)", "p99", "p99.9", "allocs", "ratio"
    );
}

/// One row. The ratio is to the first of ours; those of a must are to others.
pub(crate) fn row(row: &Row) {
    let must = row.must.map_or_else(String::new, |must| format!("  must: {must}"));
    println!("\n{}: {}{must}", row.name, row.title);
    for ratio in relative(row, &[]) {
        println!("{:<6} must as a ratio: {ratio}", "");
    }
    let base = row.first(Role::Ours).map(|ours| ours.figures.p50);
    for Contestant { role, name, figures, allocations } in row.in_order() {
        let spread = format!("({} – {})", number(figures.p10), number(figures.p90));
        let allocations = allocations.map_or("–".to_owned(), number);
        let ratio = base.map_or("–".to_owned(), |base| format!("{:.2}x", figures.p50 / base));
        println!(
            "{role:<6} {name:<62} {:>9}   {spread:<19} {:>9} {:>9} {allocations:>7} {ratio:>8}",
            number(figures.p50),
            number(figures.p99),
            number(figures.p999),
        );
    }
}

/// What was reached, what was not, and who was faster.
pub(crate) fn verdicts(rows: &[Row]) {
    println!("\nmusts:");
    for row in rows {
        let Some((is_met, text)) = row.verdict() else { continue };
        let verdict = |is_met| if is_met { "met   " } else { "MISSED" };
        println!("  {} {:<28} {text} ns", verdict(is_met), row.name);
        for ratio in relative(row, rows) {
            println!("  {} {:<28} {ratio}", verdict(ratio.is_met()), "  as a ratio");
        }
    }
    println!("\nrivals ahead of the first of ours:");
    let mut is_somebody_ahead = false;
    for row in rows {
        let Some(ours) = row.first(Role::Ours) else { continue };
        for rival in row.ahead() {
            is_somebody_ahead = true;
            let (rivals, ours) = (rival.figures.p50, ours.figures.p50);
            let less = (1.0 - rivals / ours) * 100.0;
            let (name, rivals, ours) = (&rival.name, number(rivals), number(ours));
            println!("  {:<28} {name} takes {rivals} ns, ours {ours}: {less:.0} % less", row.name);
        }
    }
    if !is_somebody_ahead {
        println!("  none");
    }
}
