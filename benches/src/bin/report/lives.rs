//! Whole lives: what each run did, and what comes of it when one thing is changed at a time.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use whizbang_benches::floors::Floors;
use whizbang_benches::lifecycle::{Latency, Lifecycle, PARTS};
use whizbang_benches::machine::Machine;
use whizbang_benches::table::number;

use crate::pages::Draw;
use crate::svg::{self, Axis, Line, Scale, short};

pub(crate) fn write(
    page: &mut String,
    all: &[Lifecycle],
    floors: Option<&Floors>,
    draw: Draw<'_>,
) -> io::Result<()> {
    page.push_str(
        "\n## Send → durable → handled → settled\n\n`lifecycle`, the clock stopped by what the store says.",
    );
    if let (Some(first), Some(last)) = (all.first(), all.last()) {
        let machine = Machine { load_after: last.machine.load_after, ..first.machine.clone() };
        let _ = write!(page, " {machine} of all runs.");
    }
    page.push_str("\n\n");
    for plot in PLOTS {
        plot.draw(page, all, floors, draw)?;
    }
    latencies(page, all, draw)?;
    runs(page, all);
    Ok(())
}

/// The payload of all runs in which something else is changed.
const PAYLOAD: usize = 120;
/// Streams of all runs in which something else is changed.
const STREAMS: u64 = 1_000;

/// As fast as it goes, and nothing special but what is looked at. Counting allocations makes a run slow.
fn is_ordinary(one: &Lifecycle) -> bool {
    let is_plain = one.rate.is_none() && one.fail == 0.0 && one.allocations_per_message.is_none();
    is_plain && one.payload_bytes == PAYLOAD && one.producers == 1 && one.wrong.is_empty()
}

/// Nothing at all is changed.
pub(crate) fn is_default(one: &Lifecycle) -> bool {
    is_ordinary(one) && one.streams == STREAMS && one.batch.is_none() && one.instances == 1 && !one.backlog
}

// ---- one thing changed at a time -------------------------------------------------------------------------------------

struct Plot {
    title: &'static str,
    file: &'static str,
    x: &'static str,
    y: Y,
    /// Where a run stands; `None`: it does not belong here.
    place: fn(&Lifecycle) -> Option<f64>,
    has_floors: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Y {
    PerSecond,
    NanosEach,
}

const PLOTS: [Plot; 4] = [
    Plot {
        title: "Throughput against batch size",
        file: "batch.svg",
        x: "messages in an exchange at most; rows in a transaction",
        y: Y::PerSecond,
        place: |one| {
            let is_here = one.streams == STREAMS && one.instances == 1 && !one.backlog;
            one.batch.filter(|_| is_here).map(|batch| batch as f64)
        },
        has_floors: true,
    },
    Plot {
        title: "Throughput against instances on one machine",
        file: "instances.svg",
        x: "engines that share a store",
        y: Y::PerSecond,
        place: |one| {
            let is_here = one.streams == STREAMS && one.batch.is_none() && !one.backlog;
            is_here.then_some(one.instances as f64)
        },
        has_floors: false,
    },
    Plot {
        title: "Cost of a message against streams",
        file: "streams.svg",
        x: "streams",
        y: Y::NanosEach,
        place: |one| {
            let is_here = one.instances == 1 && one.batch.is_none() && !one.backlog;
            is_here.then_some(one.streams as f64)
        },
        has_floors: false,
    },
    Plot {
        title: "Cost of a message against the backlog it stands in",
        file: "backlog.svg",
        x: "messages that were durable before the first was handled",
        y: Y::NanosEach,
        place: |one| {
            let is_here = one.streams == STREAMS && one.instances == 1 && one.batch.is_none() && one.backlog;
            is_here.then_some(one.messages as f64)
        },
        has_floors: false,
    },
];

impl Plot {
    fn draw(
        &self,
        page: &mut String,
        all: &[Lifecycle],
        floors: Option<&Floors>,
        draw: Draw<'_>,
    ) -> io::Result<()> {
        let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for one in all.iter().filter(|one| is_ordinary(one)) {
            let Some(place) = (self.place)(one) else { continue };
            let height = match self.y {
                Y::PerSecond => one.settled_per_second,
                Y::NanosEach => 1e9 / one.settled_per_second,
            };
            lines.entry(one.store.clone()).or_default().push((place, height));
        }
        let mut lines: Vec<Line> =
            lines.into_iter().map(|(name, points)| Line { name, points: medians(points) }).collect();
        lines.retain(|line| line.points.len() > 1);
        if lines.is_empty() {
            return Ok(());
        }
        if let Some(floors) = floors.filter(|_| self.has_floors) {
            let mut ways: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
            for row in &floors.rows {
                ways.entry(&row.way).or_default().push((row.batch as f64, row.per_second));
            }
            let name = |way: &str| format!("floor: {}", way.trim_end_matches(" + range delete"));
            lines.extend(ways.into_iter().map(|(way, points)| Line { name: name(way), points }));
        }
        self.table(page, &lines);
        let label = match self.y {
            Y::PerSecond => "messages settled a second",
            Y::NanosEach => "nanoseconds until settled, per message",
        };
        let x = Axis { label: self.x.to_owned(), scale: Scale::Logarithmic };
        let y = Axis { label: label.to_owned(), scale: Scale::Logarithmic };
        draw(self.file, svg::lines(self.title, &x, &y, &lines))?;
        let _ = writeln!(page, "\n![{}](benchmarks/{})", self.title, self.file);
        Ok(())
    }

