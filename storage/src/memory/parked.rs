//! The parked messages of one subscription in one partition, each with its own copy.

use super::message::Message;
use crate::StreamId;
use crate::parked::InLane;
pub(super) use crate::parked::{Mode, State, Suspects};

pub(super) type Row = crate::parked::Row<Message>;
pub(super) type Parked = crate::parked::Parked<Message>;

impl InLane for Message {
    fn lane(&self) -> StreamId {
        self.head.lane()
    }
}
