//! Whether what was done is what was asked for: nothing lost, nothing invented, nothing twice, nothing out of order.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Compares what senders say with what streams hold.
///
/// Every sender numbers its messages 1, 2, 3 …, all streams together. A message's effect is one entry of its stream, in
/// the order in which they were handled.
///
/// ```
/// # use whizbang_cluster_example::audit::{Audit, Sender};
/// let mut audit = Audit::new();
/// audit.sender(7, Sender { attempted: 4, acknowledged: 3 });
/// for number in [1, 2, 2] {
///     audit.effect(0, 7, number);
/// }
/// let found = audit.finish();
/// assert_eq!((found.lost, found.duplicated), (1, 1));
/// ```
#[derive(Debug, Default)]
pub struct Audit {
    senders: HashMap<u64, Seen>,
    /// The largest number that was seen of a sender in a stream.
    last: HashMap<(u64, u64), u64>,
    tallies: BTreeMap<u64, Tally>,
    findings: Findings,
}

/// What a sender says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sender {
    /// The largest number that it may have sent.
    pub attempted: u64,
    /// The largest number of which it was told that it is durable, with everything before it.
    pub acknowledged: u64,
}

/// What whoever handles the effects of a stream, one after the other, keeps of them: it is the same only if they were all
/// handled, once, in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Effects that were handled.
    pub count: u64,
    /// Mixes them and their order.
    pub digest: u64,
}

#[derive(Debug)]
struct Seen {
    said: Sender,
    effects: Vec<bool>,
}

/// What an audit found. Everything but `effects` should be zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Effects there are.
    pub effects: u64,
    /// Messages that were acknowledged and had no effect.
    pub lost: u64,
    /// Effects of messages that nobody sent.
    pub ghosts: u64,
    /// Effects that a message had after its first.
    pub duplicated: u64,
    /// Effects that came after that of a later message of the same sender.
    pub reordered: u64,
    /// Streams whose effects were not handled as they stand in the stream.
    pub diverged: u64,
    /// The first of them, in words.
    pub examples: Vec<String>,
}

/// So many are told in words.
const EXAMPLES_MAX: usize = 20;

impl Audit {
    /// An audit without senders.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a sender says. Before the first effect.
    pub fn sender(&mut self, sender: u64, said: Sender) {
        let numbers = said.attempted.max(said.acknowledged);
        let effects = vec![false; usize::try_from(numbers).expect("what was sent fits into memory")];
        self.senders.insert(sender, Seen { said, effects });
    }

    /// An effect, in the order of its stream.
    pub fn effect(&mut self, stream: u64, sender: u64, number: u64) {
        self.findings.effects += 1;
        self.tallies.entry(stream).or_default().add(sender, number);
        let seen = self.senders.get_mut(&sender);
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let Some(effect) = seen.zip(index).and_then(|(seen, index)| seen.effects.get_mut(index)) else {
            self.findings.ghosts += 1;
            return self.tell(|| format!("stream {stream}: nobody sent {sender}/{number}"));
        };
        if std::mem::replace(effect, true) {
            self.findings.duplicated += 1;
            return self.tell(|| format!("stream {stream}: {sender}/{number} once more"));
        }
        let last = self.last.entry((stream, sender)).or_default();
        if number < *last {
            let last = *last;
            self.findings.reordered += 1;
            return self.tell(|| format!("stream {stream}: {sender}/{number} after {sender}/{last}"));
        }
        *last = number;
    }

    /// What was kept of a stream's effects by whoever handled them. After its last effect.
    pub fn tally(&mut self, stream: u64, kept: Tally) {
        let expected = self.tallies.get(&stream).copied().unwrap_or_default();
        if kept != expected {
            self.findings.diverged += 1;
            self.tell(|| format!("stream {stream}: kept was {kept:?}, should be {expected:?}"));
        }
    }

    /// What was found, after everything else.
    pub fn finish(mut self) -> Findings {
        for (sender, Seen { said, effects }) in std::mem::take(&mut self.senders) {
            for number in 1..=said.acknowledged {
                if !effects[number as usize - 1] {
                    self.findings.lost += 1;
                    self.tell(|| format!("{sender}/{number} was acknowledged and had no effect"));
                }
            }
        }
        self.findings
    }

