//! Why a receptor could not handle a message, and what should happen to the message now.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What a receptor returns when it could not handle a message.
///
/// Any error becomes a `Failure` through `?`, and means: try again later, as the receptor's options say. A receptor that
/// knows better says [`retry_in`](Self::retry_in) or [`dead`](Self::dead).
///
/// It is one pointer wide, so that the happy path of a call stays as cheap as without it.
///
/// ```
/// use std::time::Duration;
/// use whizbang::{Failure, Verdict};
///
/// fn port(text: &str) -> Result<u16, Failure> {
///     Ok(text.parse::<u16>()?)
/// }
/// let failure = port("eighty").unwrap_err();
/// assert_eq!(failure.to_string(), "invalid digit found in string");
/// assert_eq!(failure.verdict(), Verdict::Retry);
///
/// let busy = Failure::retry_in(Duration::from_secs(5)).because("the printer is busy");
/// assert_eq!(busy.verdict(), Verdict::RetryIn(Duration::from_secs(5)));
/// assert_eq!(Failure::dead("the card was reported stolen").verdict(), Verdict::Dead);
/// ```
pub struct Failure(Box<Inner>);

const _: () = assert!(size_of::<Failure>() == size_of::<usize>(), "a wider error makes every call slower");
const _: () = assert!(size_of::<Result<(), Failure>>() == size_of::<usize>());

struct Inner {
    verdict: Verdict,
    cause: Box<dyn Error + Send + Sync>,
}

/// What should happen to a message that could not be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after the pause that the receptor's options give for this attempt.
    Retry,
    /// Try again after this long.
    RetryIn(Duration),
    /// Do not try again: it becomes a dead letter.
    Dead,
}

impl Failure {
    /// A failure with this text: the message is tried again as the receptor's options say.
    pub fn msg(text: impl fmt::Display) -> Self {
        Self::new(Verdict::Retry, text.to_string().into())
    }

    /// The message is tried again after this long, whatever the receptor's options say.
    ///
    /// [`because`](Self::because) adds the reason.
    pub fn retry_in(after: Duration) -> Self {
        Self::new(Verdict::RetryIn(after), "the receptor asked to be called again later".into())
    }

    /// The message becomes a dead letter with this reason: trying again would not help.
    pub fn dead(reason: impl fmt::Display) -> Self {
        Self::new(Verdict::Dead, reason.to_string().into())
    }

    /// The same verdict with another text or error as its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = cause.into();
        self
    }

    /// The same cause with another verdict.
    ///
    /// ```
    /// use whizbang::{Failure, Verdict};
    ///
    /// let parsed = "x".parse::<u8>().map_err(|error| Failure::from(error).with_verdict(Verdict::Dead));
    /// assert_eq!(parsed.unwrap_err().verdict(), Verdict::Dead);
    /// ```
    #[must_use]
    pub fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.0.verdict = verdict;
        self
    }

    /// What should happen to the message.
    pub fn verdict(&self) -> Verdict {
        self.0.verdict
    }

    /// The error or text behind it.
    pub fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0.cause
    }

    /// The cause as the error type it was made from, if it is that one.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.cause.downcast_ref()
    }

    #[cold]
    fn new(verdict: Verdict, cause: Box<dyn Error + Send + Sync>) -> Self {
        Self(Box::new(Inner { verdict, cause }))
    }
}

// `Failure` itself is no `Error`: this implementation would then overlap with `From<T> for T`.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    #[cold]
    fn from(error: E) -> Self {
        Self::new(Verdict::Retry, Box::new(error))
    }
}

impl fmt::Display for Failure {
    /// The cause and what caused it, on one line: this is the text that is stored with a parked or dead message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&whole(&*self.0.cause))
    }
}

/// An error and what caused it, on one line.
pub(crate) fn whole(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut said = line.clone();
    let mut next = error.source();
    while let Some(source) = next {
        // Many errors print their source themselves, and some a part of it; saying it twice helps nobody.
        let text = source.to_string();
        let says_more = !said.is_empty() && text.ends_with(&said);
        if let Some(before) = line.strip_suffix(&said).filter(|_| says_more) {
            line = format!("{before}{text}");
        } else if !said.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        said = text;
        next = source.source();
    }
    line
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("verdict", &self.0.verdict).field("cause", &self.0.cause).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct NoAnswer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("asked twice: {0}")]
    struct Loud(#[source] std::io::Error);

    fn io() -> std::io::Error {
        std::io::Error::other("line cut")
    }

    #[test]
    fn the_text_tells_the_whole_chain_once() {
        assert_eq!(Failure::from(NoAnswer(io())).to_string(), "no answer: line cut");
        assert_eq!(Failure::from(Loud(io())).to_string(), "asked twice: line cut");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("line cut")]
    struct Short(#[source] Numbered);

    #[derive(Debug, thiserror::Error)]
    #[error("error 13: line cut")]
    struct Numbered;

    #[test]
    fn a_cause_that_says_the_same_and_more_takes_its_place() {
        assert_eq!(Failure::from(Short(Numbered)).to_string(), "error 13: line cut");
    }

    #[test]
    fn the_cause_can_be_looked_at() {
        let failure = Failure::from(NoAnswer(io()));
        assert!(failure.downcast_ref::<NoAnswer>().is_some());
        assert!(failure.downcast_ref::<Loud>().is_none());
    }

    #[test]
    fn a_verdict_is_kept_with_its_reason() {
        let failure = Failure::retry_in(Duration::from_secs(3)).because(NoAnswer(io()));
        assert_eq!(failure.verdict(), Verdict::RetryIn(Duration::from_secs(3)));
        assert_eq!(failure.to_string(), "no answer: line cut");
        assert_eq!(Failure::msg(format_args!("{} left", 2)).to_string(), "2 left");
    }

    #[test]
    fn a_failure_may_cross_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<Failure>();
    }
}
