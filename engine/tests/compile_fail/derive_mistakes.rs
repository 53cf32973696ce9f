//! Mistakes in a derive are told at the word that is wrong.
use whizbang::{Command, Event};

#[derive(Command)]
struct NoAttribute;

#[derive(Command)]
#[message(version = 1)]
struct NoName;

#[derive(Event)]
#[message(name = "a")]
struct NoVersion;

#[derive(Command)]
#[message(name = "a", version = 0)]
struct VersionZero;

#[derive(Command)]
#[message(name = "a", version = 70000)]
struct VersionTooLarge;

#[derive(Command)]
#[message(name = "", version = 1)]
struct EmptyName;

#[derive(Command)]
#[message(name = "a\0b", version = 1)]
struct NulInName;

#[derive(Command)]
#[message(name = "a", version = 1, topic = "b")]
struct UnknownKey;

#[derive(Command)]
#[message(name = "a", name = "b", version = 1)]
struct NameTwice;

#[derive(Command)]
#[message(name = "a", version = 1, codec = xml)]
struct UnknownCodec;

#[derive(Event)]
#[message(name = "a", version = 1, reply = u64)]
struct EventWithReply;

#[derive(Event)]
#[message(name = "a", version = 1)]
struct Generic<T> {
    value: T,
}

#[derive(Event)]
#[message(name = "a", version = 1)]
struct Borrowed<'a> {
    value: &'a str,
}

#[derive(Event)]
#[message(name = "a", version = 1)]
struct Static {
    value: &'static str,
}

#[derive(Event)]
#[message(name = "a", version = 1)]
struct TwoStreams {
    #[stream]
    one: u64,
    #[stream]
    two: u64,
}

#[derive(Event)]
#[message(name = "a", version = 1)]
enum StreamInEnum {
    One {
        #[stream]
        one: u64,
    },
}

#[derive(Event)]
#[message(name = "a", version = 1)]
struct StreamWithValue {
    #[stream(key)]
    one: u64,
}

fn main() {}
