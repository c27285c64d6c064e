//! Which worker takes up which job, and when there shall be more workers.
//!
//! A worker is always in one of these states:
//!
//! * **running**: it executes a job;
//! * **idle**: it has no job and waits in the `idle` stack (last in, first out, so that
//!   few threads stay warm);
//! * **at a bridge**: its job waits for the loop, and the thread is listed in `at_bridge`.
//!
//! Nothing here touches Python; the lock is held for moments only, never while a job runs.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// What a worker executes.
pub(crate) type Job = Box<dyn FnOnce(Python<'_>) + Send>;

/// Names a worker of its pool.
pub(crate) type WorkerId = usize;

/// Names a result that a worker's stack waits for.
pub(crate) type SlotId = u64;

/// Up to this many threads are started as soon as a job finds none free. Beyond, the pool
/// first looks whether the jobs move on by themselves: more threads that want the GIL
/// would only be in each other's way.
const WORKERS_STARTED_AT_ONCE: usize = 8;

/// How long the pool looks before it adds threads to a queue that stands still.
const GROWTH_DELAY: Duration = Duration::from_millis(2);

/// How long the pool does without further threads when one could not be started.
const GROWTH_PAUSE: Duration = Duration::from_secs(1);

/// A job that waited this long gets a thread even though others move on.
const LONGEST_QUEUE_WAIT: Duration = Duration::from_millis(10);

/// Threads added at one look: each start takes the GIL for some tens of microseconds.
const WORKERS_PER_GROWTH: usize = 16;

struct QueuedJob {
    job: Job,
    since: Instant,
}

struct WorkerEntry {
    wake: Arc<Condvar>,
    /// Results that came for stacks of this worker.
    resolved: VecDeque<SlotId>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<QueuedJob>,
    workers: Vec<WorkerEntry>,
    idle: Vec<WorkerId>,
    at_bridge: Vec<WorkerId>,
    jobs_begun: u64,
    jobs_ended: u64,
    workers_ended: usize,
    /// Set while the system starts no more threads.
    growth_paused_until: Option<Instant>,
    stopping: bool,
}

impl State {
    /// Whether no thread may be added now.
    fn is_full(&self, limit: usize) -> bool {
        self.workers.len() - self.workers_ended >= limit
            || self
                .growth_paused_until
                .is_some_and(|until| Instant::now() < until)
    }
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.jobs_begun == self.jobs_ended
    }
}

/// What an idle worker is to do next.
pub(crate) enum Duty {
    /// Execute a job.
    Run(Job),
    /// Go on with the stack that waits for this result.
    Resume(SlotId),
    /// End the thread.
    Stop,
}

/// Why a wait at a bridge ended.
#[derive(PartialEq, Eq)]
pub(crate) enum BridgeWait {
    /// The result that was waited for is there.
    Resolved,
    /// The thread is needed for something else meanwhile.
    OtherDuty,
}

/// The queue of jobs and the workers that take them.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Wakes the thread that starts workers.
    growth: Condvar,
    /// Wakes who waits for the end of all jobs.
    idle: Condvar,
    /// The most threads there may be.
    limit: usize,
    /// Whether a thread may hold several requests once the limit is reached.
    shares_threads: bool,
}

impl Pool {
    pub(crate) fn new(limit: usize, shares_threads: bool) -> Self {
        Self {
            state: Mutex::default(),
            growth: Condvar::new(),
            idle: Condvar::new(),
            limit,
            shares_threads,
        }
    }

