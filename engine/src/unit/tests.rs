use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use whizbang_storage::{
    Append, ContentType, Epoch, Expected, HandOut, LaneState, Partition, Position, Projection, Revision,
    SubscriptionId,
};

use super::*;
use crate::message::{StreamKey, TraceParent};
use crate::{Command, Event};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[message(name = "orders.created", version = 3)]
struct OrderCreated {
    #[stream]
    order: u64,
    note: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Command)]
#[message(name = "mail.send", version = 1, codec = postcard)]
struct SendMail(Vec<u8>);

fn id(number: u128) -> MessageId {
    MessageId::from_bits(number.try_into().unwrap())
}

fn order(order: u64) -> OrderCreated {
    OrderCreated { order, note: "ünï".to_owned() }
}

fn handed(metadata: &[u8]) -> Handed<'_> {
    Handed {
        id: id(7),
        stream: Some(5_u8.stream_id()),
        version: Some(Version(12)),
        kind: MessageKind::Command,
        type_name: "orders.create",
        type_version: 1,
        content_type: ContentType::JSON,
        payload: b"{}",
        metadata,
        correlation: id(8).into(),
        causation: Some(id(9)),
        subscription: SubscriptionId(1),
        partition: Partition(2),
        position: Position(3),
        epoch: Epoch(4),
        attempt: 6,
        origin: Origin::Replay,
        lane: LaneState::Free,
        condition: whizbang_storage::Condition::Whole,
    }
}

/// A projection as if a handler had loaded it.
fn seen(unit: &mut Unit, key: &[u8], revision: Option<u64>) -> usize {
    let revision = revision.map(Revision);
    unit.seen.push(Seen { perspective: "totals", key: SmallVec::from_slice(key), revision, write: None });
    unit.seen.len() - 1
}

fn write(unit: &mut Unit, place: usize, state: &[u8]) -> Result<(), EmitError> {
    let mut encode = |out: &mut Vec<u8>| {
        out.extend_from_slice(state);
        Ok(())
    };
    unit.write_projection(place, Some(&mut encode))
}

