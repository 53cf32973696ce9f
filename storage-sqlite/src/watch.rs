//! Notices what others leave for this handle's instance: a thread looks now and then whether they have written.
//!
//! SQLite tells nobody that another process wrote, but to ask takes a few microseconds: the answer stands in memory that all
//! processes share. Only if somebody has written is anything read: whether the membership has changed, and whether something has
//! arrived in a partition of the instance's. The pauses grow from 1 ms to 200 ms while there is no news, so that an engine that
//! rests is woken five times a second for that.

use std::convert::Infallible;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use whizbang_storage::{Hint, InstanceId};

use crate::options::{Access, Place, steady_plans};
use crate::schema::Agreed;

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(200);

/// What the instance knows without being told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) instance: InstanceId,
    pub(crate) group: Option<i64>,
    /// Of the membership.
    pub(crate) generation: i64,
}

/// A thread that looks, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    known: Arc<Mutex<Option<Known>>>,
    /// Nothing is ever sent: the thread ends when it is gone.
    stop: Option<mpsc::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to look; `None` if there is no thread to be had. Nobody relies on hints.
    pub(crate) fn start(place: &Place, agreed: Agreed, known: Option<Known>, hint: Hint) -> Option<Self> {
        let known = Arc::new(Mutex::new(known));
        let (stop, stopped) = mpsc::channel();
        let mut look = Look { place: place.clone(), agreed, sql: None, seen: Seen::default() };
        let told = Arc::clone(&known);
        let thread = thread::Builder::new().name("whizbang-sqlite-watch".to_owned()).spawn(move || {
            let mut pause = SHORTEST;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let known = *lock(&told);
                if known.is_some_and(|known| look.finds_news(known)) {
                    hint();
                    pause = SHORTEST;
                } else {
                    pause = (pause * 2).min(LONGEST);
                }
            }
        });
        Some(Self { known, stop: Some(stop), thread: Some(thread.ok()?) })
    }

    /// Says what the instance knows; to be called before that is committed, so that it is never told what it did itself.
    pub(crate) fn knows(&self, known: Known) {
        *lock(&self.known) = Some(known);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take().filter(|it| it.thread().id() != thread::current().id()) {
            // It panics only if the hint does, and has said so then.
            let _ = thread.join();
        }
    }
}

struct Look {
    place: Place,
    agreed: Agreed,
    /// None: it was not opened yet, or failed.
    sql: Option<Connection>,
    seen: Seen,
}

/// What was told already.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    data_version: Option<i64>,
    generation: i64,
    arrival: i64,
}

impl Look {
    fn finds_news(&mut self, known: Known) -> bool {
        // A file that cannot be read now may be read later; whoever writes to it says what is wrong with it.
        self.try_to_find(known).unwrap_or(false)
    }

    fn try_to_find(&mut self, known: Known) -> rusqlite::Result<bool> {
        // Taken out, so that it is opened anew after a failure.
        let sql = match self.sql.take() {
            Some(sql) => sql,
            None => {
                // The numbers of a new connection begin anew.
                self.seen.data_version = None;
                open(&self.place)?
            }
        };
        let news = self.seen.look(&sql, self.agreed, known)?;
        self.sql = Some(sql);
        Ok(news)
    }
}

fn open(place: &Place) -> rusqlite::Result<Connection> {
    let sql = place.connect(Access::Read)?;
    steady_plans(&sql)?;
    sql.pragma_update(None, "query_only", true)?;
    Ok(sql)
}

impl Seen {
    fn look(&mut self, sql: &Connection, agreed: Agreed, known: Known) -> rusqlite::Result<bool> {
        let version = sql.prepare_cached("PRAGMA data_version;")?.query_row([], |row| row.get(0))?;
        if self.data_version == Some(version) {
            return Ok(false);
        }
        let mut news = false;
        if let Some(group) = known.group {
            let mut find = sql.prepare_cached(include_str!("sql/service_state.sql"))?;
            let generation = find.query_row([agreed.service], |row| row.get::<_, i64>(0))?;
            news |= generation > known.generation.max(self.generation);
            let mut find = sql.prepare_cached(include_str!("sql/last_arrival.sql"))?;
            let arrival = find.query_row([], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0);
            if arrival > self.arrival {
                let mut find = sql.prepare_cached(include_str!("sql/arrived_for.sql"))?;
                let instance = known.instance.to_bytes();
                news |= find.exists((group, agreed.first_partition, self.arrival, instance))?;
            }
            (self.generation, self.arrival) = (generation, arrival.max(self.arrival));
        }
        // Only now, so that what could not be looked at is looked at again.
        self.data_version = Some(version);
        Ok(news)
    }
}

fn lock(known: &Mutex<Option<Known>>) -> MutexGuard<'_, Option<Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
