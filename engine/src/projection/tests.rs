use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex as Lock;
use serde::{Deserialize, Serialize};
use whizbang_storage::{Handed, MessageId, MessageKind, StreamId};

use super::*;
use crate::{Context, Unit};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Totals {
    count: u32,
}

impl Projection for Totals {
    const NAME: &'static str = "totals";
}

/// A store of projections that counts how often it is read.
#[derive(Clone, Default)]
struct Shelf(Arc<Lock<Content>>);

#[derive(Default)]
struct Content {
    states: HashMap<Vec<u8>, (Revision, Vec<u8>)>,
    reads: u32,
    broken: bool,
    /// So many reads fail before one succeeds.
    away_for: u32,
}

impl ProjectionSource for Shelf {
    async fn load(&self, perspective: &str, key: &[u8]) -> Result<Option<(Revision, Vec<u8>)>, ReadError> {
        tokio::task::yield_now().await;
        let mut content = self.0.lock();
        assert_eq!(perspective, "totals");
        content.reads += 1;
        if content.broken || content.away_for > 0 {
            content.away_for = content.away_for.saturating_sub(1);
            return Err(ReadError("the disk is gone".into()));
        }
        Ok(content.states.get(key).cloned())
    }
}

impl Shelf {
    /// What a store does with a unit: all writes, or none when one of them is based on something else.
    fn apply(&self, unit: &Unit) -> bool {
        let mut content = self.0.lock();
        let fits = |write: &whizbang_storage::Projection<'_>| {
            content.states.get(write.key).map(|(revision, _)| *revision) == write.based_on
        };
        if !unit.view().projections().all(|write| fits(&write)) {
            return false;
        }
        for write in unit.view().projections() {
            match write.state {
                Some(state) => {
                    content.states.insert(write.key.to_vec(), (Revision::of(state), state.to_vec()));
                }
                None => drop(content.states.remove(write.key)),
            }
        }
        true
    }

    fn reads(&self) -> u32 {
        self.0.lock().reads
    }
}

struct Bench {
    shelf: Shelf,
    projections: Projections,
}

impl Bench {
    fn new() -> Self {
        Self::bounded(1 << 20)
    }

    fn bounded(bytes_max: usize) -> Self {
        let shelf = Shelf::default();
        Self { projections: Projections::new(Loader::new(shelf.clone()), bytes_max), shelf }
    }

    /// A unit as for a message of this stream.
    fn unit(&self, stream: Option<&str>) -> Unit {
        let id: MessageId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let mut unit = Unit::default();
        unit.set_projections(&self.projections);
        unit.begin(
            &Handed {
                id,
                stream: stream.map(StreamId::from_key),
                version: None,
                kind: MessageKind::Event,
                type_name: "a",
                type_version: 1,
                content_type: ContentType::JSON,
                payload: &[],
                metadata: &[],
                correlation: id.into(),
                causation: None,
                subscription: whizbang_storage::SubscriptionId(1),
                partition: whizbang_storage::Partition(0),
                position: whizbang_storage::Position(1),
                epoch: whizbang_storage::Epoch(1),
                attempt: 1,
                origin: whizbang_storage::Origin::Log,
                lane: whizbang_storage::LaneState::Free,
                condition: whizbang_storage::Condition::Whole,
            },
            None,
        )
        .unwrap();
        unit
    }

    /// A handler that counts one more; its unit.
    async fn count(&self, stream: &str) -> Unit {
        let mut unit = self.unit(Some(stream));
        let mut cx = Context::collecting(&mut unit);
        let mut totals: Totals = cx.load().await.unwrap().unwrap_or_default();
        totals.count += 1;
        cx.save(&totals).unwrap();
        unit
    }

    async fn counted(&self, stream: &str) -> Option<u32> {
        let mut unit = self.unit(Some(stream));
        let totals: Option<Totals> = Context::collecting(&mut unit).load().await.unwrap();
        totals.map(|totals| totals.count)
    }

    /// Cached bytes, as the cache counts them and as they are.
    fn bytes(&self) -> usize {
        let cache = self.projections.shared.cache.lock();
        for generation in [&cache.young, &cache.old] {
            let all = || generation.by_name.values().flatten();
            let bytes: usize = all().map(|(key, entry)| entry.bytes(key)).sum();
            assert_eq!((generation.bytes, generation.count), (bytes, all().count()), "the counts are right");
        }
        cache.young.bytes + cache.old.bytes
    }
}

