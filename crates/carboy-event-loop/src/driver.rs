//! The future that turns an [`EventLoop`] on a tokio runtime.
//!
//! A turn is one of asyncio's: ready descriptors and due timers join the queue, then what
//! is in the queue runs. There are two ways between the turns:
//!
//! * **Alone**, while the runtime has no other task: the driver waits for the loop's
//!   descriptors itself, with one system call, and gives nothing back to tokio.
//! * **Beside others**, such as a server's connections: one poll of the driver is a few
//!   turns, the others take theirs in between, and the runtime parks when nobody has
//!   anything to do. The loop's poller is then one descriptor of tokio's.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest as TokioInterest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::time::{Instant, Sleep};

use crate::event_loop::Queues;
use crate::poller::Events;
use crate::{Callback, EventLoop, Guard, clock_resolution_seconds, monotonic_seconds};

/// Turns in one poll, before tokio's other tasks get theirs.
const TURNS_PER_POLL: usize = 4;

/// While callbacks are ready all the time, descriptors are looked at this often.
const SECONDS_BETWEEN_LOOKS: f64 = 50e-6;

/// A timer further away than this is looked at again when the time is up: it keeps the
/// arithmetic of absurd delays (`loop.call_later(1e12, …)`) inside tokio's range.
const LONGEST_SLEEP_SECONDS: f64 = 86_400.0;

/// The owner of the loop, who can run callbacks.
pub trait Host {
    /// What the owner queues.
    type Callback: Callback;

    /// How its threads share the queues.
    type Guard: Guard<Queues<Self::Callback>>;

    /// The guard's key, which the loop's thread has except while it is parked.
    fn key(&self) -> Key<'_, Self>;

    /// Runs the callbacks of one turn in their order, taking each out before, and drops
    /// those that were cancelled by then. `Break` ends the driver at once; callbacks that
    /// were not taken out stay queued.
    fn run_turn(&mut self, callbacks: &mut VecDeque<Self::Callback>) -> ControlFlow<()>;

    /// Asked after each turn: whether the driver is to end.
    fn is_stopping(&self) -> bool;

    /// Runs `wait`, during which no callback of the owner runs on this thread.
    fn park<T>(&mut self, wait: impl FnOnce() -> T) -> T;
}

/// The key of a host's guard.
pub type Key<'key, H> = <<H as Host>::Guard as Guard<Queues<<H as Host>::Callback>>>::Key<'key>;

/// Runs the callbacks of an [`EventLoop`] until its host stops it.
pub struct Driver<H: Host> {
    event_loop: Arc<EventLoop<H::Callback, H::Guard>>,
    host: H,
    poller: Arc<OwnedFd>,
    events: Events,
    /// When the descriptors were last looked at, in seconds of the monotonic clock.
    looked_seconds: f64,
    runtime: RuntimeMetrics,
    /// The poller as a descriptor of tokio's, since the runtime has other tasks.
    readiness: Option<AsyncFd<Arc<OwnedFd>>>,
    sleep: Pin<Box<Sleep>>,
    /// The time that `sleep` is set to, in seconds of the monotonic clock.
    armed_seconds: Option<f64>,
    batch: VecDeque<H::Callback>,
    clock_resolution_seconds: f64,
}

impl<H: Host> Driver<H> {
    /// Makes a driver. Needs a tokio runtime to be entered.
    ///
    /// # Errors
    ///
    /// `EBADF` if the loop was closed.
    pub fn new(event_loop: Arc<EventLoop<H::Callback, H::Guard>>, host: H) -> io::Result<Self> {
        let poller = event_loop.poller_descriptor(host.key());
        Ok(Self {
            poller: poller.ok_or(Errno::BADF)?,
            event_loop,
            host,
            events: Events::default(),
            looked_seconds: f64::NEG_INFINITY,
            runtime: Handle::current().metrics(),
            readiness: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed_seconds: None,
            batch: VecDeque::new(),
            clock_resolution_seconds: clock_resolution_seconds(),
        })
    }

    /// Whether the runtime has no task but the loop.
    fn is_alone(&self) -> bool {
        self.runtime.num_alive_tasks() == 0
    }

    /// Turns the loop while it is alone. `Break` says that the host stops it.
    fn run_alone(&mut self) -> ControlFlow<()> {
        // No edge is lost: registering the poller again reports what is ready by then.
        self.readiness = None;
        let mut now_seconds = monotonic_seconds();
        loop {
            if now_seconds - self.looked_seconds >= SECONDS_BETWEEN_LOOKS {
                self.looked_seconds = now_seconds;
                self.event_loop
                    .queue_ready_descriptors(self.host.key(), &mut self.events);
            }
            self.turn(now_seconds)?;
            if !self.is_alone() {
                return ControlFlow::Continue(());
            }
            if let Ok(earliest_seconds) = self.event_loop.begin_wait(self.host.key()) {
                self.wait(earliest_seconds);
                now_seconds = monotonic_seconds();
                self.looked_seconds = now_seconds;
            } else {
                now_seconds = monotonic_seconds();
            }
        }
    }

