//! Keeps a database in a journal: every batch before it is applied, and now and then everything at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::data::Data;
use super::{MemoryDatabase, Shared, lock};
use crate::journal::{self, Content, Journal, JournalError, Kind, Replay};
use crate::wire::{Borrowed, Malformed, Wire};
use crate::{Answer, Clock, Service, ServiceError, StoreError, Timestamp, WorkBatch};

/// A journal, and what is known of it.
pub(super) struct Keeper {
    journal: Box<dyn Journal>,
    // The number of the last record.
    last: u64,
    record: Vec<u8>,
    snapshot_after: usize,
    snapshot_bytes: usize,
    bytes_since: usize,
}

/// Bytes of records behind which no snapshot is written, however small the last one is.
const SNAPSHOT_AFTER: usize = 16 << 20;

impl MemoryDatabase {
    /// A database that is what the journal says, and is kept there from now on.
    ///
    /// # Errors
    /// [`JournalError`] when something that was kept cannot be read or understood; nothing was changed.
    pub fn recover(mut journal: impl Journal, clock: Arc<dyn Clock>) -> Result<Self, JournalError> {
        let mut services: HashMap<String, Data> = HashMap::new();
        let mut answer = Answer::default();
        let (mut snapshot_bytes, mut bytes_since) = (0, 0);
        let mut apply = |content: Content<'_>| {
            let damaged = |Malformed| JournalError::Damaged { after: content.number.saturating_sub(1) };
            let mut bytes = content.bytes;
            match content.kind {
                Kind::Snapshot => snapshot_bytes = bytes.len(),
                Kind::Service | Kind::Batch => bytes_since += bytes.len(),
            }
            let applied = match content.kind {
                Kind::Service => found(&mut bytes, &mut services),
                Kind::Batch => again(&mut bytes, &mut services, &mut answer),
                Kind::Snapshot => read_snapshot(&mut bytes, &mut services),
            };
            applied.and(if bytes.is_empty() { Ok(()) } else { Err(Malformed) }).map_err(damaged)
        };
        let mut replay = Replay::new(&mut apply);
        journal.replay(&mut replay)?;
        let last = replay.last();
        let keeper = Keeper {
            journal: Box::new(journal),
            last,
            record: Vec::new(),
            snapshot_after: SNAPSHOT_AFTER,
            snapshot_bytes,
            bytes_since,
        };
        let services = services.into_iter().map(|(name, data)| (name, Arc::new(Shared::new(data)))).collect();
        Ok(Self {
            clock,
            services: Arc::new(Mutex::new(services)),
            keeper: Some(Arc::new(Mutex::new(keeper))),
        })
    }

    /// Writes no snapshot before the records behind the last one have so many bytes; the default is 16 MiB. Less: a shorter
    /// journal to read at the start. More: fewer batches that wait for a snapshot. Nothing happens without a journal.
    #[must_use]
    pub fn snapshot_after(self, bytes: usize) -> Self {
        if let Some(keeper) = &self.keeper {
            lock(keeper).snapshot_after = bytes;
        }
        self
    }

    /// Writes a snapshot now: at a quiet moment, so that the next start is quick, or before the version of this crate changes.
    /// Nothing happens without a journal.
    ///
    /// # Errors
    /// [`JournalError::Write`]: the database goes on without it. [`JournalError::Poisoned`] when a batch panicked before.
    pub fn snapshot(&self) -> Result<(), JournalError> {
        self.write_snapshot(|_| true)
    }

    /// Writes a snapshot if there is enough to be gained. One that fails is tried again when as much has been written once more:
    /// the batch that was applied is not to blame, and the records are still there.
    pub(super) fn snapshot_when_due(&self) {
        let is_due = |keeper: &Keeper| keeper.bytes_since >= keeper.snapshot_after.max(keeper.snapshot_bytes);
        if self.keeper.as_ref().is_some_and(|keeper| is_due(&lock(keeper)))
            && self.write_snapshot(is_due).is_err()
            && let Some(keeper) = &self.keeper
        {
            lock(keeper).bytes_since = 0;
        }
    }

    fn write_snapshot(&self, is_due: impl Fn(&Keeper) -> bool) -> Result<(), JournalError> {
        let Some(keeper) = &self.keeper else {
            return Ok(());
        };
        // In the order in which everybody takes them: the services, the data of each, the journal.
        let services = lock(&self.services);
        let mut services: Vec<(&str, &Arc<Shared>)> =
            services.iter().map(|(name, shared)| (name.as_str(), shared)).collect();
        services.sort_unstable_by_key(|(name, _)| *name);
        let all: Result<Vec<_>, _> = services
            .iter()
            .map(|(name, shared)| Ok((*name, shared.data.lock().map_err(|_| JournalError::Poisoned)?)))
            .collect();
        let all = all?;
        let mut keeper = lock(keeper);
        // Another one may have written it while this one waited.
        if !is_due(&keeper) {
            return Ok(());
        }
        keeper.replace(|out| {
            all.len().put(out);
            for (name, data) in &all {
                name.put(out);
                data.put(out);
            }
        })
    }
}

