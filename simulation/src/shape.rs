//! What a seed stands for: how large everything is, what is sent, and what goes wrong when.

use std::time::Duration;

use whizbang::{Limits, Options, Service};
use whizbang_storage_conformance::Odds;

use crate::planted::Defect;
use crate::scheduler::Habits;

/// Everything about a run that is decided before it begins.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) service: Service,
    pub(crate) options: Options,
    pub(crate) habits: Habits,
    pub(crate) odds: Odds,
    /// The longest time a call to the store takes, before and after it is applied.
    pub(crate) latency_max: Duration,
    /// Of a thousand reads beside the pump, how many fail.
    pub(crate) reads_fail: u32,
    /// Whether the store tells the others that there is work for them.
    pub(crate) hints: bool,
    /// Engines that are there from the beginning.
    pub(crate) engines: usize,
    /// Whether one more is there that joins no group: it only publishes.
    pub(crate) has_outsider: bool,
    /// Whether some engines are of an older version of the service, which lacks a message type.
    pub(crate) has_old_ones: bool,
    pub(crate) offers: Vec<Offer>,
    /// What each producer does, in its order.
    pub(crate) producers: Vec<Vec<Deed>>,
    pub(crate) mishaps: Vec<Mishap>,
    /// A defect that the engine or the store has.
    pub(crate) planted: Option<Defect>,
}

/// One message, before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// None: a message of no stream.
    pub(crate) stream: Option<u64>,
    pub(crate) plan: Plan,
    /// The producer to whose order it belongs.
    pub(crate) ordered_by: Option<usize>,
    /// Of all with the same key, one counts.
    pub(crate) once: Option<u32>,
    /// All of a group are stored, or none.
    pub(crate) group: Option<usize>,
    /// Sent by the handler of this one.
    pub(crate) parent: Option<usize>,
    /// It is invoked where it is sent, and never stored itself.
    pub(crate) is_invoked: bool,
    /// It is of the type that engines of the old version do not know.
    pub(crate) is_novel: bool,
}

/// What the handler of a message does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Milliseconds it sleeps, one after the other.
    pub(crate) sleeps: Vec<u64>,
    /// How often it fails before it succeeds.
    pub(crate) fails: u32,
    pub(crate) manner: Manner,
    /// It is rejected for good.
    pub(crate) dies: bool,
    /// A counter that handlers of several streams share.
    pub(crate) counter: Option<u8>,
    /// A message that it sends, and after how long that is to be handled.
    pub(crate) sends: Option<(usize, Option<u64>)>,
    /// How often the handler of the event it publishes fails.
    pub(crate) event_fails: u32,
    /// Its event stands where its stream was when the handler looked, or the handler runs again.
    pub(crate) expects: bool,
    /// The event is rejected by the strict subscription, which then stands still in its stream.
    pub(crate) event_dies: bool,
    /// Bytes of its payload and of its event's.
    pub(crate) bytes: usize,
}

/// How a handler fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Error,
    RetryIn(u64),
    Panic,
    /// It runs until it is cancelled.
    Overrun,
}

/// What a producer does. Numbers are places in [`Shape::offers`].
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Wait(u64),
    Send(usize),
    /// Calls its receptor at once, and waits until what that has published is durable.
    Invoke(usize),
    SendOnce(usize),
    SendIn(usize, u64),
    /// As one: all or none.
    SendAll(Vec<usize>),
    /// Through a publisher, as fast as there is room; then all are waited for.
    Publisher(Vec<usize>),
    /// Without waiting for anything; what became of it is known when the engine has stopped.
    Fire(Vec<usize>),
}

/// Something that happens to the engines, so many milliseconds after the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mishap {
    pub(crate) at: u64,
    pub(crate) what: What,
}

/// What happens. The number picks one of the engines that are there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Crash(usize),
    /// For so many milliseconds.
    Pause(usize, u64),
    /// Stops in good order, with so many milliseconds for what runs.
    Leave(usize, u64),
    Join(Edition),
    /// The perspective stands still for so many milliseconds.
    Hold(usize, u64),
    /// Somebody asks for all dead letters to be tried once more, and looks some more times whether there are others.
    Requeue(usize),
    /// Somebody gives up what the strict subscription has rejected.
    Discard(usize),
    /// The store's clock is set so many milliseconds forward or back.
    Jump(i64),
}

/// The version of the service that an engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edition {
    New,
    /// It lacks a message type.
    Old,
}

/// Attempts after which a message of [`app`](crate::app) is a dead letter.
pub(crate) const ATTEMPTS_MAX: u32 = 4;
/// The same of a message of no stream, whose receptor is less patient than its subscription.
pub(crate) const LOOSE_ATTEMPTS_MAX: u32 = 1;
/// Counters that handlers share.
pub(crate) const COUNTERS: u8 = 3;

/// How much a run may contain. Less of it makes a failing seed easier to read.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Messages at the most.
    pub messages_max: usize,
    /// Crashes, pauses, leaves and joins at the most.
    pub mishaps_max: usize,
    /// Whether calls to the store fail.
    pub faults: bool,
}

