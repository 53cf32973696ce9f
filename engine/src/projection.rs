//! State that receptors keep per stream or per key: loaded, saved in the handler's unit, cached by the partition's owner.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use whizbang_storage::{ContentType, ReadError, Refusal, Revision, StoreReader};

use crate::codec::DecodeError;
use crate::failure::whole;
use crate::host;
use crate::unit::{EmitError, UnitView};

/// State that a receptor keeps: one per stream, or one per key of its own.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use whizbang::Projection;
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Totals {
///     deliveries: u64,
/// }
///
/// impl Projection for Totals {
///     const NAME: &'static str = "totals";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a projection",
    label = "not a projection",
    note = "write `impl Projection for {Self} {{ const NAME: &'static str = \"…\"; }}`, and derive `Serialize` and `Deserialize`"
)]
pub trait Projection: Serialize + DeserializeOwned + Send + 'static {
    /// The name it is stored under. It never changes; 1 to 200 bytes without NUL.
    const NAME: &'static str;

    /// How it is encoded. Nothing stored says so beside it: after a change, what was stored before cannot be read.
    const CONTENT_TYPE: ContentType = ContentType::JSON;
}

/// Why a projection could not be loaded, saved or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The receptor was called directly, and there is nothing to load from.
    #[error("no engine: projection `{name}` can only be used by a receptor that an engine calls")]
    NoEngine {
        /// The projection's name.
        name: &'static str,
    },
    /// The message belongs to no stream, so there is no state of its stream.
    #[error("the message has no stream, so `{name}` needs a key of its own: `load_key`, `save_key`")]
    NoStream {
        /// The projection's name.
        name: &'static str,
    },
    /// It was not loaded before by this handler, so nobody knows what the new state would replace.
    #[error("`{name}` must be loaded before it is saved or deleted")]
    NotLoaded {
        /// The projection's name.
        name: &'static str,
    },
    /// Its name or key cannot be stored.
    #[error("projection `{name}` cannot be stored: {refusal}")]
    Refused {
        /// The projection's name.
        name: &'static str,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is stored does not fit the type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The new state could not be put into the unit.
    #[error(transparent)]
    Save(#[from] EmitError),
}

/// Where projections are read from when the cache does not have them: every store's reading side.
pub trait ProjectionSource: Send + Sync + 'static {
    /// The revision and state of one projection, if it exists.
    ///
    /// # Errors
    /// [`ReadError`] when it could not be read.
    fn load(
        &self,
        perspective: &str,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<(Revision, Vec<u8>)>, ReadError>> + Send;
}

impl<R: StoreReader> ProjectionSource for R {
    async fn load(&self, perspective: &str, key: &[u8]) -> Result<Option<(Revision, Vec<u8>)>, ReadError> {
        let found = self.projection(perspective, key).await?;
        Ok(found.map(|projection| (projection.revision, projection.state)))
    }
}

/// A source of any type, shared by all caches of an engine.
#[derive(Clone)]
pub struct Loader(Arc<dyn Load>);

impl Loader {
    /// Reads from this source.
    pub fn new(source: impl ProjectionSource) -> Self {
        Self(Arc::new(source))
    }
}

/// [`ProjectionSource`] with a boxed future: a contexts's type names no source. Only a miss of the cache pays for it.
trait Load: Send + Sync {
    fn load_boxed<'s>(&'s self, perspective: &'s str, key: &'s [u8]) -> Loading<'s>;
}

type Loading<'s> = Pin<Box<dyn Future<Output = Result<Option<(Revision, Vec<u8>)>, ReadError>> + Send + 's>>;

impl<S: ProjectionSource> Load for S {
    fn load_boxed<'s>(&'s self, perspective: &'s str, key: &'s [u8]) -> Loading<'s> {
        Box::pin(self.load(perspective, key))
    }
}

