//! What a lane does with runs, conflicts and set-backs.

use super::*;
use whizbang_storage::{Condition, ContentType, Epoch, MessageId, MessageKind, SubscriptionId};

/// Work of stream `stream` at `position`, from the log unless `origin` says otherwise.
fn work(stream: &str, position: u64, origin: Origin, lane: LaneState) -> Work {
    let id = MessageId::from_bytes([1; 16]).unwrap();
    let handout = Handout::of_one(&Handed {
        id,
        stream: Some(StreamId::from_key(stream)),
        version: None,
        kind: MessageKind::Command,
        type_name: "t",
        type_version: 1,
        content_type: ContentType::JSON,
        payload: b"",
        metadata: b"",
        correlation: id.into(),
        causation: None,
        subscription: SubscriptionId(1),
        partition: Partition(0),
        position: Position(position),
        epoch: Epoch(1),
        attempt: 1,
        origin,
        lane,
        condition: Condition::Whole,
    });
    Work { handout: Own::new(Arc::new(handout)), index: 0, flow: 0, conflicts: 0, detached: false }
}

fn log(stream: &str, position: u64) -> Work {
    work(stream, position, Origin::Log, LaneState::Free)
}

fn at(step: Option<Step>) -> String {
    match step {
        None => "nothing".into(),
        Some(Step::Run(work)) => format!("run {}", work.handed().position),
        Some(Step::Defer(work)) => format!("defer {}", work.handed().position),
    }
}

fn key(stream: &str) -> LaneKey {
    LaneKey { flow: 0, lane: StreamId::from_key(stream) }
}

#[test]
fn a_lane_runs_one_at_a_time_and_others_are_not_held_up() {
    let mut lanes = Lanes::default();
    assert_eq!(at(lanes.arrive(log("a", 1))), "run 1");
    lanes.running(log("a", 1), oneshot::channel().0);
    assert_eq!(at(lanes.arrive(log("a", 2))), "nothing");
    assert_eq!(at(lanes.arrive(log("b", 3))), "run 3");
    assert_eq!(at(lanes.next(key("a"))), "nothing");
    assert_eq!(lanes.finished(key("a")).unwrap().handed().position, Position(1));
    assert_eq!(at(lanes.next(key("a"))), "run 2");
    assert_eq!(at(lanes.next(key("a"))), "nothing");
    assert!(!lanes.is_busy(|_| true), "an idle lane is forgotten");
}

#[test]
fn what_follows_a_retry_is_deferred_until_the_store_has_answered() {
    let mut lanes = Lanes::default();
    lanes.sent(log("a", 1), true, None);
    assert_eq!(at(lanes.arrive(log("a", 2))), "defer 2");
    lanes.sent(log("a", 2), true, None);
    lanes.answered(Outcome::Settled);
    assert_eq!(at(lanes.arrive(log("a", 3))), "defer 3", "the deferral of 2 is not answered yet");
    lanes.answered(Outcome::Settled);
    assert_eq!(at(lanes.next(key("a"))), "nothing");
    assert_eq!(at(lanes.arrive(work("a", 4, Origin::Log, LaneState::Parked))), "defer 4");
    assert_eq!(at(lanes.arrive(log("a", 5))), "run 5");
}

#[test]
fn parked_work_runs_although_its_lane_is_blocked() {
    let mut lanes = Lanes::default();
    lanes.sent(log("a", 1), true, None);
    assert_eq!(at(lanes.arrive(work("a", 1, Origin::Parked, LaneState::Free))), "run 1");
}

#[test]
fn when_one_of_a_run_is_parked_again_those_behind_it_are_given_back() {
    let parked = |position| work("a", position, Origin::Parked, LaneState::Free);
    let mut lanes = Lanes::default();
    lanes.running(parked(1), oneshot::channel().0);
    assert_eq!(at(lanes.arrive(parked(2))), "nothing");
    assert_eq!(at(lanes.arrive(parked(3))), "nothing");
    let first = lanes.finished(key("a")).unwrap();
    lanes.sent(first, true, None);
    for step in ["defer 2", "defer 3"] {
        let next = lanes.next(key("a"));
        let Some(Step::Defer(work)) = next else { panic!("{step}, not {next:?}") };
        lanes.sent(work, true, None);
    }
    // The first comes again before the store has answered the others.
    lanes.answered(Outcome::Settled);
    assert_eq!(at(lanes.arrive(parked(1))), "run 1");
    lanes.sent(parked(1), false, None);
    for _ in 0..3 {
        lanes.answered(Outcome::Settled);
    }
    assert_eq!(at(lanes.arrive(parked(2))), "run 2");
}

#[test]
fn a_replay_waits_for_a_later_message_of_its_stream_that_runs_long() {
    let mut lanes = Lanes::default();
    lanes.running(log("a", 2), oneshot::channel().0);
    let detached = lanes.detach(key("a")).unwrap();
    lanes.sent(detached, true, None);
    lanes.answered(Outcome::Settled);
    assert_eq!(at(lanes.next(key("a"))), "nothing");
    assert_eq!(at(lanes.arrive(work("a", 1, Origin::Replay, LaneState::Free))), "nothing");
    assert_eq!(at(lanes.arrive(work("b", 1, Origin::Replay, LaneState::Free))), "run 1", "another stream");
    // What comes from the log meanwhile is not kept here.
    assert_eq!(at(lanes.arrive(work("a", 3, Origin::Log, LaneState::Parked))), "defer 3");
    assert_eq!(at(lanes.next(key("a"))), "nothing");
    assert!(lanes.finished_detached(key("a"), Position(2)).is_some());
    assert_eq!(at(lanes.next(key("a"))), "run 1");
}

