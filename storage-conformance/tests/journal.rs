//! A database that a journal keeps passes the suite, and after every batch of it the journal says exactly what is in memory.

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use whizbang_storage::journal::{Journal, JournalError, Replay};
use whizbang_storage::{
    Answer, MemoryDatabase, MemoryStore, NotApplied, Service, StoreError, SystemClock, TestClock, WorkBatch,
    WorkStore,
};
use whizbang_storage_conformance::differential::{self, Plan};
use whizbang_storage_conformance::{Between, Fixture, Memory, OpenError, SchemaAge, Wrapped};
use xxhash_rust::xxh3::xxh3_64;

/// Numbered records, in order.
type Records = Vec<(u64, Vec<u8>)>;

/// What a journal keeps, and what befalls it next.
#[derive(Default)]
struct Kept {
    records: Records,
    // Also those that a snapshot stands for.
    ever: Records,
    snapshot: Vec<u8>,
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Busy,
    Full,
    /// The next call fails, and its record is kept all the same.
    AnswerLost,
    /// The next call fails, and its record is not kept.
    CallLost,
}

/// A journal in memory, shared by all who know it.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Kept>>);

impl Shelf {
    fn with<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A journal of its own with these records.
    fn of(records: Records) -> Self {
        Self(Arc::new(Mutex::new(Kept { records, ..Kept::default() })))
    }
}

impl Journal for Shelf {
    fn replay(&mut self, to: &mut Replay<'_>) -> Result<(), JournalError> {
        self.with(|kept| kept.records.iter().try_for_each(|(_, record)| to.record(record)))
    }

    fn append(&mut self, number: u64, record: &[u8]) -> Result<(), StoreError> {
        self.with(|kept| {
            let once = matches!(kept.trouble, Some(Trouble::AnswerLost | Trouble::CallLost));
            let trouble = if once { kept.trouble.take() } else { kept.trouble };
            match trouble {
                Some(Trouble::Busy) => return Err(NotApplied::Busy("held".into()).into()),
                Some(Trouble::Full) => return Err(NotApplied::Full("full".into()).into()),
                Some(Trouble::CallLost) => return Err(StoreError::Unknown("cut".into())),
                Some(Trouble::AnswerLost) | None => {}
            }
            kept.records.retain(|(older, _)| *older < number);
            kept.records.push((number, record.to_vec()));
            kept.ever.retain(|(older, _)| *older < number);
            kept.ever.push((number, record.to_vec()));
            if trouble.is_some() { Err(StoreError::Unknown("cut".into())) } else { Ok(()) }
        })
    }

    fn replace(&mut self, number: u64, snapshot: &[u8]) -> Result<(), JournalError> {
        self.with(|kept| {
            kept.records = vec![(number, snapshot.to_vec())];
            kept.snapshot = snapshot.to_vec();
        });
        Ok(())
    }
}

/// What a database that is recovered from these records would write as its snapshot.
fn snapshot_of(records: Records) -> Vec<u8> {
    let shelf = Shelf::of(records);
    let database = MemoryDatabase::recover(shelf.clone(), Arc::new(SystemClock)).expect("it is recovered");
    database.snapshot().expect("it is written");
    shelf.with(|kept| kept.snapshot.clone())
}

/// Looks after every batch whether the journal says what is in memory.
struct Checked(Shelf);

impl Checked {
    fn check(&self, store: &MemoryStore) {
        let records = self.0.with(|kept| kept.records.clone());
        store.database().snapshot().expect("it is written");
        let live = self.0.with(|kept| kept.snapshot.clone());
        let last = records.last().map_or(0, |(number, _)| *number);
        assert!(snapshot_of(records.clone()) == live, "the records say something else than memory");
        assert!(
            snapshot_of(vec![(last, live.clone())]) == live,
            "the snapshot says something else than memory"
        );
        // Most of the time the records stay, so that long journals are read as well.
        if !last.is_multiple_of(16) {
            self.0.with(|kept| kept.records = records);
        }
    }
}

impl Between<MemoryStore> for Checked {
    async fn process(
        &mut self,
        store: &mut MemoryStore,
        batch: &WorkBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        store.process_work_batch(batch, answer).await?;
        self.check(store);
        Ok(())
    }
}

/// All processes of a case share one database, as threads of one process do; when the last is killed, the next recovers it.
struct Journalled {
    clock: TestClock,
    shelf: Shelf,
    database: RefCell<Option<MemoryDatabase>>,
    open: RefCell<usize>,
}

impl Journalled {
    fn trouble(&self, trouble: Trouble) -> Box<dyn Any> {
        struct Ends(Shelf);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.with(|kept| kept.trouble = None);
            }
        }
        self.shelf.with(|kept| kept.trouble = Some(trouble));
        Box::new(Ends(self.shelf.clone()))
    }
}

impl Fixture for Journalled {
    type Store = Wrapped<MemoryStore, Checked>;

    async fn fresh(clock: TestClock) -> Self {
        Self { clock, shelf: Shelf::default(), database: RefCell::default(), open: RefCell::default() }
    }

    async fn open(&self, service: Service) -> Result<Self::Store, OpenError> {
        let mut database = self.database.borrow_mut();
        let database = match &mut *database {
            Some(database) => database,
            none => none.insert(MemoryDatabase::recover(self.shelf.clone(), Arc::new(self.clock.clone()))?),
        };
        let store = database.open(service)?;
        *self.open.borrow_mut() += 1;
        Ok(Wrapped { store, between: Checked(self.shelf.clone()) })
    }

