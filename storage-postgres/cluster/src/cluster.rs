//! A server, from its first start to the removal of its directory.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::Account;
use crate::binaries::Binaries;
use crate::watchdog::Watchdog;
use crate::{ClusterError, Options};

/// A PostgreSQL server of one's own. Dropping it stops the server and removes everything it wrote.
#[derive(Debug)]
pub struct Cluster {
    server: Mutex<Server>,
    port: u16,
    options: Options,
    binaries: Binaries,
    account: Account,
    // In this order: the watchdog leaves before the directory it lives in is removed.
    _watchdog: Watchdog,
    directory: TempDir,
}

#[derive(Debug, Default)]
struct Server {
    process: Option<Child>,
    refuses_writes: bool,
}

/// Longer than a start, a recovery or a shutdown takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports that are tried before a first start fails: a free one may be taken between our look and the server's.
const PORTS_MAX: usize = 10;

impl Cluster {
    /// Sets up a server in a directory for temporary files, and starts it; returns when it takes connections.
    ///
    /// # Errors
    /// [`ClusterError::Missing`] says what to install; the others, what went wrong.
    pub fn start(options: Options) -> Result<Self, ClusterError> {
        let binaries = Binaries::find()?;
        let directory = tempfile::Builder::new()
            .prefix("whizbang-pg-")
            .tempdir()
            .map_err(ClusterError::io("make a directory for the server"))?;
        let account = Account::for_directory(directory.path())?;
        account.own(directory.path())?;
        // Before there is anything to watch, so that there is never anything unwatched.
        let watchdog = Watchdog::start(account, directory.path(), &binaries.pg_ctl)?;
        let mut cluster = Self {
            server: Mutex::default(),
            port: 0,
            options,
            binaries,
            account,
            _watchdog: watchdog,
            directory,
        };
        cluster.set_up()?;
        cluster.start_on_a_free_port()?;
        Ok(cluster)
    }

