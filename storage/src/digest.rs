//! What a batch says, in one number: tells a batch that is repeated from another one with the same number.

use xxhash_rust::xxh3::xxh3_64;

use crate::{Append, HandOut, Membership, Settle, Unit, WorkBatch};

/// A running hash: each piece is hashed by itself and folded in with its length.
pub(crate) struct Digest(u64);

impl Digest {
    /// What [`WorkBatch::digest`] says.
    pub(crate) fn of(batch: &WorkBatch<'_>) -> u64 {
        let mut digest = Digest(0x9E37_79B9_7F4A_7C15);
        digest.membership(batch.membership.as_ref());
        digest.number(batch.units.len() as u64);
        batch.units.iter().for_each(|unit| digest.unit(unit));
        digest.number(batch.settled.len() as u64);
        for range in batch.settled {
            digest.number(u64::from(range.subscription.0) << 32 | u64::from(range.partition.0));
            digest.number(range.epoch.0);
            digest.number(range.first.0);
            digest.number(range.last.0);
        }
        digest.number(batch.appends.len() as u64);
        batch.appends.iter().for_each(|append| digest.append(append));
        digest.number(batch.operations.len() as u64);
        batch.operations.iter().for_each(|operation| digest.bytes(format!("{operation:?}").as_bytes()));
        digest.0
    }

