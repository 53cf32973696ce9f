//! Who the server runs as.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ClusterError;

/// Who the server's programs run as: ourselves, or somebody with fewer rights when we are root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    /// User and group to change to.
    other: Option<(u32, u32)>,
}

impl Account {
    /// Decides by the owner of a directory that this process has just made: that is who we are.
    pub(crate) fn for_directory(ours: &Path) -> Result<Self, ClusterError> {
        let made = fs::metadata(ours).map_err(ClusterError::io("look at a directory just made"))?;
        if made.uid() != 0 {
            return Ok(Self { other: None });
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(ClusterError::io("read /etc/passwd"))?;
        let other = ["postgres", "nobody"].into_iter().find_map(|name| ids_of(&passwd, name));
        other.ok_or(ClusterError::NoAccount).map(|ids| Self { other: Some(ids) })
    }

    /// Makes the account the owner of a file or directory.
    pub(crate) fn own(self, path: &Path) -> Result<(), ClusterError> {
        let Some((user, group)) = self.other else { return Ok(()) };
        chown(path, Some(user), Some(group))
            .map_err(ClusterError::io(format!("give {} away", path.display())))
    }

    /// A program that will run as the account, in `directory`, deaf to what the terminal sends to our process group, and
    /// without the variables that PostgreSQL's programs listen to.
    pub(crate) fn command(self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).process_group(0).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Some((user, group)) = self.other {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Where a program is found when it is called by name.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|each| each.is_file())
}

/// User and group number in the text of `/etc/passwd`.
fn ids_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        // Whoever is root under another name is still root.
        (is_it && user != 0).then_some((user, group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name_and_root_is_not_taken() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody2:x:5:6:::\nnobody:x:65534:65533:::\ntoor:x:0:0:::\n";
        assert_eq!(ids_of(passwd, "nobody"), Some((65_534, 65_533)));
        assert_eq!(ids_of(passwd, "toor"), None);
        assert_eq!(ids_of(passwd, "postgres"), None);
    }
}