    /// Whether a thread may hold several requests.
    pub(crate) fn shares_threads(&self) -> bool {
        self.shares_threads
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job: here a request is handed over to the workers.
    pub(crate) fn dispatch(&self, job: Job) {
        let mut state = self.state();
        if state.stopping {
            // The workers may have ended. What comes now is the rest of a request that was
            // served on the loop, and is not lost.
            drop(state);
            std::thread::spawn(move || Python::attach(job));
            return;
        }
        state.queue.push_back(QueuedJob {
            job,
            since: Instant::now(),
        });
        self.wake_one(&mut state);
    }

    /// Wakes somebody for the job at the front of the queue.
    ///
    /// A worker that is woken for a job but finds a result for one of its stacks takes that
    /// first; it must call this again, or nobody would come for the job.
    fn wake_one(&self, state: &mut State) {
        if state.queue.is_empty() {
            return;
        }
        if let Some(worker) = state.idle.pop() {
            state.workers[worker].wake.notify_one();
        } else if !state.is_full(self.limit) {
            self.growth.notify_one();
        } else if self.shares_threads
            && let Some(worker) = state.at_bridge.pop()
        {
            state.workers[worker].wake.notify_one();
        }
    }

    /// Adds the entry of a worker whose thread is about to start.
    fn add_worker(state: &mut State) -> WorkerId {
        state.workers.push(WorkerEntry {
            wake: Arc::default(),
            resolved: VecDeque::new(),
        });
        state.workers.len() - 1
    }

    /// Waits until workers are to be started, and returns their names. Empty when the pool
    /// stops. Called by the one thread that starts workers.
    pub(crate) fn wait_for_growth(&self) -> Vec<WorkerId> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return Vec::new();
            }
            let waiting = state.queue.len();
            if waiting == 0 || state.is_full(self.limit) {
                // With a bound, because a pause of the growth ends by itself.
                let (woken, _) = self
                    .growth
                    .wait_timeout(state, GROWTH_PAUSE)
                    .unwrap_or_else(PoisonError::into_inner);
                state = woken;
                continue;
            }
            if state.workers.len() - state.workers_ended < WORKERS_STARTED_AT_ONCE {
                return vec![Self::add_worker(&mut state)];
            }
            let begun = state.jobs_begun;
            state = self
                .growth
                .wait_timeout_while(state, GROWTH_DELAY, |state| !state.stopping)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            let live = state.workers.len() - state.workers_ended;
            let room = self.limit.saturating_sub(live);
            let wanted = if state.jobs_begun == begun {
                state.queue.len().min(WORKERS_PER_GROWTH)
            } else {
                let oldest = state.queue.front().map(|queued| queued.since.elapsed());
                usize::from(oldest.is_some_and(|waited| waited > LONGEST_QUEUE_WAIT))
            };
            let added = wanted.min(room);
            if added > 0 {
                return (0..added).map(|_| Self::add_worker(&mut state)).collect();
            }
        }
    }

    /// Waits for the next duty of an idle worker: here a worker picks up a request.
    pub(crate) fn next_duty(&self, worker: WorkerId) -> Duty {
        let mut state = self.state();
        loop {
            if let Some(slot) = state.workers[worker].resolved.pop_front() {
                self.wake_one(&mut state);
                return Duty::Resume(slot);
            }
            if let Some(queued) = state.queue.pop_front() {
                state.jobs_begun += 1;
                return Duty::Run(queued.job);
            }
            if state.stopping {
                return Duty::Stop;
            }
            state.idle.push(worker);
            let wake = Arc::clone(&state.workers[worker].wake);
            state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle.retain(|idle| *idle != worker);
        }
    }

    /// Waits at a bridge for the result `own`, doing nothing else unless the thread may be
    /// shared.
    pub(crate) fn wait_at_bridge(
        &self,
        worker: WorkerId,
        own: SlotId,
        may_share: bool,
    ) -> BridgeWait {
        let mut state = self.state();
        loop {
            let resolved = &mut state.workers[worker].resolved;
            if let Some(position) = resolved.iter().position(|slot| *slot == own) {
                resolved.remove(position);
                self.wake_one(&mut state);
                return BridgeWait::Resolved;
            }
            if may_share && !resolved.is_empty() {
                self.wake_one(&mut state);
                return BridgeWait::OtherDuty;
            }
            let is_needed = self.shares_threads
                && may_share
                && !state.queue.is_empty()
                && state.idle.is_empty()
                && state.is_full(self.limit);
            if is_needed {
                return BridgeWait::OtherDuty;
            }
            if may_share {
                state.at_bridge.push(worker);
            }
            let wake = Arc::clone(&state.workers[worker].wake);
            state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.at_bridge.retain(|waiting| *waiting != worker);
        }
    }

    /// Tells a worker that a result for one of its stacks is there.
    pub(crate) fn resolve(&self, worker: WorkerId, slot: SlotId) {
        let mut state = self.state();
        let entry = &mut state.workers[worker];
        entry.resolved.push_back(slot);
        entry.wake.notify_one();
    }

    /// Lets the workers end when the queue is empty.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopping = true;
        self.growth.notify_all();
        for worker in &state.workers {
            worker.wake.notify_all();
        }
    }

    /// Notes that a job has ended.
    pub(crate) fn job_ended(&self) {
        let mut state = self.state();
        state.jobs_ended += 1;
        if state.is_idle() {
            self.idle.notify_all();
        }
    }

    /// Waits until no job is queued or runs; says whether that came about in time.
    pub(crate) fn wait_idle(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .idle
            .wait_timeout_while(self.state(), timeout, |state| !state.is_idle())
            .unwrap_or_else(PoisonError::into_inner);
        state.is_idle()
    }

    /// Notes that a worker's thread has ended.
    pub(crate) fn worker_ended(&self) {
        self.state().workers_ended += 1;
    }

    /// Adds no thread for a while: the system refuses to start one.
    pub(crate) fn pause_growth(&self) {
        let mut state = self.state();
        state.growth_paused_until = Some(Instant::now() + GROWTH_PAUSE);
        self.wake_one(&mut state);
    }

    /// Threads that were started and have not ended.
    pub(crate) fn live_workers(&self) -> usize {
        let state = self.state();
        state.workers.len() - state.workers_ended
    }

    /// Jobs that no worker has taken up yet.
    pub(crate) fn queued_jobs(&self) -> usize {
        self.state().queue.len()
    }
}