    fn tell(&mut self, example: impl FnOnce() -> String) {
        if self.findings.examples.len() < EXAMPLES_MAX {
            self.findings.examples.push(example());
        }
    }
}

impl Tally {
    /// One more effect was handled.
    pub fn add(&mut self, sender: u64, number: u64) {
        self.count += 1;
        let mixed = (self.digest ^ sender.rotate_left(40) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.digest = mixed ^ (mixed >> 29);
    }
}

impl Findings {
    /// Whether there is nothing to complain about.
    pub fn is_clean(&self) -> bool {
        let Self { effects: _, lost, ghosts, duplicated, reordered, diverged, examples: _ } = self;
        [lost, ghosts, duplicated, reordered, diverged].into_iter().all(|count| *count == 0)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { effects, lost, ghosts, duplicated, reordered, diverged, examples } = self;
        write!(
            f,
            "{effects} effects: {lost} lost, {ghosts} of nobody's message, {duplicated} twice, {reordered} out of order, {diverged} streams tallied otherwise"
        )?;
        examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(said: Sender, effects: &[(u64, u64)]) -> Findings {
        let mut audit = Audit::new();
        audit.sender(1, said);
        effects.iter().for_each(|(stream, number)| audit.effect(*stream, 1, *number));
        let found = audit.finish();
        assert_eq!(found.effects, effects.len() as u64);
        assert_eq!(found.is_clean(), found.examples.is_empty(), "what is wrong is told: {found}");
        found
    }

    const SAID: Sender = Sender { attempted: 4, acknowledged: 3 };

    #[test]
    fn what_was_sent_and_not_acknowledged_may_have_an_effect_or_none() {
        assert!(audit(SAID, &[(0, 1), (1, 2), (0, 3)]).is_clean());
        assert!(audit(SAID, &[(0, 1), (1, 2), (0, 3), (1, 4)]).is_clean());
    }

    #[test]
    fn each_thing_that_goes_wrong_is_counted_as_that_and_nothing_else() {
        let clean = Findings { effects: 4, ..Findings::default() };
        let counts = |found: Findings| Findings { examples: Vec::new(), ..found };
        let lost = counts(audit(SAID, &[(0, 1), (0, 3), (0, 4)]));
        assert_eq!(lost, Findings { effects: 3, lost: 1, ..clean.clone() });
        let ghost = counts(audit(SAID, &[(0, 1), (0, 2), (0, 3), (0, 5)]));
        assert_eq!(ghost, Findings { ghosts: 1, ..clean.clone() });
        let twice = counts(audit(SAID, &[(0, 1), (0, 2), (0, 3), (1, 2)]));
        assert_eq!(twice, Findings { duplicated: 1, ..clean.clone() });
        let reordered = counts(audit(SAID, &[(0, 1), (0, 3), (0, 2), (0, 4)]));
        assert_eq!(reordered, Findings { reordered: 1, ..clean });
    }

    #[test]
    fn what_was_tallied_in_another_order_or_not_at_all_is_noticed() {
        let tally = |effects: &[u64]| {
            let mut tally = Tally::default();
            effects.iter().for_each(|number| tally.add(1, *number));
            tally
        };
        for (kept, diverged) in
            [(&[1, 2, 3][..], 0), (&[2, 1, 3], 1), (&[1, 2], 1), (&[1, 2, 2, 3], 1), (&[], 1)]
        {
            let mut audit = Audit::new();
            audit.sender(1, SAID);
            [1, 2, 3].into_iter().for_each(|number| audit.effect(5, 1, number));
            audit.tally(5, tally(kept));
            assert_eq!(audit.finish().diverged, diverged, "{kept:?}");
        }
    }

    #[test]
    fn an_effect_of_an_unknown_sender_or_number_is_nobodys() {
        let mut audit = Audit::new();
        audit.sender(1, SAID);
        audit.effect(0, 2, 1);
        audit.effect(0, 1, 0);
        assert_eq!(audit.finish().ghosts, 2);
    }
}
