//! Callbacks that are due, and the agreement by which a driver that waits is woken.

use std::collections::VecDeque;
use std::task::Waker;

/// The callbacks of the next turn, in their order.
///
/// States of the driver, which change together with the queue, under one guard, so that no
/// wake-up is lost:
///
/// * *driving*: it will look at the queue again before it waits; nobody needs to wake it.
/// * *waiting*, with a waker: who adds something takes the waker, and wakes it with that.
/// * *waiting*, woken: the waker was taken; it is on its way back.
/// * *stopped*: there is no driver, and no waker.
pub struct ReadyQueue<C> {
    callbacks: VecDeque<C>,
    driving: bool,
    waker: Option<Waker>,
}

impl<C> Default for ReadyQueue<C> {
    fn default() -> Self {
        Self {
            callbacks: VecDeque::new(),
            driving: false,
            waker: None,
        }
    }
}

impl<C> ReadyQueue<C> {
    /// Adds a callback behind the others. The waker is to be used, without the guard.
    #[must_use = "the driver may be waiting"]
    pub fn push(&mut self, callback: C) -> Option<Waker> {
        self.callbacks.push_back(callback);
        self.wake()
    }

    /// Adds a callback on behalf of the driver itself.
    pub fn push_driving(&mut self, callback: C) {
        debug_assert!(self.driving, "only the driver needs no waker");
        self.callbacks.push_back(callback);
    }

    /// The waker of a driver that waits, for the first who asks for it.
    #[must_use = "the driver may be waiting"]
    pub fn wake(&mut self) -> Option<Waker> {
        // While it drives there is none.
        self.waker.take()
    }

    /// The number of callbacks.
    pub fn len(&self) -> usize {
        self.callbacks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.callbacks.is_empty()
    }

    /// Passes each callback to `visit`.
    pub fn for_each(&self, visit: impl FnMut(&C)) {
        self.callbacks.iter().for_each(visit);
    }

    /// Removes and returns all callbacks.
    #[must_use = "dropping a callback may run the owner's code"]
    pub fn take_all(&mut self) -> VecDeque<C> {
        std::mem::take(&mut self.callbacks)
    }

    /// The driver begins to work, or goes on after a wait.
    pub fn begin_driving(&mut self) {
        self.driving = true;
        self.waker = None;
    }

    /// The driver is about to wait, and leaves its waker; returns whether it may. If there
    /// is work, it goes on instead.
    #[must_use = "there may be work"]
    pub fn begin_waiting(&mut self, waker: &Waker) -> bool {
        if !self.callbacks.is_empty() {
            return false;
        }
        self.driving = false;
        self.waker = Some(waker.clone());
        true
    }

    /// The driver ends.
    pub fn stop_driving(&mut self) {
        self.driving = false;
        self.waker = None;
    }

    /// Swaps the callbacks into an empty `batch`: those of one turn.
    pub fn take_batch(&mut self, batch: &mut VecDeque<C>) {
        std::mem::swap(&mut self.callbacks, batch);
    }

    /// Puts back, in front, what a turn that broke off did not run.
    pub fn return_batch(&mut self, batch: &mut VecDeque<C>) {
        while let Some(callback) = batch.pop_back() {
            self.callbacks.push_front(callback);
        }
    }
}