/// Between two attempts to read a store that is away.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The projections as the handlers of one worker see them: a cache in front of a source. Clones share both.
///
/// Whoever settles units tells it what became of them:
///
/// 1. a handler returned `Ok`: [`commit`](Self::commit) what its unit carries, before the next message of its stream runs.
///    Later handlers see the new state although it is not durable yet; what they save is based on it.
/// 2. the store has answered: [`applied`](Self::applied), or [`not_applied`](Self::not_applied), which forgets the states,
///    so that they are read again.
///
/// A handler that failed needs neither: nothing of its unit is in the cache. A worker that no longer owns a partition
/// drops the partition's cache.
#[derive(Clone)]
pub struct Projections {
    shared: Arc<Shared>,
}

struct Shared {
    loader: Loader,
    cache: Mutex<ProjectionCache>,
}

impl Projections {
    /// An empty cache of at most so many bytes in front of this source.
    pub fn new(loader: Loader, bytes_max: usize) -> Self {
        let cache = Mutex::new(ProjectionCache::new(bytes_max));
        Self { shared: Arc::new(Shared { loader, cache }) }
    }

    /// The states in this unit are the newest there are, not durable yet.
    pub fn commit(&self, unit: &UnitView<'_>) {
        self.with_writes(unit, ProjectionCache::commit);
    }

    /// The store has written this unit.
    pub fn applied(&self, unit: &UnitView<'_>) {
        self.with_writes(unit, ProjectionCache::applied);
    }

    /// The store has not written this unit, and never will.
    pub fn not_applied(&self, unit: &UnitView<'_>) {
        self.with_writes(unit, ProjectionCache::not_applied);
    }

    /// Forgets everything: all of it is read again when it is asked for.
    pub fn forget_all(&self) {
        self.shared.cache.lock().clear();
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The newest state of a projection, from the cache or the source.
    pub(crate) async fn load(&self, perspective: &'static str, key: &[u8]) -> Result<Cached, ReadError> {
        if let Some(cached) = self.shared.cache.lock().find(perspective, key) {
            return Ok(cached);
        }
        let loaded = self.shared.loader.0.load_boxed(perspective, key).await?;
        let loaded = loaded.map(|(revision, state)| (revision, Arc::from(state)));
        Ok(self.shared.cache.lock().put_loaded(perspective, key, loaded))
    }

    /// As [`load`](Self::load), again and again while the store cannot be read, until the deadline is near: that it is away is no
    /// fault of the message, and would cost it an attempt. Without a deadline whoever asks is told at once.
    pub(crate) async fn load_until(
        &self,
        deadline: Option<Instant>,
        perspective: &'static str,
        key: &[u8],
    ) -> Result<Cached, ReadError> {
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.load(perspective, key).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let is_over = |deadline| host::now() + 2 * pause >= deadline;
            if deadline.is_none_or(is_over) {
                return Err(error);
            }
            if pause == PAUSE_FIRST {
                let error = whole(&error);
                tracing::warn!(error, perspective, "projection: the store cannot be read; the handler waits");
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn with_writes(
        &self,
        unit: &UnitView<'_>,
        what: fn(&mut ProjectionCache, &whizbang_storage::Projection<'_>),
    ) {
        let mut writes = unit.projections();
        if writes.len() > 0 {
            let mut cache = self.shared.cache.lock();
            writes.by_ref().for_each(|write| what(&mut cache, &write));
        }
    }
}

impl std::fmt::Debug for Projections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cache = self.shared.cache.lock();
        f.debug_struct("Projections")
            .field("cached", &(cache.young.count + cache.old.count))
            .field("bytes", &(cache.young.bytes + cache.old.bytes))
            .finish()
    }
}

/// A projection as it is known: revision and state, or that there is none.
pub(crate) type Cached = Option<(Revision, Arc<[u8]>)>;
pub(crate) type Key = SmallVec<[u8; 24]>;

/// A projection that a handler has loaded, and perhaps saved.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) perspective: &'static str,
    pub(crate) key: Key,
    /// What a save is based on.
    pub(crate) revision: Option<Revision>,
    /// Where its write starts in the unit's record.
    pub(crate) write: Option<usize>,
}

/// The states in memory: bounded, and never without the newest state of what is not durable yet.
///
/// Two generations: what is used moves to the young one; when that is half of the bound, it becomes the old one, and what
/// nobody has used since is dropped.
struct ProjectionCache {
    young: Generation,
    old: Generation,
    bytes_max: usize,
}

#[derive(Default)]
struct Generation {
    // Names outside, so that both can be looked up by what a unit's view borrows.
    by_name: HashMap<Box<str>, HashMap<Key, Entry>>,
    count: usize,
    bytes: usize,
}

struct Entry {
    cached: Cached,
    /// Units with a write of it that the store has not answered.
    pending: u32,
}

/// What an entry costs beside its key and state.
const ENTRY_BYTES: usize = 128;

impl ProjectionCache {
    fn new(bytes_max: usize) -> Self {
        Self { young: Generation::default(), old: Generation::default(), bytes_max }
    }

