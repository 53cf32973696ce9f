//! Musts as ratios: nanoseconds were promised on one machine, and this one may be slower or faster.
//!
//! Where a must was set, rivals and floors were measured too. What must hold on any machine is the ratio: ours to the
//! same rival or floor in the same run, at most what the must was to it there. Next to the nanoseconds, not in their place.

use crate::table::{Contestant, Must, Row, number};

/// A rival or a floor as it was measured where the musts were set: two virtual cores at about 4.1 GHz, Linux, Rust 1.95,
/// fat LTO.
struct Reference {
    /// The row whose must it relates to.
    row: &'static str,
    /// The row in which it is measured here.
    measured_in: &'static str,
    /// How its name begins.
    name: &'static str,
    /// What it took there.
    nanos: f64,
}

const fn rival(row: &'static str, name: &'static str, nanos: f64) -> Reference {
    Reference { row, measured_in: row, name, nanos }
}

/// For rows without a rival that was measured there: how much slower this machine is at something that every program does.
const fn heap(row: &'static str) -> Reference {
    Reference { row, measured_in: "malloc", name: "malloc and free of 64 bytes", nanos: 7.0 }
}

/// A must that was set as a distance from a floor is none of these: it is relative already.
const REFERENCES: &[Reference] = &[
    rival("ring-same-core", "rtrb", 4.1),
    rival("ring-same-core", "crossbeam ArrayQueue", 11.0),
    rival("ring-publish-1", "rtrb", 6.0),
    rival("ring-publish-1", "crossbeam ArrayQueue", 22.0),
    heap("ring-refused"),
    heap("ring-publish-2"),
    heap("publish-1"),
    heap("publish-2"),
    heap("command-event"),
    heap("build-batch"),
];

/// A must as a ratio, and whether it is met.
#[derive(Debug, Clone, PartialEq)]
pub struct Relative {
    /// What it is a ratio to.
    pub to: String,
    /// What that takes here, in nanoseconds.
    pub here: f64,
    /// What it took where the must was set.
    pub there: f64,
    /// The median at most, and the 99th percentile where that has a must too, in multiples of `to`.
    pub musts: Vec<f64>,
    /// What ours took, in multiples of what `to` takes here.
    pub reached: Vec<f64>,
}

impl Relative {
    /// Whether every ratio is at most what it must be.
    pub fn is_met(&self) -> bool {
        self.reached.iter().zip(&self.musts).all(|(reached, must)| reached <= must)
    }
}

impl std::fmt::Display for Relative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (reached, must)) in self.reached.iter().zip(&self.musts).enumerate() {
            let percentile = if index == 0 { "" } else { ", p99 " };
            write!(f, "{percentile}{} of {}", number(*reached), number(*must))?;
        }
        write!(f, " × {} ({} ns here, {} there)", self.to, number(self.here), self.there)
    }
}

/// The must of `row` as ratios to what was measured beside it, or in another of `rows`; none for a must that has no
/// reference, or whose reference was not measured.
pub fn relative(row: &Row, rows: &[Row]) -> Vec<Relative> {
    let Some(ours) = row.first(crate::table::Role::Ours).map(|ours| &ours.figures) else { return Vec::new() };
    let (maxima, figures) = match row.must {
        Some(Must::Median(max)) => (vec![max], vec![ours.p50]),
        Some(Must::MedianAndP99(max, p99_max)) => (vec![max, p99_max], vec![ours.p50, ours.p99]),
        Some(Must::OverFloor(_)) | None => return Vec::new(),
    };
    let references = REFERENCES.iter().filter(|reference| reference.row == row.name);
    let ratios = references.filter_map(|Reference { measured_in, name, nanos: there, .. }| {
        let contestant = |one: &&Contestant| one.name.starts_with(name);
        let beside = rows.iter().chain([row]).find(|other| other.name == *measured_in)?;
        let Contestant { name, figures: measured, .. } = beside.contestants.iter().find(contestant)?;
        let here = measured.p50;
        let in_multiples = |nanos: &[f64], of: f64| nanos.iter().map(|nanos| nanos / of).collect();
        (here > 0.0).then(|| Relative {
            to: name.clone(),
            here,
            there: *there,
            musts: in_multiples(&maxima, *there),
            reached: in_multiples(&figures, here),
        })
    });
    ratios.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::table::Role;

    fn contestant(role: Role, name: &str, nanos: f64) -> Contestant {
        let figures = Figures::of(vec![nanos; 10]).expect("there are samples");
        Contestant { role, name: name.to_owned(), figures, allocations: None }
    }

    fn row(name: &str, must: Option<Must>, contestants: Vec<Contestant>) -> Row {
        Row { name: name.to_owned(), title: String::new(), must, contestants }
    }

    #[test]
    fn what_is_missed_in_nanoseconds_on_a_slower_machine_is_met_as_a_ratio() {
        let contestants =
            vec![contestant(Role::Ours, "ring", 12.3), contestant(Role::Rival, "rtrb (one producer)", 8.2)];
        let row = row("ring-same-core", Some(Must::Median(10.0)), contestants);
        assert_eq!(row.verdict().map(|(is_met, _)| is_met), Some(false));
        let [to_rtrb] = &relative(&row, &[])[..] else { panic!("the other rival was not measured") };
        assert!(to_rtrb.is_met(), "{to_rtrb}");
        assert_eq!(to_rtrb.to_string(), "1.50 of 2.44 × rtrb (one producer) (8.20 ns here, 4.1 there)");
    }

    #[test]
    fn what_is_met_in_nanoseconds_on_a_faster_machine_is_missed_as_a_ratio() {
        let contestants =
            vec![contestant(Role::Ours, "ring", 9.0), contestant(Role::Rival, "crossbeam ArrayQueue", 5.5)];
        let row = row("ring-same-core", Some(Must::Median(10.0)), contestants);
        assert_eq!(row.verdict().map(|(is_met, _)| is_met), Some(true));
        assert_eq!(relative(&row, &[]).iter().map(Relative::is_met).collect::<Vec<_>>(), [false]);
    }

    #[test]
    fn a_row_without_a_rival_of_its_own_is_compared_with_the_heap_of_the_same_run() {
        let ours = || vec![contestant(Role::Ours, "ring", 28.0)];
        let row_of_two = row("ring-publish-2", Some(Must::MedianAndP99(15.0, 60.0)), ours());
        assert_eq!(relative(&row_of_two, &[]), [], "the heap was not measured");
        let heap = row("malloc", None, vec![contestant(Role::Floor, "malloc and free of 64 bytes", 14.0)]);
        let [to_heap] = &relative(&row_of_two, &[heap])[..] else { panic!("there is one reference") };
        assert_eq!(to_heap.reached, [2.0, 2.0]);
        assert!(to_heap.is_met(), "{to_heap}");
    }

    #[test]
    fn a_must_over_a_floor_needs_no_reference() {
        let row =
            row("ring-same-core", Some(Must::OverFloor(1.0)), vec![contestant(Role::Ours, "ring", 1.0)]);
        assert_eq!(relative(&row, &[]), []);
    }
}
