//! The jobs of one owner: first in, first out, one at a time.
//!
//! # States
//!
//! * **idle**: nobody runs a job;
//! * **running**: one thread runs a job. That thread may run further jobs from within it (a
//!   job that waits for the outcome of a later one), no other thread may.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A queue whose jobs run in order, whichever thread runs them.
pub struct JobQueue<J> {
    state: Mutex<State<J>>,
}

struct State<J> {
    jobs: VecDeque<J>,
    runner: Option<ThreadId>,
    depth: usize,
}

impl<J> Default for JobQueue<J> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                runner: None,
                depth: 0,
            }),
        }
    }
}

impl<J> JobQueue<J> {
    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; says whether it is the only one and nobody runs one.
    pub fn push(&self, job: J) -> bool {
        let mut state = self.state();
        state.jobs.push_back(job);
        state.jobs.len() == 1 && state.runner.is_none()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.state().jobs.is_empty()
    }

    /// Takes the next job if `may` allows it and no other thread runs one. Until the turn is
    /// dropped, the calling thread is the one that runs jobs.
    pub fn next(&self, may: impl FnOnce(&J) -> bool) -> Option<(J, Turn<'_, J>)> {
        let current = thread::current().id();
        let mut state = self.state();
        if state.runner.is_some_and(|runner| runner != current) {
            return None;
        }
        if !may(state.jobs.front()?) {
            return None;
        }
        let job = state.jobs.pop_front()?;
        state.runner = Some(current);
        state.depth += 1;
        Some((job, Turn(self)))
    }

    /// Takes all jobs away, to drop them.
    #[must_use]
    pub fn take_all(&self) -> VecDeque<J> {
        std::mem::take(&mut self.state().jobs)
    }
}

/// The turn of the thread that runs a job.
pub struct Turn<'a, J>(&'a JobQueue<J>);

impl<J> Drop for Turn<'_, J> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.depth -= 1;
        if state.depth == 0 {
            state.runner = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::JobQueue;

    #[test]
    fn jobs_come_out_in_the_order_in_which_they_came_in() {
        let queue = JobQueue::default();
        assert!(queue.is_empty());
        assert!(queue.push(1));
        assert!(!queue.push(2));
        let taken: Vec<_> =
            std::iter::from_fn(|| queue.next(|_| true).map(|(job, _)| job)).collect();
        assert_eq!(taken, [1, 2]);
    }

    #[test]
    fn a_job_stays_if_it_may_not_run() {
        let queue = JobQueue::default();
        queue.push(1);
        assert!(queue.next(|_| false).is_none());
        assert_eq!(queue.take_all(), [1]);
        assert!(queue.next(|_| true).is_none());
    }

    #[test]
    fn only_the_thread_that_runs_a_job_may_run_another_within_it() {
        let queue = JobQueue::default();
        for job in 0..3 {
            queue.push(job);
        }
        let Some((first, outer)) = queue.next(|_| true) else {
            panic!("there is a job");
        };
        let elsewhere = |expected: Option<i32>| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    assert_eq!(queue.next(|_| true).map(|(job, _)| job), expected);
                });
            });
        };
        elsewhere(None);
        let inner = queue.next(|_| true);
        assert_eq!((first, inner.as_ref().map(|(job, _)| *job)), (0, Some(1)));
        drop(inner);
        elsewhere(None);
        // Somebody who pushes now is told that the runner is to take it.
        assert!(!queue.push(3));
        drop(outer);
        elsewhere(Some(2));
    }

    #[test]
    fn threads_that_push_and_run_at_once_run_each_job_once_and_one_at_a_time() {
        const PUSHERS: usize = 4;
        const JOBS: usize = 2_000;
        let queue = JobQueue::default();
        let seen = Mutex::new(Vec::new());
        let is_busy = AtomicBool::new(false);
        let left = AtomicUsize::new(PUSHERS * JOBS);
        thread::scope(|scope| {
            for pusher in 0..PUSHERS {
                let queue = &queue;
                scope.spawn(move || {
                    for job in 0..JOBS {
                        queue.push((pusher, job));
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while left.load(Ordering::Acquire) > 0 {
                        let Some((job, turn)) = queue.next(|_| true) else {
                            thread::yield_now();
                            continue;
                        };
                        assert!(!is_busy.swap(true, Ordering::AcqRel));
                        seen.lock().expect("nobody has panicked").push(job);
                        is_busy.store(false, Ordering::Release);
                        left.fetch_sub(1, Ordering::AcqRel);
                        drop(turn);
                    }
                });
            }
        });
        let seen = seen.into_inner().expect("nobody has panicked");
        for pusher in 0..PUSHERS {
            let jobs = seen.iter().filter(|(by, _)| *by == pusher);
            assert!(jobs.map(|(_, job)| *job).eq(0..JOBS));
        }
    }
}
