//! What producers do, and what becomes of what they send.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use whizbang::{Engine, InvokeError, Receipt, SendError};

use super::{Life, Run};
use crate::app::{App, Direct, Loose, Novel, Work, stream_of};
use crate::journal::{Fate, Journal};
use crate::node::Node;
use crate::shape::Deed;

impl Run {
    /// Lets a producer run in the process of some engine, as soon as that is there.
    pub(super) fn assign(self, producer: usize) {
        let place = producer % (self.shape.engines + usize::from(self.shape.has_outsider));
        let id = self.processes.borrow()[place].id;
        self.journal.with(|notes| notes.producing += 1);
        let scheduler = self.scheduler.clone();
        let done = Producing(self.journal.clone());
        scheduler.spawn(id, "producer", async move {
            let _done = done;
            let engine = loop {
                let engine = self.processes.borrow()[place].engine.clone();
                let is_leaving = self.processes.borrow()[place].state != Life::Runs;
                match engine {
                    Some(Node::New(engine)) => break engine,
                    // Producers are assigned to those that know all types.
                    Some(Node::Old(_)) => return,
                    None if is_leaving => return,
                    None => sleep(Duration::from_millis(3)).await,
                }
            };
            let shape = Arc::clone(&self.shape);
            for deed in &shape.producers[producer] {
                if self.deed(&engine, deed).await.is_none() {
                    break;
                }
            }
        });
    }

    /// Does one thing; none: the engine takes nothing any more.
    async fn deed(&self, engine: &Engine<App>, deed: &Deed) -> Option<()> {
        match deed {
            Deed::Wait(millis) => sleep(Duration::from_millis(*millis)).await,
            Deed::Send(number) => {
                self.sent(*number);
                let offer = &self.shape.offers[*number];
                let (number, padding) = (*number, "w".repeat(offer.plan.bytes));
                match offer.stream {
                    None => self.told(number, engine.send(Loose { number, padding }).await)?,
                    Some(stream) if offer.is_novel => {
                        self.told(number, engine.send(Novel { stream, number, padding }).await)?;
                    }
                    Some(_) => self.told(number, engine.send(self.stream_work(number)).await)?,
                }
            }
            Deed::Invoke(number) => {
                self.sent(*number);
                let stream = stream_of(*number, &self.shape.offers[*number]);
                let fate = match engine.invoke(Direct { stream, number: *number }).await {
                    Ok(()) => Fate::Stored,
                    Err(InvokeError::Unanswered) => Fate::Unknown,
                    Err(_) => Fate::Refused,
                };
                self.journal.fate(*number, fate);
            }
            Deed::SendOnce(number) => {
                self.sent(*number);
                let key = format!("key {:?}", self.shape.offers[*number].once);
                self.told(*number, engine.send_once(key, self.stream_work(*number)).await)?;
            }
            Deed::SendIn(number, millis) => {
                self.sent(*number);
                let (now, after) = (Instant::now(), Duration::from_millis(*millis));
                self.journal.with(|notes| notes.due.insert(*number, (now, now + after)));
                self.told(*number, engine.send_in(after, self.stream_work(*number)).await)?;
            }
            Deed::SendAll(numbers) => {
                numbers.iter().for_each(|number| self.sent(*number));
                let sent = engine.send_all(numbers.iter().map(|number| self.stream_work(*number))).await;
                let fate = fate_of(&sent);
                numbers.iter().for_each(|number| self.journal.fate(*number, fate));
                (fate == Fate::Stored).then_some(())?;
            }
            Deed::Publisher(numbers) => {
                let Ok(mut publisher) = engine.publisher() else {
                    return Some(());
                };
                let mut tickets = Vec::new();
                for &number in numbers {
                    self.sent(number);
                    match publisher.send(self.stream_work(number)).await {
                        Ok(ticket) => {
                            self.accepted(engine, number);
                            tickets.push((number, ticket));
                        }
                        Err(error) => {
                            self.told::<Work>(number, Err(error));
                            break;
                        }
                    }
                }
                let mut is_open = tickets.len() == numbers.len();
                for (number, ticket) in tickets {
                    let stored = engine.stored(ticket).await.map_err(SendError::<Work>::from);
                    is_open &= self.told(number, stored).is_some();
                }
                is_open.then_some(())?;
            }
            Deed::Fire(numbers) => {
                for &number in numbers {
                    self.sent(number);
                    match engine.try_send(self.stream_work(number)) {
                        Ok(_) => self.accepted(engine, number),
                        Err(_) => self.journal.fate(number, Fate::Refused),
                    }
                }
            }
        }
        Some(())
    }

    /// An engine that says at its end that all is durable has stored this.
    fn accepted(&self, engine: &Engine<App>, number: usize) {
        self.journal.with(|notes| notes.accepted.push((engine.dispatcher().process(), number)));
    }

    fn sent(&self, number: usize) {
        self.journal.fate(number, Fate::Unknown);
    }

    /// Takes note of what became of a message; none: the engine takes nothing any more.
    fn told<M>(&self, number: usize, sent: Result<Receipt, SendError<M>>) -> Option<()> {
        let fate = match &sent {
            Ok(receipt) if receipt.duplicate_of().is_some() => Fate::Duplicate,
            _ => fate_of(&sent),
        };
        if let Err(SendError::Refused(why)) = &sent {
            self.journal.violation(format!("offer {number} was refused: {why}"));
        }
        self.journal.fate(number, fate);
        sent.is_ok().then_some(())
    }

    fn stream_work(&self, number: usize) -> Work {
        let offer = &self.shape.offers[number];
        Work { stream: offer.stream.unwrap_or_default(), number, padding: "w".repeat(offer.plan.bytes) }
    }
}

/// Counts a producer off when it ends, however it ends.
struct Producing(Journal);

impl Drop for Producing {
    fn drop(&mut self) {
        self.0.with(|notes| notes.producing -= 1);
    }
}

fn fate_of<T, M>(sent: &Result<T, SendError<M>>) -> Fate {
    match sent {
        Ok(_) => Fate::Stored,
        Err(SendError::Unanswered) => Fate::Unknown,
        Err(_) => Fate::Refused,
    }
}
