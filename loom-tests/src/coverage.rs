//! Every name is modelled, weakened and explained.

use crate::models::MODELS;
use whizbang_lockfree::model::{EDGES, End, STEPS, Weakening};

const BOOK: &str = include_str!("../../docs/memory-model.md");

/// What is missing, in words; empty when the list of edges, models and twins is complete.
pub(crate) fn gaps() -> Vec<String> {
    let edges =
        EDGES.iter().flat_map(|edge| [End::Gives, End::Takes].map(|end| Weakening::Edge(edge.name, end)));
    let steps = STEPS.iter().map(|step| Weakening::Step(step.name));
    let all: Vec<_> = edges.chain(steps).collect();
    let twins: Vec<_> = MODELS.iter().flat_map(|model| model.twins).copied().collect();
    let without_twin =
        all.iter().filter(|name| !twins.contains(name)).map(|name| format!("{name:?} has no twin"));
    let of_nothing =
        twins.iter().filter(|twin| !all.contains(twin)).map(|twin| format!("{twin:?} weakens nothing"));
    let names = EDGES.iter().map(|edge| edge.name).chain(STEPS.iter().map(|step| step.name));
    let told = |name: &str| BOOK.contains(&format!("`{name}`"));
    let untold = names.chain(MODELS.iter().map(|model| model.name)).filter(|name| !told(name));
    let untold = untold.map(|name| format!("{name} is not in docs/memory-model.md"));
    without_twin.chain(of_nothing).chain(untold).collect()
}
