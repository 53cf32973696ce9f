//! Makes the steps: abstract ones, whose numbers are taken modulo what there is, so that any of them may be left out.

use fastrand::Rng;

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are numbers taken modulo what there is")]
pub enum Step {
    /// A new process joins: a group (or none), knowing all types or some.
    Join { group: u8, knows: u8 },
    /// A process sends a batch.
    Batch { who: u8, parts: Vec<Part> },
    /// A process is killed.
    Kill { who: u8 },
    /// All processes are killed, and the database is opened again.
    Reopen,
    /// The clock moves on by so many milliseconds.
    Tick(u32),
    /// The clock moves back by so many milliseconds.
    TickBack(u32),
    /// A process shows signs of life while the time to live of all others passes.
    Outlive { who: u8 },
    /// A process sends its last batch again.
    Repeat { who: u8 },
    /// An older batch of a process comes again.
    Replay { who: u8, ago: u8 },
    /// A process sends another batch under its last number.
    Another { who: u8 },
    /// Another process uses the id of one.
    Impostor { who: u8 },
    /// A process joins once more.
    JoinAgain { who: u8 },
}

/// What a batch carries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the parts of `WorkBatch`")]
pub enum Part {
    Heartbeat,
    Leave {
        running: u8,
    },
    Release {
        count: u8,
        running: u8,
    },
    Append {
        stream: u8,
        event: bool,
        key: Option<u8>,
        due_in: Option<u16>,
        now: bool,
        kind: u8,
        bytes: u8,
    },
    Move(u8),
    Read {
        subscription: u8,
        partition: u8,
        after: Option<u8>,
        messages: u8,
        bytes: u16,
        wrong: bool,
    },
    Settle {
        subscription: u8,
        partition: u8,
        first: u8,
        more: u8,
        wrong: bool,
    },
    Unit {
        pick: u8,
        stale: bool,
        wrong: bool,
        how: u8,
        after: u16,
        emits: u8,
        stream: u8,
        expects: Option<u8>,
        projection: Option<(u8, Option<u8>, bool)>,
    },
    Group {
        emits: u8,
        stream: u8,
        key: Option<u8>,
        expects: Option<u8>,
        projection: Option<(u8, Option<u8>, bool)>,
    },
    Due {
        messages: u8,
    },
    Requeue(u8),
    Discard(u8),
    Pause(u8),
    Resume(u8),
    Register(u8),
    Drop(u8),
    Housekeep,
}

impl Step {
    /// The step with one part less, if it has that part and another one.
    pub(super) fn without_part(&self, part: usize) -> Option<Self> {
        match self {
            Self::Batch { who, parts } if part < parts.len() && parts.len() > 1 => {
                let mut parts = parts.clone();
                parts.remove(part);
                Some(Self::Batch { who: *who, parts })
            }
            _ => None,
        }
    }
}

/// A sequence, the same for the same seed.
pub(super) fn generate(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Rng::with_seed(seed);
    // Each sequence has a mood, so that rare things happen in some of them often.
    let mood = Mood { trouble: random.u32(1..8), retries: random.u32(1..6), clock: random.u32(1..5) };
    let mut sequence = vec![Step::Join { group: 0, knows: 0 }];
    while sequence.len() < steps {
        let step = mood.step(&mut random);
        let killed = matches!(step, Step::Kill { .. });
        sequence.push(step);
        // A death matters when somebody takes over.
        if killed && random.bool() {
            sequence.push(Step::Join { group: 0, knows: random.u8(0..4) });
            sequence.push(Step::Outlive { who: random.u8(..) });
            sequence.push(Step::Batch { who: random.u8(..), parts: vec![Part::Due { messages: 8 }] });
        }
    }
    sequence
}

struct Mood {
    trouble: u32,
    retries: u32,
    clock: u32,
}