    fn find(&mut self, perspective: &str, key: &[u8]) -> Option<Cached> {
        if let Some(entry) = self.young.entry(perspective, key) {
            return Some(entry.cached.clone());
        }
        let entry = self.old.take(perspective, key)?;
        let cached = entry.cached.clone();
        self.put(perspective, key, entry);
        Some(cached)
    }

    /// What was just read; what came into the cache meanwhile is newer.
    fn put_loaded(&mut self, perspective: &str, key: &[u8], loaded: Cached) -> Cached {
        if let Some(newer) = self.find(perspective, key) {
            return newer;
        }
        self.put(perspective, key, Entry { cached: loaded.clone(), pending: 0 });
        loaded
    }

    fn commit(&mut self, write: &whizbang_storage::Projection<'_>) {
        let (name, key) = (write.perspective, write.key);
        let pending = self.take(name, key).map_or(0, |entry| entry.pending);
        let cached = write.state.map(|state| (Revision::of(state), Arc::from(state)));
        self.put(name, key, Entry { cached, pending: pending + 1 });
    }

    fn applied(&mut self, write: &whizbang_storage::Projection<'_>) {
        let (name, key) = (write.perspective, write.key);
        if let Some(entry) = self.young.entry(name, key).or_else(|| self.old.entry(name, key)) {
            entry.pending = entry.pending.saturating_sub(1);
        }
    }

    fn not_applied(&mut self, write: &whizbang_storage::Projection<'_>) {
        self.take(write.perspective, write.key);
    }

    fn take(&mut self, perspective: &str, key: &[u8]) -> Option<Entry> {
        self.young.take(perspective, key).or_else(|| self.old.take(perspective, key))
    }

    fn put(&mut self, perspective: &str, key: &[u8], entry: Entry) {
        self.young.put(perspective, key, entry);
        if self.young.bytes > self.bytes_max / 2 {
            let dropped = core::mem::replace(&mut self.old, core::mem::take(&mut self.young));
            // What is not durable yet cannot be read from anywhere else.
            for (name, entries) in dropped.by_name {
                for (key, entry) in entries.into_iter().filter(|(_, entry)| entry.pending > 0) {
                    self.old.put(&name, &key, entry);
                }
            }
        }
    }

    fn clear(&mut self) {
        self.young = Generation::default();
        self.old = Generation::default();
    }
}

impl Generation {
    fn entry(&mut self, perspective: &str, key: &[u8]) -> Option<&mut Entry> {
        self.by_name.get_mut(perspective)?.get_mut(key)
    }

    fn take(&mut self, perspective: &str, key: &[u8]) -> Option<Entry> {
        let entry = self.by_name.get_mut(perspective)?.remove(key)?;
        self.count -= 1;
        self.bytes -= entry.bytes(key);
        Some(entry)
    }

    /// Puts in what is not there.
    fn put(&mut self, perspective: &str, key: &[u8], entry: Entry) {
        self.count += 1;
        self.bytes += entry.bytes(key);
        if !self.by_name.contains_key(perspective) {
            self.by_name.insert(perspective.into(), HashMap::new());
        }
        let entries = self.by_name.get_mut(perspective).expect("it was put in above");
        entries.insert(Key::from_slice(key), entry);
    }
}

impl Entry {
    fn bytes(&self, key: &[u8]) -> usize {
        ENTRY_BYTES + key.len() + self.cached.as_ref().map_or(0, |(_, state)| state.len())
    }
}

#[cfg(test)]
mod tests;
