//! What every backend refuses in the same words, before it writes anything.

use crate::{
    Answer, Append, Join, Limits, NotApplied, Operation, Projection, Refusal, Settle, SubscriptionSpec, Unit,
    WorkBatch,
};

/// Checks a whole batch against the limits that refuse it as a whole.
///
/// # Errors
/// [`NotApplied::BatchTooLarge`].
pub fn batch(batch: &WorkBatch<'_>, limits: &Limits) -> Result<(), NotApplied> {
    let (messages, bytes) = (batch.messages(), batch.bytes());
    if messages > limits.batch_messages_max || bytes > limits.batch_bytes_max {
        return Err(NotApplied::BatchTooLarge {
            messages,
            messages_max: limits.batch_messages_max,
            bytes,
            bytes_max: limits.batch_bytes_max,
        });
    }
    Ok(())
}

/// Checks a message.
///
/// # Errors
/// The first [`Refusal`] that applies to it.
pub fn append(append: &Append<'_>, limits: &Limits) -> Result<(), Refusal> {
    name("type", append.type_name, limits)?;
    let (bytes, max) = (append.payload.len(), limits.payload_bytes_max);
    if bytes > max {
        return Err(Refusal::PayloadTooLarge { bytes, max });
    }
    let (bytes, max) = (append.metadata.len(), limits.metadata_bytes_max);
    if bytes > max {
        return Err(Refusal::MetadataTooLarge { bytes, max });
    }
    append.dedup.map_or(Ok(()), |dedup| key(dedup, limits))
}

/// Checks everything a unit carries.
///
/// # Errors
/// The first [`Refusal`] that applies to any part of it.
pub fn unit(unit: &Unit<'_>, limits: &Limits) -> Result<(), Refusal> {
    let empty = unit.emits.is_empty() && unit.expects.is_empty() && unit.projections.is_empty();
    if unit.settle != Settle::Done && (unit.delivery.is_none() || !empty) {
        return Err(Refusal::NotDone);
    }
    unit.emits.iter().try_for_each(|emit| append(emit, limits))?;
    unit.projections.iter().try_for_each(|written| projection(written, limits))
}

/// Checks the names in a join; a refusal of one refuses the batch ([`NotApplied::Join`]).
///
/// # Errors
/// The first [`Refusal`] that applies to it.
pub fn join(join: &Join<'_>, limits: &Limits) -> Result<(), Refusal> {
    join.group.map_or(Ok(()), |group| name("group", group, limits))?;
    join.subscriptions.iter().try_for_each(|spec| subscription(spec, limits))?;
    join.types.iter().try_for_each(|known| name("type", known.name, limits))
}

/// Checks an operation.
///
/// # Errors
/// The first [`Refusal`] that applies to it.
pub fn operation(operation: &Operation<'_>, limits: &Limits) -> Result<(), Refusal> {
    match operation {
        Operation::Register { group, subscription: spec } => {
            name("group", group, limits)?;
            subscription(spec, limits)
        }
        _ => Ok(()),
    }
}

/// Checks a subscription.
///
/// # Errors
/// [`Refusal::Name`].
pub fn subscription(spec: &SubscriptionSpec<'_>, limits: &Limits) -> Result<(), Refusal> {
    name("subscription", spec.name, limits)
}

/// Checks a name of any sort; `what` says of which.
///
/// # Errors
/// [`Refusal::Name`] when it is empty, too long, or holds a NUL character.
pub fn name(what: &'static str, text: &str, limits: &Limits) -> Result<(), Refusal> {
    let (bytes, max) = (text.len(), limits.name_bytes_max);
    // Looks at every byte, so that it looks at many at once; a search that may stop early takes nearly twice the instructions for a
    // short name.
    let has_nul = || text.bytes().fold(false, |found, byte| found | (byte == 0));
    if bytes == 0 || bytes > max || has_nul() {
        return Err(Refusal::Name { what, bytes, max });
    }
    Ok(())
}

fn projection(projection: &Projection<'_>, limits: &Limits) -> Result<(), Refusal> {
    name("perspective", projection.perspective, limits)?;
    key(projection.key, limits)?;
    let (bytes, max) = (projection.state.map_or(0, <[u8]>::len), limits.state_bytes_max);
    if bytes > max { Err(Refusal::StateTooLarge { bytes, max }) } else { Ok(()) }
}

fn key(key: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let (bytes, max) = (key.len(), limits.key_bytes_max);
    if bytes == 0 || bytes > max { Err(Refusal::Key { bytes, max }) } else { Ok(()) }
}

/// The last answer of an instance, kept by a store's handle so that a repeated batch is answered as the first time.
///
/// An instance is one running process, so the answer need not outlive the handle; the batch's number must.
///
/// It holds the answers of two numbers in a row. A store keeps an answer before the commit whose result may be lost; if that
/// commit then definitely failed, the batch before is still the instance's last one, and its repeat wants its own answer.
/// Which of the two was committed, only the stored number says: [`turn`](crate::turn::turn) decides by that.
#[derive(Debug, Default)]
pub struct LastAnswer([Kept; 2]);

#[derive(Debug, Default)]
struct Kept {
    of: Option<(crate::Sender, u64)>,
    answer: Answer,
}

impl LastAnswer {
    /// Remembers the answer to the batch with this sender and digest; call it before the commit whose result may be lost. The
    /// answer to the number before stays.
    pub fn keep(&mut self, from: crate::Sender, digest: u64, answer: &Answer) {
        let kept = &mut self.0[usize::from(from.number % 2 == 1)];
        kept.of = Some((from, digest));
        kept.answer.clone_from(answer);
    }

    /// The kept answer of this sender's batch with its digest, if it is one of those that were kept.
    pub fn of(&self, from: crate::Sender) -> Option<(u64, &Answer)> {
        let kept = &self.0[usize::from(from.number % 2 == 1)];
        kept.of.filter(|(sender, _)| *sender == from).map(|(_, digest)| (digest, &kept.answer))
    }
}
