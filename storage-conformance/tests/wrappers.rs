//! `Faulty` and `Recorded` do what they say.

use std::time::{Duration, Instant};

use whizbang_storage::{MemoryStore, NotApplied, Service, StoreError, WorkBatch};
use whizbang_storage_conformance::{
    Fault, Faulty, Member, Message, Odds, OwnedBatch, Recorded, internal, numbers, sender, stored,
    subscription,
};

fn store() -> MemoryStore {
    let service = Service { partitions: 1, ..Service::default() };
    MemoryStore::new(service).expect("the service can be used")
}

#[test]
fn a_recorded_store_keeps_what_was_asked_and_answered() {
    internal::run(async {
        let recorded = Recorded::new(Faulty::new(store()));
        let calls = recorded.calls();
        let mut member = Member::new(recorded, sender(1));
        member.join(Some("group"), &[subscription("all")], &[]).await;
        let message = Message::event(1, whizbang_storage::StreamId::from_key("s")).once(b"key");
        member.append(std::slice::from_ref(&message)).await;
        let mut wrong = member.from;
        wrong.number = 9;
        assert!(member.send_as(wrong, member.batch()).await.is_err());
        assert_eq!(calls.count(), 3);
        let taken = calls.take();
        assert_eq!(calls.count(), 0);
        assert_eq!(taken[1].batch.appends, [message]);
        assert_eq!(stored(&taken[1].outcome.as_ref().expect("it was answered").appends), [1]);
        let error = taken[2].outcome.as_ref().expect_err("the number was wrong");
        assert!(error.contains('9'), "{error}");
    });
}

#[test]
fn an_owned_batch_says_the_same_as_the_one_it_was_made_of() {
    internal::run(async {
        let mut faulty = Member::new(Faulty::new(store()), sender(1));
        faulty.join(Some("group"), &[subscription("all")], &[]).await;
        let messages: Vec<Message> = (1..=3).map(|n| Message::command(n).once(&[n as u8])).collect();
        faulty.append(&messages).await;
        let got = faulty.read(0, 0).await;
        let emits = [messages[0].append()];
        let units = [
            whizbang_storage::Unit { emits: &emits, ..got[0].done() },
            got[1].retry_in(Duration::from_secs(1)),
        ];
        let settled = [faulty.range(0, 3, 3)];
        let batch = WorkBatch {
            units: &units,
            settled: &settled,
            membership: Some(whizbang_storage::Membership::Heartbeat),
            ..faulty.batch()
        };
        faulty.ok(batch).await;
        let answer = faulty.answer.clone();
        // The store takes the copy for a repeat of the original: not a byte of it differs.
        let owned = OwnedBatch::from(&WorkBatch { from: faulty.from, ..batch });
        let mut again = whizbang_storage::Answer::default();
        owned.send_to(&mut faulty.store, &mut again).await.expect("a repeat is answered");
        assert_eq!(again.units, answer.units);
    });
}

#[test]
fn faults_are_drawn_the_same_for_the_same_seed() {
    let odds = Odds { before: 200, answer_lost: 200, repeat_old: 200, ..Odds::default() };
    let play = |seed: u64| {
        let mut outcomes = Vec::new();
        internal::run(async {
            let mut member = Member::new(store(), sender(1));
            member.join(Some("group"), &[subscription("all")], &[]).await;
            let mut member = member.map(|store| Faulty::seeded(store, seed, odds));
            for n in 1..=40 {
                let message = Message::command(n);
                let appends = [message.append()];
                let batch = WorkBatch { appends: &appends, ..member.batch() };
                // As an engine does: the same batch again, until it is answered.
                loop {
                    match member.send(batch).await {
                        Ok(_) => break outcomes.push(true),
                        Err(StoreError::Unknown(_)) => outcomes.push(false),
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            assert!(member.store.faults().happened() > 10);
            member.store.faults().stop();
            assert_eq!(numbers(&member.read(0, 0).await), (1..=40).collect::<Vec<_>>());
        });
        outcomes
    };
    assert_eq!(play(7), play(7));
    assert_ne!(play(7), play(8));
}

/// What reaches the store at each fault: the numbers of the batches, and whether they were answered.
#[test]
fn each_fault_does_to_the_store_what_it_says() {
    internal::run(async {
        let recorded = Recorded::new(store());
        let calls = recorded.calls();
        let mut member = Member::new(Faulty::new(recorded), sender(1));
        let faults = member.store.faults();
        let reached = || -> Vec<(u64, bool)> {
            calls.take().iter().map(|call| (call.batch.from.number, call.outcome.is_ok())).collect()
        };
        faults.next(Fault::RepeatOld(1));
        member.join(Some("group"), &[subscription("all")], &[]).await;
        assert_eq!((reached(), faults.happened()), (vec![(1, true)], 0), "there was nothing to repeat");
        faults.next(Fault::None);
        member.heartbeat().await;
        faults.next(Fault::Before);
        let batch = member.batch();
        assert!(member.send(batch).await.is_err());
        assert_eq!((reached(), faults.happened()), (vec![(2, true)], 1));
        faults.next(Fault::AnswerLost);
        assert!(member.send(batch).await.is_err());
        assert_eq!((reached(), faults.happened()), (vec![(3, true)], 2));
        // The one before the last that reached it, and then the new one.
        faults.next(Fault::RepeatOld(2));
        member.from.number = 3;
        member.ok(batch).await;
        assert_eq!((reached(), faults.happened()), (vec![(2, false), (4, true)], 3));
        // The last one is answered again.
        faults.next(Fault::RepeatOld(1));
        member.ok(batch).await;
        assert_eq!((reached(), faults.happened()), (vec![(4, true), (5, true)], 4));
        // An error cannot be lost.
        faults.next(Fault::AnswerLost);
        let wrong = whizbang_storage::Sender { number: 99, ..member.from };
        let refused = member.send_as(wrong, batch).await.map(drop);
        assert!(matches!(refused, Err(StoreError::OutOfSequence { .. })), "{refused:?}");
        assert_eq!((reached(), faults.happened(), faults.calls()), (vec![(99, false)], 4, 7));
    });
}

#[test]
fn a_refused_batch_writes_nothing_and_leaves_its_number_free() {
    internal::run(async {
        let mut member = Member::new(Faulty::new(store()), sender(1));
        member.join(Some("group"), &[subscription("all")], &[]).await;
        member.store.faults().next(Fault::NotApplied);
        let (first, second) = (Message::command(1), Message::command(2));
        let (appends, others) = ([first.append()], [second.append()]);
        let refused = member.send(WorkBatch { appends: &appends, ..member.batch() }).await;
        assert!(matches!(refused, Err(StoreError::NotApplied(NotApplied::Failed(_)))), "{refused:?}");
        member.ok(WorkBatch { appends: &others, ..member.batch() }).await;
        assert_eq!(numbers(&member.read(0, 0).await), [2]);
    });
}

#[test]
fn a_delayed_call_goes_through_later() {
    internal::run(async {
        let mut member = Member::new(Faulty::new(store()), sender(1));
        member.store.faults().next(Fault::Delay(Duration::from_millis(30)));
        let started = Instant::now();
        member.join(Some("group"), &[subscription("all")], &[]).await;
        assert!(started.elapsed() >= Duration::from_millis(30));
        assert_eq!((member.store.faults().calls(), member.store.faults().happened()), (1, 1));
    });
}
