//! Messages that the SQL function `enqueue` has written: SQL knows none of our hashes, so it leaves a draft, and whoever
//! takes the message in finds its stream, its partition and its checksum.

use std::sync::Arc;

use whizbang_storage::record::{self, fallback_id};
use whizbang_storage::{
    Append, ContentType, CorrelationId, HandOut, MessageId, MessageKind, Partition, StreamId,
};

use crate::state::Arrival;

/// Stands for the partition of a draft among the arrivals.
pub(crate) const DRAFT: i32 = -1;

// form (4) · id (16) · kind (1) · content type (1) · type version (2) · stream, correlation, causation (16 each, zero: none) ·
// lengths of the stream's key (-1: none), the type's name and the metadata (4 each) · key · name · metadata · payload. Every
// number has its most significant byte first. `sql/functions/enqueue.sql` writes it, and it is stored: another form gets
// another number.
const FORM: [u8; 4] = 1u32.to_be_bytes();

/// The message that a draft becomes, and its partition. One that cannot be read becomes a damaged message, which is handed
/// out as such; `number` is what it has among the arrivals.
pub(crate) fn complete(draft: &[u8], number: i64, partitions: u32) -> (Partition, Arrival) {
    let (lane, record) = match read(draft) {
        Some(append) => {
            let mut bytes = Vec::new();
            record::encode(&append, &mut bytes);
            (append.lane(), bytes.into())
        }
        None => (fallback_id(number).into(), Arc::from(draft)),
    };
    (lane.partition(partitions), Arrival { lane, record })
}

fn read(draft: &[u8]) -> Option<Append<'_>> {
    let mut rest = draft;
    if take::<4>(&mut rest)? != FORM {
        return None;
    }
    let id = MessageId::from_bytes(take(&mut rest)?)?;
    let [kind, content_type, version @ ..] = take::<4>(&mut rest)?;
    let stream = StreamId::from_bytes(take(&mut rest)?);
    let correlation = CorrelationId::from_bytes(take(&mut rest)?);
    let causation = MessageId::from_bytes(take(&mut rest)?);
    let mut length = || take(&mut rest).map(i32::from_be_bytes);
    let (key, name, metadata) = (length()?, length()?, length()?);
    let key = usize::try_from(key).ok().map(|bytes| cut(&mut rest, bytes));
    let stream = match key {
        Some(key) => Some(StreamId::from_key(key?)),
        None => stream,
    };
    let type_name = core::str::from_utf8(cut(&mut rest, usize::try_from(name).ok()?)?).ok()?;
    let metadata = cut(&mut rest, usize::try_from(metadata).ok()?)?;
    Some(Append {
        id,
        stream,
        kind: MessageKind::from_number(kind)?,
        type_name,
        type_version: u16::from_be_bytes(version),
        content_type: ContentType(content_type),
        payload: rest,
        correlation: correlation.unwrap_or(id.into()),
        causation,
        metadata,
        dedup: None,
        due_in: None,
        hand_out: HandOut::Later,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (front, back) = rest.split_first_chunk::<N>()?;
    *rest = back;
    Some(*front)
}

fn cut<'d>(rest: &mut &'d [u8], bytes: usize) -> Option<&'d [u8]> {
    let (front, back) = rest.split_at_checked(bytes)?;
    *rest = back;
    Some(front)
}

#[cfg(test)]
mod tests {
    use whizbang_storage::Condition;
    use whizbang_storage::record::Record;

    use super::*;

    #[test]
    fn a_draft_that_was_cut_off_is_a_damaged_message_in_some_partition() {
        let mut draft = FORM.to_vec();
        draft.extend_from_slice(&[7; 16]);
        draft.extend_from_slice(&[2, 1, 0, 3]);
        draft.extend_from_slice(&[0; 48]);
        for length in [3i32, 4, 2] {
            draft.extend_from_slice(&length.to_be_bytes());
        }
        let whole = [&draft[..], b"keytypemmpayload"].concat();
        let (partition, arrival) = complete(&whole, 9, 128);
        let message = Record::read(&arrival.record, fallback_id(9));
        assert_eq!(message.stream, Some(StreamId::from_key("key")));
        assert_eq!(partition, StreamId::from_key("key").partition(128));
        assert_eq!((message.type_name, message.type_version), ("type", 3));
        assert_eq!((message.metadata, message.payload), (&b"mm"[..], &b"payload"[..]));
        assert_eq!((message.kind, message.condition), (MessageKind::Event, Condition::Whole));
        for length in 0..whole.len() - b"payload".len() {
            let (partition, arrival) = complete(&whole[..length], 9, 128);
            let message = Record::read(&arrival.record, fallback_id(9));
            assert_eq!(message.condition, Condition::Damaged, "{length} bytes");
            assert_eq!(partition, arrival.lane.partition(128));
        }
    }
}