    /// The same as figures.
    fn table(&self, page: &mut String, lines: &[Line]) {
        let mut places: Vec<f64> =
            lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let unit = match self.y {
            Y::PerSecond => "messages/s",
            Y::NanosEach => "ns a message",
        };
        let heads: String = places.iter().map(|place| format!(" {} |", place_name(*place))).collect();
        let _ =
            write!(page, "### {}\n\n| {unit} |{heads}\n|---|{}\n", self.title, "--:|".repeat(places.len()));
        for line in lines {
            let at = |place: &f64| line.points.iter().find(|point| point.0 == *place).map(|point| point.1);
            let cells: String = places
                .iter()
                .map(|place| at(place).map_or(" – |".to_owned(), |value| format!(" {} |", short(value))))
                .collect();
            let _ = writeln!(page, "| {} |{cells}", line.name);
        }
    }
}

/// Small places as they are, because 4,096 is no round number of thousands.
fn place_name(place: f64) -> String {
    if place < 1e5 { format!("{place}") } else { short(place) }
}

// ---- latencies -------------------------------------------------------------------------------------------------------

fn latencies(page: &mut String, all: &[Lifecycle], draw: Draw<'_>) -> io::Result<()> {
    let mut paced: Vec<&Lifecycle> = all.iter().filter(|one| one.rate.is_some()).collect();
    if paced.is_empty() {
        return Ok(());
    }
    paced.sort_by(|a, b| {
        let (rate, other) = (a.rate.unwrap_or_default(), b.rate.unwrap_or_default());
        a.store.cmp(&b.store).then(rate.total_cmp(&other))
    });
    page.push_str(
        "\n### Latencies below saturation, in microseconds\n\nA message counts from when it was due.\n\n\
         | store | offered/s | phase | p50 | p99 | p99.9 | max |\n|---|--:|---|--:|--:|--:|--:|\n",
    );
    for one in &paced {
        for (name, Latency { p50, p99, p999, max, .. }) in one.phases() {
            let [p50, p99, p999, max] = [*p50, *p99, *p999, *max].map(|nanos| short(nanos as f64 / 1e3));
            let rate = one.rate.map_or(String::new(), short);
            let _ = writeln!(page, "| {} | {rate} | {name} | {p50} | {p99} | {p999} | {max} |", one.store);
        }
    }
    let mut of_store: BTreeMap<&str, Vec<&Lifecycle>> = BTreeMap::new();
    for one in paced {
        of_store.entry(&one.store).or_default().push(one);
    }
    for (store, paced) in of_store {
        let mut lines = Vec::new();
        for one in paced {
            let rate = one.rate.map_or(String::new(), short);
            for (phase, latency) in one.phases() {
                // A distance from the end: it shows the last thousandth as wide as the first half.
                let points = latency.curve.iter().zip(PARTS);
                let points = points.map(|(nanos, part)| (1.0 / (1.0 - part), *nanos as f64 / 1e3)).collect();
                lines.push(Line { name: format!("{phase}, {rate}/s"), points });
            }
        }
        lines.retain(|line| line.points.len() > 1);
        if lines.is_empty() {
            continue;
        }
        let (title, file) = (format!("Latencies on {store}"), format!("latencies-{store}.svg"));
        let x = Axis { label: "one message in so many takes longer".to_owned(), scale: Scale::Logarithmic };
        let y = Axis { label: "microseconds".to_owned(), scale: Scale::Logarithmic };
        draw(&file, svg::lines(&title, &x, &y, &lines))?;
        let _ = writeln!(page, "\n![{title}](benchmarks/{file})");
    }
    Ok(())
}

// ---- all runs --------------------------------------------------------------------------------------------------------

fn runs(page: &mut String, all: &[Lifecycle]) {
    page.push_str(
        "\n### All runs\n\n\
         | store | messages | payload | streams | producers | engines | batch | fail | offered/s | durable/s | settled/s | \
         calls | cpu ns/message | allocations/message | bytes written/message | rows left | wrong |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for one in all {
        let per_message = |value: f64| short(value / one.messages.max(1) as f64);
        let _ = writeln!(
            page,
            "| {}{} | {} | {} | {} | {} | {} | {} | {} % | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            one.store,
            if one.backlog { ", a backlog" } else { "" },
            short(one.messages as f64),
            one.payload_bytes,
            short(one.streams as f64),
            one.producers,
            one.instances,
            one.batch.map_or("default".to_owned(), |batch| short(batch as f64)),
            one.fail * 100.0,
            one.rate.map_or("all it takes".to_owned(), short),
            short(one.durable_per_second),
            short(one.settled_per_second),
            one.storage_calls,
            per_message(one.cpu_seconds * 1e9),
            one.allocations_per_message.map_or("–".to_owned(), number),
            per_message(one.bytes_written as f64),
            one.rows_left,
            one.wrong.join("; "),
        );
    }
}

/// One point for each place on the axis: the median of those that are there.
fn medians(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut places: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (x, y) in points {
        places.entry(x as u64).or_default().push(y);
    }
    places.into_iter().map(|(x, values)| (x as f64, median(values))).collect()
}

/// The median; the upper one of two. There must be some.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_rounds_stands_at_each_place() {
        assert_eq!(
            medians(vec![(10.0, 3.0), (1.0, 5.0), (10.0, 9.0), (10.0, 4.0)]),
            [(1.0, 5.0), (10.0, 4.0)]
        );
    }
}
