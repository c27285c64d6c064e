//! What the bytes of a connection do, written down where they pass.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use tokio::time::Instant;

use crate::raw_head::{HeadRecorder, RawHead};

/// Shared by a connection's stream, which writes it down, and who waits for a response.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    bytes_read: Cell<u64>,
    write_blocked_since: Cell<Option<Instant>>,
    /// When a block ended last.
    write_resumed: Cell<Option<Instant>>,
    /// Whether a write has failed that nobody was told of.
    has_lost_write: Cell<bool>,
    head: RefCell<HeadRecorder>,
    /// Whether somebody wants to know that bytes have come, and who.
    is_watched: Cell<bool>,
    watcher: RefCell<Option<Waker>>,
}

impl Activity {
    pub(crate) fn note_read(&self, bytes: &[u8]) {
        self.bytes_read
            .set(self.bytes_read.get() + bytes.len() as u64);
        self.head.borrow_mut().note(bytes);
        if self.is_watched.get()
            && let Some(watcher) = &*self.watcher.borrow()
        {
            watcher.wake_by_ref();
        }
    }

    /// Sets who is woken when bytes have come, while that is wanted.
    pub(crate) fn set_watcher(&self, watcher: &Waker) {
        let mut place = self.watcher.borrow_mut();
        match &mut *place {
            Some(known) => known.clone_from(watcher),
            None => *place = Some(watcher.clone()),
        }
    }

    /// Says whether anybody wants to know that bytes have come.
    pub(crate) fn watch(&self, is_wanted: bool) {
        self.is_watched.set(is_wanted);
    }

    /// Takes down the head of the response that comes next (HTTP/1.1).
    pub(crate) fn record_head(&self) {
        self.head.borrow_mut().begin();
    }

    /// The head that was taken down.
    pub(crate) fn take_head(&self) -> Option<RawHead> {
        self.head.borrow_mut().take()
    }

    pub(crate) fn note_written(&self) {
        if self.write_blocked_since.take().is_some() {
            self.write_resumed.set(Some(Instant::now()));
        }
    }

    /// The peer reads no more, and what is written from now on goes nowhere.
    pub(crate) fn note_lost_write(&self) {
        self.has_lost_write.set(true);
    }

    pub(crate) fn has_lost_write(&self) -> bool {
        self.has_lost_write.get()
    }

    pub(crate) fn note_write_blocked(&self) {
        if self.write_blocked_since.get().is_none() {
            self.write_blocked_since.set(Some(Instant::now()));
        }
    }

    /// How many bytes have come in all.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// When the peer, which had taken no bytes for a while, took some again.
    pub(crate) fn write_resumed(&self) -> Option<Instant> {
        self.write_resumed.get()
    }

    /// Since when the peer takes no bytes.
    pub(crate) fn write_blocked_since(&self) -> Option<Instant> {
        self.write_blocked_since.get()
    }
}