impl Default for Scale {
    fn default() -> Self {
        Self { messages_max: 120, mishaps_max: 5, faults: true }
    }
}

impl Offer {
    /// Attempts after which it is a dead letter.
    pub(crate) fn attempts_max(&self) -> u32 {
        if self.stream.is_some() { ATTEMPTS_MAX } else { LOOSE_ATTEMPTS_MAX }
    }
}

impl Shape {
    /// What this seed stands for.
    pub(crate) fn draw(seed: u64, scale: Scale, planted: Option<Defect>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5EED_0F5A_11B0_0C75);
        let r = &mut random;
        let ttl = Duration::from_millis(r.u64(300..1_000));
        let is_heavy = r.u32(0..8) == 0;
        let service = Service {
            partitions: of(r, &[1, 2, 4, 8]),
            time_to_live: ttl,
            window: of(r, &[4, 32, 4_096, 4_096]),
            limits: Limits {
                batch_messages_max: of(r, &[4, 16, 65_536, 65_536]),
                batch_bytes_max: of(r, &[32 << 10, 64 << 20, 64 << 20]),
                ..Limits::default()
            },
            ..Service::default()
        };
        let options = Options {
            workers: r.usize(1..=3),
            handlers_max: of(r, &[1, 4, 64]),
            in_flight_max: of(r, &[3, 32, 1_024]),
            in_flight_bytes_max: of(r, &[4_096, 64 << 20, 64 << 20]),
            stripes: 1,
            publishers_max: 4,
            ring_bytes: 65_536,
            batch_messages_max: of(r, &[4, 32, 1_024]),
            detach_after: Duration::from_millis(of(r, &[5, 60, 5_000])),
            give_back_within: Duration::from_millis(of(r, &[5, 100, 1_000])),
            heartbeat_every: of(r, &[None, Some(ttl / 7)]),
            storage_retry_max: Duration::from_millis(of(r, &[20, 200])),
            ..Options::default()
        };
        let habits = Habits {
            held: of(r, &[0, 10, 100]),
            held_max: Duration::from_millis(of(r, &[1, 5, 30])),
            starved: of(r, &[0, 0, 20]),
        };
        let is_faulty = scale.faults && r.u32(0..5) > 0;
        let odds = if is_faulty {
            Odds {
                before: of(r, &[0, 20, 150]),
                not_applied: of(r, &[0, 20, 150]),
                answer_lost: of(r, &[0, 20, 150]),
                repeat_old: of(r, &[0, 20, 100]),
                delay: of(r, &[0, 10, 50]),
                delay_max: ttl.mul_f64(of(r, &[0.2, 0.8, 1.6])),
                ..Odds::default()
            }
        } else {
            Odds::default()
        };
        let latency_max = Duration::from_millis(of(r, &[0, 0, 3, 20]));
        let reads_fail = if is_faulty { of(r, &[0, 0, 30]) } else { 0 };
        let mut shape = Self {
            service,
            options,
            habits,
            odds,
            latency_max,
            reads_fail,
            hints: r.u32(0..4) > 0,
            engines: of(r, &[1, 2, 2, 3]),
            has_outsider: r.u32(0..4) == 0,
            has_old_ones: r.u32(0..4) == 0,
            offers: Vec::new(),
            producers: Vec::new(),
            mishaps: Vec::new(),
            planted,
        };
        let messages_max = scale.messages_max / of(r, &[1, 2, 4]);
        let messages = r.usize(1..=messages_max.max(1));
        shape.draw_work(r, messages, is_heavy);
        shape.draw_mishaps(r, scale.mishaps_max, ttl.as_millis() as u64);
        shape
    }

    fn draw_work(&mut self, r: &mut fastrand::Rng, messages: usize, is_heavy: bool) {
        let streams = of(r, &[1, 3, 12]);
        let trouble = of(r, &[0, 60, 250]);
        let drawing = Drawing {
            trouble,
            counters: of(r, &[1, COUNTERS]),
            is_heavy,
            expects: of(r, &[0, 0, 300]),
            event_dies: of(r, &[0, 0, 60]),
        };
        let novel = if self.has_old_ones { 400 } else { 0 };
        let keys = r.u32(1..6);
        let pace = of(r, &[0, 5, 40]);
        let producers = r.usize(1..=4);
        self.producers = vec![Vec::new(); producers];
        while self.offers.len() < messages {
            let producer = r.usize(0..producers);
            if pace > 0 && r.u32(0..3) == 0 {
                self.producers[producer].push(Deed::Wait(r.u64(0..=pace)));
            }
            let draw = |r: &mut fastrand::Rng| plan(r, drawing);
            let stream = |r: &mut fastrand::Rng| Some(r.u64(0..streams));
            let deed = match r.u32(0..22) {
                0..4 => {
                    let offer = self.offer(draw(r), stream(r), Some(producer));
                    self.offers[offer].is_novel = r.u32(0..1_000) < novel;
                    Deed::Send(offer)
                }
                4..6 => Deed::Send(self.offer(draw(r), None, None)),
                6..8 => {
                    let offer = self.offer(draw(r), stream(r), None);
                    self.offers[offer].once = Some(r.u32(0..keys));
                    self.offers[offer].plan.dies = false;
                    self.offers[offer].plan.fails = 0;
                    Deed::SendOnce(offer)
                }
                8..10 => Deed::SendIn(self.offer(draw(r), stream(r), None), r.u64(0..400)),
                10..12 => {
                    let group = Some(self.offers.len());
                    let several = (0..r.usize(1..4)).map(|_| {
                        let offer = self.offer(draw(r), stream(r), Some(producer));
                        self.offers[offer].group = group;
                        offer
                    });
                    Deed::SendAll(several.collect())
                }
                12..17 => {
                    let several = 0..r.usize(1..16);
                    Deed::Publisher(several.map(|_| self.offer(draw(r), stream(r), Some(producer))).collect())
                }
                20.. => {
                    let offer = self.offer(draw(r), stream(r), Some(producer));
                    let offer_of = &mut self.offers[offer];
                    offer_of.is_invoked = true;
                    (offer_of.plan.fails, offer_of.plan.dies) = (0, false);
                    Deed::Invoke(offer)
                }
                17..18 => {
                    Deed::Fire((0..r.usize(1..6)).map(|_| self.offer(draw(r), stream(r), None)).collect())
                }
                _ => {
                    let parent = self.offer(draw(r), stream(r), Some(producer));
                    let child = self.offer(draw(r), stream(r), None);
                    self.offers[child].parent = Some(parent);
                    self.offers[child].is_novel = r.u32(0..1_000) < novel;
                    let due_in = r.bool().then(|| r.u64(0..300));
                    self.offers[parent].plan.sends = Some((child, due_in));
                    Deed::Send(parent)
                }
            };
            self.producers[producer].push(deed);
        }
    }

    fn offer(&mut self, plan: Plan, stream: Option<u64>, ordered_by: Option<usize>) -> usize {
        self.offers.push(Offer {
            stream,
            plan,
            ordered_by,
            once: None,
            group: None,
            parent: None,
            is_invoked: false,
            is_novel: false,
        });
        self.offers.len() - 1
    }

    fn draw_mishaps(&mut self, r: &mut fastrand::Rng, mishaps_max: usize, ttl: u64) {
        for _ in 0..r.usize(0..=mishaps_max) {
            let which = r.usize(0..8);
            let what = match r.u32(0..16) {
                0..3 => What::Crash(which),
                3..6 => What::Pause(which, of(r, &[ttl / 3, ttl + 50, 3 * ttl])),
                6..8 => What::Leave(which, of(r, &[0, 30, 1_000])),
                8 => What::Hold(which, of(r, &[1, 100, 600])),
                9..11 => What::Requeue(which),
                11 => What::Discard(which),
                12 => What::Jump(3_600_000),
                13 => What::Jump(-5_000),
                _ if self.has_old_ones && r.bool() => What::Join(Edition::Old),
                _ => What::Join(Edition::New),
            };
            self.mishaps.push(Mishap { at: r.u64(0..4 * ttl), what });
        }
        self.mishaps.sort_by_key(|mishap| mishap.at);
    }
}