#[test]
fn every_field_of_a_message_comes_back() {
    let trace: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let mut headers = Headers::new();
    headers.set("tenant", "acme").unwrap();
    let mut unit = Unit::default();
    unit.begin(&handed(&[]), None).unwrap();
    unit.set_traceparent(Some(trace));
    let due_in = Some(Duration::from_micros(1_234_567));
    unit.emit_as(
        id(70),
        &order(5),
        EmitOptions { due_in, once: Some(b"key\0"), headers: Some(&headers), traceparent: None },
    )
    .unwrap();
    unit.emit_as(id(71), &SendMail(vec![0, 255]), EmitOptions::default()).unwrap();

    let view = unit.view();
    let emits: Vec<Append<'_>> = view.emits().collect();
    let [first, second] = &emits[..] else { panic!("{emits:?}") };
    assert_eq!((first.id, first.stream), (id(70), Some(5_u64.stream_id())));
    assert_eq!((first.kind, first.content_type), (MessageKind::Event, ContentType::JSON));
    assert_eq!((first.type_name, first.type_version), ("orders.created", 3));
    assert_eq!(first.payload, r#"{"order":5,"note":"ünï"}"#.as_bytes());
    assert_eq!((first.correlation, first.causation), (id(8).into(), Some(id(7))));
    assert_eq!((first.dedup, first.due_in, first.hand_out), (Some(&b"key\0"[..]), due_in, HandOut::Later));
    let metadata = MetadataView::decode(first.metadata).unwrap();
    assert_eq!((metadata.traceparent, metadata.headers), (Some(trace), headers.view()));

    assert_eq!((second.id, second.stream), (id(71), None));
    assert_eq!((second.kind, second.content_type), (MessageKind::Command, ContentType::POSTCARD));
    assert_eq!((second.dedup, second.due_in), (None, None));
    assert_eq!(second.payload, [2, 0, 255]);
    assert_eq!(unit.emitted::<OrderCreated>().unwrap(), [order(5)]);
    assert_eq!(unit.emitted::<SendMail>().unwrap(), [SendMail(vec![0, 255])]);
}

#[test]
fn expectations_and_projections_come_back_beside_messages() {
    let mut unit = Unit::default();
    let stream = "a".stream_id();
    unit.expect_version(stream, Version(3)).unwrap();
    let (new, old, gone) =
        (seen(&mut unit, b"new", None), seen(&mut unit, b"old", Some(4)), seen(&mut unit, b"gone", Some(2)));
    write(&mut unit, new, b"1").unwrap();
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    write(&mut unit, old, b"").unwrap();
    unit.write_projection(gone, None).unwrap();
    unit.expect_version(stream, Version(0)).unwrap();

    let view = unit.view();
    let expects: Vec<Expected> = view.expects().collect();
    assert_eq!(
        expects.iter().map(|e| (e.stream, e.version.0)).collect::<Vec<_>>(),
        [(stream, 3), (stream, 0)]
    );
    let writes: Vec<_> = view.projections().map(|p| (p.perspective, p.key, p.based_on, p.state)).collect();
    assert_eq!(
        writes,
        [
            ("totals", &b"new"[..], None, Some(&b"1"[..])),
            ("totals", b"old", Some(Revision(4)), Some(b"")),
            ("totals", b"gone", Some(Revision(2)), None),
        ]
    );
    assert_eq!((view.emits().len(), view.expects().len(), view.projections().len()), (1, 2, 3));
}

#[test]
fn a_projection_saved_twice_is_written_once_on_what_it_was_based_on() {
    let mut unit = Unit::default();
    let (a, b) = (seen(&mut unit, b"a", Some(4)), seen(&mut unit, b"b", None));
    write(&mut unit, a, b"first").unwrap();
    write(&mut unit, b, b"other").unwrap();
    write(&mut unit, a, b"second, and longer").unwrap();
    assert_eq!(unit.written_state(unit.seen[a].write.unwrap()), Some(&b"second, and longer"[..]));
    let view = unit.view();
    let writes: Vec<Projection<'_>> = view.projections().collect();
    assert_eq!(writes.iter().map(|p| p.key).collect::<Vec<_>>(), [b"b", b"a"]);
    assert_eq!((writes[1].based_on, writes[1].state), (Some(Revision(4)), Some(&b"second, and longer"[..])));

    unit.write_projection(a, None).unwrap();
    assert_eq!(unit.view().projections().len(), 2);
    assert_eq!(unit.view().projections().find(|p| p.key == b"a").unwrap().state, None, "deleted after all");
    unit.write_projection(b, None).unwrap();
    assert_eq!(unit.view().projections().len(), 1, "what never existed needs no delete");
}

#[test]
fn what_is_emitted_belongs_to_the_message_that_is_handled() {
    let mut metadata = Vec::new();
    let trace: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let mut headers = Headers::new();
    headers.set("tenant", "acme").unwrap();
    MetadataView { traceparent: Some(trace), headers: headers.view() }.encode_into(&mut metadata);
    let mut unit = Unit::default();
    unit.begin(&handed(&metadata), None).unwrap();
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    let view = unit.view();
    let emit = view.emits().next().unwrap();
    let own = MetadataView::decode(emit.metadata).unwrap();
    assert_eq!(
        (own.traceparent, own.headers.is_empty()),
        (Some(trace), true),
        "the trace goes on, headers do not"
    );
}

#[test]
fn a_trace_of_its_own_takes_the_place_of_the_messages() {
    let [own, other]: [TraceParent; 2] = ["aa", "bb"].map(|byte| {
        let text = format!("00-{}-{}-01", byte.repeat(16), byte.repeat(8));
        text.parse().unwrap()
    });
    let mut unit = Unit::default();
    unit.set_traceparent(Some(own));
    unit.emit(&order(1), EmitOptions { traceparent: Some(other), ..EmitOptions::default() }).unwrap();
    unit.emit(&order(2), EmitOptions::default()).unwrap();
    let view = unit.view();
    let traces: Vec<_> =
        view.emits().map(|emit| MetadataView::decode(emit.metadata).unwrap().traceparent).collect();
    assert_eq!(traces, [Some(other), Some(own)]);
}

#[test]
fn without_a_conversation_the_first_message_names_it() {
    let mut unit = Unit::default();
    unit.begin_alone(None, None);
    let first = unit.emit(&order(1), EmitOptions::default()).unwrap();
    unit.emit(&order(2), EmitOptions::default()).unwrap();
    let conversations: Vec<_> = unit.view().emits().map(|emit| (emit.correlation, emit.causation)).collect();
    assert_eq!(conversations, [(first.into(), None); 2]);

    unit.begin_alone(Some(id(3).into()), None);
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    assert_eq!(unit.view().emits().next().unwrap().correlation, id(3).into());
}

#[test]
fn damaged_metadata_are_an_error_before_the_handler_runs() {
    assert_eq!(Unit::default().begin(&handed(&[9]), None), Err(MetadataError::Format(9)));
}

#[test]
fn a_unit_that_is_used_again_has_nothing_of_the_last_time() {
    let mut unit = Unit::default();
    unit.begin(&handed(&[]), Some(Instant::now())).unwrap();
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    let place = seen(&mut unit, b"a", None);
    write(&mut unit, place, b"1").unwrap();
    unit.expect_version("a".stream_id(), Version(1)).unwrap();
    unit.clear();
    assert!(unit.is_empty() && unit.seen.is_empty());
    assert_eq!(unit.record(), Unit::default().record());
    assert_eq!((unit.occasion.attempt, unit.occasion.deadline), (0, None));
}

/// What is refused leaves the unit as it was, and the next message goes in.
fn refuses(unit: &mut Unit, emit: impl FnOnce(&mut Unit) -> EmitError) -> EmitError {
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    let before = unit.record().to_vec();
    let error = emit(unit);
    assert_eq!(unit.record(), before);
    unit.emit(&order(2), EmitOptions::default()).unwrap();
    assert_eq!(unit.emitted::<OrderCreated>().unwrap().len(), 2);
    error
}

#[test]
fn what_exceeds_a_limit_is_refused_where_it_is_emitted() {
    let limits =
        Limits { payload_bytes_max: 40, metadata_bytes_max: 20, key_bytes_max: 4, ..Limits::default() };
    let unit = || Unit::new(limits, 10_000);
    let emit = |unit: &mut Unit, options| unit.emit(&order(1), options).unwrap_err();

    let long = OrderCreated { order: 1, note: "x".repeat(30) };
    let error = refuses(&mut unit(), |unit| unit.emit(&long, EmitOptions::default()).unwrap_err());
    let payload = Refusal::PayloadTooLarge { bytes: 51, max: 40 };
    assert!(
        matches!(error, EmitError::Refused { name: "orders.created", refusal } if refusal == payload),
        "{error}"
    );

    let mut headers = Headers::new();
    headers.set("tenant", &"x".repeat(20)).unwrap();
    let options = EmitOptions { headers: Some(&headers), ..EmitOptions::default() };
    let error = refuses(&mut unit(), |unit| emit(unit, options));
    let metadata = Refusal::MetadataTooLarge { bytes: 31, max: 20 };
    assert!(matches!(error, EmitError::Refused { refusal, .. } if refusal == metadata), "{error}");

    for (key, bytes) in [(&b""[..], 0), (b"12345", 5)] {
        let options = EmitOptions { once: Some(key), ..EmitOptions::default() };
        let error = refuses(&mut unit(), |unit| emit(unit, options));
        let key = Refusal::Key { bytes, max: 4 };
        assert!(matches!(error, EmitError::Refused { refusal, .. } if refusal == key), "{error}");
    }
}

#[test]
fn a_unit_never_outgrows_what_a_ring_takes() {
    let mut unit = Unit::new(Limits::default(), 400);
    let full = loop {
        if let Err(error) = unit.emit(&order(1), EmitOptions::default()) {
            break error;
        }
    };
    assert_eq!(
        full.to_string(),
        "with `orders.created` the handler's unit is larger than 400 bytes or 65536 messages"
    );
    while unit.expect_version("a".stream_id(), Version(1)).is_ok() {}
    let place = seen(&mut unit, b"a", None);
    assert!(matches!(write(&mut unit, place, &[0; 400]), Err(EmitError::UnitFull { name: "totals", .. })));
    assert!(unit.record().len() <= 400);
    assert_eq!(unit.view().projections().len(), 0);

    let mut unit = Unit::new(Limits { batch_messages_max: 2, ..Limits::default() }, 10_000);
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    assert!(matches!(unit.emit(&order(1), EmitOptions::default()), Err(EmitError::UnitFull { .. })));
}

#[test]
fn a_state_that_is_too_large_leaves_the_one_before() {
    let mut unit = Unit::new(Limits { state_bytes_max: 3, ..Limits::default() }, 10_000);
    let place = seen(&mut unit, b"a", None);
    write(&mut unit, place, b"abc").unwrap();
    assert!(matches!(write(&mut unit, place, b"abcd"), Err(EmitError::Refused { .. })));
    assert_eq!(unit.view().projections().next().unwrap().state, Some(&b"abc"[..]));
}

#[test]
fn a_record_cut_anywhere_is_an_error_and_never_a_panic() {
    let mut unit = Unit::default();
    unit.emit(&order(1), EmitOptions { once: Some(b"k"), ..EmitOptions::default() }).unwrap();
    unit.expect_version("a".stream_id(), Version(1)).unwrap();
    let place = seen(&mut unit, b"a", Some(1));
    write(&mut unit, place, b"1").unwrap();
    for end in 0..unit.record().len() {
        UnitView::decode(&unit.record()[..end]).expect_err("something is missing");
    }
}

#[test]
fn a_message_that_panics_while_it_is_encoded_leaves_nothing() {
    #[derive(Deserialize)]
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut sequence = serializer.serialize_seq(None)?;
            sequence.serialize_element("half of it")?;
            panic!("a bug in somebody's Serialize")
        }
    }
    #[derive(Serialize, Deserialize, Event)]
    #[message(name = "panics", version = 1)]
    struct Broken(Panics);

    let mut unit = Unit::default();
    unit.emit(&order(1), EmitOptions::default()).unwrap();
    let before = unit.record().to_vec();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(unit.emit(&Broken(Panics), EmitOptions::default()));
    }));
    assert!(caught.is_err());
    assert_eq!(unit.record(), before);
    unit.expect_version("a".stream_id(), Version(1)).unwrap();
    assert_eq!((unit.view().emits().len(), unit.view().expects().len()), (1, 1));
}