impl Keeper {
    /// Keeps a service that is opened for the first time.
    pub(super) fn found(&mut self, service: &Service) -> Result<(), ServiceError> {
        let kept = self.append(Kind::Service, |out| service.put(out));
        kept.map_err(|error| ServiceError::NotKept(service.name.clone(), error.to_string()))
    }

    /// Keeps a batch that will be applied at this instant.
    pub(super) fn keep(
        &mut self,
        service: &Service,
        now: Timestamp,
        digest: u64,
        batch: &WorkBatch<'_>,
    ) -> Result<(), StoreError> {
        self.append(Kind::Batch, |out| {
            service.put(out);
            (now, digest).put(out);
            Borrowed::put(batch, out);
        })
    }

    fn append(&mut self, kind: Kind, content: impl FnOnce(&mut Vec<u8>)) -> Result<(), StoreError> {
        let number = self.last + 1;
        journal::write(kind, number, &mut self.record, content);
        self.journal.append(number, &self.record)?;
        self.last = number;
        self.bytes_since += self.record.len();
        Ok(())
    }

    fn replace(&mut self, content: impl FnOnce(&mut Vec<u8>)) -> Result<(), JournalError> {
        // A buffer of its own: what is as large as everything is not kept.
        let mut snapshot = Vec::new();
        journal::write(Kind::Snapshot, self.last, &mut snapshot, content);
        self.journal.replace(self.last, &snapshot)?;
        (self.snapshot_bytes, self.bytes_since) = (snapshot.len(), 0);
        Ok(())
    }
}

/// Sets up a service as it was set up then.
fn found(bytes: &mut &[u8], services: &mut HashMap<String, Data>) -> Result<(), Malformed> {
    let service = Service::get(bytes)?;
    service.validate().map_err(|_| Malformed)?;
    let data = Data::new(&service);
    services.insert(service.name, data).map_or(Ok(()), |_| Err(Malformed))
}

/// Applies a batch as it was applied then.
fn again(
    bytes: &mut &[u8],
    services: &mut HashMap<String, Data>,
    answer: &mut Answer,
) -> Result<(), Malformed> {
    // The digest as it was: how it is computed may change between versions.
    let (service, now, digest) = <(Service, Timestamp, u64)>::get(bytes)?;
    let batch = Borrowed::get(bytes)?;
    let data = services.get_mut(&service.name).ok_or(Malformed)?;
    answer.clear();
    batch.lend(|batch| data.apply(batch, digest, &service, now, answer));
    Ok(())
}

fn read_snapshot(bytes: &mut &[u8], services: &mut HashMap<String, Data>) -> Result<(), Malformed> {
    for _ in 0..usize::get(bytes)? {
        let (name, data) = <(String, Data)>::get(bytes)?;
        services.insert(name, data);
    }
    Ok(())
}