impl Mood {
    fn step(&self, random: &mut Rng) -> Step {
        let who = random.u8(..);
        match random.u32(0..100) {
            0..=3 => Step::Join {
                group: *random.choice(&[0, 0, 0, 0, 0, 0, 0, 7, 9]).unwrap_or(&0),
                knows: random.u8(0..4),
            },
            n if n < 4 + self.trouble => Step::Kill { who },
            n if n < 6 + self.trouble => Step::Repeat { who },
            n if n < 7 + self.trouble => Step::Replay { who, ago: random.u8(1..4) },
            n if n < 8 + self.trouble => match random.u32(0..4) {
                0 => Step::Impostor { who },
                1 => Step::JoinAgain { who },
                _ => Step::Another { who },
            },
            15 => Step::Outlive { who },
            16 if random.u32(0..4) == 0 => Step::Reopen,
            17 if random.u32(0..2) == 0 => Step::TickBack(random.u32(1..3_000)),
            n if n < 18 + 2 * self.clock => Step::Tick(
                *random.choice(&[1, 500, 1_000, 1_000, 2_000, 2_000, 4_000, 4_900, 11_000]).unwrap_or(&1),
            ),
            _ => {
                let count = *random.choice(&[1, 1, 2, 3, 5]).unwrap_or(&1);
                let parts = (0..count).map(|_| self.part(random)).collect();
                Step::Batch { who, parts }
            }
        }
    }

    fn part(&self, random: &mut Rng) -> Part {
        let sometimes = |random: &mut Rng, one_in: u32| random.u32(0..one_in) == 0;
        let key = |random: &mut Rng| sometimes(random, 4).then(|| random.u8(0..5));
        let projection = |random: &mut Rng| {
            sometimes(random, 4).then(|| {
                let based_on = sometimes(random, 2).then(|| random.u8(1..3));
                (random.u8(0..2), based_on, sometimes(random, 5))
            })
        };
        match random.u32(0..100) {
            0..=11 => Part::Heartbeat,
            12 => Part::Leave { running: random.u8(0..4) },
            13..=15 => Part::Release { count: random.u8(1..3), running: random.u8(0..4) },
            16..=33 => Part::Append {
                stream: random.u8(0..5),
                event: sometimes(random, 2),
                key: key(random),
                due_in: sometimes(random, 8).then(|| random.u16(0..8_000)),
                now: sometimes(random, 2),
                kind: random.u8(0..4),
                bytes: random.u8(0..60),
            },
            34..=37 => Part::Move(random.u8(1..6)),
            38..=49 => Part::Read {
                subscription: *random.choice(&[0, 0, 0, 1, 1, 2, 3]).unwrap_or(&0),
                partition: random.u8(..),
                after: sometimes(random, 4).then(|| random.u8(0..12)),
                messages: *random.choice(&[0, 1, 2, 4, 8, 8, 8]).unwrap_or(&8),
                bytes: *random.choice(&[0, 60, 400, 4_000, 4_000]).unwrap_or(&400),
                wrong: sometimes(random, 16),
            },
            50..=55 => Part::Settle {
                subscription: *random.choice(&[0, 0, 0, 1, 1, 2, 3]).unwrap_or(&0),
                partition: random.u8(..),
                first: random.u8(1..8),
                more: random.u8(0..5),
                wrong: sometimes(random, 16),
            },
            56..=74 => Part::Unit {
                pick: random.u8(..),
                stale: sometimes(random, 8),
                wrong: sometimes(random, 16),
                how: if sometimes(random, self.retries) { random.u8(1..9) } else { 0 },
                after: random.u16(0..3_000),
                emits: random.u8(0..3),
                stream: random.u8(0..5),
                expects: sometimes(random, 4).then(|| random.u8(0..5)),
                projection: projection(random),
            },
            75..=77 => Part::Group {
                emits: random.u8(0..4),
                stream: random.u8(0..5),
                key: key(random),
                expects: sometimes(random, 2).then(|| random.u8(0..5)),
                projection: projection(random),
            },
            78..=88 => Part::Due { messages: *random.choice(&[0, 1, 2, 8, 8, 8]).unwrap_or(&8) },
            89..=90 => Part::Requeue(random.u8(..)),
            91 => Part::Discard(random.u8(..)),
            92 => Part::Pause(random.u8(0..4)),
            93..=94 => Part::Resume(random.u8(0..4)),
            95 => Part::Register(random.u8(0..4)),
            96 if sometimes(random, 3) => Part::Drop(random.u8(0..4)),
            _ => Part::Housekeep,
        }
    }
}
