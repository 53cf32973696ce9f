//! Every name is modelled, weakened and explained.

/// What the models, their twins and the book are checked for.
pub(crate) struct Coverage<'a> {
    /// Whatever can be weakened.
    pub(crate) weakenings: Vec<String>,
    /// Whatever some twin weakens.
    pub(crate) twins: Vec<String>,
    /// The names of edges, steps and models.
    pub(crate) names: Vec<&'a str>,
    /// `docs/memory-model.md`.
    pub(crate) book: &'a str,
}

impl Coverage<'_> {
    /// What is missing, in words; empty when nothing is.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let Coverage { weakenings, twins, names, book } = self;
        let unweakened = weakenings.iter().filter(|name| !twins.contains(name));
        let of_nothing = twins.iter().filter(|twin| !weakenings.contains(twin));
        let untold = names.iter().filter(|name| !book.contains(&format!("`{name}`")));
        let unweakened = unweakened.map(|name| format!("{name} has no twin"));
        let of_nothing = of_nothing.map(|twin| format!("{twin} weakens nothing"));
        let untold = untold.map(|name| format!("{name} is not in docs/memory-model.md"));
        unweakened.chain(of_nothing).chain(untold).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Coverage<'static> {
        Coverage {
            weakenings: vec!["giving".into(), "taking".into()],
            twins: vec!["taking".into(), "giving".into(), "giving".into()],
            names: vec!["an.edge", "a_model"],
            book: "`an.edge` is shown by `a_model`, and an.other edge is not",
        }
    }

    #[test]
    fn what_is_complete_has_no_gaps() {
        assert_eq!(complete().gaps(), Vec::<String>::new());
    }

    #[test]
    fn a_weakening_without_a_twin_is_a_gap() {
        let mut coverage = complete();
        coverage.twins.remove(0);
        assert_eq!(coverage.gaps(), ["taking has no twin"]);
    }

    #[test]
    fn a_twin_that_weakens_nothing_is_a_gap() {
        let mut coverage = complete();
        coverage.twins.push("misspelt".into());
        assert_eq!(coverage.gaps(), ["misspelt weakens nothing"]);
    }

    #[test]
    fn a_name_that_the_book_does_not_tell_is_a_gap() {
        let mut coverage = complete();
        coverage.names.push("an.other");
        assert_eq!(coverage.gaps(), ["an.other is not in docs/memory-model.md"]);
    }
}
