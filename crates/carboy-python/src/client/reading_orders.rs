//! What a task that reads content is told, by whoever has the response.
//!
//! A task that waits for content has to hear that nobody wants it any more: a server may be silent
//! for as long as it likes.

use std::collections::VecDeque;

use carboy_client::{Error, ErrorKind};
use tokio::sync::mpsc;

/// An order to a task that reads: to read something, or to let go of the content.
pub(super) enum Order<T> {
    Read(T),
    Close,
}

/// How the orders have ended.
pub(super) enum End {
    /// The content was let go of.
    Closed,
    /// Nobody has the response any more.
    Dropped,
}

/// Gives orders, from any thread.
pub(super) struct OrderSender<T> {
    sender: mpsc::UnboundedSender<Order<T>>,
}

impl<T> OrderSender<T> {
    /// Sends an order; gives it back when nobody reads any more.
    pub(super) fn send(&self, order: Order<T>) -> Result<(), Order<T>> {
        self.sender.send(order).map_err(|refused| refused.0)
    }
}

/// Takes orders, in their turn.
pub(super) struct Orders<T> {
    receiver: mpsc::UnboundedReceiver<Order<T>>,
    /// Those that came while another one was carried out.
    waiting: VecDeque<T>,
}

/// Where orders are given, and where they are taken.
pub(super) fn orders<T>() -> (OrderSender<T>, Orders<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = VecDeque::new();
    (OrderSender { sender }, Orders { receiver, waiting })
}

impl<T> Orders<T> {
    /// Waits for the next thing that is to be read.
    pub(super) async fn next(&mut self) -> Result<T, End> {
        if let Some(read) = self.waiting.pop_front() {
            return Ok(read);
        }
        match self.receiver.recv().await {
            Some(Order::Read(read)) => Ok(read),
            Some(Order::Close) => Err(End::Closed),
            None => Err(End::Dropped),
        }
    }

    /// Waits, while something is read, until that is to be broken off. Others that are to be read
    /// keep their turn, unless this ends.
    pub(super) async fn end(&mut self) -> End {
        loop {
            match self.receiver.recv().await {
                Some(Order::Read(read)) => self.waiting.push_back(read),
                Some(Order::Close) => return End::Closed,
                None => return End::Dropped,
            }
        }
    }
}

/// For who waits for content that somebody else lets go of.
pub(super) fn closed_meanwhile() -> Error {
    Error::new(
        ErrorKind::Read,
        "the response was closed while its content was awaited",
    )
}
