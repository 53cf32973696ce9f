//! The store's reading side without its type, so that an engine's type does not name its store.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use whizbang_storage::{
    DeadLetter, MessageId, Page, ParkedKey, ProjectionState, ReadError, Statistics, StoreReader, StreamId,
    Version, Whereabouts,
};

type Reading<'s, T> = Pin<Box<dyn Future<Output = Result<T, ReadError>> + Send + 's>>;

/// Reads what the store has: histories, projections, dead letters, counts. Never holds up an exchange.
///
/// It is what [`Engine::reader`](crate::Engine::reader) gives; each method is that of
/// [`StoreReader`](whizbang_storage::StoreReader) under the same name.
#[derive(Clone)]
pub struct AnyReader(Arc<dyn ErasedReader>);

impl AnyReader {
    /// Wraps a reader of any store.
    pub fn new(reader: impl StoreReader) -> Self {
        Self(Arc::new(reader))
    }
}

impl std::fmt::Debug for AnyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyReader")
    }
}

trait ErasedReader: Send + Sync {
    fn history<'s>(
        &'s self,
        stream: StreamId,
        after: Version,
        max: usize,
        page: &'s mut Page,
    ) -> Reading<'s, ()>;
    fn projection<'s>(&'s self, perspective: &'s str, key: &'s [u8]) -> Reading<'s, Option<ProjectionState>>;
    fn projections<'s>(
        &'s self,
        name: &'s str,
        after: &'s [u8],
        max: usize,
    ) -> Reading<'s, Vec<ProjectionState>>;
    fn whereabouts(&self, message: MessageId, stream: Option<StreamId>) -> Reading<'_, Whereabouts>;
    fn dead_letters(&self, after: Option<ParkedKey>, max: usize) -> Reading<'_, Vec<DeadLetter>>;
    fn statistics(&self) -> Reading<'_, Statistics>;
}

impl<R: StoreReader> ErasedReader for R {
    fn history<'s>(
        &'s self,
        stream: StreamId,
        after: Version,
        max: usize,
        page: &'s mut Page,
    ) -> Reading<'s, ()> {
        Box::pin(StoreReader::history(self, stream, after, max, page))
    }

    fn projection<'s>(&'s self, perspective: &'s str, key: &'s [u8]) -> Reading<'s, Option<ProjectionState>> {
        Box::pin(StoreReader::projection(self, perspective, key))
    }

    fn projections<'s>(
        &'s self,
        name: &'s str,
        after: &'s [u8],
        max: usize,
    ) -> Reading<'s, Vec<ProjectionState>> {
        Box::pin(StoreReader::projections(self, name, after, max))
    }

    fn whereabouts(&self, message: MessageId, stream: Option<StreamId>) -> Reading<'_, Whereabouts> {
        Box::pin(StoreReader::whereabouts(self, message, stream))
    }

    fn dead_letters(&self, after: Option<ParkedKey>, max: usize) -> Reading<'_, Vec<DeadLetter>> {
        Box::pin(StoreReader::dead_letters(self, after, max))
    }

    fn statistics(&self) -> Reading<'_, Statistics> {
        Box::pin(StoreReader::statistics(self))
    }
}

impl StoreReader for AnyReader {
    async fn history(
        &self,
        stream: StreamId,
        after: Version,
        messages_max: usize,
        page: &mut Page,
    ) -> Result<(), ReadError> {
        self.0.history(stream, after, messages_max, page).await
    }

    async fn projection(&self, perspective: &str, key: &[u8]) -> Result<Option<ProjectionState>, ReadError> {
        self.0.projection(perspective, key).await
    }

    async fn projections(
        &self,
        perspective: &str,
        after: &[u8],
        count_max: usize,
    ) -> Result<Vec<ProjectionState>, ReadError> {
        self.0.projections(perspective, after, count_max).await
    }

    async fn whereabouts(
        &self,
        message: MessageId,
        stream: Option<StreamId>,
    ) -> Result<Whereabouts, ReadError> {
        self.0.whereabouts(message, stream).await
    }

    async fn dead_letters(
        &self,
        after: Option<ParkedKey>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.0.dead_letters(after, count_max).await
    }

    async fn statistics(&self) -> Result<Statistics, ReadError> {
        self.0.statistics().await
    }
}
