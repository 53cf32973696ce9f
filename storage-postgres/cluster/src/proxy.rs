//! A proxy that counts what passes, and cuts it off where it is told to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Cluster;
use crate::frames::Frames;

/// Stands between clients and a [`Cluster`]: counts what passes, and cuts it off where it is told to. Dropping it cuts
/// every connection and lets nobody in any more.
///
/// It reads along, so it knows nothing of what is encrypted: its URL asks for no TLS.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<Shared>,
    doorman: Option<JoinHandle<()>>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a client.
    ToServer,
    /// To a client.
    ToClient,
}

/// What goes wrong, once, with the connection that it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// So many more bytes pass in this direction; with the next one, which does not, the connection ends.
    CutAfterBytes(Direction, u64),
    /// The same in whole messages.
    CutAfterMessages(Direction, u64),
    /// The server gets everything and does what it is asked to; its answer, up to where it is ready for the next question,
    /// never arrives, and the connection ends.
    SwallowAnswer,
    /// So many more whole messages pass in this direction; then everything stands still, as after [`Proxy::hold`], until it
    /// is [released](Proxy::release).
    HoldAfterMessages(Direction, u64),
}

/// What has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections that were made.
    pub connections: u64,
    /// What went to the server.
    pub to_server: Flow,
    /// What went to clients.
    pub to_client: Flow,
    /// Questions after which a client waits: `Sync` and `Query` messages.
    pub questions: u64,
    /// Answers that were whole: `ReadyForQuery` messages, of which each connection begins with one.
    pub answers: u64,
    /// How often a client spoke after the server had: what each costs is the way there and back.
    pub turns: u64,
}

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Bytes.
    pub bytes: u64,
    /// Whole messages.
    pub messages: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rung when `held` ends.
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    traffic: Traffic,
    fault: Option<Fault>,
    faults: u64,
    delay: Duration,
    refuses: bool,
    held: bool,
    /// The proxy is being dropped.
    ends: bool,
    /// The connections there are, to be cut from outside.
    open: Vec<(u64, Arc<Ends>)>,
}

/// Both ends of a connection.
#[derive(Debug)]
struct Ends {
    client: TcpStream,
    server: UnixStream,
    /// Whether the last message was the server's.
    server_spoke: Mutex<bool>,
}

