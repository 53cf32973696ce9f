//! Who gets how much of the room that is left in flight: what is handed out at once, what is due, what is read.

/// How many messages may be handed out by being appended, of so many that may be handed out at all: each goes to every flow,
/// and half is left to others that ask.
pub(crate) fn hand_out_max(room: usize, flows: usize, others_ask: bool) -> usize {
    room / flows / if others_ask { 2 } else { 1 }
}

/// What is left of the room for what is due, and for reads: a half each where both are asked for, and the odd one by turns.
pub(crate) fn share(room: usize, asks_due: bool, reads: bool, turn: u64) -> (usize, usize) {
    match (asks_due, reads) {
        (true, true) => {
            let to_due = room / 2 + (room & turn as usize & 1);
            (to_due, room - to_due)
        }
        (true, false) => (room, 0),
        (false, _) => (0, room),
    }
}

#[cfg(test)]
mod tests {
    use super::{hand_out_max, share};

    #[test]
    fn what_is_handed_out_in_one_exchange_never_exceeds_the_room() {
        for room in 0..40 {
            for flows in 1..5 {
                for (asks_due, reads) in [(true, true), (true, false), (false, true), (false, false)] {
                    for turn in 0..2 {
                        let at_once = hand_out_max(room, flows, asks_due || reads) * flows;
                        let (to_due, to_reads) = share(room - at_once, asks_due, reads, turn);
                        assert!(at_once + to_due + to_reads <= room);
                    }
                }
            }
        }
    }

    #[test]
    fn whoever_asks_gets_something_within_two_turns_however_little_room_there_is() {
        for room in 1..40 {
            let left = room - hand_out_max(room, 1, true);
            let got = (0..2).map(|turn| share(left, true, true, turn));
            let (to_due, to_reads) = got.fold((0, 0), |all, got| (all.0 + got.0, all.1 + got.1));
            assert!(to_due > 0 && to_reads > 0, "{room}");
        }
    }
}
