//! One timer for all calls of a client.
//!
//! Almost no call takes as long as it may, so what a timeout costs is the cost of setting it and
//! taking it back. An alarm is an entry in a list; one task sleeps until the earliest of them is
//! due, and looks again then. An alarm that was taken back meanwhile costs nothing more.
//!
//! States of the clock: **still**, without a task; or **ticking**, with a task that sleeps until
//! `wakes_at`, which is no later than the earliest alarm.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use slab::Slab;
use tokio::time::{Instant, sleep_until};

use crate::connection::spawn;

/// The alarms of a client, on one thread.
#[derive(Debug, Default)]
pub(crate) struct AlarmClock {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    alarms: Slab<Entry>,
    /// Until when the task sleeps; none while the clock is still.
    wakes_at: Option<Instant>,
    /// Wakes the task before that time.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Entry {
    /// None once it has rung.
    due: Option<Instant>,
    waker: Waker,
}

impl State {
    /// Takes out who is to be woken now, and says when to look again.
    fn ring(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>) {
        let mut wakers = Vec::new();
        let mut next: Option<Instant> = None;
        for (_, entry) in &mut self.alarms {
            match entry.due {
                Some(due) if due <= now => {
                    entry.due = None;
                    wakers.push(entry.waker.clone());
                }
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        self.wakes_at = next;
        (wakers, next)
    }
}

/// Something that may take too long. Dropping it takes the alarm back.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Rc<AlarmClock>,
    set: Option<(usize, Instant)>,
}

impl Alarm {
    pub(crate) fn new(clock: &Rc<AlarmClock>) -> Self {
        Self {
            clock: Rc::clone(clock),
            set: None,
        }
    }

    /// Waits until `due`, or less long if it was set to an earlier time before: then the caller
    /// finds out what it waits for now.
    pub(crate) fn poll(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let Some((key, at)) = self.set else {
            self.set = Some((self.clock.add(due, context.waker()), due));
            return Poll::Pending;
        };
        if at.min(due) <= Instant::now() {
            self.take_back();
            return Poll::Ready(());
        }
        let at = at.min(due);
        self.set = Some((key, at));
        self.clock.change(key, at, context.waker());
        Poll::Pending
    }

    pub(crate) fn take_back(&mut self) {
        if let Some((key, _)) = self.set.take() {
            let unneeded = self.clock.state.borrow_mut().alarms.try_remove(key);
            drop(unneeded);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl AlarmClock {
    fn add(self: &Rc<Self>, due: Instant, waker: &Waker) -> usize {
        let mut state = self.state.borrow_mut();
        let key = state.alarms.insert(Entry {
            due: Some(due),
            waker: waker.clone(),
        });
        drop(state);
        self.tick_by(due);
        key
    }

    fn change(self: &Rc<Self>, key: usize, due: Instant, waker: &Waker) {
        {
            let mut state = self.state.borrow_mut();
            if let Some(entry) = state.alarms.get_mut(key) {
                entry.due = Some(due);
                entry.waker.clone_from(waker);
            }
        }
        self.tick_by(due);
    }

    /// Sees to it that the task looks at the alarms at this time.
    fn tick_by(self: &Rc<Self>, due: Instant) {
        let mut state = self.state.borrow_mut();
        let is_still = state.wakes_at.is_none();
        if state.wakes_at.is_some_and(|wakes_at| wakes_at <= due) {
            return;
        }
        state.wakes_at = Some(due);
        let task = state.task.take();
        drop(state);
        if is_still {
            spawn(tick(Rc::downgrade(self)));
        } else if let Some(task) = task {
            task.wake();
        }
    }
}

impl Drop for AlarmClock {
    fn drop(&mut self) {
        // The task ends.
        if let Some(task) = self.state.get_mut().task.take() {
            task.wake();
        }
    }
}

/// The task: sleeps until the earliest alarm. Ends when there is none.
async fn tick(clock: Weak<AlarmClock>) {
    let mut sleep = pin!(sleep_until(Instant::now()));
    poll_fn(move |context| {
        loop {
            let Some(clock) = clock.upgrade() else {
                return Poll::Ready(());
            };
            let wakes_at = {
                let mut state = clock.state.borrow_mut();
                state.task = Some(context.waker().clone());
                state.wakes_at
            };
            let Some(wakes_at) = wakes_at else {
                return Poll::Ready(());
            };
            if sleep.deadline() != wakes_at {
                sleep.as_mut().reset(wakes_at);
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let (wakers, next) = clock.state.borrow_mut().ring(Instant::now());
            wakers.into_iter().for_each(Waker::wake);
            if next.is_none() {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(future: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(future);
    }

    async fn rings(clock: &Rc<AlarmClock>, after: Duration) -> Duration {
        let began = Instant::now();
        let mut alarm = Alarm::new(clock);
        poll_fn(|context| alarm.poll(began + after, context)).await;
        began.elapsed()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_alarm_rings_at_its_time() {
        run(async {
            let clock = Rc::new(AlarmClock::default());
            let (late, early, middle) = tokio::join!(
                rings(&clock, 10 * SECOND),
                rings(&clock, SECOND),
                rings(&clock, 2 * SECOND),
            );
            for (actual, expected) in [(late, 10), (early, 1), (middle, 2)] {
                let expected = expected * SECOND;
                assert!(actual >= expected && actual < expected + SECOND / 10);
            }
            assert!(clock.state.borrow().alarms.is_empty());
        });
    }

    #[test]
    fn what_is_taken_back_does_not_ring_and_the_clock_stops() {
        run(async {
            let clock = Rc::new(AlarmClock::default());
            for _ in 0..100 {
                let waiting = rings(&clock, SECOND);
                tokio::time::timeout(SECOND / 2, waiting).await.unwrap_err();
            }
            assert!(clock.state.borrow().alarms.is_empty());
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(clock.state.borrow().wakes_at, None, "nothing ticks");
            // And it goes again.
            assert!(rings(&clock, SECOND).await < 2 * SECOND);
        });
    }

    #[test]
    fn an_alarm_that_rings_is_set_anew_for_later() {
        run(async {
            let clock = Rc::new(AlarmClock::default());
            let began = Instant::now();
            let mut alarm = Alarm::new(&clock);
            let mut due = began + SECOND;
            let mut rung = 0;
            poll_fn(|context| {
                while alarm.poll(due, context).is_ready() {
                    rung += 1;
                    due += SECOND;
                    if rung == 3 {
                        return Poll::Ready(());
                    }
                }
                Poll::Pending
            })
            .await;
            let seconds = began.elapsed().as_secs();
            assert_eq!((rung, seconds), (3, 3));
        });
    }
}
