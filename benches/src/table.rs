//! What the table reports, so that others can read it.

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::machine::Machine;

/// One run of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    /// Where it ran.
    pub machine: Machine,
    /// Turns that each contestant had.
    pub samples: usize,
    /// The rows, in order.
    pub rows: Vec<Row>,
}

/// One thing that is measured, beside floors and rivals.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// As it is asked for.
    pub name: String,
    /// What is measured.
    pub title: String,
    /// What the first of ours must reach.
    pub must: Option<Must>,
    /// Who was measured.
    pub contestants: Vec<Contestant>,
}

impl Row {
    /// The first contestant in this role: the one that counts.
    pub fn first(&self, role: Role) -> Option<&Contestant> {
        self.contestants.iter().find(|one| one.role == role)
    }

    /// Ours first, then floors, then rivals from the fastest on.
    pub fn in_order(&self) -> Vec<&Contestant> {
        let mut all: Vec<_> = self.contestants.iter().collect();
        let key = |one: &Contestant| match one.role {
            Role::Ours => (0, 0.0),
            Role::Floor => (1, 0.0),
            Role::Rival => (2, one.figures.p50),
        };
        all.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
        all
    }

    /// Whether the must is met, and what was reached; `None` where there is none.
    pub fn verdict(&self) -> Option<(bool, String)> {
        let ours = &self.first(Role::Ours)?.figures;
        Some(match self.must? {
            Must::Median(max) => (ours.p50 <= max, format!("{} of {max}", number(ours.p50))),
            Must::MedianAndP99(max, p99_max) => (
                ours.p50 <= max && ours.p99 <= p99_max,
                format!("{} of {max}, p99 {} of {p99_max}", number(ours.p50), number(ours.p99)),
            ),
            Must::OverFloor(more) => {
                let floor = self.first(Role::Floor)?.figures.p50;
                let over = ours.p50 - floor;
                (over <= more, format!("floor {} {over:+.2} of {more}", number(floor)))
            }
        })
    }

    /// Rivals whose median is below that of the first of ours.
    pub fn ahead(&self) -> Vec<&Contestant> {
        let Some(ours) = self.first(Role::Ours) else { return Vec::new() };
        let is_ahead = |one: &&Contestant| one.role == Role::Rival && one.figures.p50 < ours.figures.p50;
        self.contestants.iter().filter(is_ahead).collect()
    }
}

/// Something that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contestant {
    /// What it is to the row.
    pub role: Role,
    /// What it is.
    pub name: String,
    /// Nanoseconds per operation.
    pub figures: Figures,
    /// Per operation, in the thread that does it; none where they were not counted.
    pub allocations: Option<f64>,
}

/// What a contestant is to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the row is about.
    Ours,
    /// What it cannot be cheaper than, or the least that somebody would write by hand.
    Floor,
    /// What others do for the same end.
    Rival,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ours => "ours",
            Self::Floor => "floor",
            Self::Rival => "rival",
        })
    }
}

/// What the first of ours must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Must {
    /// A median of at most so many nanoseconds.
    Median(f64),
    /// And a 99th percentile of at most so many.
    MedianAndP99(f64, f64),
    /// A median of at most so many nanoseconds more than that of the row's first floor.
    OverFloor(f64),
}

impl std::fmt::Display for Must {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Median(max) => write!(f, "≤ {max} ns"),
            Self::MedianAndP99(median, p99) => write!(f, "≤ {median} ns, p99 ≤ {p99} ns"),
            Self::OverFloor(more) => write!(f, "≤ floor + {more} ns"),
        }
    }
}

/// With as many digits as mean something.
pub fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value.abs() < 100.0 => format!("{value:.2}"),
        value if value.abs() < 1_000.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contestant(role: Role, nanos: f64) -> Contestant {
        let figures = Figures::of(vec![nanos; 10]).expect("there are samples");
        Contestant { role, name: format!("{role} {nanos}"), figures, allocations: None }
    }

    fn row(must: Must, contestants: Vec<Contestant>) -> Row {
        Row { name: "row".to_owned(), title: String::new(), must: Some(must), contestants }
    }

    #[test]
    fn a_must_over_the_floor_is_compared_with_the_first_floor() {
        let all =
            vec![contestant(Role::Floor, 5.0), contestant(Role::Ours, 6.5), contestant(Role::Floor, 6.4)];
        assert_eq!(row(Must::OverFloor(1.0), all.clone()).verdict().map(|verdict| verdict.0), Some(false));
        assert_eq!(row(Must::OverFloor(2.0), all).verdict().map(|verdict| verdict.0), Some(true));
    }

    #[test]
    fn who_is_ahead_is_named_and_rivals_stand_by_their_medians() {
        let all =
            vec![contestant(Role::Rival, 9.0), contestant(Role::Rival, 3.0), contestant(Role::Ours, 4.0)];
        let row = row(Must::Median(4.0), all);
        assert_eq!(row.ahead().iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["rival 3"]);
        let names: Vec<_> = row.in_order().iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["ours 4", "rival 3", "rival 9"]);
        assert_eq!(row.verdict().map(|verdict| verdict.0), Some(true));
    }
}
