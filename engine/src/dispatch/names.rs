//! From the wire name of a type to its number, through a table that is built while compiling.

use super::Kind;
use crate::message::same;

/// A message type as a dispatcher lists it: its wire name, and what it is called in the program.
#[derive(Debug, Clone, Copy)]
pub struct NamedType {
    /// The wire name.
    pub name: &'static str,
    /// The type as it stands in the `dispatcher!`.
    pub rust: &'static str,
}

/// A hash table from wire names to numbers, built while compiling. `SLOTS` is a power of two, at least twice the names.
///
/// ```
/// use whizbang::dispatch::{Kind, NameTable};
///
/// const TABLE: NameTable<4> = NameTable::new(&["orders.create", "orders.created"]);
/// assert_eq!(TABLE.find("orders.created"), Some(Kind(1)));
/// assert_eq!(TABLE.find("orders.deleted"), None);
/// ```
#[derive(Debug)]
pub struct NameTable<const SLOTS: usize> {
    slots: [Option<(&'static str, Kind)>; SLOTS],
}

impl<const SLOTS: usize> NameTable<SLOTS> {
    /// Slots for so many names.
    pub const fn slots_for(names: usize) -> usize {
        let slots = (2 * names).next_power_of_two();
        if slots < 2 { 2 } else { slots }
    }

    /// The table of these names; the number of a name is its place.
    ///
    /// # Panics
    /// While compiling: when there are fewer than twice as many slots as names, or no power of two, or more than 65,535
    /// names.
    pub const fn new(names: &[&'static str]) -> Self {
        assert!(SLOTS.is_power_of_two() && names.len() * 2 <= SLOTS, "too few slots, or not a power of two");
        assert!(names.len() <= u16::MAX as usize, "a dispatcher knows at most 65,535 message types");
        let mut slots = [None; SLOTS];
        let mut number = 0;
        while number < names.len() {
            let mut slot = Self::slot_of(names[number].as_bytes());
            while slots[slot].is_some() {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = Some((names[number], Kind(number as u16)));
            number += 1;
        }
        Self { slots }
    }

    /// The number of this name.
    #[inline]
    pub fn find(&self, name: &str) -> Option<Kind> {
        let mut slot = Self::slot_of(name.as_bytes());
        // There are always empty slots, so this ends.
        loop {
            match self.slots[slot] {
                Some((found, kind)) if found == name => return Some(kind),
                Some(_) => slot = (slot + 1) % SLOTS,
                None => return None,
            }
        }
    }

    /// From the length and three pieces of eight bytes: names that agree in all of them share a slot's chain.
    #[inline]
    const fn slot_of(name: &[u8]) -> usize {
        const MULTIPLY: u64 = 0x9FB2_1C65_1E98_DF25;
        let length = name.len();
        let mut hash = length as u64;
        if length >= 8 {
            hash = (hash ^ piece(name, 0)).wrapping_mul(MULTIPLY);
            hash = (hash.rotate_right(29) ^ piece(name, length / 2 - 4)).wrapping_mul(MULTIPLY);
            hash = (hash.rotate_right(29) ^ piece(name, length - 8)).wrapping_mul(MULTIPLY);
        } else {
            let mut at = 0;
            while at < length {
                hash = hash << 8 | name[at] as u64;
                at += 1;
            }
            hash = hash.wrapping_mul(MULTIPLY);
        }
        // The high bits of a product depend on all bits of its factors.
        (hash >> 32) as usize % SLOTS
    }
}

/// Eight bytes from `at`, as a number.
#[inline]
const fn piece(name: &[u8], at: usize) -> u64 {
    match name.split_at(at).1.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

/// Refuses two types with one name, while compiling.
///
/// # Panics
/// With a text that names both types.
#[track_caller] // The error stands at the table, not in here.
pub const fn assert_unique(types: &[NamedType]) {
    let mut left = 0;
    while left < types.len() {
        let mut right = left + 1;
        while right < types.len() {
            if same(types[left].name, types[right].name) {
                Text::new()
                    .and("two message types of this dispatcher have the wire name \"")
                    .and(types[left].name)
                    .and("\": `")
                    .and(types[left].rust)
                    .and("` and `")
                    .and(types[right].rust)
                    .and("`; give one of them another name in its `#[message(name = \"…\")]`")
                    .panic();
            }
            right += 1;
        }
        left += 1;
    }
}

/// Puts a text together while compiling, where `format!` is not possible.
struct Text {
    bytes: [u8; 1_024],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; 1_024], length: 0 }
    }

    const fn and(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() && self.length < self.bytes.len() {
            self.bytes[self.length] = text[at];
            self.length += 1;
            at += 1;
        }
        self
    }

    #[track_caller]
    const fn panic(&self) -> ! {
        match core::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => panic!("{}", text),
            // It was cut in the middle of a character.
            Err(_) => panic!("two message types of this dispatcher have the same wire name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 10] = [
        "orders.create",
        "orders.created",
        "orders.cancel",
        "orders.cancelled",
        "a",
        "b",
        "ab",
        "ba",
        "payments.charge-card",
        "payments.charged-card",
    ];

    #[test]
    fn every_name_has_its_number_and_no_other_text_has_one() {
        const TABLE: NameTable<32> = NameTable::new(&NAMES);
        for (number, name) in NAMES.iter().enumerate() {
            assert_eq!(TABLE.find(name), Some(Kind(number as u16)), "{name}");
        }
        for other in ["", "c", "orders.creates", "orders.creat", "ORDERS.CREATE", "payments.charge-carD"] {
            assert_eq!(TABLE.find(other), None, "{other}");
        }
    }

    #[test]
    fn names_that_hash_alike_are_told_apart() {
        // The pieces that are hashed are the same in both.
        let left = format!("{}x{}", "a".repeat(30), "a".repeat(60));
        let right = format!("{}x{}", "a".repeat(31), "a".repeat(59));
        let names: [&'static str; 2] = [left.leak(), right.leak()];
        let table = NameTable::<4>::new(&names);
        assert_eq!((table.find(names[0]), table.find(names[1])), (Some(Kind(0)), Some(Kind(1))));
        assert_eq!(table.find(&"a".repeat(91)), None);
    }

    #[test]
    fn a_table_of_nothing_finds_nothing() {
        assert_eq!(NameTable::<2>::new(&[]).find("a"), None);
    }

    #[test]
    #[should_panic(expected = "have the wire name \"a\": `crate::A` and `B`; give one of them another name")]
    fn two_types_with_one_name_are_named() {
        let named = |name, rust| NamedType { name, rust };
        assert_unique(&[named("a", "crate::A"), named("b", "C"), named("a", "B")]);
    }
}
