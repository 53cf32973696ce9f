//! What stops a server whose owner has died.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use crate::ClusterError;
use crate::account::Account;

/// A process that waits for the end of its input: when the owner says so, it leaves; when the owner is gone, it stops the
/// server first and removes its directory.
///
/// The other end of the pipe is ours alone, because Rust opens it close-on-exec, and the kernel closes it however we end.
#[derive(Debug)]
pub(crate) struct Watchdog {
    process: Child,
    leash: Option<ChildStdin>,
}

const SCRIPT: &str = r#"
read -r word
[ "$word" = done ] && exit
"$1" stop -D "$2/data" -m immediate -t 20
cd /
rm -rf "$2"
"#;

impl Watchdog {
    pub(crate) fn start(account: Account, directory: &Path, pg_ctl: &Path) -> Result<Self, ClusterError> {
        let mut command = account.command(Path::new("/bin/sh"), directory);
        command.args(["-c", SCRIPT, "whizbang-postgres-watchdog"]).arg(pg_ctl).arg(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(ClusterError::io("start the watchdog"))?;
        let leash = process.stdin.take();
        Ok(Self { process, leash })
    }
}

impl Drop for Watchdog {
    /// The server is stopped already: nothing is left to do.
    fn drop(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            // A watchdog that somebody killed needs not be told.
            let _ = leash.write_all(b"done\n");
        }
        let _ = self.process.wait();
    }
}
