//! Datagrams that wait for a socket to take them.

use std::collections::VecDeque;

/// One datagram: what is to be sent, and where to.
#[derive(Debug, PartialEq, Eq)]
pub struct Datagram<P, D> {
    /// The bytes, which may be none.
    pub payload: P,
    /// Where they go.
    pub destination: D,
}

/// Datagrams in their order. Each is sent whole or not at all, so that there is nothing to
/// keep of one that was sent in part.
///
/// Its length counts the payloads and a fixed number of bytes per datagram: without that a
/// queue of empty datagrams would never be long enough for its producer to be paused.
pub struct DatagramQueue<P, D> {
    datagrams: VecDeque<Datagram<P, D>>,
    header_bytes: usize,
    length_bytes: usize,
}

impl<P: AsRef<[u8]>, D> DatagramQueue<P, D> {
    /// Makes an empty queue that counts `header_bytes` for each datagram beside its payload.
    pub fn new(header_bytes: usize) -> Self {
        Self {
            datagrams: VecDeque::new(),
            header_bytes,
            length_bytes: 0,
        }
    }

    /// How much is waiting.
    pub fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    fn counted_bytes(&self, datagram: &Datagram<P, D>) -> usize {
        datagram.payload.as_ref().len() + self.header_bytes
    }

    /// Adds a datagram behind the others.
    pub fn push(&mut self, datagram: Datagram<P, D>) {
        self.length_bytes += self.counted_bytes(&datagram);
        self.datagrams.push_back(datagram);
    }

    /// Takes the first datagram out, to be sent.
    pub fn pop(&mut self) -> Option<Datagram<P, D>> {
        let datagram = self.datagrams.pop_front()?;
        self.length_bytes -= self.counted_bytes(&datagram);
        Some(datagram)
    }

    /// Puts a datagram back in front, because the socket takes none now.
    pub fn put_back(&mut self, datagram: Datagram<P, D>) {
        self.length_bytes += self.counted_bytes(&datagram);
        self.datagrams.push_front(datagram);
    }

    /// Takes everything out.
    #[must_use = "dropping the datagrams may run the owner's code"]
    pub fn take_all(&mut self) -> VecDeque<Datagram<P, D>> {
        self.length_bytes = 0;
        std::mem::take(&mut self.datagrams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(payload: &'static str, destination: u8) -> Datagram<&'static str, u8> {
        Datagram {
            payload,
            destination,
        }
    }

    #[test]
    fn gives_datagrams_in_order_and_counts_what_is_left() {
        let mut queue = DatagramQueue::new(8);
        queue.push(datagram("abc", 1));
        queue.push(datagram("", 2));
        assert_eq!(queue.length_bytes(), 3 + 8 + 8);
        assert_eq!(queue.pop(), Some(datagram("abc", 1)));
        assert_eq!(queue.length_bytes(), 8);
        assert_eq!(queue.pop(), Some(datagram("", 2)));
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.length_bytes(), 0);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_could_not_be_sent_stays_the_first() {
        let mut queue = DatagramQueue::new(0);
        queue.push(datagram("first", 1));
        queue.push(datagram("second", 2));
        let first = queue.pop().unwrap();
        queue.put_back(first);
        assert_eq!(queue.length_bytes(), 11);
        assert_eq!(queue.pop(), Some(datagram("first", 1)));
        assert_eq!(queue.pop(), Some(datagram("second", 2)));
    }

    #[test]
    fn an_emptied_queue_counts_from_nothing() {
        let mut queue = DatagramQueue::new(8);
        queue.push(datagram("abc", 1));
        assert_eq!(queue.take_all().len(), 1);
        assert_eq!(queue.length_bytes(), 0);
        queue.push(datagram("d", 1));
        assert_eq!(queue.length_bytes(), 9);
    }
}
