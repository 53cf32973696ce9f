//! How a server is set up.

use std::fmt::Write;
use std::path::Path;

/// How a server is set up. The default is safe to measure durability with, and sized for a machine of two cores.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether a commit waits for the disk. Default true. Without it nothing is lost when the server is killed, only when
    /// the machine is; tests of what is right are several times faster. Nothing may be measured without it.
    pub fsync: bool,
    /// Connections that may be open at once. Default 200. Too few: tests that run side by side are refused. More take
    /// some shared memory each.
    pub connections_max: u32,
    /// Further lines of `postgresql.conf`, name and value, which win over what this crate sets. Default none.
    pub settings: Vec<(String, String)>,
    /// Speaks TLS with those who ask for it. Default none.
    pub tls: Option<ServerTls>,
}

/// What a server shows who it is with, both as PEM.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Its certificate, and those between it and the root.
    pub certificate: String,
    /// The certificate's private key.
    pub key: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { fsync: true, connections_max: 200, settings: Vec::new(), tls: None }
    }
}

impl Options {
    /// The settings as the server reads them.
    pub(crate) fn conf(&self, socket_directory: &Path) -> String {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let ours = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", socket_directory.display().to_string()),
            ("max_connections", self.connections_max.to_string()),
            ("fsync", on_off(self.fsync)),
            ("synchronous_commit", on_off(self.fsync)),
            // Torn pages only come with power cuts, too.
            ("full_page_writes", on_off(self.fsync)),
            ("ssl", on_off(self.tls.is_some())),
            ("shared_buffers", "256MB".to_owned()),
            // Otherwise a minute of load is a checkpoint every few seconds.
            ("max_wal_size", "4GB".to_owned()),
            ("jit", "off".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("log_line_prefix", "%m [%p] ".to_owned()),
            ("log_checkpoints", "off".to_owned()),
        ];
        let theirs = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let mut text = String::new();
        for (name, value) in ours.into_iter().chain(theirs) {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''")).expect("memory can be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_the_users_stands_last_and_a_quote_in_it_is_doubled() {
        let settings =
            vec![("jit".to_owned(), "on".to_owned()), ("search_path".to_owned(), "it's".to_owned())];
        let conf = Options { settings, ..Options::default() }.conf(Path::new("/nowhere"));
        let place = |line: &str| conf.lines().position(|each| each == line).expect(line);
        assert!(place("jit = 'on'") > place("jit = 'off'"));
        place("search_path = 'it''s'");
    }

    #[test]
    fn a_commit_waits_for_the_disk_unless_that_is_turned_off() {
        let conf = |fsync| Options { fsync, ..Options::default() }.conf(Path::new("/nowhere"));
        assert!(conf(true).contains("fsync = 'on'") && conf(true).contains("synchronous_commit = 'on'"));
        assert!(conf(false).contains("fsync = 'off'"));
    }
}