    fn number(&mut self, number: u64) {
        // A multiply, and a shift that brings the high bits down; order matters because each step depends on the last.
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9FB2_1C65_1E98_DF25);
        self.0 ^= self.0 >> 29;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.number(xxh3_64(bytes));
    }

    fn wide(&mut self, bits: u128) {
        self.number(bits as u64);
        self.number((bits >> 64) as u64);
    }

    fn option(&mut self, value: Option<u64>) {
        self.number(u64::from(value.is_some()));
        self.number(value.unwrap_or(0));
    }

    /// The sum of the folded products of neighbours, each made different by its place: the way in which xxh3 and wyhash take
    /// such a piece, without what makes them fit any length. None of the steps waits for another.
    fn piece(words: &[u64; 16]) -> u64 {
        // The first 16 numbers of splitmix64 from 0.
        const PLACES: [u64; 16] = {
            let (mut places, mut at) = ([0; 16], 0);
            while at < 16 {
                let z = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(at as u64 + 1);
                let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                places[at] = z ^ (z >> 31);
                at += 1;
            }
            places
        };
        let mut sum = 0_u64;
        for (words, places) in words.chunks_exact(2).zip(PLACES.chunks_exact(2)) {
            let product = u128::from(words[0] ^ places[0]) * u128::from(words[1] ^ places[1]);
            sum = sum.wrapping_add(product as u64 ^ (product >> 64) as u64);
        }
        sum
    }

    /// Everything of fixed size as one piece: number by number each step would wait for the one before, longer than storing
    /// the message in memory takes.
    fn append(&mut self, append: &Append<'_>) {
        let halves = |bits: u128| [bits as u64, (bits >> 64) as u64];
        let [id, id_high] = halves(append.id.bits().get());
        let [stream, stream_high] = halves(append.stream.map_or(0, |stream| stream.bits().get()));
        let [correlation, correlation_high] = halves(append.correlation.bits().get());
        let [cause, cause_high] = halves(append.causation.map_or(0, |cause| cause.bits().get()));
        let flags = u64::from(append.due_in.is_some()) << 34
            | u64::from(append.dedup.is_some()) << 33
            | u64::from(append.hand_out == HandOut::Now) << 32
            | (append.kind as u64) << 24
            | u64::from(append.content_type.0) << 16
            | u64::from(append.type_version);
        let dedup = append.dedup.unwrap_or_default();
        let words = [
            id,
            id_high,
            stream,
            stream_high,
            correlation,
            correlation_high,
            cause,
            cause_high,
            flags,
            append.due_in.map_or(0, |due| due.as_micros() as u64),
            append.type_name.len() as u64,
            xxh3_64(append.type_name.as_bytes()),
            append.payload.len() as u64,
            xxh3_64(append.payload),
            append.metadata.len() as u64,
            dedup.len() as u64,
        ];
        self.number(Digest::piece(&words));
        // Their lengths are in the piece.
        for rare in [append.metadata, dedup] {
            if !rare.is_empty() {
                self.number(xxh3_64(rare));
            }
        }
    }

    fn unit(&mut self, unit: &Unit<'_>) {
        self.number(u64::from(unit.delivery.is_some()));
        if let Some(d) = &unit.delivery {
            self.number(u64::from(d.subscription.0) << 32 | u64::from(d.partition.0));
            self.number(d.position.0);
            self.number(d.epoch.0);
            self.number(u64::from(d.attempt));
            self.wide(d.lane.bits().get());
        }
        match unit.settle {
            Settle::Done => self.number(1),
            Settle::Retry { after, error } => {
                self.number(2);
                self.number(after.as_micros() as u64);
                self.bytes(error.as_bytes());
            }
            Settle::Dead { reason, error } => {
                self.number(3);
                self.number(reason as u64);
                self.bytes(error.as_bytes());
            }
            Settle::Detach => self.number(4),
            Settle::Defer => self.number(5),
            Settle::Unroutable => self.number(6),
            Settle::Release => self.number(7),
            Settle::Exhausted { error } => {
                self.number(8);
                self.bytes(error.as_bytes());
            }
        }
        self.number(unit.emits.len() as u64);
        unit.emits.iter().for_each(|emit| self.append(emit));
        self.number(unit.expects.len() as u64);
        for expected in unit.expects {
            self.wide(expected.stream.bits().get());
            self.number(expected.version.0);
        }
        self.number(unit.projections.len() as u64);
        for projection in unit.projections {
            self.bytes(projection.perspective.as_bytes());
            self.bytes(projection.key);
            self.option(projection.based_on.map(|revision| revision.0));
            self.number(u64::from(projection.state.is_some()));
            if let Some(state) = projection.state {
                self.bytes(state);
            }
        }
    }

    fn membership(&mut self, membership: Option<&Membership<'_>>) {
        match membership {
            None => self.number(0),
            // A heartbeat writes nothing of its own; the others are rare, and their debug text names every field.
            Some(Membership::Heartbeat) => self.number(1),
            Some(other) => self.bytes(format!("{other:?}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU128;
    use std::time::Duration;

    use super::*;
    use crate::{ContentType, InstanceId, MessageId, MessageKind, Sender, StreamId};

    fn id(bits: u128) -> MessageId {
        MessageId::from_bits(NonZeroU128::new(bits).expect("not zero"))
    }

    fn digest(append: &Append<'_>) -> u64 {
        let from = Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 1, number: 1 };
        Digest::of(&WorkBatch { appends: std::slice::from_ref(append), ..WorkBatch::empty(from) })
    }

    #[test]
    fn whatever_differs_in_a_message_differs_in_the_digest() {
        let of = Append {
            id: id(1 << 64 | 1),
            stream: Some(StreamId::from_key("a")),
            kind: MessageKind::Command,
            type_name: "digest.test",
            type_version: 1,
            content_type: ContentType::POSTCARD,
            payload: b"payload",
            correlation: id(3).into(),
            causation: Some(id(4)),
            metadata: b"",
            dedup: None,
            due_in: None,
            hand_out: HandOut::Now,
        };
        let others = [
            of,
            Append { id: id(1 << 64 | 2), ..of },
            Append { id: id(2 << 64 | 1), ..of },
            Append { stream: None, ..of },
            Append { stream: Some(StreamId::from_key("b")), ..of },
            Append { kind: MessageKind::Event, ..of },
            Append { type_name: "digest.tesu", ..of },
            Append { type_version: 2, ..of },
            Append { content_type: ContentType(77), ..of },
            Append { payload: b"payloae", ..of },
            Append { payload: b"payload\0", ..of },
            Append { payload: b"", ..of },
            Append { correlation: id(4).into(), ..of },
            Append { causation: Some(id(3)), ..of },
            Append { causation: None, ..of },
            Append { metadata: b"m", ..of },
            Append { metadata: b"n", ..of },
            Append { dedup: Some(b"m"), ..of },
            Append { dedup: Some(b"mm"), ..of },
            Append { due_in: Some(Duration::ZERO), ..of },
            Append { due_in: Some(Duration::from_micros(1)), ..of },
            Append { hand_out: HandOut::Later, ..of },
        ];
        let mut digests: Vec<_> = others.iter().map(digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), others.len());
    }

    #[test]
    fn the_order_of_messages_counts() {
        let from = Sender { instance: InstanceId::from_bits(NonZeroU128::MIN), start_token: 1, number: 1 };
        let message = |bits| Append {
            id: id(bits),
            stream: None,
            kind: MessageKind::Command,
            type_name: "digest.test",
            type_version: 1,
            content_type: ContentType::POSTCARD,
            payload: b"",
            correlation: id(3).into(),
            causation: None,
            metadata: b"",
            dedup: None,
            due_in: None,
            hand_out: HandOut::Now,
        };
        let of = |appends: &[Append<'_>]| Digest::of(&WorkBatch { appends, ..WorkBatch::empty(from) });
        assert_ne!(of(&[message(1), message(2)]), of(&[message(2), message(1)]));
    }
}
