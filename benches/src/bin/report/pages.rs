//! The page: tables, and where the plots stand in it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use whizbang_benches::floors::Floors;
use whizbang_benches::rivals::{OURS, RivalRun};
use whizbang_benches::table::{Contestant, Role, Row, Table, number};

use crate::lives::{self, median};
use crate::svg::{self, Axis, Line, Scale, short};
use crate::{Results, musts};

/// Takes a plot's name and text.
pub(crate) type Draw<'d> = &'d mut dyn FnMut(&str, String) -> io::Result<()>;

pub(crate) fn page(results: &Results, draw: Draw<'_>) -> io::Result<String> {
    let mut page = String::from(
        "# Benchmarks\n\nWritten by `./scripts/report` from the raw results in `benches/results`; nothing here was typed by hand. \
         Absolute times differ from machine to machine and drift on this one: what counts is the ratio between contestants of \
         one run, who took turns.\n",
    );
    musts::write(&mut page, results);
    if let Some(table) = &results.table {
        of_table(&mut page, table, draw)?;
    }
    if !results.lifecycles.is_empty() {
        lives::write(&mut page, &results.lifecycles, results.floors.as_ref(), draw)?;
    }
    if let Some(floors) = &results.floors {
        of_floors(&mut page, floors, draw)?;
    }
    if !results.rivals.is_empty() {
        of_rivals(&mut page, &results.rivals, draw)?;
    }
    Ok(page)
}

// ---- in the process --------------------------------------------------------------------------------------------------

fn of_table(page: &mut String, table: &Table, draw: Draw<'_>) -> io::Result<()> {
    let _ = write!(
        page,
        "\n## In the process\n\n`cargo bench -p whizbang-benches`, {} turns for each contestant. {}.\n\n",
        table.samples, table.machine
    );
    page.push_str("Rivals ahead of ours: ");
    let ahead: Vec<String> = table.rows.iter().flat_map(ahead).collect();
    let _ = writeln!(page, "{}.", if ahead.is_empty() { "none".to_owned() } else { ahead.join("; ") });
    for row in &table.rows {
        of_row(page, row);
    }
    for (name, file) in [("ring-publish-1", "publish-1.svg"), ("ring-publish-2", "publish-2.svg")] {
        let Some(row) = table.rows.iter().find(|row| row.name == name) else { continue };
        let curve = |one: &Contestant| Line {
            name: one.name.chars().take(30).collect(),
            points: one
                .figures
                .curve
                .iter()
                .enumerate()
                .map(|(percent, nanos)| (percent as f64, *nanos))
                .collect(),
        };
        let lines: Vec<Line> = row.in_order().into_iter().map(curve).collect();
        let x = Axis { label: "percentile of the samples".to_owned(), scale: Scale::Linear };
        let y = Axis { label: "ns per message".to_owned(), scale: Scale::Logarithmic };
        draw(file, svg::lines(&row.title, &x, &y, &lines))?;
        let _ = writeln!(page, "\n![{}](benchmarks/{file})", row.title);
    }
    Ok(())
}

fn ahead(row: &Row) -> Vec<String> {
    let Some(ours) = row.first(Role::Ours) else { return Vec::new() };
    let text = |rival: &Contestant| {
        let (ours, rivals) = (ours.figures.p50, rival.figures.p50);
        format!("`{}` {} ({} to {} ns)", row.name, rival.name, number(rivals), number(ours))
    };
    row.ahead().into_iter().map(text).collect()
}

