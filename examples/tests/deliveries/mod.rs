//! What should be in a database that `ingest` wrote, and what is there.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use whizbang::{Service, StoreReader, StreamId, Version};
use whizbang_storage::{Page, WorkStore};
use whizbang_storage_sqlite::SqliteOptions;

/// Deliveries by repository and event.
pub(crate) type Counts = BTreeMap<(String, String), u64>;

/// What there is to know of deliveries: counts, and the order within each repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deliveries {
    pub(crate) counts: Counts,
    pub(crate) in_order: BTreeMap<String, Vec<String>>,
}

impl Deliveries {
    /// What should come out, computed from the lines alone: the first of each id counts.
    pub(crate) fn of_lines(lines: &str) -> Self {
        let mut expected = Self::default();
        let mut seen = HashSet::new();
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("the lines are whole");
            let text = |member: &str| line[member].as_str().map(str::to_owned);
            let delivery = text("delivery").expect("every delivery has an id");
            let repository = text("repository").unwrap_or_else(|| "(none)".to_owned());
            if seen.insert(delivery.clone()) {
                let event = text("event").expect("every delivery has an event");
                *expected.counts.entry((repository.clone(), event)).or_default() += 1;
                expected.in_order.entry(repository).or_default().push(delivery);
            }
        }
        expected
    }

    /// What a database holds: the counts of its projections, and the history of every repository's stream, whose
    /// versions must be 1, 2, 3 ….
    pub(crate) fn of_database(path: &Path, time_to_live: Duration) -> Self {
        let service = Service { time_to_live, ..Service::named("webhooks") };
        let store =
            SqliteOptions { service, ..SqliteOptions::default() }.open(path).expect("the database opens");
        let reader = store.reader();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut found = Self::default();
            for projection in reader.projections("webhooks.counts", b"", 10_000).await.expect("readable") {
                let state: serde_json::Value = serde_json::from_slice(&projection.state).expect("JSON");
                let repository = state["repository"].as_str().expect("a name");
                for (event, count) in state["deliveries"].as_object().expect("counts by event") {
                    let count = count.as_u64().expect("a count");
                    found.counts.insert((repository.to_owned(), event.clone()), count);
                }
                let stream = StreamId::from_key(repository);
                let mut page = Page::default();
                reader.history(stream, Version(0), usize::MAX >> 1, &mut page).await.expect("readable");
                let versions: Vec<u64> =
                    page.iter().map(|event| event.version.expect("a version").0).collect();
                let expected: Vec<u64> = (1..=page.len() as u64).collect();
                assert_eq!(versions, expected, "versions of {repository}");
                let delivery = |payload: &[u8]| {
                    let event: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
                    event["delivery"].as_str().expect("an id").to_owned()
                };
                let deliveries = page.iter().map(|event| delivery(event.payload)).collect();
                found.in_order.insert(repository.to_owned(), deliveries);
            }
            found
        })
    }
}