    /// Waits until a descriptor is ready, a timer is due, or another thread adds something.
    fn wait(&mut self, earliest_seconds: Option<f64>) {
        let timeout = earliest_seconds.map(|earliest_seconds| {
            let seconds = earliest_seconds - monotonic_seconds();
            Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_SLEEP_SECONDS))
        });
        let (events, poller) = (&mut self.events, &self.poller);
        let events = self.host.park(|| events.wait(poller, timeout));
        self.event_loop.end_wait(self.host.key(), events);
    }

    /// Queues the callbacks of ready descriptors. When none is left, tokio is asked to
    /// wake this task for the next one.
    fn poll_descriptors(&mut self, context: &mut Context<'_>) {
        let readiness = match &mut self.readiness {
            Some(readiness) => readiness,
            None => match register(&self.poller) {
                Ok(readiness) => self.readiness.insert(readiness),
                Err(_) => {
                    // No descriptor is left. Until there is one, the loop looks by itself.
                    self.event_loop
                        .queue_ready_descriptors(self.host.key(), &mut self.events);
                    context.waker().wake_by_ref();
                    return;
                }
            },
        };
        while let Poll::Ready(Ok(mut guard)) = readiness.poll_read_ready(context) {
            if self
                .event_loop
                .queue_ready_descriptors(self.host.key(), &mut self.events)
            {
                // Still level-triggered: the readiness stays until a look finds nothing.
                guard.retain_ready();
                return;
            }
            guard.clear_ready();
        }
    }

    /// Sleeps until the earliest timer; `Ready` when its time has come meanwhile.
    fn poll_sleep(&mut self, earliest_seconds: f64, context: &mut Context<'_>) -> Poll<()> {
        if self.armed_seconds != Some(earliest_seconds) {
            let delay = (earliest_seconds - monotonic_seconds()).max(0.0);
            let delay = delay.min(LONGEST_SLEEP_SECONDS);
            self.sleep
                .as_mut()
                .reset(Instant::now() + Duration::from_secs_f64(delay));
            self.armed_seconds = Some(earliest_seconds);
        }
        ready!(self.sleep.as_mut().poll(context));
        self.armed_seconds = None;
        Poll::Ready(())
    }

    /// Runs what is queued now. What is added meanwhile waits for the next turn.
    fn turn(&mut self, now_seconds: f64) -> ControlFlow<()> {
        let until_seconds = now_seconds + self.clock_resolution_seconds;
        self.event_loop
            .begin_turn(self.host.key(), until_seconds, &mut self.batch);
        if self.host.run_turn(&mut self.batch).is_break() {
            self.event_loop
                .return_batch(self.host.key(), &mut self.batch);
            return ControlFlow::Break(());
        }
        if self.host.is_stopping() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl<H: Host + Unpin> Future for Driver<H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let driver = &mut *self;
        driver.event_loop.begin_driving(driver.host.key());
        if driver.is_alone() && driver.run_alone().is_break() {
            driver.event_loop.stop_driving(driver.host.key());
            return Poll::Ready(());
        }
        for _ in 0..TURNS_PER_POLL {
            driver.poll_descriptors(context);
            if driver.turn(monotonic_seconds()).is_break() {
                driver.event_loop.stop_driving(driver.host.key());
                return Poll::Ready(());
            }
            if driver.event_loop.ready_len(driver.host.key()) > 0 {
                continue;
            }
            // A callback may have watched a descriptor: tokio's waker must be in place.
            driver.poll_descriptors(context);
            match driver
                .event_loop
                .end_driving(driver.host.key(), context.waker())
            {
                Err(()) => {}
                Ok(None) => return Poll::Pending,
                Ok(Some(earliest_seconds)) => {
                    if driver.poll_sleep(earliest_seconds, context).is_pending() {
                        return Poll::Pending;
                    }
                    driver.event_loop.begin_driving(driver.host.key());
                }
            }
        }
        // Other tasks of the thread first; then on.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Makes the poller a descriptor of tokio's.
fn register(poller: &Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // The replacement is an unsafe function, because `AsRawFd` alone does not promise
    // that the descriptor stays open. An `OwnedFd` does, and this crate is free of unsafe.
    #[expect(
        deprecated,
        reason = "an OwnedFd keeps the promise that the successor asks for"
    )]
    AsyncFd::with_interest(Arc::clone(poller), TokioInterest::READABLE)
}

