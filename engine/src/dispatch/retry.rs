//! How a receptor's messages are tried again: pure functions of the attempt and a random number.

use std::time::Duration;

/// How a receptor's messages are handled: how long it may take, and what happens when it fails.
///
/// Set in the `dispatcher!` behind a receptor: `command ChargeCard => payments with { attempts_max: 3 };`
///
/// ```
/// use std::time::Duration;
/// use whizbang::ReceptorOptions;
///
/// let options = ReceptorOptions { attempts_max: 3, ..ReceptorOptions::DEFAULT };
/// assert_eq!(options.retry_after(1, 0.5), Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReceptorOptions {
    /// How long one attempt may take; then it is cancelled and counts as failed. Default 30 s. Too short: slow work never
    /// gets done. Too long: a handler that hangs holds up its stream for that long.
    pub deadline: Duration,
    /// The pause after the first failure; each further failure doubles it. Default 30 s. Too short: a destination that is
    /// down is asked all the time. Too long: a short hiccup delays the message needlessly.
    pub retry_first: Duration,
    /// The longest pause. Default 5 min.
    pub retry_max: Duration,
    /// By how much a pause is varied at random, as a part of it, so that messages that failed together do not come back
    /// together. Default 0.2: between 20 % less and 20 % more. 0: not at all; at most 1.
    pub jitter: f32,
    /// Attempts after which the message is a dead letter; one that was cancelled by a hand-over or ended with its process is one,
    /// too. At least 1; default 10.
    pub attempts_max: u32,
}

impl ReceptorOptions {
    /// 30 s to handle; 30 s doubling to 5 min between attempts, varied by 20 %; 10 attempts.
    pub const DEFAULT: Self = Self {
        deadline: Duration::from_secs(30),
        retry_first: Duration::from_secs(30),
        retry_max: Duration::from_secs(5 * 60),
        jitter: 0.2,
        attempts_max: 10,
    };

    /// Checks that they make sense; the `dispatcher!` does this while compiling.
    ///
    /// # Panics
    /// With a text that names the option.
    #[track_caller] // The error stands at the option, not in here.
    pub const fn checked(self) -> Self {
        assert!(self.attempts_max > 0, "`attempts_max` is 0: a message is tried at least once");
        assert!(!self.deadline.is_zero(), "`deadline` is zero: a receptor needs some time");
        assert!(self.jitter >= 0.0 && self.jitter <= 1.0, "`jitter` is not between 0 and 1");
        assert!(
            self.retry_first.as_nanos() <= self.retry_max.as_nanos(),
            "`retry_first` is longer than `retry_max`"
        );
        self
    }

    /// The pause after the failure of this attempt (1 is the first). `random` is between 0 and 1.
    ///
    /// `retry_first` · 2^(attempt − 1), at most `retry_max`, times 1 − `jitter` to 1 + `jitter`.
    pub fn retry_after(&self, attempt: u32, random: f32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let pause = self.retry_first.saturating_mul(1 << doublings).min(self.retry_max);
        let factor = 1.0 + f64::from(self.jitter) * (2.0 * f64::from(random.clamp(0.0, 1.0)) - 1.0);
        Duration::try_from_secs_f64(pause.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

impl Default for ReceptorOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The most attempts that any of these receptors takes: what their subscription has to allow.
pub const fn attempts_max_of(receptors: &[&ReceptorOptions]) -> u32 {
    let mut max = 1;
    let mut at = 0;
    while at < receptors.len() {
        if receptors[at].attempts_max > max {
            max = receptors[at].attempts_max;
        }
        at += 1;
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_maximum_and_varies_by_the_jitter() {
        let options = ReceptorOptions::DEFAULT;
        let seconds = |attempt, random| options.retry_after(attempt, random).as_secs_f64().round();
        let table = [
            (1, 0.5, 30.0),
            (2, 0.5, 60.0),
            (3, 0.5, 120.0),
            (4, 0.5, 240.0),
            (5, 0.5, 300.0),
            (6, 0.5, 300.0),
            (u32::MAX, 0.5, 300.0),
            (0, 0.5, 30.0),
            (1, 0.0, 24.0),
            (1, 1.0, 36.0),
            (5, 0.0, 240.0),
            (5, 1.0, 360.0),
            (1, 7.0, 36.0),
        ];
        for (attempt, random, expected) in table {
            assert_eq!(seconds(attempt, random), expected, "attempt {attempt}, random {random}");
        }
    }

    #[test]
    fn endless_pauses_do_not_overflow() {
        let options = ReceptorOptions { retry_max: Duration::MAX, ..ReceptorOptions::DEFAULT };
        assert_eq!(options.retry_after(32, 0.5).as_secs(), 30 << 31);
        let longest = ReceptorOptions { retry_first: Duration::MAX, ..options };
        assert!(longest.retry_after(9, 1.0) >= Duration::from_secs(u64::MAX / 2));
    }

    #[test]
    fn a_subscription_allows_what_its_most_patient_receptor_takes() {
        let of = |attempts_max| ReceptorOptions { attempts_max, ..ReceptorOptions::DEFAULT };
        assert_eq!(attempts_max_of(&[&of(3), &of(12), &of(5)]), 12);
        assert_eq!(attempts_max_of(&[]), 1);
    }
}
