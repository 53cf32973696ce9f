//! Reading lines of unknown length with bounded memory.

use std::io::{self, BufRead, Read};

/// The lines of an input, each with its number, none kept longer than the next call.
///
/// ```
/// # use whizbang_examples::lines::{Line, Lines};
/// let mut lines = Lines::new(&b"one\nfar too long\nthree"[..], 5);
/// assert_eq!(lines.next_line()?, Some((1, Line::Whole(b"one"))));
/// assert_eq!(lines.next_line()?, Some((2, Line::TooLong { bytes: 12 })));
/// assert_eq!(lines.next_line()?, Some((3, Line::Whole(b"three"))));
/// assert_eq!(lines.next_line()?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    bytes_max: usize,
    kept: Vec<u8>,
    number: u64,
    bytes_read: u64,
}

/// One line, without what ends it.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'l> {
    /// All of it.
    Whole(&'l [u8]),
    /// It was longer than is kept, and was passed over.
    TooLong {
        /// How long it was.
        bytes: u64,
    },
}

impl<R: BufRead> Lines<R> {
    /// Reads lines of at most so many bytes; longer ones are passed over without being kept.
    pub fn new(input: R, bytes_max: usize) -> Self {
        Self { input, bytes_max, kept: Vec::new(), number: 0, bytes_read: 0 }
    }

    /// Bytes that were read so far, line ends included.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next line and its number, from 1; none at the end of the input. The last line need not end with a newline.
    ///
    /// # Errors
    /// What reading says; the line that was begun is lost.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.kept.clear();
        // One byte more than is kept, for the newline of a line that just fits.
        let limit = self.bytes_max as u64 + 1;
        let mut bytes = (&mut self.input).take(limit).read_until(b'\n', &mut self.kept)? as u64;
        if bytes == 0 {
            return Ok(None);
        }
        self.number += 1;
        let is_cut = bytes == limit && self.kept.last() != Some(&b'\n');
        if is_cut {
            let (rest, ended) = pass_over(&mut self.input)?;
            bytes += rest;
            self.bytes_read += bytes;
            return Ok(Some((self.number, Line::TooLong { bytes: bytes - u64::from(ended) })));
        }
        self.bytes_read += bytes;
        let line = self.kept.strip_suffix(b"\n").unwrap_or(&self.kept);
        Ok(Some((self.number, Line::Whole(line.strip_suffix(b"\r").unwrap_or(line)))))
    }
}

/// Reads up to the end of the line without keeping anything: how many bytes that were, and whether the last was a newline.
fn pass_over(input: &mut impl BufRead) -> io::Result<(u64, bool)> {
    let mut bytes = 0;
    loop {
        let chunk = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(chunk.len(), |at| at + 1);
        let is_over = newline.is_some() || chunk.is_empty();
        input.consume(used);
        bytes += used as u64;
        if is_over {
            return Ok((bytes, newline.is_some()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn read(input: &[u8], chunk: usize, bytes_max: usize) -> Vec<(u64, Result<Vec<u8>, u64>)> {
        let mut lines = Lines::new(BufReader::with_capacity(chunk, input), bytes_max);
        let mut read = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            read.push(match line {
                Line::Whole(bytes) => (number, Ok(bytes.to_vec())),
                Line::TooLong { bytes } => (number, Err(bytes)),
            });
        }
        assert_eq!(lines.bytes_read(), input.len() as u64);
        read
    }

    #[test]
    fn lines_are_the_same_however_the_input_comes_in() {
        let input = b"first\n\nthird\r\n\xff\xfe\nlast";
        let whole = |bytes: &[u8]| Ok(bytes.to_vec());
        let expected = vec![
            (1, whole(b"first")),
            (2, whole(b"")),
            (3, whole(b"third")),
            (4, whole(b"\xff\xfe")),
            (5, whole(b"last")),
        ];
        for chunk in 1..input.len() + 2 {
            assert_eq!(read(input, chunk, 100), expected, "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_with_its_length() {
        let mut input = vec![b'x'; 10_000];
        input.extend_from_slice(b"\nshort\n");
        assert_eq!(read(&input, 64, 100), [(1, Err(10_000)), (2, Ok(b"short".to_vec()))]);
        assert_eq!(read(b"12345\n123456", 3, 5), [(1, Ok(b"12345".to_vec())), (2, Err(6))]);
    }

    #[test]
    fn an_empty_input_has_no_lines() {
        assert_eq!(read(b"", 8, 100), []);
    }
}
