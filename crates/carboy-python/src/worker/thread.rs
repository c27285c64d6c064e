//! A worker's thread: its loop over jobs, and its stacks.
//!
//! As a rule a thread has one stack and nothing here uses greenlets. Only when a stack
//! waits at a bridge, no thread is free and none may be added, does the thread go on with
//! another job on a second stack. All stacks of a thread run the same loop, `work`; one
//! that has nothing to do while another may go on is kept in `idle_stacks`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::pool::{BridgeWait, Duty, Job, Pool, SlotId, WorkerId};
use crate::attach::detached;
use crate::event_loop::NativeEventLoop;
use crate::names;
use crate::promise::Owner;
use crate::wsgi::InputStream;

/// Idle stacks that a thread keeps; more end, and give their memory back.
const SPARE_STACKS: usize = 4;

struct WorkerThread {
    pool: Arc<Pool>,
    /// The loop of the server that the pool works for.
    event_loop: Py<NativeEventLoop>,
    id: WorkerId,
    /// Stacks that wait at a bridge while another stack of the thread runs.
    parked_stacks: HashMap<SlotId, Py<PyAny>>,
    /// Stacks in `work` that have nothing to do.
    idle_stacks: Vec<Py<PyAny>>,
    /// The stack that makes new ones. A greenlet begins at the recursion depth of the one
    /// that starts it; started from request to request they would end in `RecursionError`.
    stack_maker: Option<Py<PyAny>>,
    /// The body of the request that the running stack serves.
    input: Option<Py<InputStream>>,
    /// Who runs the handlers of promises that the running stack makes.
    promise_owner: Option<Arc<Owner>>,
}

thread_local! {
    static WORKER: RefCell<Option<WorkerThread>> = const { RefCell::new(None) };
}

fn with_worker<T>(use_it: impl FnOnce(&mut WorkerThread) -> T) -> Option<T> {
    WORKER.with_borrow_mut(|worker| worker.as_mut().map(use_it))
}

/// The pool and the name of this thread's worker, if it is one.
pub(crate) fn current_worker() -> Option<(Arc<Pool>, WorkerId)> {
    with_worker(|worker| (Arc::clone(&worker.pool), worker.id))
}

/// The loop that this thread's worker works for.
pub(super) fn current_worker_loop(py: Python<'_>) -> Option<Py<NativeEventLoop>> {
    with_worker(|worker| worker.event_loop.clone_ref(py))
}

/// The body of the request that this stack serves.
pub(crate) fn current_input(py: Python<'_>) -> Option<Py<InputStream>> {
    with_worker(|worker| worker.input.as_ref().map(|input| input.clone_ref(py))).flatten()
}

/// Who runs the handlers of promises that this stack makes; none on a thread that is not a
/// worker's.
pub(crate) fn current_promise_owner(make: impl FnOnce() -> Arc<Owner>) -> Option<Arc<Owner>> {
    with_worker(|worker| Arc::clone(worker.promise_owner.get_or_insert_with(make)))
}

/// The same, if this stack has made promises.
pub(crate) fn known_promise_owner() -> Option<Arc<Owner>> {
    with_worker(|worker| worker.promise_owner.clone()).flatten()
}

/// Runs `serve` as the service of the request whose body is `input`.
pub(crate) fn with_request_input<T>(
    py: Python<'_>,
    input: &Py<InputStream>,
    serve: impl FnOnce() -> T,
) -> T {
    let before = with_worker(|worker| worker.input.replace(input.clone_ref(py))).flatten();
    let result = serve();
    with_worker(|worker| std::mem::replace(&mut worker.input, before));
    result
}

/// Waits on a worker's stack until its slot is settled, doing other duties meanwhile if
/// the pool needs the thread.
pub(crate) fn wait_at_bridge(
    py: Python<'_>,
    pool: &Arc<Pool>,
    worker: WorkerId,
    slot: SlotId,
    may_share: bool,
) -> PyResult<()> {
    if detached(py, || pool.wait_at_bridge(worker, slot, may_share)) == BridgeWait::Resolved {
        return Ok(());
    }
    // Another stack of this thread goes on; it comes back here once the slot is settled.
    let kept = with_worker(|worker| (worker.input.take(), worker.promise_owner.take()));
    let (input, promise_owner) = kept.unwrap_or_default();
    let this_stack = names::current_greenlet(py)?.call0()?;
    with_worker(|worker| {
        worker
            .parked_stacks
            .insert(slot, this_stack.clone().unbind())
    });
    let next_stack = match with_worker(|worker| worker.idle_stacks.pop()).flatten() {
        Some(stack) => stack.into_bound(py),
        None => stack_maker(py)?,
    };
    let resumed = next_stack.call_method0("switch");
    with_worker(|worker| {
        worker.parked_stacks.remove(&slot);
        worker.input = input;
        worker.promise_owner = promise_owner;
    });
    resumed.map(drop)
}

/// Starts the stack that makes new ones, from the thread's first stack.
fn start_stack_maker(py: Python<'_>) -> PyResult<()> {
    let run = pyo3::wrap_pyfunction!(make_stacks, py)?;
    let maker = names::greenlet(py)?.call1((run,))?;
    maker.call_method1("switch", (names::current_greenlet(py)?.call0()?,))?;
    with_worker(|worker| worker.stack_maker = Some(maker.unbind()));
    Ok(())
}

