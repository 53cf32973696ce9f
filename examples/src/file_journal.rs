//! A durable storage backend, complete: a [`Journal`] in a file. [`MemoryDatabase`](whizbang_storage::MemoryDatabase) decides
//! everything; this keeps its records, each behind its length.
//!
//! ```no_run
//! use std::sync::Arc;
//! use whizbang_examples::file_journal::FileJournal;
//! use whizbang_storage::{MemoryDatabase, Service, SystemClock};
//!
//! let database = MemoryDatabase::recover(FileJournal::open("shop.journal")?, Arc::new(SystemClock))?;
//! let store = database.open(Service::named("shop"))?; // to `Engine::builder(…).storage(store)`
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use whizbang_storage::journal::{Journal, JournalError, Replay, is_whole};
use whizbang_storage::{NotApplied, StoreError};

/// A journal in one file, and a lock beside it that keeps other processes out.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    file: File,
    // Behind the last whole record.
    end: u64,
    // What must be made good before anything is appended.
    debt: Debt,
    _lock: File,
}

#[derive(Debug, PartialEq)]
enum Debt {
    None,
    /// Half a record may lie behind the end.
    Tail,
    /// The file was renamed, and a power cut might undo that.
    Directory,
}

impl FileJournal {
    /// Opens or makes a journal.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when another process has it open, and whatever the file system says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let open =
            |path: &Path| File::options().read(true).write(true).create(true).truncate(false).open(path);
        let lock = open(&path.with_extension("lock"))?;
        lock.try_lock()?;
        let file = open(&path)?;
        sync_directory(&path)?;
        Ok(Self { path, file, end: 0, debt: Debt::None, _lock: lock })
    }

    fn pay(&mut self) -> io::Result<()> {
        match self.debt {
            Debt::None => {}
            Debt::Tail => {
                self.file.set_len(self.end)?;
                self.file.sync_data()?;
            }
            Debt::Directory => sync_directory(&self.path)?,
        }
        self.debt = Debt::None;
        Ok(())
    }

    fn write(&mut self, framed: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(framed)?;
        self.file.sync_data()
    }

    /// A file with this record and nothing else, in the place of the old one.
    fn write_anew(&self, framed: &[u8]) -> io::Result<File> {
        let path = self.path.with_extension("new");
        let mut file = File::create(&path)?;
        file.write_all(framed)?;
        file.sync_all()?;
        fs::rename(path, &self.path)?;
        Ok(file)
    }
}

impl Journal for FileJournal {
    fn replay(&mut self, to: &mut Replay<'_>) -> Result<(), JournalError> {
        let bytes = fs::read(&self.path).map_err(|error| JournalError::Read(error.into()))?;
        let mut rest = &bytes[..];
        while let Some((record, behind)) = first(rest) {
            to.record(record)?;
            rest = behind;
        }
        // A crash leaves half a record, and nothing behind it. What has a whole record behind it was whole once, too.
        if (1..rest.len()).any(|at| first(&rest[at..]).is_some()) {
            return Err(JournalError::Damaged { after: to.last() });
        }
        (self.end, self.debt) = ((bytes.len() - rest.len()) as u64, Debt::Tail);
        self.pay().map_err(|error| JournalError::Write(error.into()))
    }

    fn append(&mut self, _: u64, record: &[u8]) -> Result<(), StoreError> {
        self.pay().map_err(|error| StoreError::Unknown(error.into()))?;
        let framed = framed(record);
        let Err(error) = self.write(&framed) else {
            self.end += framed.len() as u64;
            return Ok(());
        };
        // Only when it is gone for certain is it certain that it will not come back.
        self.debt = Debt::Tail;
        let gone = self.pay().is_ok();
        Err(match error.kind() {
            _ if !gone => StoreError::Unknown(error.into()),
            ErrorKind::StorageFull => NotApplied::Full(error.into()).into(),
            _ => NotApplied::Failed(error.into()).into(),
        })
    }

    fn replace(&mut self, _: u64, snapshot: &[u8]) -> Result<(), JournalError> {
        let framed = framed(snapshot);
        self.file = self.write_anew(&framed).map_err(|error| JournalError::Write(error.into()))?;
        (self.end, self.debt) = (framed.len() as u64, Debt::Directory);
        // If not now, then before the next record.
        let _ = self.pay();
        Ok(())
    }
}

/// A record behind its length.
fn framed(record: &[u8]) -> Vec<u8> {
    [&(record.len() as u64).to_le_bytes(), record].concat()
}

/// The first record and what lies behind it, if the first is whole.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (record, behind) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    is_whole(record).then_some((record, behind))
}

/// Makes the names in the file's directory durable, where a system has that.
fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = of.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
