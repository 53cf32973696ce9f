//! Whether what was found is as it must be.

/// What one process found out about a model, whole or weakened.
#[derive(Debug, Default, Clone)]
pub(crate) struct Found {
    pub(crate) executions: usize,
    pub(crate) seconds: f64,
    pub(crate) ending: Ending,
}

/// How an exploration ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything within the bound was explored, and nothing failed.
    Complete,
    /// Time was up before that.
    Cut,
    /// An interleaving failed.
    Failed,
    /// Somebody looped for ever: a mistake of the model, which proves nothing either way.
    Endless,
    /// The process ended without a word.
    #[default]
    Silent,
}

impl Ending {
    pub(crate) const ALL: [Ending; 5] =
        [Ending::Complete, Ending::Cut, Ending::Failed, Ending::Endless, Ending::Silent];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::Cut => "cut",
            Ending::Failed => "failed",
            Ending::Endless => "endless",
            Ending::Silent => "silent",
        }
    }
}

/// Everything that is not as it must be, in words: a whole model is explored completely, in at least as many
/// executions as were recorded, and every twin fails.
pub(crate) fn complaints(whole: &Found, executions_min: usize, twins: &[(String, Found)]) -> Vec<String> {
    let of_whole = match whole.ending {
        Ending::Complete if whole.executions >= executions_min => None,
        Ending::Complete => {
            Some(format!("{} executions, fewer than the {executions_min} recorded", whole.executions))
        }
        ending => Some(format!("the exploration was {} after {}", ending.word(), whole.executions)),
    };
    let unnoticed = twins.iter().filter(|(_, twin)| twin.ending != Ending::Failed);
    let of_twins = unnoticed.map(|(weakening, twin)| {
        format!("{weakening} goes unnoticed: {} after {}", twin.ending.word(), twin.executions)
    });
    of_whole.into_iter().chain(of_twins).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ending: Ending) -> Found {
        Found { executions: 100, seconds: 1.0, ending }
    }

    #[test]
    fn a_complete_model_whose_twins_fail_is_as_it_must_be() {
        let twins = [("weak".to_string(), found(Ending::Failed))];
        assert_eq!(complaints(&found(Ending::Complete), 100, &twins), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_not_complete_is_complained_about() {
        for ending in Ending::ALL.into_iter().filter(|ending| *ending != Ending::Complete) {
            assert_eq!(complaints(&found(ending), 1, &[]).len(), 1, "{ending:?}");
        }
    }

    #[test]
    fn fewer_executions_than_recorded_are_complained_about() {
        let said = complaints(&found(Ending::Complete), 101, &[]);
        assert_eq!(said, ["100 executions, fewer than the 101 recorded"]);
    }

    #[test]
    fn a_twin_that_does_not_fail_is_complained_about() {
        for ending in Ending::ALL.into_iter().filter(|ending| *ending != Ending::Failed) {
            let twins = [("weak".to_string(), found(ending))];
            assert_eq!(complaints(&found(Ending::Complete), 1, &twins).len(), 1, "{ending:?}");
        }
    }
}
