//! Processes that are started, watched through what they say, and treated badly.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::audit::Sender;

/// One process that runs an engine, sends messages, and says on its standard output how it is: a [`Said`] a line.
///
/// What it says on its standard error is said here, too, and kept for [`end`](Self::end). Dropped, it is killed.
#[derive(Debug)]
pub struct Instance {
    /// Under which number it sends.
    pub sender: u64,
    child: Mutex<Child>,
    orders: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
    complaints: Option<JoinHandle<()>>,
    heard: Arc<Heard>,
}

/// What an instance is told on its standard input, a word a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Send no more; what was sent becomes durable, and what comes is handled on.
    Enough,
    /// Leave in order. The end of the input says the same.
    Leave,
}

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// Partitions it handles.
    pub partitions: usize,
    /// Messages that its receptors have finished.
    pub handled: u64,
    /// How often it was taken for dead and joined again.
    pub evictions: u64,
    /// What it has sent.
    pub sender: Sender,
    /// Whether it will send no more, and everything it sent is durable.
    pub sent: bool,
    /// Whether it has left.
    pub left: bool,
}

#[derive(Debug, Default)]
struct Heard {
    last: Mutex<Last>,
    news: Condvar,
    complaints: Mutex<VecDeque<String>>,
}

/// So many lines of what it complains about are kept.
const COMPLAINTS_MAX: usize = 12;

#[derive(Debug, Clone, Copy, Default)]
struct Last {
    /// Nothing before it has joined.
    said: Option<Said>,
    /// It will say no more.
    ended: bool,
}

/// Why something did not come to pass.
#[derive(Debug, thiserror::Error)]
#[error("instance {sender} {why} (it said last: {said:?})")]
pub struct NotSo {
    sender: u64,
    why: String,
    said: Option<Said>,
}

impl Order {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::Leave => "leave",
        }
    }
}

impl Said {
    /// As a line; [`parse`](Self::parse) reads it.
    pub fn line(&self) -> String {
        let Self { partitions, handled, evictions, sender: Sender { attempted, acknowledged }, sent, left } =
            *self;
        let [sent, left] = [sent, left].map(u8::from);
        format!("{partitions} {handled} {evictions} {attempted} {acknowledged} {sent} {left}")
    }

    /// What a line says, if it is one of these.
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let said = Self {
            partitions: usize::try_from(next()?).ok()?,
            handled: next()?,
            evictions: next()?,
            sender: Sender { attempted: next()?, acknowledged: next()? },
            sent: next()? == 1,
            left: next()? == 1,
        };
        numbers.next().is_none().then_some(said)
    }
}

impl Instance {
    /// Starts a program that sends under this number.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut program: Command, sender: u64) -> io::Result<Self> {
        let mut child =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (orders, words, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let heard = Arc::new(Heard::default());
        let complaints = errors.map(|errors| {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(Result::ok) {
                    eprintln!("instance {sender}: {line}");
                    let mut complaints = heard.complaints.lock().unwrap_or_else(PoisonError::into_inner);
                    complaints.push_back(line);
                    if complaints.len() > COMPLAINTS_MAX {
                        complaints.pop_front();
                    }
                }
            })
        });
        let listener = words.map(|words| {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                for line in BufReader::new(words).lines().map_while(Result::ok) {
                    // A line that a kill has cut short is none.
                    if let Some(said) = Said::parse(&line) {
                        heard.set(|last| last.said = Some(said));
                    }
                }
                heard.set(|last| last.ended = true);
            })
        });
        Ok(Self { sender, child: Mutex::new(child), orders, listener, complaints, heard })
    }

    /// Its process number.
    pub fn process(&self) -> u32 {
        self.process_mut().id()
    }

    /// What it said last.
    pub fn said(&self) -> Said {
        self.heard.get().said.unwrap_or_default()
    }

    /// Whether it has joined.
    pub fn has_joined(&self) -> bool {
        self.heard.get().said.is_some()
    }

    /// Whether it has ended, however that was, and everything it said was heard.
    pub fn has_ended(&self) -> bool {
        self.heard.get().ended
    }

    /// How it ended and what it complained about last, if it has ended.
    pub fn end(&self) -> Option<String> {
        if !self.has_ended() {
            return None;
        }
        let how = match self.process_mut().wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        // Its last words are in the pipe still; should a child of its own hold the other end, they are not waited for.
        let listened = Instant::now();
        while self.complaints.as_ref().is_some_and(|listener| !listener.is_finished())
            && listened.elapsed() < Duration::from_secs(1)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let complaints = self.heard.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let complaints: Vec<&str> = complaints.iter().map(String::as_str).collect();
        Some(format!("instance {} ended with {how}; it said {complaints:?}", self.sender))
    }

    /// Waits until what it says is as it should be, and says when that was.
    ///
    /// # Errors
    /// [`NotSo`] when it ended before, or `patience` did.
    pub fn wait(
        &self,
        what: &str,
        patience: Duration,
        is_so: impl Fn(&Said) -> bool,
    ) -> Result<Instant, NotSo> {
        let until = Instant::now() + patience;
        let mut last = self.heard.lock();
        loop {
            if last.said.is_some_and(|said| is_so(&said)) {
                return Ok(Instant::now());
            }
            let left = until.saturating_duration_since(Instant::now());
            if last.ended || left.is_zero() {
                let (said, ended) = (last.said, last.ended);
                drop(last);
                let end = self.end().filter(|_| ended).map(|end| format!(" ({end})")).unwrap_or_default();
                let how = if ended { "has ended" } else { "takes too long" };
                return Err(NotSo { sender: self.sender, why: format!("{how}: {what}{end}"), said });
            }
            let waited = self.heard.news.wait_timeout(last, left);
            last = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells it to do something. One that has ended is not disturbed.
    pub fn tell(&mut self, order: Order) {
        if let Some(orders) = &mut self.orders {
            let _ = writeln!(orders, "{}", order.word());
        }
    }

    /// Kills it, and returns what it said last.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn kill(&mut self) -> io::Result<Said> {
        self.process_mut().kill()?;
        self.finish()
    }

    /// Stops it where it stands, for as long as nobody lets it go on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn suspend(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits for its end, and returns what it said last.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn finish(&mut self) -> io::Result<Said> {
        self.orders = None;
        self.process_mut().wait()?;
        // Everything it said is in the pipe still.
        for listener in [self.listener.take(), self.complaints.take()].into_iter().flatten() {
            listener.join().map_err(|_| io::Error::other("the listener panicked"))?;
        }
        Ok(self.said())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // Once it was waited for, its number may be another's.
        if self.listener.is_none() {
            return Err(io::Error::other("it has ended"));
        }
        Ok(kill_process(Pid::from_child(&self.process_mut()), signal)?)
    }

    fn process_mut(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.kill();
    }
}

