//! The queues of one event loop.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use rustix::event::epoll::Event;
use rustix::event::{EventfdFlags, eventfd};

use crate::poller::Events;
use crate::{Callback, Interest, Poller, TimerHeap};

/// Ends a wait of the driver from another thread.
struct Wakeup {
    eventfd: OwnedFd,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        // A counter that is full has woken the driver already.
        rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()).ok();
    }
}

struct Queues<C> {
    ready: VecDeque<C>,
    timers: TimerHeap<C>,
    poller: Poller<C>,
    /// Set while the driver is at work: what is added then is seen by it without a
    /// wake-up. Changed under the same lock as the queues, so that none is missed.
    driving: bool,
    waker: Option<Waker>,
}

/// The callbacks that wait to be run. Any thread may add one; the [`crate::Driver`]
/// of the loop's own thread takes them out.
pub struct EventLoop<C> {
    queues: Mutex<Queues<C>>,
    /// Wakes a driver that waits for the descriptors directly.
    wakeup: Waker,
}

impl<C: Callback> EventLoop<C> {
    /// Makes a loop with nothing to do.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left for the poller.
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut poller = Poller::new()?;
        poller.watch_wakeup(eventfd.as_fd())?;
        Ok(Self {
            wakeup: Waker::from(Arc::new(Wakeup { eventfd })),
            queues: Mutex::new(Queues {
                ready: VecDeque::new(),
                timers: TimerHeap::default(),
                poller,
                driving: false,
                waker: None,
            }),
        })
    }

    fn queues(&self) -> MutexGuard<'_, Queues<C>> {
        // No code of the owner runs under the lock, so a poisoned one is still whole.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a callback behind those that are ready, from any thread.
    pub fn call_soon(&self, callback: C) {
        let waker = {
            let mut queues = self.queues();
            queues.ready.push_back(callback);
            if queues.driving {
                None
            } else {
                queues.waker.take()
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Adds a callback for a time in seconds of the monotonic clock.
    pub fn call_at(&self, when_seconds: f64, callback: C) {
        let waker = {
            let mut queues = self.queues();
            let earliest = queues.timers.earliest_seconds();
            queues.timers.push(when_seconds, callback);
            let is_earliest = earliest.is_none_or(|earliest| when_seconds < earliest);
            if is_earliest && !queues.driving {
                queues.waker.take()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes that one timer was cancelled, so that a heap of mostly cancelled ones shrinks.
    pub fn count_cancelled_timer(&self) {
        let removed = self.queues().timers.count_cancelled();
        drop(removed);
    }

    /// Wakes the driver, for a change that it can't see in the queues.
    pub fn wake(&self) {
        let waker = {
            let mut queues = self.queues();
            if queues.driving {
                None
            } else {
                queues.waker.take()
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Watches a descriptor, and returns the callback that this one replaces.
    ///
    /// # Errors
    ///
    /// As [`Poller::watch`].
    pub fn watch(
        &self,
        descriptor: BorrowedFd<'_>,
        interest: Interest,
        callback: C,
    ) -> io::Result<Option<C>> {
        self.queues().poller.watch(descriptor, interest, callback)
    }

    /// Stops watching a descriptor, and returns the callback that was there.
    pub fn unwatch(&self, descriptor: BorrowedFd<'_>, interest: Interest) -> Option<C> {
        self.queues().poller.unwatch(descriptor, interest)
    }

    /// Whether a callback waits for this descriptor.
    pub fn is_watched(&self, descriptor: RawFd, interest: Interest) -> bool {
        self.queues().poller.is_watched(descriptor, interest)
    }

    /// The number of callbacks that are ready.
    pub fn ready_len(&self) -> usize {
        self.queues().ready.len()
    }

    /// Passes every callback that is held to `visit`, unless the queues are in use:
    /// a garbage collector asks, and it may ask again.
    pub fn try_for_each(&self, mut visit: impl FnMut(&C)) {
        if let Ok(queues) = self.queues.try_lock() {
            queues.ready.iter().for_each(&mut visit);
            queues.timers.for_each(&mut visit);
            queues.poller.for_each(&mut visit);
        }
    }

    /// Empties all queues and returns what they held.
    #[must_use = "dropping a callback may run the owner's code"]
    pub fn take_all(&self) -> Vec<C> {
        let mut queues = self.queues();
        let mut callbacks: Vec<C> = queues.ready.drain(..).collect();
        callbacks.extend(queues.timers.take_all());
        callbacks.extend(queues.poller.take_all());
        callbacks
    }

    // What follows is the driver's side.

    pub(crate) fn poller_descriptor(&self) -> Arc<OwnedFd> {
        self.queues().poller.descriptor()
    }

    pub(crate) fn begin_driving(&self) {
        self.queues().driving = true;
    }

    /// Ends the driver's work if nothing is ready, leaving the waker for those who add
    /// something; returns the time of the earliest timer. `Err` says: work came in.
    pub(crate) fn end_driving(&self, waker: &Waker) -> Result<Option<f64>, ()> {
        let mut queues = self.queues();
        if !queues.ready.is_empty() {
            return Err(());
        }
        queues.driving = false;
        if !queues
            .waker
            .as_ref()
            .is_some_and(|present| present.will_wake(waker))
        {
            queues.waker = Some(waker.clone());
        }
        Ok(queues.timers.earliest_seconds())
    }

    /// As [`Self::end_driving`], for a driver that will wait for the descriptors itself.
    pub(crate) fn begin_wait(&self) -> Result<Option<f64>, ()> {
        self.end_driving(&self.wakeup)
    }

    /// Forgets the waker of a driver that has stopped.
    pub(crate) fn stop_driving(&self) {
        let mut queues = self.queues();
        queues.driving = false;
        queues.waker = None;
    }

    /// Queues the callbacks of ready descriptors; returns whether there were any.
    pub(crate) fn queue_ready_descriptors(&self, events: &mut Events) -> bool {
        let mut guard = self.queues();
        let queues = &mut *guard;
        let ready = &mut queues.ready;
        queues
            .poller
            .poll_ready(events, |callback| ready.push_back(callback))
            > 0
    }

    /// Queues the callbacks of descriptors that a wait has reported.
    pub(crate) fn queue_descriptors(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let mut guard = self.queues();
        let queues = &mut *guard;
        let ready = &mut queues.ready;
        queues
            .poller
            .pass_on(events, |callback| ready.push_back(callback));
    }

    /// Queues the timers whose time has come by `until_seconds`.
    pub(crate) fn queue_due_timers(&self, until_seconds: impl FnOnce() -> f64) {
        let mut guard = self.queues();
        let queues = &mut *guard;
        if queues.timers.is_empty() {
            return;
        }
        let until_seconds = until_seconds();
        while let Some(callback) = queues.timers.pop_due(until_seconds) {
            queues.ready.push_back(callback);
        }
    }

    /// Swaps the ready callbacks into an empty `batch`: those of one turn.
    pub(crate) fn take_batch(&self, batch: &mut VecDeque<C>) {
        std::mem::swap(&mut self.queues().ready, batch);
    }

    /// Puts back, in front, what a turn that broke off did not run.
    pub(crate) fn return_batch(&self, batch: &mut VecDeque<C>) {
        let mut queues = self.queues();
        while let Some(callback) = batch.pop_back() {
            queues.ready.push_front(callback);
        }
    }
}