/// What a handler may do, in any order.
#[derive(Debug, Clone)]
enum Act {
    Publish { order: u64, note: String, due_in: Option<u32>, once: Option<Vec<u8>>, header: Option<String> },
    Send(Vec<u8>),
    Expect(u64, u64),
    Save(u8, Vec<u8>),
    Delete(u8),
}

fn any_act() -> impl Strategy<Value = Act> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let key = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..20));
    prop_oneof![
        (any::<u64>(), ".{0,30}", proptest::option::of(any::<u32>()), key, proptest::option::of(".{0,20}"))
            .prop_map(|(order, note, due_in, once, header)| Act::Publish {
                order,
                note,
                due_in,
                once,
                header
            }),
        bytes().prop_map(Act::Send),
        (any::<u64>(), any::<u64>()).prop_map(|(stream, version)| Act::Expect(stream, version)),
        (0..5_u8, bytes()).prop_map(|(key, state)| Act::Save(key, state)),
        (0..5_u8).prop_map(Act::Delete),
    ]
}

proptest! {
    #[test]
    fn whatever_a_handler_does_comes_back_from_the_record(acts in proptest::collection::vec(any_act(), 0..40)) {
        let mut unit = Unit::default();
        unit.begin(&handed(&[]), None).unwrap();
        // Keys 0 and 1 do not exist yet, the others do.
        let places: Vec<usize> =
            (0..5).map(|key| seen(&mut unit, &[key], (key > 1).then_some(u64::from(key)))).collect();
        let (mut events, mut mails, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        let mut written: BTreeMap<u8, Option<Vec<u8>>> = BTreeMap::new();
        for act in &acts {
            match act {
                Act::Publish { order, note, due_in, once, header } => {
                    let mut headers = Headers::new();
                    if let Some(value) = header {
                        headers.set("h", value).unwrap();
                    }
                    let event = OrderCreated { order: *order, note: note.clone() };
                    let due_in = due_in.map(|micros| Duration::from_micros(micros.into()));
                    let options = EmitOptions { due_in, once: once.as_deref(), headers: Some(&headers), traceparent: None };
                    unit.emit(&event, options).unwrap();
                    events.push((event, due_in, once.clone(), headers));
                }
                Act::Send(body) => {
                    unit.emit(&SendMail(body.clone()), EmitOptions::default()).unwrap();
                    mails.push(SendMail(body.clone()));
                }
                Act::Expect(stream, version) => {
                    unit.expect_version(stream.stream_id(), Version(*version)).unwrap();
                    expected.push((stream.stream_id(), Version(*version)));
                }
                Act::Save(key, state) => {
                    write(&mut unit, places[usize::from(*key)], state).unwrap();
                    written.insert(*key, Some(state.clone()));
                }
                Act::Delete(key) => {
                    unit.write_projection(places[usize::from(*key)], None).unwrap();
                    if *key > 1 { written.insert(*key, None); } else { written.remove(key); }
                }
            }
        }

        let mut record = b"before".to_vec();
        unit.encode_into(&mut record);
        let view = UnitView::decode(&record[6..]).unwrap();
        prop_assert_eq!(view.is_empty(), unit.is_empty());
        prop_assert_eq!(view.emits().len(), events.len() + mails.len());
        let emitted: Vec<_> = view
            .emits()
            .filter(|emit| emit.type_name == OrderCreated::NAME)
            .map(|emit| {
                let event = OrderCreated::decode(emit.type_version, emit.content_type, emit.payload).unwrap();
                let headers = MetadataView::decode(emit.metadata).unwrap().headers.to_owned();
                (event, emit.due_in, emit.dedup.map(<[u8]>::to_vec), headers)
            })
            .collect();
        prop_assert_eq!(emitted, events);
        prop_assert_eq!(unit.emitted::<SendMail>().unwrap(), mails);
        let expects: Vec<_> = view.expects().map(|expected| (expected.stream, expected.version)).collect();
        prop_assert_eq!(expects, expected);
        let writes: BTreeMap<u8, Option<Vec<u8>>> =
            view.projections().map(|write| (write.key[0], write.state.map(<[u8]>::to_vec))).collect();
        prop_assert_eq!(view.projections().len(), written.len());
        prop_assert_eq!(writes, written);
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), flip in any::<usize>()) {
        let _ = UnitView::decode(&bytes);
        let mut unit = Unit::default();
        unit.emit(&order(1), EmitOptions::default()).unwrap();
        unit.encode_into(&mut bytes);
        let start = bytes.len() - unit.record().len();
        let flipped = start + flip % unit.record().len();
        bytes[flipped] ^= 1 << (flip % 8);
        if let Ok(view) = UnitView::decode(&bytes[start..]) {
            view.emits().for_each(drop);
            view.expects().for_each(drop);
            view.projections().for_each(drop);
        }
    }
}
