//! Bytes that wait for a descriptor to take them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// At most this many pieces go to the kernel at once: Linux's own limit.
const PIECES_PER_CALL: usize = 1024;

/// Pieces of bytes in their order, with those at the front that were written taken off.
///
/// A piece stays as its owner made it, so that nothing is copied.
pub struct WriteQueue<P> {
    pieces: VecDeque<P>,
    /// How much of the first piece was written.
    written_of_first_bytes: usize,
    length_bytes: usize,
}

impl<P> Default for WriteQueue<P> {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            written_of_first_bytes: 0,
            length_bytes: 0,
        }
    }
}

impl<P: AsRef<[u8]>> WriteQueue<P> {
    /// How many bytes are waiting.
    pub fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds a piece without its first `written_bytes`. An empty rest is not added.
    pub fn push(&mut self, piece: P, written_bytes: usize) {
        let rest_bytes = piece.as_ref().len().saturating_sub(written_bytes);
        if rest_bytes == 0 {
            return;
        }
        if self.pieces.is_empty() {
            self.written_of_first_bytes = written_bytes;
        } else {
            debug_assert_eq!(
                written_bytes, 0,
                "what is behind others is not written first"
            );
        }
        self.length_bytes += rest_bytes;
        self.pieces.push_back(piece);
    }

    /// Writes what a descriptor takes now, in one call of `write` (as `writev`), and returns
    /// how much that was.
    ///
    /// # Errors
    ///
    /// The error of the call; `WouldBlock` when the descriptor takes nothing now. The queue
    /// is then as it was.
    pub fn write_to(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut skip_bytes = self.written_of_first_bytes;
        let slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .take(PIECES_PER_CALL)
            .map(|piece| IoSlice::new(&piece.as_ref()[std::mem::take(&mut skip_bytes)..]))
            .collect();
        let written_bytes = write(&slices)?;
        self.advance(written_bytes);
        Ok(written_bytes)
    }

    /// Takes off what was written.
    fn advance(&mut self, written_bytes: usize) {
        self.length_bytes = self.length_bytes.saturating_sub(written_bytes);
        let mut left_bytes = written_bytes + self.written_of_first_bytes;
        while let Some(first) = self.pieces.front() {
            let first_bytes = first.as_ref().len();
            if first_bytes > left_bytes {
                break;
            }
            left_bytes -= first_bytes;
            self.pieces.pop_front();
        }
        self.written_of_first_bytes = if self.pieces.is_empty() {
            0
        } else {
            left_bytes
        };
    }

    /// Takes everything out.
    #[must_use = "dropping the pieces may run the owner's code"]
    pub fn take_all(&mut self) -> VecDeque<P> {
        self.length_bytes = 0;
        self.written_of_first_bytes = 0;
        std::mem::take(&mut self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most so many bytes of what it is given.
    fn take(queue: &mut WriteQueue<&[u8]>, limit_bytes: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        queue
            .write_to(|slices| {
                taken = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                taken.truncate(limit_bytes);
                Ok(taken.len())
            })
            .unwrap();
        taken
    }

    #[test]
    fn gives_every_byte_once_and_in_order_however_it_is_split() {
        let pieces: [&[u8]; 4] = [b"abcd", b"e", b"", b"fghij"];
        for limit_bytes in 1..12 {
            let mut queue = WriteQueue::default();
            queue.push(pieces[0], 2);
            for piece in &pieces[1..] {
                queue.push(*piece, 0);
            }
            let mut all = Vec::new();
            while !queue.is_empty() {
                assert_eq!(queue.length_bytes(), 8 - all.len());
                all.extend(take(&mut queue, limit_bytes));
            }
            assert_eq!(all, b"cdefghij");
            assert_eq!(queue.length_bytes(), 0);
        }
    }

    #[test]
    fn a_failed_call_takes_nothing() {
        let mut queue = WriteQueue::default();
        queue.push(&b"abc"[..], 1);
        let error = queue.write_to(|_| Err(io::ErrorKind::WouldBlock.into()));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(take(&mut queue, 9), b"bc");
    }

    #[test]
    fn an_emptied_queue_starts_anew() {
        let mut queue = WriteQueue::default();
        queue.push(&b"abcdef"[..], 3);
        assert_eq!(queue.take_all().len(), 1);
        queue.push(&b"xyz"[..], 0);
        assert_eq!(take(&mut queue, 9), b"xyz");
        assert!(queue.is_empty());
    }

    #[test]
    fn the_kernel_gets_no_more_pieces_than_it_takes() {
        let mut queue = WriteQueue::default();
        for _ in 0..2000 {
            queue.push(&b"x"[..], 0);
        }
        assert_eq!(take(&mut queue, usize::MAX).len(), PIECES_PER_CALL);
        assert_eq!(queue.length_bytes(), 2000 - PIECES_PER_CALL);
    }
}