/// How plans are drawn in a run; of a thousand messages, how many have this or that.
#[derive(Debug, Clone, Copy)]
struct Drawing {
    trouble: u32,
    counters: u8,
    is_heavy: bool,
    expects: u32,
    event_dies: u32,
}

fn plan(r: &mut fastrand::Rng, drawing: Drawing) -> Plan {
    let Drawing { trouble, counters, is_heavy, expects, event_dies } = drawing;
    let mut plan = Plan::default();
    if r.u32(0..4) == 0 {
        plan.sleeps = (0..r.usize(1..3)).map(|_| of(r, &[0, 1, 10, 80, 150])).collect();
    }
    if r.u32(0..1_000) < trouble {
        plan.fails = of(r, &[1, 1, 2, ATTEMPTS_MAX - 1, ATTEMPTS_MAX, 99]);
        plan.manner = of(
            r,
            &[
                Manner::Error,
                Manner::Error,
                Manner::RetryIn(3),
                Manner::RetryIn(150),
                Manner::Panic,
                Manner::Overrun,
            ],
        );
    }
    plan.dies = r.u32(0..4_000) < trouble;
    if r.u32(0..1_000) < trouble {
        plan.event_fails = r.u32(1..3);
    }
    plan.counter = (r.u32(0..3) == 0).then(|| r.u8(0..counters));
    plan.expects = r.u32(0..1_000) < expects;
    plan.event_dies = r.u32(0..1_000) < event_dies;
    plan.bytes = if is_heavy { r.usize(0..6_000) } else { r.usize(0..40) };
    plan
}

/// One of these, all alike.
fn of<T: Clone>(r: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[r.usize(0..choices.len())].clone()
}