    async fn crash(&mut self, stores: Vec<Self::Store>) {
        *self.open.get_mut() -= stores.len();
        if *self.open.get_mut() == 0 {
            *self.database.get_mut() = None;
        }
    }

    async fn hold(&self) -> Box<dyn Any> {
        self.trouble(Trouble::Busy)
    }

    async fn fill_disk(&self) -> Box<dyn Any> {
        self.trouble(Trouble::Full)
    }

    async fn cut_connections(&self) {
        let kept = self.shelf.with(|kept| kept.records.len());
        let trouble = if kept.is_multiple_of(2) { Trouble::AnswerLost } else { Trouble::CallLost };
        self.shelf.with(|kept| kept.trouble = Some(trouble));
    }

    async fn set_schema(&self, age: SchemaAge) {
        self.shelf.with(|kept| {
            let (_, record) = kept.records.last_mut().expect("something was written");
            // checksum (8) · form · rules · …
            match age {
                SchemaAge::Newer => record[8] += 1,
                SchemaAge::Older => record[9] -= 1,
            }
            let sum = xxh3_64(&record[8..]).to_le_bytes();
            record[..8].copy_from_slice(&sum);
        });
    }
}

whizbang_storage_conformance::conformance! {
    fixture: Journalled,
    user_transactions: no,
    damage: no,
    counts_writes: no,
    busy: yes,
    disk_full: yes,
    schema: yes,
    connection: yes,
    conflicts: no,
    notifications: yes,
    durable: yes,
}

#[test]
fn it_answers_like_memory_and_keeps_what_memory_has() {
    // A quarter of the sequences: every batch of them is looked at three times over.
    let plan = Plan::from_environment();
    differential::run::<Memory, Journalled>(Plan { sequences: plan.sequences.div_ceil(4), ..plan });
}

thread_local! {
    // What the last fixture of this thread was told to keep.
    static EVER: RefCell<Records> = const { RefCell::new(Vec::new()) };
}

impl Drop for Journalled {
    fn drop(&mut self) {
        EVER.set(self.shelf.with(|kept| std::mem::take(&mut kept.ever)));
    }
}

/// Records as version 3 of the rules wrote them, each behind its length, and the hash of the snapshot they come to.
const RULES_3: &[u8] = include_bytes!("data/rules-3.journal");
const RULES_3_COME_TO: u64 = 0x4963_7c5a_5ac8_53f9;

/// If this fails, the records in people's journals come to something else than before. If that is meant, count `RULES` in
/// `storage/src/journal.rs` up, record anew with `WHIZBANG_RECORD_RULES=1`, and write the new hash down.
#[test]
fn what_recorded_batches_come_to_has_not_changed() {
    if std::env::var_os("WHIZBANG_RECORD_RULES").is_some() {
        differential::run::<Memory, Journalled>(Plan { seed: 7, sequences: 1, steps: 400 });
        let framed =
            |(_, record): &(u64, Vec<u8>)| [&(record.len() as u64).to_le_bytes(), &record[..]].concat();
        let bytes: Vec<u8> = EVER.with_borrow(|records| records.iter().flat_map(framed).collect());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rules-3.journal");
        std::fs::write(path, bytes).expect("it is written");
        return;
    }
    let (mut rest, mut records) = (RULES_3, Records::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (record, behind) = behind.split_at(u64::from_le_bytes(*length) as usize);
        records.push((records.len() as u64 + 1, record.to_vec()));
        rest = behind;
    }
    assert!(records.len() > 100, "only {} records", records.len());
    let hash = xxh3_64(&snapshot_of(records));
    assert_eq!(hash, RULES_3_COME_TO, "{hash:#x}");
}

#[test]
fn what_is_damaged_missing_or_cut_off_is_said_and_never_taken_for_less() {
    let shelf = Shelf::default();
    let database = MemoryDatabase::recover(shelf.clone(), Arc::new(SystemClock)).expect("it is empty");
    for name in ["a", "b", "c"] {
        drop(database.open(Service::named(name)).expect("it is opened"));
    }
    let whole = shelf.with(|kept| kept.records.clone());
    let recover = |change: &dyn Fn(&mut Records)| {
        let mut records = whole.clone();
        change(&mut records);
        MemoryDatabase::recover(Shelf::of(records), Arc::new(SystemClock)).map(drop)
    };
    assert!(recover(&|_| {}).is_ok());
    for byte in 0..whole[1].1.len() {
        let damaged = recover(&|records| records[1].1[byte] ^= 0x10);
        assert!(matches!(damaged, Err(JournalError::Damaged { after: 1 })), "byte {byte}: {damaged:?}");
        let cut = recover(&|records| records[1].1.truncate(byte));
        assert!(matches!(cut, Err(JournalError::Damaged { after: 1 })), "byte {byte}: {cut:?}");
    }
    let gap = recover(&|records| drop(records.remove(1)));
    assert!(matches!(gap, Err(JournalError::Gap { after: 1, got: 3 })), "{gap:?}");
    let beginning = recover(&|records| drop(records.remove(0)));
    assert!(matches!(beginning, Err(JournalError::Gap { after: 0, got: 2 })), "{beginning:?}");
}
