//! The queues of one event loop.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use rustix::event::epoll::Event;
use rustix::event::{EventfdFlags, eventfd};

use crate::poller::Events;
use crate::ready_queue::ReadyQueue;
use crate::{Callback, Guard, Interest, Poller, TimerHeap};

/// Ends a wait of the driver from another thread.
struct Wakeup {
    /// None once the loop was closed: a thread that comes too late finds nothing to write to.
    eventfd: Mutex<Option<OwnedFd>>,
}

impl Wakeup {
    fn eventfd(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.eventfd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        if let Some(eventfd) = &*self.eventfd() {
            // A counter that is full has woken the driver already.
            rustix::io::write(eventfd, &1_u64.to_ne_bytes()).ok();
        }
    }
}

/// What an event loop holds.
pub struct Queues<C> {
    ready: ReadyQueue<C>,
    timers: TimerHeap<C>,
    poller: Poller<C>,
}

impl<C: Callback> Queues<C> {
    /// Passes every callback that is held to `visit`: a garbage collector asks.
    pub fn for_each(&self, mut visit: impl FnMut(&C)) {
        self.ready.for_each(&mut visit);
        self.timers.for_each(&mut visit);
        self.poller.for_each(&mut visit);
    }
}

/// The callbacks that wait to be run. Any thread may add one that has the guard's key; the
/// [`crate::Driver`] of the loop's own thread takes them out.
pub struct EventLoop<C, G = Mutex<Queues<C>>> {
    queues: G,
    /// Wakes a driver that waits for the descriptors directly.
    waker: Waker,
    /// What that waker writes to.
    wakeup: Arc<Wakeup>,
    callback: PhantomData<fn(C) -> C>,
}