fn of_row(page: &mut String, row: &Row) {
    let _ = write!(page, "\n### `{}`: {}\n\n", row.name, row.title);
    page.push_str(
        "| | | median ns | p10 – p90 | p99 | p99.9 | allocations | ratio |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let base = row.first(Role::Ours).map(|ours| ours.figures.p50);
    for Contestant { role, name, figures, allocations } in row.in_order() {
        let allocations = allocations.map_or("–".to_owned(), number);
        let ratio = base.map_or("–".to_owned(), |base| format!("{:.2}", figures.p50 / base));
        let [p10, p50, p90, p99, p999] =
            [figures.p10, figures.p50, figures.p90, figures.p99, figures.p999].map(number);
        let _ = writeln!(
            page,
            "| {role} | {name} | {p50} | {p10} – {p90} | {p99} | {p999} | {allocations} | {ratio} |"
        );
    }
}

// ---- floors ----------------------------------------------------------------------------------------------------------

fn of_floors(page: &mut String, floors: &Floors, draw: Draw<'_>) -> io::Result<()> {
    let disk = &floors.fdatasync_micros;
    let _ = write!(
        page,
        "\n## Floors\n\n`floors`: rows inserted and deleted by ranges, one connection. {}. `fdatasync` of one line takes {} µs \
         (p99 {} µs).\n\n| | rows a transaction | payload | rows/s |\n|---|--:|--:|--:|\n",
        floors.machine,
        number(disk.p50),
        number(disk.p99)
    );
    let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for row in &floors.rows {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            row.way,
            row.batch,
            row.payload_bytes,
            short(row.per_second)
        );
        lines.entry(&row.way).or_default().push((row.batch as f64, row.per_second));
    }
    let lines: Vec<Line> =
        lines.into_iter().map(|(name, points)| Line { name: name.to_owned(), points }).collect();
    let x = Axis { label: "rows in a transaction".to_owned(), scale: Scale::Logarithmic };
    let y = Axis { label: "rows a second".to_owned(), scale: Scale::Logarithmic };
    draw("floors.svg", svg::lines("Raw throughput against batch size", &x, &y, &lines))?;
    page.push_str("\n![Raw throughput against batch size](benchmarks/floors.svg)\n");
    Ok(())
}

// ---- rivals ----------------------------------------------------------------------------------------------------------

fn of_rivals(page: &mut String, runs: &[RivalRun], draw: Draw<'_>) -> io::Result<()> {
    page.push_str("\n## Durable rivals\n\n`./scripts/rivals`: the same payload, rounds in turns (A B B A), the clock stopped by the database.\n");
    for backend in ["sqlite", "postgres"] {
        let mut of_name: BTreeMap<&str, Vec<&RivalRun>> = BTreeMap::new();
        for run in runs.iter().filter(|run| run.backend == backend) {
            of_name.entry(&run.name).or_default().push(run);
        }
        if of_name.is_empty() {
            continue;
        }
        let mut medians: Vec<(f64, &RivalRun, usize)> = of_name
            .into_values()
            .map(|runs| (median(runs.iter().map(|run| run.per_second).collect()), runs[0], runs.len()))
            .collect();
        medians.sort_by(|a, b| b.0.total_cmp(&a.0));
        let ours = medians.iter().find(|one| one.1.name == OURS).map(|one| one.0);
        let _ = write!(page, "\n### On {backend}\n\n");
        if let Some(machine) =
            runs.iter().filter(|run| run.backend == backend).find_map(|run| run.machine.as_ref())
        {
            let _ = write!(page, "{machine}, for the first round.\n\n");
        }
        let ahead: Vec<_> = medians.iter().filter(|one| ours.is_some_and(|ours| one.0 > ours)).collect();
        for (rate, run, _) in &ahead {
            let (name, rate) = (&run.name, short(*rate));
            let _ = write!(page, "**{name} is ahead of ours: {rate} messages a second.**\n\n");
        }
        if ahead.is_empty() {
            page.push_str("Nobody is ahead of ours.\n\n");
        }
        page.push_str("| | version | messages | rounds | messages/s | to ours | settings |\n|---|---|--:|--:|--:|--:|---|\n");
        for (rate, run, rounds) in &medians {
            let ratio = ours.map_or("–".to_owned(), |ours| format!("{:.3}", rate / ours));
            let (name, version, messages, settings) = (&run.name, &run.version, run.messages, &run.settings);
            let rate = short(*rate);
            let _ = writeln!(
                page,
                "| {name} | {version} | {messages} | {rounds} | {rate} | {ratio} | {settings} |"
            );
        }
        let bars: Vec<_> = medians.iter().map(|(rate, run, _)| (run.name.clone(), *rate)).collect();
        let file = format!("rivals-{backend}.svg");
        draw(&file, svg::bars(&format!("Durable rivals on {backend}"), "messages/s", &bars))?;
        let _ = writeln!(page, "\n![Durable rivals on {backend}](benchmarks/{file})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_results_says_where_they_would_come_from() {
        let page = page(&Results::default(), &mut |_, _| unreachable!("nothing is drawn")).unwrap();
        assert!(page.contains("benches/results"));
    }
}