/// Every order in which threads can take their steps, tried out by loom.
#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    use loom::sync::{Condvar, Mutex};

    use super::*;

    /// Stands for the eventfd: a wake-up that comes before the wait is not lost.
    #[derive(Default)]
    struct Wakeup {
        woken: Mutex<bool>,
        changed: Condvar,
    }

    impl Wake for Wakeup {
        fn wake(self: Arc<Self>) {
            *self.woken.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    impl Wakeup {
        fn wait(&self) {
            let mut woken = self.woken.lock().unwrap();
            while !*woken {
                woken = self.changed.wait(woken).unwrap();
            }
            *woken = false;
        }
    }

    /// Turns as the driver does, until it has seen this many callbacks, and returns them.
    /// Loom fails when it waits for ever.
    fn drive(queue: &Mutex<ReadyQueue<u32>>, count: usize) -> Vec<u32> {
        let wakeup = Arc::new(Wakeup::default());
        let waker = Waker::from(Arc::clone(&wakeup));
        let (mut ran, mut batch) = (Vec::new(), VecDeque::new());
        queue.lock().unwrap().begin_driving();
        loop {
            queue.lock().unwrap().take_batch(&mut batch);
            ran.extend(batch.drain(..));
            if ran.len() >= count {
                queue.lock().unwrap().stop_driving();
                return ran;
            }
            let may_wait = queue.lock().unwrap().begin_waiting(&waker);
            if may_wait {
                wakeup.wait();
                queue.lock().unwrap().begin_driving();
            }
        }
    }

    fn push(queue: &Mutex<ReadyQueue<u32>>, number: u32) {
        let waker = queue.lock().unwrap().push(number);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[test]
    fn no_wake_up_is_lost_however_threads_take_turns() {
        loom::model(|| {
            let queue = Arc::new(Mutex::new(ReadyQueue::default()));
            let remote = Arc::clone(&queue);
            let thread = loom::thread::spawn(move || {
                push(&remote, 1);
                push(&remote, 2);
            });
            assert_eq!(drive(&queue, 2), [1, 2]);
            thread.join().unwrap();
        });
    }

    #[test]
    fn two_threads_lose_nothing_and_keep_their_own_order() {
        let mut model = loom::model::Builder::new();
        // Enough to find every race of two threads, and few enough to be done in a second.
        model.preemption_bound = Some(3);
        model.check(|| {
            let queue = Arc::new(Mutex::new(ReadyQueue::default()));
            let threads: Vec<_> = [10, 20]
                .map(|first| {
                    let remote = Arc::clone(&queue);
                    loom::thread::spawn(move || {
                        push(&remote, first);
                        push(&remote, first + 1);
                    })
                })
                .into_iter()
                .collect();
            let ran = drive(&queue, 4);
            for first in [10, 20] {
                let own: Vec<_> = ran
                    .iter()
                    .filter(|number| **number / 10 * 10 == first)
                    .collect();
                assert_eq!(own, [&first, &(first + 1)]);
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn a_stop_from_another_thread_ends_a_wait_without_any_callback() {
        loom::model(|| {
            let queue = Arc::new(Mutex::new((ReadyQueue::<u32>::default(), false)));
            let remote = Arc::clone(&queue);
            let thread = loom::thread::spawn(move || {
                let waker = {
                    let mut guard = remote.lock().unwrap();
                    guard.1 = true;
                    guard.0.wake()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
            let wakeup = Arc::new(Wakeup::default());
            let waker = Waker::from(Arc::clone(&wakeup));
            queue.lock().unwrap().0.begin_driving();
            loop {
                let may_wait = {
                    let mut guard = queue.lock().unwrap();
                    if guard.1 {
                        break;
                    }
                    guard.0.begin_waiting(&waker)
                };
                if may_wait {
                    wakeup.wait();
                    queue.lock().unwrap().0.begin_driving();
                }
            }
            thread.join().unwrap();
        });
    }

    #[test]
    fn only_the_first_addition_wakes_a_driver_that_waits() {
        // Outside of a model: one thread.
        struct Nobody;
        impl Wake for Nobody {
            fn wake(self: Arc<Self>) {}
        }
        let mut queue = ReadyQueue::default();
        assert!(queue.push(1).is_none(), "there is no driver");
        queue.begin_driving();
        let waker = Waker::from(Arc::new(Nobody));
        assert!(!queue.begin_waiting(&waker), "there is work");
        let mut batch = VecDeque::new();
        queue.take_batch(&mut batch);
        assert!(queue.push(2).is_none(), "it drives");
        drop(queue.take_all());
        assert!(queue.begin_waiting(&waker));
        assert!(queue.push(3).is_some());
        assert!(queue.push(4).is_none(), "it is woken already");
    }
}
