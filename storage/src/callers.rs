//! What a store's handle keeps of the instances that send through it.

use crate::refuse::LastAnswer;
use crate::{Answer, InstanceId, Membership, Sender, WorkBatch};

/// The instances that send through one handle: what each was answered last, and of whose batches it is unknown what became.
///
/// An engine sends through a handle of its own, under another id after each eviction; a test may let several send in turns. Each is
/// looked at by itself: what becomes of one's batch says nothing of another's. At most [`MAX`](Self::MAX) are kept.
///
/// ```
/// use whizbang_storage::callers::Callers;
/// # use whizbang_storage::{Answer, InstanceId, Sender, WorkBatch};
/// # let instance = InstanceId::from_bits(std::num::NonZeroU128::MIN);
/// let mut callers = Callers::default();
/// let batch = WorkBatch::empty(Sender { instance, start_token: 7, number: 2 });
/// // Before the commit, whose result may be lost; and it was.
/// callers.keep(&batch, batch.digest(), &Answer::default());
/// callers.set_unsure(batch.from.instance);
/// // The batch comes again. Until the store has looked whether it was committed, it does not say `NotApplied`.
/// assert!(callers.is_unsure(&batch) && callers.kept(&batch, batch.digest()).is_some());
/// callers.set_answered(&batch);
/// ```
#[derive(Debug, Default)]
pub struct Callers(Vec<Caller>);

#[derive(Debug)]
struct Caller {
    instance: InstanceId,
    answer: LastAnswer,
    is_unsure: bool,
    /// The number of the batch that was answered last.
    answered: Option<u64>,
}

impl Callers {
    /// So many are kept; for another one, the first goes that is not [unsure](Self::set_unsure).
    pub const MAX: usize = 64;

    /// The answer that was kept of this very batch.
    pub fn kept(&self, batch: &WorkBatch<'_>, digest: u64) -> Option<&Answer> {
        let Sender { instance, .. } = batch.from;
        let (of, answer) = self.find(instance)?.answer.of(batch.from)?;
        (of == digest).then_some(answer)
    }

    /// Keeps an answer: before the commit whose result may be lost, as [`LastAnswer::keep`] says.
    pub fn keep(&mut self, batch: &WorkBatch<'_>, digest: u64, answer: &Answer) {
        self.find_or_add(batch.from.instance).answer.keep(batch.from, digest, answer);
    }

    /// Whether an earlier call with this batch may have been committed, or may still be: until a store has looked, it does not say
    /// that nothing was written.
    ///
    /// So it is behind a call that ended [unknown](Self::set_unsure), and with a batch that was answered, or one before it. Of whom
    /// nothing is kept, and who does not join now, may have sent anything before.
    pub fn is_unsure(&self, batch: &WorkBatch<'_>) -> bool {
        let joins = matches!(batch.membership, Some(Membership::Join(_)));
        let is_unsure =
            |of: &Caller| of.is_unsure || of.answered.is_some_and(|answered| batch.from.number <= answered);
        self.find(batch.from.instance).map_or(!joins, is_unsure)
    }

    /// Notes that nobody knows what became of this instance's last call.
    pub fn set_unsure(&mut self, instance: InstanceId) {
        self.find_or_add(instance).is_unsure = true;
    }

    /// Notes that a store has looked: nothing this instance has sent and was not answered is there, or will ever be.
    pub fn set_sure(&mut self, instance: InstanceId) {
        self.find_or_add(instance).is_unsure = false;
    }

    /// Notes that a batch was answered: the first time, or again.
    pub fn set_answered(&mut self, batch: &WorkBatch<'_>) {
        let caller = self.find_or_add(batch.from.instance);
        (caller.is_unsure, caller.answered) = (false, Some(batch.from.number));
    }

    fn find(&self, instance: InstanceId) -> Option<&Caller> {
        self.0.iter().find(|caller| caller.instance == instance)
    }

    fn find_or_add(&mut self, instance: InstanceId) -> &mut Caller {
        let index = self.0.iter().position(|caller| caller.instance == instance).unwrap_or_else(|| {
            if self.0.len() == Self::MAX {
                let sure = self.0.iter().position(|caller| !caller.is_unsure);
                self.0.remove(sure.unwrap_or(0));
            }
            self.0.push(Caller { instance, answer: LastAnswer::default(), is_unsure: false, answered: None });
            self.0.len() - 1
        });
        &mut self.0[index]
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU128;

    use super::*;
    use crate::Join;

    fn batch(instance: usize, number: u64) -> WorkBatch<'static> {
        let instance = InstanceId::from_bits(NonZeroU128::MIN.saturating_add(instance as u128));
        WorkBatch::empty(Sender { instance, start_token: 7, number })
    }

    #[test]
    fn what_becomes_of_one_says_nothing_of_another() {
        let mut callers = Callers::default();
        callers.set_unsure(batch(1, 2).from.instance);
        callers.set_sure(batch(2, 2).from.instance);
        assert!(callers.is_unsure(&batch(1, 2)) && !callers.is_unsure(&batch(2, 2)));
    }

    #[test]
    fn a_batch_that_was_answered_may_come_again_and_the_next_was_never_sent() {
        let mut callers = Callers::default();
        callers.set_unsure(batch(1, 2).from.instance);
        callers.set_answered(&batch(1, 2));
        assert!(callers.is_unsure(&batch(1, 1)) && callers.is_unsure(&batch(1, 2)));
        assert!(!callers.is_unsure(&batch(1, 3)));
    }

    #[test]
    fn the_first_that_is_not_unsure_is_forgotten_when_there_are_too_many() {
        let mut callers = Callers::default();
        let is_kept = |callers: &Callers, instance| callers.kept(&batch(instance, 2), 9).is_some();
        for instance in 0..Callers::MAX {
            callers.keep(&batch(instance, 2), 9, &Answer::default());
        }
        callers.set_unsure(batch(0, 2).from.instance);
        callers.keep(&batch(Callers::MAX, 2), 9, &Answer::default());
        assert_eq!(
            [0, 1, 2, Callers::MAX].map(|instance| is_kept(&callers, instance)),
            [true, false, true, true]
        );
        assert_eq!(callers.0.len(), Callers::MAX);
    }

    #[test]
    fn of_whom_nothing_is_kept_may_have_sent_anything_unless_it_joins_now() {
        let callers = Callers::default();
        let joins = Membership::Join(Join { group: None, subscriptions: &[], types: &[] });
        assert!(callers.is_unsure(&batch(1, 2)));
        assert!(!callers.is_unsure(&WorkBatch { membership: Some(joins), ..batch(1, 1) }));
    }

    #[test]
    fn an_answer_is_that_of_its_sender_its_number_and_its_digest() {
        let mut callers = Callers::default();
        callers.keep(&batch(1, 2), 9, &Answer::default());
        assert!(callers.kept(&batch(1, 2), 9).is_some());
        let others = [(batch(2, 2), 9), (batch(1, 3), 9), (batch(1, 2), 8)];
        assert!(others.iter().all(|(batch, digest)| callers.kept(batch, *digest).is_none()));
    }
}