#[tokio::test]
async fn handlers_run_ahead_of_the_store_on_each_others_states() {
    let bench = Bench::new();
    let mut units = Vec::new();
    for _ in 0..3 {
        let unit = bench.count("a").await;
        bench.projections.commit(&unit.view());
        units.push(unit);
    }
    let based_on: Vec<_> =
        units.iter().map(|unit| unit.view().projections().next().unwrap().based_on).collect();
    let counted = |count: u32| Some(Revision::of(&serde_json::to_vec(&Totals { count }).unwrap()));
    assert_eq!(based_on, [None, counted(1), counted(2)]);
    for unit in &units {
        assert!(bench.shelf.apply(unit), "the store finds each based on the one before");
        bench.projections.applied(&unit.view());
    }
    assert_eq!(bench.shelf.reads(), 1, "only the first had to be read");
    assert_eq!(bench.counted("a").await, Some(3));
}

#[tokio::test]
async fn a_handler_that_failed_leaves_nothing() {
    let bench = Bench::new();
    drop(bench.count("a").await);
    assert_eq!(bench.counted("a").await, None);
}

#[tokio::test]
async fn after_a_conflict_the_state_is_read_again() {
    let bench = Bench::new();
    let stale = bench.count("a").await;
    bench.projections.commit(&stale.view());
    // Somebody else writes it behind the cache's back.
    let key = StreamId::from_key("a").to_bytes().to_vec();
    bench.shelf.0.lock().states.insert(key, (Revision(9), br#"{"count":40}"#.to_vec()));
    assert!(!bench.shelf.apply(&stale));
    bench.projections.not_applied(&stale.view());

    let again = bench.count("a").await;
    assert!(bench.shelf.apply(&again));
    bench.projections.commit(&again.view());
    bench.projections.applied(&again.view());
    assert_eq!(bench.counted("a").await, Some(41));
    assert_eq!(bench.shelf.reads(), 2);
}

#[tokio::test]
async fn what_runs_ahead_of_a_state_that_was_never_written_is_not_applied() {
    let bench = Bench::new();
    let first = bench.count("a").await;
    bench.projections.commit(&first.view());
    let ahead = bench.count("a").await;
    bench.projections.commit(&ahead.view());
    // Another engine writes it, as often as the first would have.
    let key = StreamId::from_key("a").to_bytes().to_vec();
    let theirs = br#"{"count":40}"#.to_vec();
    bench.shelf.0.lock().states.insert(key.clone(), (Revision::of(&theirs), theirs.clone()));
    assert!(!bench.shelf.apply(&first));
    assert!(!bench.shelf.apply(&ahead), "it was computed from a state that is not there");
    assert_eq!(bench.shelf.0.lock().states[&key].1, theirs);
}

#[tokio::test]
async fn a_handler_sees_what_it_saved_itself() {
    let bench = Bench::new();
    let mut unit = bench.unit(Some("a"));
    let mut cx = Context::collecting(&mut unit);
    assert_eq!(cx.load::<Totals>().await.unwrap(), None);
    cx.save(&Totals { count: 5 }).unwrap();
    assert_eq!(cx.load::<Totals>().await.unwrap(), Some(Totals { count: 5 }));
    cx.delete::<Totals>().unwrap();
    assert_eq!(cx.load::<Totals>().await.unwrap(), None);
    cx.save(&Totals { count: 6 }).unwrap();
    let view = unit.view();
    let [write] = &view.projections().collect::<Vec<_>>()[..] else { panic!("one write for one key") };
    assert_eq!((write.state, write.based_on), (Some(&br#"{"count":6}"#[..]), None));
}

#[tokio::test]
async fn a_deleted_projection_starts_anew() {
    let bench = Bench::new();
    let first = bench.count("a").await;
    let mut units = vec![first];
    bench.projections.commit(&units[0].view());
    let mut deleting = bench.unit(Some("a"));
    let mut cx = Context::collecting(&mut deleting);
    cx.load::<Totals>().await.unwrap();
    cx.delete::<Totals>().unwrap();
    bench.projections.commit(&deleting.view());
    units.push(deleting);
    let anew = bench.count("a").await;
    bench.projections.commit(&anew.view());
    units.push(anew);
    assert!(units.iter().all(|unit| bench.shelf.apply(unit)));
    assert_eq!(bench.counted("a").await, Some(1));
}

#[tokio::test]
async fn a_key_that_streams_share_is_one_state() {
    let bench = Bench::new();
    let mut left = bench.unit(Some("a"));
    let mut right = bench.unit(None);
    for unit in [&mut left, &mut right] {
        let mut cx = Context::collecting(unit);
        let totals: Totals = cx.load_key("all").await.unwrap().unwrap_or_default();
        cx.save_key("all", &Totals { count: totals.count + 1 }).unwrap();
    }
    assert!(bench.shelf.apply(&left));
    assert!(!bench.shelf.apply(&right), "it did not see what the other one saved: it runs again");
}

#[tokio::test]
async fn what_cannot_be_done_is_a_typed_error() {
    let bench = Bench::new();
    let mut unit = bench.unit(None);
    let mut cx = Context::collecting(&mut unit);
    assert!(matches!(cx.load::<Totals>().await, Err(ProjectionError::NoStream { name: "totals" })));
    assert!(matches!(
        cx.save_key("k", &Totals::default()),
        Err(ProjectionError::NotLoaded { name: "totals" })
    ));
    assert!(matches!(cx.load_key::<Totals>("").await, Err(ProjectionError::Refused { .. })));
    assert!(matches!(cx.load_key::<Totals>([7; 600]).await, Err(ProjectionError::Refused { .. })));
    assert!(matches!(Context::none().load::<Totals>().await, Err(ProjectionError::NoEngine { .. })));
    assert!(matches!(Context::none().save(&Totals::default()), Err(ProjectionError::NoEngine { .. })));

    bench.shelf.0.lock().states.insert(b"k".to_vec(), (Revision(1), b"no json".to_vec()));
    assert!(matches!(cx.load_key::<Totals>("k").await, Err(ProjectionError::Decode(_))));
    bench.shelf.0.lock().broken = true;
    assert!(matches!(cx.load_key::<Totals>("other").await, Err(ProjectionError::Read(_))));
    bench.shelf.0.lock().broken = false;
    assert_eq!(cx.load_key::<Totals>("other").await.unwrap(), None, "an error is not remembered");
}

#[tokio::test]
async fn the_cache_is_bounded_and_forgets_what_was_not_used() {
    let bench = Bench::bounded(4_000);
    for stream in 0..200 {
        let unit = bench.count(&stream.to_string()).await;
        bench.projections.commit(&unit.view());
        assert!(bench.shelf.apply(&unit));
        bench.projections.applied(&unit.view());
        bench.counted("0").await;
        assert!(bench.bytes() <= 4_000 + 400, "{} bytes", bench.bytes());
    }
    let reads = bench.shelf.reads();
    bench.counted("0").await;
    assert_eq!(bench.shelf.reads(), reads, "what is used all the time stays");
    assert_eq!(bench.counted("1").await, Some(1));
    assert_eq!(bench.shelf.reads(), reads + 1, "what was not used is read again");
}

#[tokio::test]
async fn what_is_not_durable_yet_is_never_dropped() {
    let bench = Bench::bounded(1_000);
    let mut units = Vec::new();
    for stream in 0..50 {
        let unit = bench.count(&stream.to_string()).await;
        bench.projections.commit(&unit.view());
        units.push(unit);
    }
    let reads = bench.shelf.reads();
    for stream in 0..50 {
        assert_eq!(bench.counted(&stream.to_string()).await, Some(1));
    }
    assert_eq!(bench.shelf.reads(), reads, "the store does not have them yet");
    for unit in &units {
        assert!(bench.shelf.apply(unit));
        bench.projections.applied(&unit.view());
    }
    bench.count("more").await;
    bench.count("and more").await;
    for stream in 100..120 {
        bench.counted(&stream.to_string()).await;
    }
    assert!(bench.bytes() <= 1_400, "{} bytes", bench.bytes());
}

#[tokio::test]
async fn a_read_that_was_overtaken_by_a_commit_does_not_bring_the_old_state_back() {
    let bench = Bench::new();
    let ahead = bench.count("a").await;
    let mut unit = bench.unit(Some("a"));
    // Forgotten, so that the next load has to read; the source yields once before it answers.
    bench.projections.forget_all();
    let mut load = Box::pin(async {
        let mut cx = Context::collecting(&mut unit);
        cx.load::<Totals>().await.unwrap()
    });
    let waker = std::task::Waker::noop();
    assert!(load.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    bench.projections.commit(&ahead.view());
    assert_eq!(load.await, Some(Totals { count: 1 }));
}

#[tokio::test]
async fn a_handler_waits_for_a_store_that_cannot_be_read_until_its_deadline_is_near() {
    let bench = Bench::new();
    let mut unit = bench.unit(Some("a"));
    unit.occasion.deadline = Some(Instant::now() + Duration::from_secs(60));
    bench.shelf.0.lock().away_for = 3;
    let totals: Option<Totals> = Context::collecting(&mut unit).load().await.unwrap();
    assert_eq!((totals, bench.shelf.reads()), (None, 4));

    unit.occasion.deadline = Some(Instant::now() + Duration::from_millis(100));
    bench.shelf.0.lock().broken = true;
    let error = Context::collecting(&mut unit).load_key::<Totals>("another").await.unwrap_err();
    assert!(matches!(error, ProjectionError::Read(_)), "the reason is told, not that time was up: {error}");
}
