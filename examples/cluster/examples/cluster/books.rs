//! The books: waiting until everything is handled, and comparing every stream with what the senders were told.

use std::time::{Duration, Instant};

use whizbang::{AnyReader, Message, Projection, StoreReader, StreamKey, Version};
use whizbang_cluster_example::audit::{Audit, Findings, Sender};
use whizbang_storage::Page;

use crate::work::{Done, Tally};
use crate::{Books, Failed, Place};

pub(crate) async fn balance(books: &Books) -> Result<bool, Failed> {
    let reader = books.place.reader().await?;
    let dead = everything_handled(&reader, Duration::from_secs(books.patience)).await?;
    let found = audit(&reader, &books.place, &books.senders).await?;
    println!("{found}\n{dead} failed for good");
    for letter in reader.dead_letters(None, 10).await? {
        println!("  {}: {:?}, {}", letter.type_name, letter.reason, letter.error);
    }
    Ok(found.is_clean() && dead == 0)
}

/// Waits until nothing waits any more; says how many messages failed for good.
pub(crate) async fn everything_handled(reader: &AnyReader, patience: Duration) -> Result<u64, Failed> {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let statistics = reader.statistics().await?;
        let each = statistics.subscriptions.iter();
        let waiting =
            each.map(|each| each.lag + each.parked + each.unroutable).sum::<u64>() + statistics.arrivals;
        if waiting == 0 {
            return Ok(statistics.subscriptions.iter().map(|each| each.dead).sum());
        }
        if begun.elapsed() > patience {
            return Err(format!("{waiting} messages still wait: {statistics:?}").into());
        }
        // Counting takes the server longer the more there is, and those who work need it more.
        tokio::time::sleep(Duration::from_millis(100).max(asked.elapsed() * 4)).await;
    }
}

/// Reads every stream, and compares.
pub(crate) async fn audit(
    reader: &AnyReader,
    place: &Place,
    senders: &[(u64, Sender)],
) -> Result<Findings, Failed> {
    const PAGE: usize = 10_000;
    let mut audit = Audit::new();
    senders.iter().for_each(|(sender, said)| audit.sender(*sender, *said));
    for stream in 0..place.streams {
        let id = stream.stream_id();
        let mut version = Version(0);
        loop {
            let mut page = Page::default();
            reader.history(id, version, PAGE, &mut page).await?;
            for event in page.iter() {
                let next = Version(version.0 + 1);
                let done = Done::decode(event.type_version, event.content_type, event.payload)?;
                if event.version != Some(next) || done.stream != stream {
                    return Err(format!("stream {stream} has something else at version {next:?}").into());
                }
                audit.effect(stream, done.sender, done.number);
                version = next;
            }
            if page.len() < PAGE {
                break;
            }
        }
        let kept = reader.projection(Tally::NAME, &id.to_bytes()).await?;
        let kept: Tally =
            kept.map(|kept| serde_json::from_slice(&kept.state)).transpose()?.unwrap_or_default();
        audit.tally(stream, kept.0);
    }
    Ok(audit.finish())
}