fn stack_maker(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    with_worker(|worker| {
        worker
            .stack_maker
            .as_ref()
            .map(|maker| maker.bind(py).clone())
    })
    .flatten()
    .ok_or_else(|| PyRuntimeError::new_err("this worker does not share its thread"))
}

/// Each time it is switched to, starts one more stack that runs the worker's loop. When
/// that ends, the thread's first stack goes on.
#[pyfunction]
fn make_stacks(py: Python<'_>, first: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut next = first.clone();
    loop {
        next.call_method0("switch")?;
        let run = pyo3::wrap_pyfunction!(work_on_new_stack, py)?;
        next = names::greenlet(py)?.call1((run, first))?;
    }
}

#[pyfunction]
fn work_on_new_stack(py: Python<'_>) -> PyResult<()> {
    match current_worker() {
        Some((pool, id)) => work(py, &pool, id, false),
        None => Ok(()),
    }
}

/// A worker's loop.
fn work(py: Python<'_>, pool: &Arc<Pool>, id: WorkerId, is_first: bool) -> PyResult<()> {
    loop {
        match detached(py, || pool.next_duty(id)) {
            Duty::Run(job) => {
                run_job(py, job);
                pool.job_ended();
            }
            Duty::Resume(slot) => {
                let parked = with_worker(|worker| worker.parked_stacks.remove(&slot)).flatten();
                let Some(parked) = parked else { continue };
                let this_stack = names::current_greenlet(py)?.call0()?.unbind();
                let has_spares = with_worker(|worker| worker.idle_stacks.len() >= SPARE_STACKS);
                if !is_first && has_spares == Some(true) {
                    // A stack that ends goes on with its parent.
                    this_stack.setattr(py, "parent", parked)?;
                    return Ok(());
                }
                with_worker(|worker| worker.idle_stacks.push(this_stack));
                // Comes back when this stack is needed again, or raises GreenletExit when
                // the thread ends.
                parked.call_method0(py, "switch")?;
            }
            Duty::Stop => return Ok(()),
        }
    }
}

fn run_job(py: Python<'_>, job: Job) {
    // A job answers its request itself, also when it fails; a panic must not end the thread.
    if catch_unwind(AssertUnwindSafe(|| job(py))).is_err() {
        names::logger(py)
            .and_then(|logger| logger.call_method1("critical", ("a worker's job panicked",)))
            .ok();
    }
    if let Some(promise_owner) = known_promise_owner() {
        promise_owner.end(py);
        // The next job is somebody else's.
        let promise_owner = with_worker(|worker| worker.promise_owner.take());
        drop(promise_owner);
    }
}

/// The worker threads of a server.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct WorkerPool {
    pub(crate) pool: Arc<Pool>,
    event_loop: Py<NativeEventLoop>,
}

#[pymethods]
impl WorkerPool {
    #[new]
    fn new(event_loop: Py<NativeEventLoop>, limit: usize, shares_threads: bool) -> Self {
        Self {
            pool: Arc::new(Pool::new(limit.max(1), shares_threads)),
            event_loop,
        }
    }

    /// Starts workers when they are needed, until the pool is stopped. The target of the
    /// one thread that does so.
    fn supervise(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let thread_class = names::thread(py)?;
        loop {
            let pool = &slf.get().pool;
            let added = detached(py, || pool.wait_for_growth());
            if added.is_empty() {
                return Ok(());
            }
            for id in added {
                let keywords = PyDict::new(py);
                keywords.set_item("target", slf.getattr("work")?)?;
                keywords.set_item("args", (id,))?;
                keywords.set_item("name", format!("carboy-worker-{}", id + 1))?;
                // The server stops its workers itself; a forced stop does not wait for them.
                keywords.set_item("daemon", true)?;
                let started = thread_class
                    .call((), Some(&keywords))
                    .and_then(|thread| thread.call_method0("start"));
                if let Err(error) = started {
                    let message = "no further worker thread can be started: %s";
                    names::logger(py)?.call_method1("warning", (message, error.value(py)))?;
                    pool.worker_ended();
                    pool.pause_growth();
                }
            }
        }
    }

    /// A worker's whole life. The target of its thread.
    fn work(&self, py: Python<'_>, id: WorkerId) -> PyResult<()> {
        let pool = Arc::clone(&self.pool);
        WORKER.set(Some(WorkerThread {
            pool: Arc::clone(&pool),
            event_loop: self.event_loop.clone_ref(py),
            id,
            parked_stacks: HashMap::new(),
            idle_stacks: Vec::new(),
            stack_maker: None,
            input: None,
            promise_owner: None,
        }));
        let is_ready = if pool.shares_threads() {
            start_stack_maker(py)
        } else {
            Ok(())
        };
        let result = is_ready.and_then(|()| work(py, &pool, id, true));
        let ended = WORKER.take();
        drop(ended);
        pool.worker_ended();
        result
    }

    /// Waits until no worker has a request, at most `timeout` seconds; says whether it is so.
    fn wait_idle(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = Duration::try_from_secs_f64(timeout)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(detached(py, || self.pool.wait_idle(timeout)))
    }

    /// Lets the workers end once no job is queued.
    fn stop(&self) {
        self.pool.stop();
    }

    /// The number of threads.
    #[getter]
    fn live_workers(&self) -> usize {
        self.pool.live_workers()
    }

    /// The number of requests that wait for a thread.
    #[getter]
    fn queued_jobs(&self) -> usize {
        self.pool.queued_jobs()
    }
}
