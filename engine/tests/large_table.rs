//! A table of 150 async receptors: nothing in it is limited by the number of lines.

use serde::{Deserialize, Serialize};
use whizbang::codec::{self, Buffer, DecodeError, EncodeError};
use whizbang::dispatch::Routed;
use whizbang::{
    Command, ContentType, Context, Dispatcher, Failure, Message, MessageKind, Receptor, StreamId, dispatcher,
};

mod common;
use common::stored;

#[derive(Serialize, Deserialize)]
struct Numbered<const N: usize>(u64);

struct All;

impl<const N: usize> Receptor<Numbered<N>> for All {
    async fn receive(&self, message: Numbered<N>, _: Context<'_>) -> Result<u64, Failure> {
        tokio::task::yield_now().await;
        if message.0 == 0 { Err(Failure::msg(N)) } else { Ok(message.0 + N as u64) }
    }
}

impl<const N: usize> Message for Numbered<N> {
    const NAME: &'static str = NAMES[N];
    const VERSION: u16 = 1;
    const KIND: MessageKind = MessageKind::Command;
    const CONTENT_TYPE: ContentType = ContentType::JSON;
    type Reply = u64;

    fn stream(&self) -> Option<StreamId> {
        None
    }

    fn encode(&self, out: &mut impl Buffer) -> Result<(), EncodeError> {
        codec::encode(Self::NAME, Self::CONTENT_TYPE, self, out)
    }

    fn decode(version: u16, content_type: ContentType, bytes: &[u8]) -> Result<Self, DecodeError> {
        whizbang::message::decode_current(version, content_type, bytes)
    }
}

impl<const N: usize> Command for Numbered<N> {}

macro_rules! table {
    ($($number:literal)*) => {
        const NAMES: &[&str] = &[$(concat!("numbered.", $number)),*];

        dispatcher! {
            struct App { all: All }
            $(command Numbered<$number> => all;)*
        }

        /// Each message, routed: its receptor fails with its own number.
        async fn each_number_answers(app: &App) {
            $(
                let message = stored(&Numbered::<$number>(0));
                let kind = App::resolve(concat!("numbered.", $number)).expect("it is in the table");
                assert_eq!(kind.0, $number);
                match app.route(0, kind, &message.handed(), Context::none()) {
                    Routed::Running(future) => {
                        assert_eq!(future.await.unwrap_err().to_string(), stringify!($number));
                    }
                    _ => panic!("an async receptor is awaited"),
                }
            )*
        }
    };
}

table! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36
    37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69
    70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95 96 97 98 99 100 101
    102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117 118 119 120 121 122 123 124 125 126
    127 128 129 130 131 132 133 134 135 136 137 138 139 140 141 142 143 144 145 146 147 148 149
}

#[tokio::test]
async fn every_line_of_a_large_table_is_reached() {
    let app = App { all: All };
    each_number_answers(&app).await;
    assert_eq!(app.invoke(Numbered::<149>(1)).await.unwrap(), 150);
    assert_eq!(App::TYPES.len(), 150);
}