impl Heard {
    fn lock(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Last {
        *self.lock()
    }

    fn set(&self, change: impl FnOnce(&mut Last)) {
        change(&mut self.lock());
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Instance {
        let mut program = Command::new("/bin/sh");
        program.args(["-c", script]);
        Instance::start(program, 1).unwrap()
    }

    #[test]
    fn what_is_said_is_heard_as_it_was_said() {
        let sender = Sender { attempted: 5, acknowledged: 4 };
        let said = Said { partitions: 3, handled: 2, evictions: 1, sender, sent: true, left: false };
        assert_eq!(Said::parse(&said.line()), Some(said));
        for broken in ["", "1 2 3", "1 2 3 4 5 6", "1 2 3 4 5 6 7 8", "a 2 3 4 5 1 0"] {
            assert_eq!(Said::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn an_instance_is_told_and_heard_to_its_end() {
        let mut instance = shell(r#"read -r word; [ "$word" = leave ] && echo "0 7 0 9 9 1 1""#);
        assert!(!instance.has_joined());
        instance.tell(Order::Leave);
        instance.wait("it leaves", SOON, |said| said.left).unwrap();
        let said = instance.finish().unwrap();
        assert_eq!((said.handled, said.sender.acknowledged, instance.has_ended()), (7, 9, true));
    }

    #[test]
    fn one_that_ends_is_not_waited_for() {
        let instance = shell("echo '1 0 0 0 0 0 0'");
        let error = instance.wait("it leaves", SOON, |said| said.left).unwrap_err();
        assert!(error.to_string().contains("has ended: it leaves"), "{error}");
    }

    #[test]
    fn one_that_has_ended_tells_how_and_why() {
        let instance = shell("echo '1 0 0 0 0 0 0'; echo 'no more of this' >&2; exit 7");
        let error = instance.wait("it leaves", SOON, |said| said.left).unwrap_err().to_string();
        assert!(error.contains("exit status: 7") && error.contains("no more of this"), "{error}");
    }

    #[test]
    fn one_that_is_suspended_says_nothing_until_it_goes_on() {
        let mut instance = shell("n=0; while :; do n=$((n+1)); echo \"1 $n 0 0 0 0 0\"; done");
        instance.wait("it works", SOON, |said| said.handled > 10).unwrap();
        instance.suspend().unwrap();
        // What it had said before is heard first; then there is silence.
        let mut before = instance.said();
        while instance.wait("more", Duration::from_millis(50), |said| said.handled > before.handled).is_ok() {
            before = instance.said();
        }
        instance.resume().unwrap();
        instance.wait("it goes on", SOON, |said| said.handled > before.handled).unwrap();
        assert!(instance.kill().unwrap().handled > before.handled);
    }
}
