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
