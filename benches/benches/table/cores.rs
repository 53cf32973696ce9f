//! Which thread runs on which core.

use core_affinity::CoreId;

/// A place for a thread.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Core {
    /// Where producers and everything with one thread run.
    First,
    /// Where consumers run, and the second producer.
    Last,
}
pub(crate) use Core::{First, Last};

/// Keeps the calling thread, and what it starts, on a core. Where that is not possible it runs as the system likes.
pub(crate) fn pin_this_thread(core: Core) {
    let cores = allowed();
    let core = match core {
        First => cores.first(),
        Last => cores.last(),
    };
    if let Some(core) = core {
        core_affinity::set_for_current(*core);
    }
}

/// Whether there are two cores at all.
pub(crate) fn are_two() -> bool {
    allowed().len() >= 2
}

/// The cores this process was started with; asked once, because a pinned thread is only told its own.
fn allowed() -> &'static [CoreId] {
    static CORES: std::sync::OnceLock<Vec<CoreId>> = std::sync::OnceLock::new();
    CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}