    /// One server for all tests of this process, started by the first that asks, without `fsync`; gone when the process is.
    ///
    /// # Panics
    /// When it cannot be started, with the error: a test can do nothing about it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let options = Options { fsync: false, ..Options::default() };
            Self::start(options).unwrap_or_else(|error| panic!("{error}"))
        })
    }

    /// Where it is, over its Unix socket: `postgres://…`, as the superuser `postgres`.
    pub fn url(&self) -> String {
        let directory = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{directory}:{}/postgres", self.port)
    }

    /// Where it is, over the loopback address.
    pub fn tcp_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port on the loopback address. It stays the same as long as the cluster lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket itself, for those who put something in front of it.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// What the server has written to its log so far.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Stops it in order: sessions are ended, everything is written out. Returns when it has ended.
    ///
    /// # Errors
    /// [`ClusterError::State`] when it does not run.
    pub fn stop(&self) -> Result<(), ClusterError> {
        self.end_by(|process| self.pg_ctl(&["stop", "-m", "fast", "-W"], process))
    }

    /// Ends it without writing anything out, as `pg_ctl stop -m immediate` does: the next start recovers from the log.
    ///
    /// # Errors
    /// [`ClusterError::State`] when it does not run.
    pub fn crash(&self) -> Result<(), ClusterError> {
        self.end_by(|process| self.pg_ctl(&["stop", "-m", "immediate", "-W"], process))
    }

    /// Kills its first process, as an operator's `kill -9` or the kernel short of memory does. Sessions notice by
    /// themselves, after what they are doing.
    ///
    /// # Errors
    /// [`ClusterError::State`] when it does not run.
    pub fn kill(&self) -> Result<(), ClusterError> {
        self.end_by(|process| process.kill().map_err(ClusterError::io("kill the server")))
    }

    /// Starts it again on the same port after it ended, however that was. Returns when it takes connections.
    ///
    /// # Errors
    /// [`ClusterError::State`] when it runs; [`ClusterError::NotReady`] with the log when it does not start.
    pub fn start_again(&self) -> Result<(), ClusterError> {
        let mut server = self.server();
        if server.process.is_some() {
            return Err(ClusterError::State("runs already"));
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match self.launch(self.port) {
                Ok(process) => {
                    server.process = Some(process);
                    return Ok(());
                }
                // Sessions of a server that was killed end a little later than it; until then its memory is in use.
                Err(ClusterError::NotReady { log, .. })
                    if (log.contains("pre-existing shared memory") || log.contains(NO_SOCKET))
                        && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets every transaction that begins from now on read only, unless it asks for something else: what clients see on
    /// a server that is no longer, or not yet, the first of its group. A session notices with its next statement, soon
    /// after this returns: wait until `SHOW default_transaction_read_only` says `on`.
    ///
    /// # Errors
    /// What writing the setting or telling the server says.
    pub fn refuse_writes(&self) -> Result<(), ClusterError> {
        self.set_refuses_writes(true)
    }

    /// Ends [`refuse_writes`](Self::refuse_writes).
    ///
    /// # Errors
    /// What writing the setting or telling the server says.
    pub fn accept_writes(&self) -> Result<(), ClusterError> {
        self.set_refuses_writes(false)
    }

    fn set_refuses_writes(&self, refuses: bool) -> Result<(), ClusterError> {
        let mut server = self.server();
        server.refuses_writes = refuses;
        self.write_settings(refuses)?;
        match &mut server.process {
            Some(process) => self.pg_ctl(&["reload"], process),
            None => Ok(()),
        }
    }

    /// Makes the data directory and its settings.
    fn set_up(&self) -> Result<(), ClusterError> {
        let data = self.data();
        let mut initdb = self.account.command(&self.binaries.initdb, self.directory.path());
        initdb.arg("-D").arg(&data);
        // The disk need not have it before the first commit asks for that.
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        succeed(&mut initdb)?;
        if let Some(tls) = &self.options.tls {
            for (name, pem) in [("server.crt", &tls.certificate), ("server.key", &tls.key)] {
                self.write_secret(&data.join(name), pem)?;
            }
        }
        let mut conf = OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .map_err(ClusterError::io("open postgresql.conf"))?;
        writeln!(conf, "include '{SETTINGS}'").map_err(ClusterError::io("write postgresql.conf"))?;
        self.write_settings(false)
    }

    fn write_settings(&self, refuses_writes: bool) -> Result<(), ClusterError> {
        let mut conf = self.options.conf(self.directory.path());
        if refuses_writes {
            conf += "default_transaction_read_only = 'on'\n";
        }
        fs::write(self.data().join(SETTINGS), conf).map_err(ClusterError::io("write the settings"))
    }

    /// A file that nobody but the server may read: otherwise it refuses a private key.
    fn write_secret(&self, path: &Path, text: &str) -> Result<(), ClusterError> {
        use std::os::unix::fs::OpenOptionsExt;
        let what = || ClusterError::io(format!("write {}", path.display()));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(what())?;
        file.write_all(text.as_bytes()).map_err(what())?;
        self.account.own(path)
    }

    fn start_on_a_free_port(&mut self) -> Result<(), ClusterError> {
        for _ in 1..PORTS_MAX {
            self.port = free_port()?;
            match self.launch(self.port) {
                Err(ClusterError::NotReady { log, .. }) if log.contains(NO_SOCKET) => {}
                launched => {
                    self.server().process = Some(launched?);
                    return Ok(());
                }
            }
        }
        self.port = free_port()?;
        let process = self.launch(self.port)?;
        self.server().process = Some(process);
        Ok(())
    }

    /// Starts the server, and returns when it takes connections.
    fn launch(&self, port: u16) -> Result<Child, ClusterError> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.map_err(ClusterError::io("open the server's log"))?;
        let copy = |log: &File| log.try_clone().map_err(ClusterError::io("open the server's log"));
        let written_before = log.metadata().map_err(ClusterError::io("look at the server's log"))?.len();
        let mut command = self.account.command(&self.binaries.postgres, self.directory.path());
        command.arg("-D").arg(self.data()).arg("-p").arg(port.to_string());
        command.stdin(Stdio::null()).stdout(copy(&log)?).stderr(log);
        let mut process = command.spawn().map_err(ClusterError::io("start the server"))?;
        let begun = Instant::now();
        loop {
            if self.is_ready(process.id()) {
                return Ok(process);
            }
            let ended = process.try_wait().map_err(ClusterError::io("wait for the server"))?.is_some();
            if ended || begun.elapsed() > PATIENCE {
                // It may have ended already; then there is nothing to kill.
                let _ = process.kill();
                let _ = process.wait();
                let what = if ended { "ended while it started" } else { "was not ready in time" };
                let log = self.log().get(written_before as usize..).unwrap_or_default().to_owned();
                return Err(ClusterError::NotReady { what, log });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the server with this process number says that it takes connections. `pg_ctl` looks there, too.
    fn is_ready(&self, process: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data().join("postmaster.pid")) else { return false };
        let mut lines = text.lines();
        let is_this_one = lines.next() == Some(process.to_string().as_str());
        is_this_one && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    fn end_by(&self, end: impl FnOnce(&mut Child) -> Result<(), ClusterError>) -> Result<(), ClusterError> {
        let mut server = self.server();
        let Some(process) = &mut server.process else { return Err(ClusterError::State("does not run")) };
        end(process)?;
        process.wait().map_err(ClusterError::io("wait for the server's end"))?;
        server.process = None;
        Ok(())
    }

    /// Tells the running server something, unless it has just ended by itself.
    fn pg_ctl(&self, arguments: &[&str], process: &mut Child) -> Result<(), ClusterError> {
        let mut command = self.account.command(&self.binaries.pg_ctl, self.directory.path());
        command.args(arguments).arg("-D").arg(self.data());
        match succeed(&mut command) {
            Err(_) if matches!(process.try_wait(), Ok(Some(_))) => Ok(()),
            done => done,
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        // Whoever panicked with it has left a state that is true: each is set in one step.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nothing of it will be read again, so nothing need be written out.
        if self.crash().is_err()
            && let Some(mut process) = self.server().process.take()
        {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The settings of this crate, in the data directory.
const SETTINGS: &str = "whizbang.conf";

/// What a server says whose port is taken.
const NO_SOCKET: &str = "could not create any TCP/IP sockets";

fn free_port() -> Result<u16, ClusterError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener
        .and_then(|listener| listener.local_addr())
        .map(|free| free.port())
        .map_err(ClusterError::io("find a free port"))
}

fn succeed(command: &mut Command) -> Result<(), ClusterError> {
    let program = PathBuf::from(command.get_program());
    let said = command.stdin(Stdio::null()).output();
    let said = said.map_err(ClusterError::io(format!("run {}", program.display())))?;
    if said.status.success() {
        return Ok(());
    }
    let output =
        [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned()).join("\n");
    Err(ClusterError::Program { program, output })
}