#[test]
fn a_conflict_sets_the_lane_back_to_the_unit_that_had_it() {
    let mut lanes = Lanes::default();
    for position in 1..=3 {
        lanes.sent(log("a", position), false, None);
    }
    lanes.running(log("a", 4), oneshot::channel().0);
    assert_eq!(at(lanes.arrive(log("a", 5))), "nothing");
    assert_eq!(lanes.answered(Outcome::Settled).unwrap().key, key("a"));
    lanes.answered(Outcome::Conflict);
    assert_eq!(lanes.generation(), 1);
    lanes.answered(Outcome::NotTried);
    assert_eq!(at(lanes.next(key("a"))), "nothing", "4 still runs, though in vain");
    assert!(lanes.finished(key("a")).is_none());
    let order: Vec<String> = std::iter::from_fn(|| lanes.next(key("a")).map(|step| at(Some(step)))).collect();
    assert_eq!(order, ["run 2", "run 3", "run 4", "run 5"]);
}

#[test]
fn a_message_that_was_detached_and_has_ended_runs_again_once_when_its_lane_is_set_back() {
    let mut lanes = Lanes::default();
    lanes.sent(log("a", 1), false, None);
    lanes.running(log("a", 2), oneshot::channel().0);
    let detached = lanes.detach(key("a")).unwrap();
    lanes.sent(detached, true, None);
    let Some(Step::Defer(deferred)) = lanes.arrive(log("a", 3)) else { panic!("2 is parked") };
    lanes.sent(deferred, true, None);
    let ended = lanes.finished_detached(key("a"), Position(2)).unwrap();
    lanes.sent(ended, false, None);
    lanes.answered(Outcome::Conflict);
    for _ in 0..3 {
        lanes.answered(Outcome::NotTried);
    }
    let order: Vec<String> = std::iter::from_fn(|| lanes.next(key("a")).map(|step| at(Some(step)))).collect();
    assert_eq!(order, ["run 1", "run 2", "run 3"]);
}

#[test]
fn what_was_handed_out_before_something_was_parked_in_front_of_it_waits_after_a_set_back_too() {
    let mut lanes = Lanes::default();
    lanes.running(log("a", 1), oneshot::channel().0);
    let detached = lanes.detach(key("a")).unwrap();
    lanes.sent(detached, true, None);
    for position in [2, 3] {
        let Some(Step::Defer(work)) = lanes.arrive(log("a", position)) else { panic!("1 is parked") };
        if position == 3 {
            let ended = lanes.finished_detached(key("a"), Position(1)).unwrap();
            lanes.sent(ended, false, None);
        }
        lanes.sent(work, true, None);
    }
    // The store has parked 1 and 2; what 1 produced is in conflict, so the deferral of 3 was dropped.
    for outcome in [Outcome::Settled, Outcome::Settled, Outcome::Conflict, Outcome::NotTried] {
        lanes.answered(outcome);
    }
    assert_eq!(at(lanes.next(key("a"))), "run 1");
    assert_eq!(at(lanes.next(key("a"))), "defer 3", "2 is parked in front of it");
    assert_eq!(at(lanes.arrive(log("a", 4))), "run 4", "of this the store knew");
}

#[test]
fn a_refused_unit_comes_back_and_the_others_run_again() {
    let mut lanes = Lanes::default();
    lanes.sent(log("a", 1), false, None);
    lanes.sent(log("a", 2), false, None);
    let answered = lanes.answered(Outcome::Refused).unwrap();
    assert_eq!(answered.refused.unwrap().handed().position, Position(1));
    lanes.answered(Outcome::NotTried);
    assert_eq!(at(lanes.next(key("a"))), "run 2");
}

#[test]
fn a_forgotten_partition_cancels_what_runs_and_answers_for_it_are_ignored() {
    let mut lanes = Lanes::default();
    let (cancel, mut cancelled) = oneshot::channel();
    lanes.sent(log("a", 1), false, None);
    lanes.running(log("a", 2), cancel);
    let is_first: Vec<bool> = lanes.running_in(|_| true).map(|(_, is_first)| is_first).collect();
    assert_eq!(is_first, [false], "1 is not answered, and may have to run again before 2");
    lanes.forget(|partition| partition == Partition(0));
    assert!(cancelled.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    assert!(lanes.answered(Outcome::Refused).unwrap().refused.is_none());
    assert!(lanes.finished(key("a")).is_none());
    assert!(!lanes.is_busy(|_| true));
}

#[test]
fn answers_for_a_forgotten_lane_do_not_reach_its_successor() {
    let mut lanes = Lanes::default();
    lanes.sent(log("a", 1), false, None);
    lanes.forget(|_| true);
    lanes.sent(log("a", 1), false, None);
    lanes.answered(Outcome::Settled);
    assert!(lanes.is_tracked(key("a")), "that was the forgotten one");
    lanes.answered(Outcome::Settled);
    assert!(!lanes.is_tracked(key("a")));
    assert!(lanes.answered(Outcome::Settled).is_none());
}

#[test]
fn a_detached_handler_leaves_its_lane_and_can_still_be_cancelled() {
    let mut lanes = Lanes::default();
    let (cancel, mut cancelled) = oneshot::channel();
    lanes.running(log("a", 1), cancel);
    let work = lanes.detach(key("a")).unwrap();
    lanes.sent(work, true, None);
    assert_eq!(at(lanes.arrive(log("a", 2))), "defer 2");
    assert!(lanes.running_in(|_| true).all(|(_, is_first)| is_first));
    assert_eq!(lanes.running_in(|_| true).count(), 1);
    assert!(cancelled.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    assert_eq!(lanes.finished_detached(key("a"), Position(1)).unwrap().handed().position, Position(1));
    assert!(lanes.finished_detached(key("a"), Position(1)).is_none());
}
