//! Messages handed out by a store, packed into one buffer.

use core::ops::Range;

use crate::{
    ContentType, CorrelationId, Epoch, MessageId, MessageKind, Partition, Position, StreamId, SubscriptionId,
    Version,
};

/// Messages in the order they were handed out: their bytes lie in one buffer, so a page of a thousand messages is two
/// allocations, and none once it has grown.
///
/// ```
/// # use whizbang_storage::{Page, StreamId};
/// let page = Page::default();
/// assert!(page.is_empty());
/// assert_eq!(page.iter().count(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Page {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    // The type names that occur, each once: a page has few, and a name need not be checked again at every look.
    type_names: Vec<Box<str>>,
}

impl Clone for Page {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), bytes: self.bytes.clone(), type_names: self.type_names.clone() }
    }

    // Kept answers are copied with every batch: the memory is used again.
    fn clone_from(&mut self, source: &Self) {
        self.entries.clone_from(&source.entries);
        self.bytes.clone_from(&source.bytes);
        self.type_names.clone_from(&source.type_names);
    }
}

/// A message as it was stored, with everything that says why it was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed<'p> {
    /// The message's id.
    pub id: MessageId,
    /// Its stream, if it has one.
    pub stream: Option<StreamId>,
    /// Its version in its stream, if it is an event of one.
    pub version: Option<Version>,
    /// Command or event.
    pub kind: MessageKind,
    /// The wire name of its type.
    pub type_name: &'p str,
    /// The version of its type.
    pub type_version: u16,
    /// How the payload is encoded.
    pub content_type: ContentType,
    /// The payload.
    pub payload: &'p [u8],
    /// Headers and trace context, encoded.
    pub metadata: &'p [u8],
    /// The conversation.
    pub correlation: CorrelationId,
    /// The message whose handler emitted this one.
    pub causation: Option<MessageId>,
    /// The subscription it is handed to. In a history: 0.
    pub subscription: SubscriptionId,
    /// Its partition.
    pub partition: Partition,
    /// Its position there.
    pub position: Position,
    /// The epoch to settle it under.
    pub epoch: Epoch,
    /// 1 for the first attempt: failed attempts and crashes so far, plus one.
    pub attempt: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether its stream may go on with it, for this subscription.
    pub lane: LaneState,
    /// Whether the stored row could be read back.
    pub condition: Condition,
}

impl Handed<'_> {
    /// What orders it: its stream, or the stream of one that its id names.
    pub fn lane_id(&self) -> StreamId {
        self.stream.unwrap_or_else(|| self.id.into())
    }
}

/// Where a message that was handed out comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the flow of the log.
    Log,
    /// It was parked, and is due.
    Parked,
    /// An owner that died had it in hand: it may be what killed it.
    Suspect,
    /// It was a dead letter, and an operator sent it again.
    Replay,
}

/// Whether a stream may go on with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// It may run.
    Free,
    /// Earlier work of the stream is parked for this subscription: it must be answered with `Defer`.
    Parked,
}

/// Whether a row could be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Everything is as it was written.
    Whole,
    /// The row is damaged: what could not be read is empty. It should be settled as dead.
    Damaged,
}

#[derive(Debug, Clone)]
struct Entry {
    // What is not bytes is kept as it is handed out; the slices are empty here and stand in `bytes`.
    fixed: Handed<'static>,
    type_name: usize,
    payload: Range<usize>,
    metadata: Range<usize>,
}

/// Type names that an emptied page keeps.
const TYPE_NAMES_KEPT: usize = 64;

impl Page {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all messages.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        // Names are kept: the next messages are most likely of the same types.
        if self.type_names.len() > TYPE_NAMES_KEPT {
            self.type_names.clear();
        }
    }

    /// Gives memory above these bounds back.
    pub fn shrink_to(&mut self, messages: usize, bytes: usize) {
        self.entries.shrink_to(messages);
        self.bytes.shrink_to(bytes);
    }

    /// Copies a message in behind the others.
    pub fn push(&mut self, message: &Handed<'_>) {
        let type_name = self.type_name(message.type_name);
        let payload = self.copy(message.payload);
        let metadata = self.copy(message.metadata);
        let fixed = Handed { type_name: "", payload: &[], metadata: &[], ..*message };
        self.entries.push(Entry { fixed, type_name, payload, metadata });
    }

    /// The message at this place.
    pub fn get(&self, index: usize) -> Option<Handed<'_>> {
        self.entries.get(index).map(|entry| self.handed(entry))
    }

    /// The message at this place without its payload, its metadata and the name of its type, which are empty here: nothing
    /// is copied for a look at the rest.
    pub fn head(&self, index: usize) -> Option<&Handed<'static>> {
        self.entries.get(index).map(|entry| &entry.fixed)
    }

    /// All messages, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Handed<'_>> {
        self.entries.iter().map(|entry| self.handed(entry))
    }

    /// Says of a message already in the page whether its stream may go on with it.
    pub fn set_lane(&mut self, index: usize, lane: LaneState) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.fixed.lane = lane;
        }
    }

    /// The place of this name; that of the message before is tried first.
    fn type_name(&mut self, name: &str) -> usize {
        if let Some(last) = self.entries.last()
            && *self.type_names[last.type_name] == *name
        {
            return last.type_name;
        }
        self.type_names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            self.type_names.push(name.into());
            self.type_names.len() - 1
        })
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn handed<'p>(&'p self, entry: &Entry) -> Handed<'p> {
        Handed {
            type_name: &self.type_names[entry.type_name],
            payload: &self.bytes[entry.payload.clone()],
            metadata: &self.bytes[entry.metadata.clone()],
            ..entry.fixed
        }
    }
}