impl<C: Callback, G: Guard<Queues<C>>> EventLoop<C, G> {
    /// Makes a loop with nothing to do.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left for the poller.
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut poller = Poller::new()?;
        poller.watch_wakeup(eventfd.as_fd())?;
        let wakeup = Arc::new(Wakeup {
            eventfd: Mutex::new(Some(eventfd)),
        });
        Ok(Self {
            waker: Waker::from(Arc::clone(&wakeup)),
            wakeup,
            queues: G::new(Queues {
                ready: ReadyQueue::default(),
                timers: TimerHeap::default(),
                poller,
            }),
            callback: PhantomData,
        })
    }

    /// The guard of the queues, for what their owner alone can do with it.
    pub fn guard(&self) -> &G {
        &self.queues
    }

    /// Adds a callback behind those that are ready.
    pub fn call_soon(&self, key: G::Key<'_>, callback: C) {
        let waker = self.queues.with(key, |queues| queues.ready.push(callback));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Adds a callback for a time in seconds of the monotonic clock.
    pub fn call_at(&self, key: G::Key<'_>, when_seconds: f64, callback: C) {
        let waker = self.queues.with(key, |queues| {
            let earliest = queues.timers.earliest_seconds();
            queues.timers.push(when_seconds, callback);
            let is_earliest = earliest.is_none_or(|earliest| when_seconds < earliest);
            if is_earliest {
                queues.ready.wake()
            } else {
                None
            }
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes that one timer was cancelled, so that a heap of mostly cancelled ones shrinks.
    pub fn count_cancelled_timer(&self, key: G::Key<'_>) {
        let removed = self
            .queues
            .with(key, |queues| queues.timers.count_cancelled());
        drop(removed);
    }

    /// Wakes the driver, for a change that it can't see in the queues.
    pub fn wake(&self, key: G::Key<'_>) {
        let waker = self.queues.with(key, |queues| queues.ready.wake());
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
        key: G::Key<'_>,
        descriptor: BorrowedFd<'_>,
        interest: Interest,
        callback: C,
    ) -> io::Result<Option<C>> {
        let watched = self.queues.with(key, |queues| {
            queues.poller.watch(descriptor, interest, callback)
        });
        watched.map_err(|refused| {
            drop(refused.callback);
            refused.error
        })
    }

    /// Stops watching a descriptor, and returns the callback that was there.
    pub fn unwatch(
        &self,
        key: G::Key<'_>,
        descriptor: BorrowedFd<'_>,
        interest: Interest,
    ) -> Option<C> {
        self.queues
            .with(key, |queues| queues.poller.unwatch(descriptor, interest))
    }

    /// Whether a callback waits for this descriptor.
    pub fn is_watched(&self, key: G::Key<'_>, descriptor: RawFd, interest: Interest) -> bool {
        self.queues
            .with(key, |queues| queues.poller.is_watched(descriptor, interest))
    }

    /// The number of callbacks that are ready.
    pub fn ready_len(&self, key: G::Key<'_>) -> usize {
        self.queues.with(key, |queues| queues.ready.len())
    }

    /// Empties all queues and returns what they held.
    #[must_use = "dropping a callback may run the owner's code"]
    pub fn take_all(&self, key: G::Key<'_>) -> Vec<C> {
        self.queues.with(key, |queues| {
            let mut callbacks = Vec::from(queues.ready.take_all());
            callbacks.extend(queues.timers.take_all());
            callbacks.extend(queues.poller.take_all());
            callbacks
        })
    }

    /// Empties all queues, closes the loop's descriptors and returns what the queues held.
    /// From now on no descriptor can be watched, and no driver can turn the loop.
    #[must_use = "dropping a callback may run the owner's code"]
    pub fn close(&self, key: G::Key<'_>) -> Vec<C> {
        let callbacks = self.take_all(key);
        self.queues.with(key, |queues| queues.poller.close());
        drop(self.wakeup.eventfd().take());
        callbacks
    }

    // What follows is the driver's side.

    /// The descriptor of the poller, unless the loop was closed.
    pub(crate) fn poller_descriptor(&self, key: G::Key<'_>) -> Option<Arc<OwnedFd>> {
        self.queues.with(key, |queues| queues.poller.descriptor())
    }

    pub(crate) fn begin_driving(&self, key: G::Key<'_>) {
        self.queues.with(key, |queues| queues.ready.begin_driving());
    }

    /// Ends the driver's work if nothing is ready, leaving the waker for those who add
    /// something; returns the time of the earliest timer. `Err` says: work came in.
    pub(crate) fn end_driving(&self, key: G::Key<'_>, waker: &Waker) -> Result<Option<f64>, ()> {
        self.queues.with(key, |queues| {
            if queues.ready.begin_waiting(waker) {
                Ok(queues.timers.earliest_seconds())
            } else {
                Err(())
            }
        })
    }

    /// As [`Self::end_driving`], for a driver that will wait for the descriptors itself.
    pub(crate) fn begin_wait(&self, key: G::Key<'_>) -> Result<Option<f64>, ()> {
        self.end_driving(key, &self.waker)
    }

    /// Forgets the waker of a driver that has stopped.
    pub(crate) fn stop_driving(&self, key: G::Key<'_>) {
        self.queues.with(key, |queues| queues.ready.stop_driving());
    }

    /// Queues the callbacks of ready descriptors; returns whether there were any.
    pub(crate) fn queue_ready_descriptors(&self, key: G::Key<'_>, events: &mut Events) -> bool {
        self.queues.with(key, |queues| {
            let ready = &mut queues.ready;
            queues
                .poller
                .poll_ready(events, |callback| ready.push_driving(callback))
                > 0
        })
    }

    /// Goes on after a wait: queues the callbacks of the descriptors that it has reported.
    pub(crate) fn end_wait(&self, key: G::Key<'_>, events: &[Event]) {
        self.queues.with(key, |queues| {
            let ready = &mut queues.ready;
            ready.begin_driving();
            queues
                .poller
                .pass_on(events, |callback| ready.push_driving(callback));
        });
    }

    /// Begins a turn: swaps into an empty `batch` what is ready, and behind it the timers
    /// whose time has come by `until_seconds`.
    pub(crate) fn begin_turn(&self, key: G::Key<'_>, until_seconds: f64, batch: &mut VecDeque<C>) {
        self.queues.with(key, |queues| {
            while let Some(callback) = queues.timers.pop_due(until_seconds) {
                queues.ready.push_driving(callback);
            }
            queues.ready.take_batch(batch);
        });
    }

    /// Puts back, in front, what a turn that broke off did not run.
    pub(crate) fn return_batch(&self, key: G::Key<'_>, batch: &mut VecDeque<C>) {
        self.queues
            .with(key, |queues| queues.ready.return_batch(batch));
    }
}