impl Ends {
    fn cut(&self) {
        // What has ended already cannot be ended again.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    /// Stands in front of this server, at a loopback port of its own. It stays there when the server is restarted.
    ///
    /// # Errors
    /// When no port can be opened or no thread started.
    pub fn in_front_of(cluster: &Cluster) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Shared::default());
        let (socket, shared) = (cluster.socket(), Arc::clone(&state));
        let doorman = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || let_in(&listener, &socket, &shared))?;
        Ok(Self { port, state, doorman: Some(doorman) })
    }

    /// Where it is, as the superuser `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// What has passed since it began.
    pub fn traffic(&self) -> Traffic {
        self.state.lock().traffic
    }

    /// Lets this go wrong, the next time it can. Bytes and messages count from now; one that waits is replaced.
    pub fn arm(&self, fault: Fault) {
        self.state.lock().fault = Some(fault);
    }

    /// Takes back what was armed and has not happened.
    pub fn disarm(&self) {
        self.state.lock().fault = None;
    }

    /// How many armed faults have happened.
    pub fn faults(&self) -> u64 {
        self.state.lock().faults
    }

    /// Ends every connection there is.
    pub fn cut_all(&self) {
        for (_, ends) in &self.state.lock().open {
            ends.cut();
        }
    }

    /// Everything that passes from now on, in either direction, waits this long first.
    pub fn delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// Connections that are made from now on end at once.
    pub fn refuse(&self) {
        self.state.lock().refuses = true;
    }

    /// Ends [`refuse`](Self::refuse).
    pub fn accept(&self) {
        self.state.lock().refuses = false;
    }

    /// Nothing passes from now on, and nobody is told: a cable was pulled.
    pub fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Whether everything stands still.
    pub fn is_held(&self) -> bool {
        self.state.lock().held
    }

    /// Ends [`hold`](Self::hold): what waited passes now.
    pub fn release(&self) {
        self.state.lock().held = false;
        self.state.released.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.lock().ends = true;
        self.release();
        // The doorman looks up when somebody comes.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(doorman) = self.doorman.take() {
            let _ = doorman.join();
        }
        self.cut_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked with it has changed one thing or none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn let_in(listener: &TcpListener, socket: &PathBuf, shared: &Arc<Shared>) {
    let mut number = 0;
    for client in listener.incoming() {
        if shared.lock().ends {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.lock().refuses {
            continue;
        }
        // A server that is away is seen by the client as one that hangs up.
        let Ok(server) = UnixStream::connect(socket) else { continue };
        number += 1;
        if let Err(error) = connect(client, server, number, shared) {
            eprintln!("proxy: connection {number} could not be set up: {error}");
        }
    }
}

fn connect(client: TcpStream, server: UnixStream, number: u64, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (from_client, from_server) = (client.try_clone()?, server.try_clone()?);
    let (to_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let ends = Arc::new(Ends { client, server, server_spoke: Mutex::new(true) });
    let mut state = shared.lock();
    state.traffic.connections += 1;
    state.open.push((number, Arc::clone(&ends)));
    drop(state);
    let carriers = [
        Carrier::new(Direction::ToServer, Frames::from_client(), number, &ends, shared),
        Carrier::new(Direction::ToClient, Frames::from_server(), number, &ends, shared),
    ];
    let [to, from] = carriers;
    let threads = std::thread::Builder::new;
    threads().name(format!("proxy-{number}-to-server")).spawn(move || to.carry(from_client, to_server))?;
    threads().name(format!("proxy-{number}-to-client")).spawn(move || from.carry(from_server, to_client))?;
    Ok(())
}

/// Carries one direction of one connection.
struct Carrier {
    direction: Direction,
    frames: Frames,
    number: u64,
    ends: Arc<Ends>,
    shared: Arc<Shared>,
    /// Whether what the server says goes nowhere.
    swallows: bool,
}

/// What is to be done with the beginning of a piece.
struct Verdict {
    /// So many bytes of it are dealt with,
    taken: usize,
    /// and go on to the other side, or nowhere.
    passes: bool,
    cut: bool,
}

impl Carrier {
    fn new(
        direction: Direction,
        frames: Frames,
        number: u64,
        ends: &Arc<Ends>,
        shared: &Arc<Shared>,
    ) -> Self {
        let (ends, shared) = (Arc::clone(ends), Arc::clone(shared));
        Self { direction, frames, number, ends, shared, swallows: false }
    }

    fn carry(mut self, mut from: impl Read, mut to: impl Write) {
        let mut buffer = vec![0; 64 << 10];
        // Either end may go at any moment: that is what a proxy is for.
        'open: while let Ok(count) = from.read(&mut buffer)
            && count > 0
        {
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                self.wait();
                let verdict = self.judge(rest);
                let (taken, behind) = rest.split_at(verdict.taken);
                if (verdict.passes && to.write_all(taken).is_err()) || verdict.cut {
                    break 'open;
                }
                rest = behind;
            }
        }
        self.ends.cut();
        self.shared.lock().open.retain(|(number, _)| *number != self.number);
    }

    /// As long as everybody has to.
    fn wait(&self) {
        let mut state = self.shared.lock();
        let delay = state.delay;
        while state.held {
            state = self.shared.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }

    /// Counts, and decides how much passes.
    fn judge(&mut self, bytes: &[u8]) -> Verdict {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let mut server_spoke = self.ends.server_spoke.lock().unwrap_or_else(PoisonError::into_inner);
        if self.direction == Direction::ToServer && *server_spoke {
            state.traffic.turns += 1;
        }
        *server_spoke = self.direction == Direction::ToClient;
        drop(server_spoke);
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            match self.fault_at(&mut state, rest) {
                None => {}
                Some(Stop::Cut(after)) => {
                    (state.fault, state.faults) = (None, state.faults + 1);
                    return Verdict { taken: taken + after, passes: true, cut: true };
                }
                Some(Stop::Hold) => {
                    (state.fault, state.faults, state.held) = (None, state.faults + 1, true);
                    return Verdict { taken, passes: true, cut: false };
                }
            }
            let (of_message, kind) = self.frames.next(rest);
            taken += of_message;
            self.count(&mut state, of_message, kind);
            if self.swallows && kind == Some(READY) {
                (state.fault, state.faults) = (None, state.faults + 1);
                return Verdict { taken, passes: false, cut: true };
            }
        }
        Verdict { taken, passes: !self.swallows, cut: false }
    }

    /// What happens within the message that begins here or goes on here, if that is where it does.
    fn fault_at(&mut self, state: &mut State, rest: &[u8]) -> Option<Stop> {
        let (of_message, kind) = self.frames.peek(rest);
        match &mut state.fault {
            Some(Fault::CutAfterBytes(direction, left)) if *direction == self.direction => {
                let left_now = *left;
                *left = left_now.saturating_sub(of_message as u64);
                (left_now < of_message as u64).then_some(Stop::Cut(left_now as usize))
            }
            Some(Fault::CutAfterMessages(direction, 0)) if *direction == self.direction => Some(Stop::Cut(0)),
            Some(Fault::HoldAfterMessages(direction, 0)) if *direction == self.direction => Some(Stop::Hold),
            Some(Fault::CutAfterMessages(direction, left) | Fault::HoldAfterMessages(direction, left))
                if *direction == self.direction =>
            {
                *left -= u64::from(kind.is_some());
                None
            }
            Some(Fault::SwallowAnswer) if self.direction == Direction::ToClient => {
                self.swallows = true;
                None
            }
            _ => None,
        }
    }

    fn count(&self, state: &mut State, bytes: usize, kind: Option<u8>) {
        let traffic = &mut state.traffic;
        let flow = match self.direction {
            Direction::ToServer => &mut traffic.to_server,
            Direction::ToClient => &mut traffic.to_client,
        };
        flow.bytes += bytes as u64;
        flow.messages += u64::from(kind.is_some());
        match (self.direction, kind) {
            (Direction::ToServer, Some(b'S' | b'Q')) => traffic.questions += 1,
            (Direction::ToClient, Some(READY)) => traffic.answers += 1,
            _ => {}
        }
    }
}

/// Where a piece is not carried on.
enum Stop {
    /// After so many bytes it ends.
    Cut(usize),
    /// Before it everything waits.
    Hold,
}

/// `ReadyForQuery`.
const READY: u8 = b'Z';
