//! Which rule of the contract a case proves: read from the page of `WorkStore` itself.

use whizbang_storage::CONTRACT;

/// A rule: a sentence or a few on the page of [`WorkStore`](whizbang_storage::WorkStore), and the cases it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The section it stands in.
    pub section: String,
    /// The rule, on one line.
    pub text: String,
    /// What stands behind it: `group::case`.
    pub cases: Vec<String>,
}

/// All rules, in the order of the page.
///
/// ```
/// let of_repeats = |rule: &whizbang_storage_conformance::Rule| rule.section == "Numbers";
/// assert!(whizbang_storage_conformance::rules().iter().any(of_repeats));
/// ```
pub fn rules() -> Vec<Rule> {
    let (mut rules, mut section) = (Vec::<Rule>::new(), String::new());
    let page = CONTRACT.lines().skip_while(|line| *line != "/// # One batch");
    for line in page.take_while(|line| *line != "/// # Cancel safety") {
        let text = line.trim_start_matches("///");
        if let Some(title) = text.strip_prefix(" # ") {
            title.clone_into(&mut section);
        } else if let Some(first) = text.strip_prefix(" - ") {
            rules.push(Rule { section: section.clone(), text: first.to_owned(), cases: Vec::new() });
        } else if let (Some(more), Some(rule)) = (text.strip_prefix("   "), rules.last_mut()) {
            match more.strip_prefix("— ") {
                Some(cases) => rule.cases = cases.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
                None => rule.text += &format!(" {more}"),
            }
        }
    }
    rules
}

/// Says, when its thread panics, which rules a case proves.
pub(crate) struct SaidOnFailure {
    pub(crate) group: &'static str,
    pub(crate) case: &'static str,
}

impl Drop for SaidOnFailure {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Self { group, case } = self;
        let name = format!("{group}::{case}");
        eprintln!("\n{name} stands in cases/{group}.rs. What it proves, on the page of `WorkStore`:");
        for rule in rules().iter().filter(|rule| rule.cases.contains(&name)) {
            eprintln!("  {}: {}", rule.section, rule.text);
        }
    }
}
