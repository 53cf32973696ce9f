//! Stored messages of ten kinds on the way to their receptors, beside a `match` written by hand.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use whizbang::dispatch::{Handed, Kind, Routed};
use whizbang::{
    Command, ContentType, Context, Dispatcher, Failure, Message, MessageId, MessageKind, PlainReceptor,
    Receptor, dispatcher,
};
use whizbang_storage::{Condition, Epoch, LaneState, Origin, Partition, Position, SubscriptionId};

use crate::calls::ready;
use crate::rows::{Floor, Must, Ours, Rival, Row, Table};

pub(crate) fn rows(table: &mut Table) {
    let must = Some(Must::OverFloor(4.0));
    table.row("route-same", "stored messages of 10 kinds, always the same one", must, |row| {
        contestants(row, vec![4; KINDS]);
    });
    table.row("route-random", "stored messages of 10 kinds, at random", must, |row| {
        contestants(row, random_kinds());
    });
}

const KINDS: usize = 1_024;

fn contestants(row: &mut Row<'_>, kinds: Vec<u16>) {
    let messages: Vec<_> = kinds.into_iter().map(|kind| (kind, handed(NAMES[usize::from(kind)]))).collect();
    let next = || {
        let messages = messages.clone();
        let mut at = 0;
        move || {
            at = (at + 1) % KINDS;
            messages[at]
        }
    };
    let (plain, asynchronous) = (|| TenApp { ten: Ten }, || TenAsyncApp { ten: TenAsync });

    let (mut message, app) = (next(), plain());
    row.call(Ours, "route by number, plain receptors", move || {
        let (kind, message) = message();
        done(app.route(0, Kind(kind), &message, Context::none()))
    });
    let (mut message, app) = (next(), plain());
    row.call(Ours, "resolve the name, then route, plain receptors", move || {
        let (_, message) = message();
        let kind = TenApp::resolve(message.type_name).expect("it is in the table");
        done(app.route(0, kind, &message, Context::none()))
    });
    let (mut message, app) = (next(), asynchronous());
    row.call(Ours, "route by number, async receptors, polled", move || {
        let (kind, message) = message();
        match app.route(0, Kind(kind), &message, Context::none()) {
            Routed::Running(future) => ready(future),
            _ => unreachable!("they are async"),
        }
    });
    let (mut message, app) = (next(), plain());
    row.call(Floor, "match by hand, plain receptors", move || {
        let (kind, message) = message();
        matched(kind, &message, &app.ten)
    });
    let (mut message, app) = (next(), asynchronous());
    row.call(Rival, "match by hand, boxed async receptors, polled", move || {
        let (kind, message) = message();
        ready(boxed(kind, &message, &app.ten)?)
    });
}

fn done<F>(routed: Routed<F>) -> Result<(), Failure> {
    match routed {
        Routed::Done(result) => result,
        _ => unreachable!("they are plain"),
    }
}

macro_rules! kinds {
    ($($ty:ident $number:literal $name:literal $factor:literal,)*) => {
        $(
            #[derive(Clone, Copy, Serialize, Deserialize, Command)]
            #[message(name = $name, version = 1, codec = postcard)]
            struct $ty(u8);

            impl PlainReceptor<$ty> for Ten {
                #[inline]
                fn receive_now(&self, command: $ty, _: Context<'_>) -> Result<(), Failure> {
                    black_box(u64::from(command.0) * $factor);
                    Ok(())
                }
            }

            impl Receptor<$ty> for TenAsync {
                async fn receive(&self, command: $ty, _: Context<'_>) -> Result<(), Failure> {
                    black_box(u64::from(command.0) * $factor);
                    Ok(())
                }
            }
        )*

        dispatcher! {
            struct TenApp { ten: Ten }
            $(command $ty => ten;)*
        }
        dispatcher! {
            struct TenAsyncApp { ten: TenAsync }
            $(command $ty => ten;)*
        }

        /// What routing cannot be cheaper than: one `match` on a number that is known, written by hand.
        #[inline(never)]
        fn matched(kind: u16, message: &Handed<'_>, ten: &Ten) -> Result<(), Failure> {
            match kind {
                $($number => {
                    let command = $ty::decode(message.type_version, message.content_type, message.payload)?;
                    ten.receive_now(command, Context::none())
                })*
                _ => Err(Failure::msg("unknown")),
            }
        }

        type Boxed<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

        /// What is usually written for async handlers.
        #[inline(never)]
        fn boxed<'a>(kind: u16, message: &Handed<'_>, ten: &'a TenAsync) -> Result<Boxed<'a>, Failure> {
            match kind {
                $($number => {
                    let command = $ty::decode(message.type_version, message.content_type, message.payload)?;
                    Ok(Box::pin(ten.receive(command, Context::none())))
                })*
                _ => Err(Failure::msg("unknown")),
            }
        }

        const NAMES: [&str; 10] = [$($name),*];
    };
}

struct Ten;
struct TenAsync;

kinds! {
    K0 0 "orders.create" 3, K1 1 "orders.created" 5, K2 2 "orders.cancel" 7, K3 3 "orders.cancelled" 11,
    K4 4 "payments.charge" 13, K5 5 "payments.charged" 17, K6 6 "payments.refund" 19, K7 7 "payments.refunded" 23,
    K8 8 "shipping.ship" 29, K9 9 "shipping.shipped" 31,
}

fn random_kinds() -> Vec<u16> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 10) as u16
    };
    std::iter::repeat_with(next).take(KINDS).collect()
}

fn handed(type_name: &'static str) -> Handed<'static> {
    let id: MessageId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("a UUID");
    Handed {
        id,
        stream: None,
        version: None,
        kind: MessageKind::Command,
        type_name,
        type_version: 1,
        content_type: ContentType::POSTCARD,
        payload: &[5],
        metadata: &[],
        correlation: id.into(),
        causation: None,
        subscription: SubscriptionId(1),
        partition: Partition(0),
        position: Position(1),
        epoch: Epoch(1),
        attempt: 1,
        origin: Origin::Log,
        lane: LaneState::Free,
        condition: Condition::Whole,
    }
}
