//! A parked row as its columns hold it.

use std::sync::Arc;

use uuid::Uuid;
use whizbang_storage::parked::{Mode, Row, State, Was};
use whizbang_storage::{DeadReason, InstanceId, MessageId, StreamId, Timestamp, Version};

use crate::state::{Copied, ParkedRow};
use crate::tail::{pull_number, push_number};

// The states as they are stored.
pub(crate) const WAITING: i16 = 1;
pub(crate) const ORPHANED: i16 = 2;
pub(crate) const UNROUTABLE: i16 = 3;
pub(crate) const RUNNING: i16 = 4;
pub(crate) const DEAD: i16 = 5;

/// The state's number, and who has the message.
pub(crate) fn state_of(row: &ParkedRow) -> (i16, Option<Uuid>) {
    match row.state {
        State::Waiting { .. } => (WAITING, None),
        State::Orphaned => (ORPHANED, None),
        State::Unroutable => (UNROUTABLE, None),
        State::Running { by, .. } => (RUNNING, Some(Uuid::from_bytes(by.to_bytes()))),
        State::Dead { .. } => (DEAD, None),
    }
}

/// Everything else that only this crate looks at. The form is stored: a change of it is a new schema version.
pub(crate) fn meta(row: &ParkedRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(&row.message.lane.to_bytes());
    let (mode, was, due, reason) = match row.state {
        State::Waiting { due_at } => (0, 0, Some(due_at), 0),
        State::Running { mode, was, .. } => {
            let mode = match mode {
                Mode::Shared => 0,
                Mode::Suspect => 1,
                Mode::Detached => 2,
            };
            match was {
                Was::Waiting { due_at } => (mode, 1, Some(due_at), 0),
                Was::Orphaned => (mode, 2, None, 0),
                Was::Unroutable => (mode, 3, None, 0),
            }
        }
        State::Dead { reason, at } => (0, 0, Some(at), reason as u8),
        State::Orphaned | State::Unroutable => (0, 0, None, 0),
    };
    out.extend_from_slice(&[mode, was, reason, u8::from(row.replay)]);
    for at in [due, Some(row.parked_at), row.dies_at] {
        // No instant of a clock is the smallest.
        out.extend_from_slice(&at.map_or(i64::MIN, Timestamp::micros).to_be_bytes());
    }
    for number in [
        u64::from(row.attempts),
        u64::from(row.crashes),
        row.message.version.map_or(0, |version| version.0),
        row.message.bytes as u64,
        u64::from(row.message.type_version),
    ] {
        push_number(&mut out, number);
    }
    out.extend_from_slice(row.message.type_name.as_bytes());
    out
}

/// Reads what [`state_of`] and [`meta`] wrote; `None` for anything else.
pub(crate) fn read(id: Uuid, state: i16, holder: Option<Uuid>, meta: &[u8]) -> Option<ParkedRow> {
    let (fixed, rest) = meta.split_first_chunk::<44>()?;
    let lane = StreamId::from_bytes(fixed[..16].try_into().ok()?)?;
    let [mode, was, reason, replay] = fixed[16..20].try_into().ok()?;
    let instant = |at: usize| -> Option<Timestamp> {
        let micros = i64::from_be_bytes(fixed[at..at + 8].try_into().ok()?);
        (micros != i64::MIN).then(|| Timestamp::from_micros(micros))
    };
    let (due, parked_at, dies_at) = (instant(20), instant(28)?, instant(36));
    let mut at = 0;
    let mut number = || pull_number(rest, &mut at);
    let (attempts, crashes, version, bytes, type_version) =
        (number()?, number()?, number()?, number()?, number()?);
    let type_name: Arc<str> = core::str::from_utf8(&rest[at..]).ok()?.into();
    let state = match state {
        WAITING => State::Waiting { due_at: due? },
        ORPHANED => State::Orphaned,
        UNROUTABLE => State::Unroutable,
        RUNNING => State::Running {
            by: InstanceId::from_bytes(holder?.into_bytes())?,
            mode: match mode {
                0 => Mode::Shared,
                1 => Mode::Suspect,
                _ => Mode::Detached,
            },
            was: match was {
                1 => Was::Waiting { due_at: due? },
                2 => Was::Orphaned,
                _ => Was::Unroutable,
            },
        },
        DEAD => State::Dead { reason: DeadReason::from_number(reason)?, at: due? },
        _ => return None,
    };
    Some(Row {
        message: Copied {
            id: MessageId::from_bytes(id.into_bytes())?,
            lane,
            version: (version > 0).then_some(Version(version)),
            type_name,
            type_version: u16::try_from(type_version).ok()?,
            bytes: usize::try_from(bytes).ok()?,
            record: None,
        },
        state,
        attempts: u32::try_from(attempts).ok()?,
        crashes: u32::try_from(crashes).ok()?,
        error: Box::default(),
        parked_at,
        dies_at,
        replay: replay != 0,
    })
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU128;

    use super::*;

    #[test]
    fn every_state_comes_back() {
        let at = Timestamp::from_micros;
        let by = InstanceId::from_bits(NonZeroU128::MAX);
        let states = [
            State::Waiting { due_at: at(-5) },
            State::Orphaned,
            State::Unroutable,
            State::Running { by, mode: Mode::Suspect, was: Was::Orphaned },
            State::Running { by, mode: Mode::Shared, was: Was::Waiting { due_at: at(7) } },
            State::Running { by, mode: Mode::Detached, was: Was::Unroutable },
            State::Dead { reason: DeadReason::Rejected, at: at(9) },
        ];
        for state in states {
            let id = MessageId::from_bits(NonZeroU128::MIN);
            let message = Copied {
                id,
                lane: id.into(),
                version: Some(Version(300)),
                type_name: "ünd so weiter".into(),
                type_version: 513,
                bytes: 70_000,
                record: None,
            };
            let row = Row {
                dies_at: Some(at(11)),
                attempts: 3,
                crashes: 200,
                replay: true,
                state,
                ..Row::waiting(message, at(1), at(2))
            };
            let (number, holder) = state_of(&row);
            let bytes = meta(&row);
            let read = read(Uuid::from_bytes(id.to_bytes()), number, holder, &bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{row:?}"));
        }
        assert!(read(Uuid::from_u128(1), WAITING, None, &[0x80; 50]).is_none(), "a number without an end");
        assert!(read(Uuid::from_u128(1), WAITING, None, &[]).is_none());
    }
}
