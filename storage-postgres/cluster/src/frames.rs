//! Where the messages of PostgreSQL's protocol begin and end in a stream of bytes.

/// Follows one direction of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    /// The kind and the length of the message that is under way, as far as they have come.
    head: [u8; 5],
    /// Bytes of them that are there; a client's first message has no kind, so that its first byte counts as there.
    head_bytes: usize,
    /// Bytes of the message that are still to come after the head.
    rest: usize,
}

/// What the first message of a client, which has no kind, is called here.
pub(crate) const STARTUP: u8 = 0;

impl Frames {
    pub(crate) fn from_server() -> Self {
        Self { head: [0; 5], head_bytes: 0, rest: 0 }
    }

    pub(crate) fn from_client() -> Self {
        Self { head: [STARTUP; 5], head_bytes: 1, rest: 0 }
    }

    /// What [`next`](Self::next) will answer.
    pub(crate) fn peek(&self, bytes: &[u8]) -> (usize, Option<u8>) {
        self.clone().next(bytes)
    }

    /// How many of these bytes belong to the message that is under way, and its kind if they end it.
    ///
    /// # Panics
    /// When there are none.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> (usize, Option<u8>) {
        assert!(!bytes.is_empty());
        let mut taken = 0;
        if self.head_bytes < 5 {
            taken = bytes.len().min(5 - self.head_bytes);
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            if self.head_bytes < 5 {
                return (taken, None);
            }
            let [_, length @ ..] = self.head;
            // The length counts its own four bytes. One that does not is no message; nothing waits for the rest of it.
            self.rest = (u32::from_be_bytes(length) as usize).saturating_sub(4);
        }
        let of_rest = self.rest.min(bytes.len() - taken);
        self.rest -= of_rest;
        if self.rest > 0 {
            return (taken + of_rest, None);
        }
        self.head_bytes = 0;
        (taken + of_rest, Some(self.head[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(mut frames: Frames, bytes: &[u8], chunk: usize) -> Vec<u8> {
        let mut kinds = Vec::new();
        for mut rest in bytes.chunks(chunk) {
            while !rest.is_empty() {
                let (taken, kind) = frames.next(rest);
                kinds.extend(kind);
                rest = &rest[taken..];
            }
        }
        kinds
    }

    #[test]
    fn messages_are_the_same_however_the_bytes_come_in() {
        let startup = [0, 0, 0, 9, 0, 3, 0, 0, 0];
        let sync = [b'S', 0, 0, 0, 4];
        let query = [b'Q', 0, 0, 0, 7, b'x', b'y', 0];
        let from_client = [&startup[..], &sync, &query, &sync].concat();
        let from_server = [&query[..], &sync].concat();
        for chunk in 1..from_client.len() + 1 {
            assert_eq!(
                kinds(Frames::from_client(), &from_client, chunk),
                [STARTUP, b'S', b'Q', b'S'],
                "{chunk}"
            );
            assert_eq!(kinds(Frames::from_server(), &from_server, chunk), [b'Q', b'S'], "{chunk}");
        }
    }
}
