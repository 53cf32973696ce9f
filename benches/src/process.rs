//! What the kernel knows of this process.

use std::time::Duration;

/// Processor time and bytes written so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Time on processors, all threads together, in steps of 10 ms.
    pub cpu: Duration,
    /// Bytes handed to `write` and its relatives.
    pub written: u64,
}

impl Usage {
    /// Asks the kernel; zero where it does not say.
    pub fn now() -> Self {
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            cpu: Duration::from_millis(ticks(&stat).unwrap_or_default() * 10),
            written: written.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or_default(),
        }
    }

    /// What came on top since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// Memory of this process that is in RAM, in bytes.
///
/// # Errors
/// When the kernel does not say.
pub fn resident_bytes() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| std::io::Error::other("the kernel does not say what is resident"))
}

/// User and system time in clock ticks, which are hundredths of a second wherever Linux runs.
fn ticks(stat: &str) -> Option<u64> {
    // The name stands in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resident_is_at_least_what_is_held() {
        let held = vec![1_u8; 8 << 20];
        assert!(resident_bytes().unwrap() >= held.len() as u64);
    }

    #[test]
    fn ticks_are_found_behind_a_name_with_parentheses() {
        let stat = "1 (a (b) c) S 1 1 1 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(300));
    }
}
