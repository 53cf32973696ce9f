//! Deliveries from a file, as often as is asked for, or from standard input.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::deliveries::{BrokenLine, Delivery};
use crate::lines::{Line, Lines};

/// The longest line that is kept in memory: the largest payload a service takes by default, with some room around it.
const LINE_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// An input of deliveries. `-` is standard input.
pub struct Source {
    path: PathBuf,
    lines: Lines<Box<dyn BufRead>>,
    /// Bytes of the file; none: nobody knows.
    file_bytes: Option<u64>,
    /// Bytes read in the times before this one.
    read_before: u64,
    /// Which time it is being read, and how often it will be.
    time: u64,
    times: u64,
    /// Deliveries that were asked for, and that may still come.
    count: Option<u64>,
    left: u64,
    /// Whether this time brought any.
    any: bool,
}

/// Why an input ends here.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {source}", name(path))]
    Read {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Standard input was to be read more than once.
    #[error("standard input can be read only once: `--repeat` needs a file")]
    NotRepeatable,
}

/// What a line is.
#[derive(Debug)]
pub enum Found {
    /// A delivery, and the number of its line.
    Delivery(u64, Delivery),
    /// Something else.
    Unusable(Skipped),
}

/// A line that is passed over, and why.
#[derive(Debug, thiserror::Error)]
#[error("{input}, line {number}: {why}")]
pub struct Skipped {
    input: String,
    number: u64,
    why: Unusable,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{:.1} MB long, at most {:.1} MB can be taken in", *.0 as f64 / 1e6, LINE_BYTES_MAX as f64 / 1e6)]
    TooLong(u64),
    #[error(transparent)]
    Broken(#[from] BrokenLine),
}

impl Source {
    /// Opens an input that is read `repeat` times (once, or as often as it takes if there is a `count`) and brings at
    /// most `count` deliveries. From the second time on their ids are `id#2`, `id#3`, ….
    ///
    /// # Errors
    /// [`SourceError`] when it cannot be opened, or read as often.
    pub fn open(path: &Path, repeat: Option<u64>, count: Option<u64>) -> Result<Self, SourceError> {
        let is_standard = path == Path::new("-");
        if is_standard && repeat.is_some_and(|times| times > 1) {
            return Err(SourceError::NotRepeatable);
        }
        let file_bytes =
            if is_standard { None } else { Some(fs::metadata(path).map_err(about(path))?.len()) };
        let times = match (repeat, count) {
            _ if is_standard => 1,
            (Some(times), _) => times,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1,
        };
        Ok(Self {
            path: path.to_owned(),
            lines: lines(path)?,
            file_bytes,
            read_before: 0,
            time: 1,
            times,
            count,
            left: count.unwrap_or(u64::MAX),
            any: false,
        })
    }

    /// The next line that is not empty; nothing at the end.
    ///
    /// # Errors
    /// [`SourceError`] when the input cannot be read.
    pub fn next_delivery(&mut self) -> Result<Option<Found>, SourceError> {
        while self.left > 0 {
            let (number, parsed) = match self.lines.next_line().map_err(about(&self.path))? {
                Some((_, Line::Whole(bytes))) if bytes.trim_ascii().is_empty() => continue,
                Some((number, Line::Whole(bytes))) => {
                    (number, Delivery::parse(bytes).map_err(Unusable::from))
                }
                Some((number, Line::TooLong { bytes })) => (number, Err(Unusable::TooLong(bytes))),
                None => {
                    if self.rewind()? {
                        continue;
                    }
                    break;
                }
            };
            let delivery = match parsed {
                Ok(delivery) => delivery,
                Err(why) => {
                    let input = self.name();
                    return Ok(Some(Found::Unusable(Skipped { input, number, why })));
                }
            };
            (self.any, self.left) = (true, self.left - 1);
            let delivery = match self.time {
                1 => delivery,
                time => Delivery { delivery: format!("{}#{time}", delivery.delivery), ..delivery },
            };
            return Ok(Some(Found::Delivery(number, delivery)));
        }
        Ok(None)
    }

    /// Begins anew, if it is to be read again.
    fn rewind(&mut self) -> Result<bool, SourceError> {
        // A file without any delivery never brings as many as were asked for.
        if self.time >= self.times || !self.any {
            return Ok(false);
        }
        self.read_before += self.lines.bytes_read();
        self.lines = lines(&self.path)?;
        (self.time, self.any) = (self.time + 1, false);
        Ok(true)
    }

    /// What it is called in messages.
    pub fn name(&self) -> String {
        name(&self.path)
    }

    /// How far it was read, in what [`extent`](Self::extent) counts.
    pub fn position(&self) -> u64 {
        match self.extent() {
            Extent::Deliveries(count) => count - self.left,
            Extent::Bytes(_) | Extent::Unknown => self.read_before + self.lines.bytes_read(),
        }
    }

    /// How much there will be.
    pub fn extent(&self) -> Extent {
        match (self.count, self.file_bytes) {
            (Some(count), _) => Extent::Deliveries(count),
            (None, Some(bytes)) => Extent::Bytes(bytes.saturating_mul(self.times)),
            (None, None) => Extent::Unknown,
        }
    }
}

/// How much an input will bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// At most so many deliveries.
    Deliveries(u64),
    /// So many bytes.
    Bytes(u64),
    /// Nobody knows.
    Unknown,
}

fn lines(path: &Path) -> Result<Lines<Box<dyn BufRead>>, SourceError> {
    const BUFFER_BYTES: usize = 256 << 10;
    let input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(about(path))?))
    };
    Ok(Lines::new(input, LINE_BYTES_MAX))
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    |source| SourceError::Read { path: path.to_owned(), source }
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).field("time", &self.time).finish_non_exhaustive()
    }
}
