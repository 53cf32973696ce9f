//! Small functions that a `dispatcher!` calls, so that what is wrong with a line is reported in a line of its own.

use whizbang_storage::{Handed, MessageKind};

use super::receptor::Receives;
use crate::codec::DecodeError;
use crate::context::Context;
use crate::failure::Failure;
use crate::message::{Command, Event, Message};
use crate::unit::assert_kind;

/// Compiles for commands only.
///
/// # Panics
/// While compiling: when the command's `KIND` says otherwise.
#[track_caller] // The error stands at the line of the table, not in here.
pub const fn assert_command<C: Command>() {
    assert_kind::<C>(MessageKind::Command);
}

/// Compiles for events only.
///
/// # Panics
/// While compiling: when the event's `KIND` says otherwise.
#[track_caller] // The error stands at the line of the table, not in here.
pub const fn assert_event<E: Event>() {
    assert_kind::<E>(MessageKind::Event);
}

/// The message in what a store handed out.
///
/// # Errors
/// What [`Message::decode`] says.
#[inline(always)]
pub fn decode<M: Message>(handed: &Handed<'_>) -> Result<M, DecodeError> {
    M::decode(handed.type_version, handed.content_type, handed.payload)
}

/// The copy of an event for the next of several receptors.
#[inline]
pub fn copy_for_next_receptor<M: Message + Clone>(message: &M) -> M {
    message.clone()
}

/// Whether this is a plain receptor of `M`; a constant, once it is compiled.
#[inline(always)]
pub const fn is_plain_receptor<M: Message, R: Receives<M, Form>, Form>(_: &R) -> bool {
    R::PLAIN
}

/// Gives a message to a receptor that is known to be plain.
///
/// # Errors
/// What the receptor returns.
///
/// # Panics
/// When the receptor is not plain.
#[inline(always)]
pub fn receive_plain<M: Message, R: Receives<M, Form>, Form>(
    receptor: &R,
    message: M,
    cx: Context<'_>,
) -> Result<(), Failure> {
    let done = receptor.start(message, cx).done();
    done.expect("a plain receptor has run when `start` returns").map(drop)
}