impl<H: Host> Drop for Driver<H> {
    fn drop(&mut self) {
        self.event_loop.stop_driving(self.host.key());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::sync::Mutex;

    use super::*;
    use crate::Interest;

    #[derive(Clone, Copy)]
    struct Number(u32);

    impl Callback for Number {
        fn is_cancelled(&self) -> bool {
            self.0 == 13
        }

        fn share(&self) -> Self {
            *self
        }
    }

    /// Notes what was run; number 0 stops, number 99 breaks off, number 7 adds 8.
    struct Recorder {
        event_loop: Arc<EventLoop<Number>>,
        ran: Rc<RefCell<Vec<u32>>>,
    }

    impl Host for Recorder {
        type Callback = Number;
        type Guard = Mutex<Queues<Number>>;

        fn key(&self) {}

        fn run_turn(&mut self, callbacks: &mut VecDeque<Number>) -> ControlFlow<()> {
            while let Some(callback) = callbacks.pop_front() {
                if callback.is_cancelled() {
                    continue;
                }
                self.ran.borrow_mut().push(callback.0);
                match callback.0 {
                    7 => self.event_loop.call_soon((), Number(8)),
                    99 => return ControlFlow::Break(()),
                    _ => {}
                }
            }
            ControlFlow::Continue(())
        }

        fn is_stopping(&self) -> bool {
            self.ran.borrow().contains(&0)
        }

        fn park<T>(&mut self, wait: impl FnOnce() -> T) -> T {
            wait()
        }
    }

    fn run(event_loop: &Arc<EventLoop<Number>>) -> Vec<u32> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ran = Rc::new(RefCell::new(Vec::new()));
        runtime.block_on(async {
            let host = Recorder {
                event_loop: Arc::clone(event_loop),
                ran: Rc::clone(&ran),
            };
            Driver::new(Arc::clone(event_loop), host).unwrap().await;
        });
        ran.take()
    }

    #[test]
    fn runs_in_order_and_leaves_later_additions_for_the_next_turn() {
        let event_loop = Arc::new(EventLoop::new().unwrap());
        for number in [1, 7, 13, 2, 0] {
            event_loop.call_soon((), Number(number));
        }
        assert_eq!(run(&event_loop), [1, 7, 2, 0]);
        assert_eq!(
            event_loop.ready_len(()),
            1,
            "what was added meanwhile is kept"
        );
    }

    #[test]
    fn a_loop_that_was_closed_has_no_descriptor_and_no_driver() {
        let event_loop = Arc::new(EventLoop::new().unwrap());
        let (near, _far) = UnixStream::pair().unwrap();
        event_loop
            .watch((), near.as_fd(), Interest::Write, Number(1))
            .unwrap();
        event_loop.call_soon((), Number(2));
        let held: Vec<_> = event_loop.close(()).iter().map(|number| number.0).collect();
        assert_eq!(held, [2, 1]);
        let error = event_loop
            .watch((), near.as_fd(), Interest::Write, Number(1))
            .map(drop)
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()));
        assert!(
            event_loop
                .unwatch((), near.as_fd(), Interest::Write)
                .is_none()
        );
        event_loop.wake(());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let host = Recorder {
            event_loop: Arc::clone(&event_loop),
            ran: Rc::default(),
        };
        assert!(Driver::new(event_loop, host).is_err());
    }

    #[test]
    fn breaking_off_loses_nothing() {
        let event_loop = Arc::new(EventLoop::new().unwrap());
        for number in [1, 99, 2, 0] {
            event_loop.call_soon((), Number(number));
        }
        assert_eq!(run(&event_loop), [1, 99]);
        assert_eq!(run(&event_loop), [2, 0]);
    }

    #[test]
    fn waits_for_a_timer() {
        let event_loop = Arc::new(EventLoop::new().unwrap());
        let now = monotonic_seconds();
        event_loop.call_at((), now + 0.02, Number(0));
        event_loop.call_at((), now + 0.01, Number(1));
        assert_eq!(run(&event_loop), [1, 0]);
        assert!(monotonic_seconds() >= now + 0.02);
    }

    #[test]
    fn wakes_for_a_callback_from_another_thread() {
        let event_loop = Arc::new(EventLoop::new().unwrap());
        let remote = Arc::clone(&event_loop);
        let thread = std::thread::spawn(move || remote.call_soon((), Number(0)));
        assert_eq!(run(&event_loop), [0]);
        thread.join().unwrap();
    }

    #[test]
    fn wakes_for_a_descriptor() {
        let event_loop = Arc::new(EventLoop::new().unwrap());
        let (near, mut far) = UnixStream::pair().unwrap();
        event_loop
            .watch((), near.as_fd(), Interest::Read, Number(0))
            .unwrap();
        let thread = std::thread::spawn(move || far.write_all(b"x"));
        assert_eq!(run(&event_loop), [0]);
        thread.join().unwrap().unwrap();
    }
}
