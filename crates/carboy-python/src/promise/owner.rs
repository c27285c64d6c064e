//! Whose thread a promise's handlers run on.
//!
//! An owner is an event loop, or a stack of sync code: a worker's, which serves a request, or
//! a plain thread's. Its jobs run in the order in which they came. A loop runs them as a
//! callback. Sync code runs them while it waits in `result()`, and at its end, which is that
//! of the request or of the thread. Jobs without code of the application's own are done at
//! once by other threads that queue them, if no other job is before them.
//!
//! A thread that waits for a promise of somebody else's stack runs that stack's jobs too:
//! the other one may never wait. Jobs that come after the end of their stack run on a thread
//! of the loop's executor. If sync code runs an event loop, that runs its jobs, too.

mod stack;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use carboy_promise::{Job, JobQueue, Reaction};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::host::{Core, PromiseHost};
use super::native_loop::native_loop;
use super::waiter::Waiter;
use crate::event_loop::{NativeEventLoop, running_loop};
use crate::ffi::context;
use crate::ffi::pending_error;
use crate::ffi::thread_state::interpreter_is_ending;
use crate::names;

pub(crate) use stack::call_on_own_stack;
pub(super) use stack::{clean_up_here, note_loop, pass_here, run_what_is_queued_here};
use stack::{instead, known_stack, own_stack};

/// Jobs that are run before the loop gets to other callbacks.
const JOBS_PER_TURN: usize = 256;

/// Who runs the handlers of promises.
pub(crate) struct Owner {
    /// A weak reference to the event loop; none for a stack of sync code.
    event_loop: Option<Py<PyAny>>,
    queue: JobQueue<Job<PromiseHost>>,
    /// How many of the jobs clean up after cancelled promises.
    cleanups: AtomicUsize,
    /// Whether the loop has a callback to run the jobs.
    is_scheduled: AtomicBool,
    /// Threads that wait for something that may depend on these jobs.
    waiters: Mutex<Vec<Arc<Waiter>>>,
    /// The promises whose handlers run on this stack now, the innermost last.
    running: Mutex<Vec<Core>>,
    /// Whether this is a stack of sync code whose code has ended.
    has_ended: AtomicBool,
    /// A weak reference to the loop that the sync code of this stack has run last.
    above: Mutex<Option<Py<PyAny>>>,
}

thread_local! {
    /// What a handler on this thread has raised to end the program.
    static END_OF_PROGRAM: RefCell<Option<PyErr>> = const { RefCell::new(None) };
    /// The loop that ran on this thread last, as a weak reference.
    static OF_LOOP: RefCell<Option<(Py<PyAny>, Arc<Owner>)>> = const { RefCell::new(None) };
}

impl Owner {
    fn new(event_loop: Option<Py<PyAny>>) -> Arc<Self> {
        Arc::new(Self {
            event_loop,
            queue: JobQueue::default(),
            cleanups: AtomicUsize::new(0),
            is_scheduled: AtomicBool::new(false),
            waiters: Mutex::default(),
            running: Mutex::default(),
            has_ended: AtomicBool::new(false),
            above: Mutex::default(),
        })
    }

    /// The owner of what is made now: the event loop of this thread, or its sync code.
    pub(super) fn current(py: Python<'_>) -> PyResult<Arc<Self>> {
        match running_loop(py)? {
            None => Self::of_stack(py),
            Some(running) => Self::of_loop(&running),
        }
    }

    /// The owner of this stack of sync code.
    pub(super) fn of_stack(py: Python<'_>) -> PyResult<Arc<Self>> {
        own_stack(py)
    }

    fn of_loop(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let known = OF_LOOP.with_borrow(|known| {
            let (reference, owner) = known.as_ref()?;
            Some((reference.clone_ref(py), Arc::clone(owner)))
        });
        if let Some((reference, owner)) = known
            && reference.call0(py)?.is(event_loop)
        {
            return Ok(owner);
        }
        let owners = names::owners_of_loops(py)?;
        let found = owners.call_method1(intern!(py, "get"), (event_loop,))?;
        let owner = if found.is_none() {
            let reference = names::weak_reference(py)?.call1((event_loop,))?.unbind();
            let owner = Self::new(Some(reference));
            owners.set_item(event_loop, OwnerReference(Arc::clone(&owner)))?;
            owner
        } else {
            Arc::clone(&found.cast::<OwnerReference>()?.get().0)
        };
        if let Some(reference) = &owner.event_loop {
            let known = Some((reference.clone_ref(py), Arc::clone(&owner)));
            let before = OF_LOOP.replace(known);
            drop(before);
        }
        Ok(owner)
    }

    /// Whether it is sync code, whose jobs run while a thread waits.
    pub(super) fn is_stack(&self) -> bool {
        self.event_loop.is_none()
    }

    /// The event loop, if it is one and still exists.
    pub(super) fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let event_loop = self.event_loop.as_ref()?.bind(py).call0().ok()?;
        (!event_loop.is_none()).then_some(event_loop)
    }

    /// Adds a job.
    pub(super) fn enqueue(self: &Arc<Self>, job: Job<PromiseHost>) {
        if matches!(job, Job::CleanUp { .. }) {
            self.cleanups.fetch_add(1, Ordering::AcqRel);
        }
        self.queue.push(job);
        if !self.is_stack() {
            self.schedule();
            return;
        }
        if self.has_ended.load(Ordering::Acquire) {
            self.pass();
            self.run_elsewhere();
            return;
        }
        // Its own code goes on before any of its jobs, as ECMAScript has it.
        if !known_stack().is_some_and(|here| Arc::ptr_eq(&here, self)) {
            self.pass();
        }
        if !self.queue.is_empty() {
            self.schedule_above();
            self.wake_waiters();
        }
    }

    /// Does what needs no code of the application's own, up to the first job that does.
    fn pass(&self) {
        while let Some((job, turn)) = self.queue.next(|job| !job.needs_home()) {
            job.run();
            drop(turn);
        }
    }

    /// Lets a thread of the executor run the jobs of sync code that has ended.
    fn run_elsewhere(self: &Arc<Self>) {
        if interpreter_is_ending() {
            // There is nowhere else any more.
            return;
        }
        if self.queue.is_empty() || self.is_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let scheduled = Python::attach(|py| {
            let event_loop = native_loop(py)?;
            let turn = Bound::new(py, JobTurn::new(self))?;
            let run = event_loop.getattr(intern!(py, "run_in_executor"))?;
            let arguments = (py.None(), turn).into_pyobject(py)?;
            call_soon(event_loop.as_any(), run, arguments, None)
        });
        if let Err(error) = scheduled {
            Python::attach(|py| error.write_unraisable(py, None));
        }
    }

    /// The loop that the sync code of this stack has run last, if it still exists.
    fn loop_above<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let reference = {
            let above = self.above.lock();
            let above = above.unwrap_or_else(PoisonError::into_inner);
            above.as_ref().map(|known| known.clone_ref(py))?
        };
        let event_loop = reference.bind(py).call0().ok()?;
        (!event_loop.is_none()).then_some(event_loop)
    }

    /// Lets the loop that runs within this stack's sync code, if there is one, run its jobs.
    fn schedule_above(self: &Arc<Self>) {
        let scheduled = Python::attach(|py| {
            let Some(event_loop) = self.loop_above(py) else {
                return Ok(());
            };
            let is_running = event_loop.call_method0(intern!(py, "is_running"))?;
            if !is_running.is_truthy()? || self.is_scheduled.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            let turn = Bound::new(py, JobTurn::new(self))?.into_any();
            let empty = context::new_empty(py)?.into_bound(py).into_any();
            call_soon(&event_loop, turn, PyTuple::empty(py), Some(empty))
        });
        if let Err(error) = scheduled {
            Python::attach(|py| error.write_unraisable(py, None));
        }
    }

    /// Ends a stack of sync code: runs what is queued. What comes later runs elsewhere.
    pub(crate) fn end(self: &Arc<Self>, py: Python<'_>) {
        run_what_is_queued_here(py);
        self.has_ended.store(true, Ordering::Release);
        self.run_elsewhere();
    }

    fn schedule(self: &Arc<Self>) {
        if self.is_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let scheduled = Python::attach(|py| {
            let Some(event_loop) = self.event_loop(py) else {
                return Ok(false);
            };
            let turn = Bound::new(py, JobTurn::new(self))?;
            let empty = context::new_empty(py)?.into_bound(py).into_any();
            let callback = turn.clone().into_any();
            let queued = call_soon(&event_loop, callback, PyTuple::empty(py), Some(empty));
            if queued.is_err() {
                turn.get().is_spent.store(true, Ordering::Relaxed);
            }
            queued.map(|()| true)
        });
        if !matches!(scheduled, Ok(true)) {
            self.give_up();
        }
    }

    /// Settles what the jobs of a loop that is closed or gone were for: nobody runs them any more.
    /// Called by who has set `is_scheduled`.
    fn give_up(&self) {
        loop {
            for job in self.queue.take_all() {
                match job {
                    Job::React {
                        reaction: Reaction::Handler(handler),
                        outcome,
                    } if handler.needs_home(&outcome) => handler.give_up(),
                    Job::CleanUp { .. } => {
                        self.cleanups.fetch_sub(1, Ordering::AcqRel);
                    }
                    other => other.run(),
                }
            }
            self.is_scheduled.store(false, Ordering::Release);
            // What has come meanwhile was left to this thread.
            if self.queue.is_empty() || self.is_scheduled.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// Whether this was an event loop that runs no callbacks any more.
    fn is_over(&self, py: Python<'_>) -> bool {
        let Some(event_loop) = self.event_loop(py) else {
            return !self.is_stack();
        };
        let is_closed = event_loop.call_method0(intern!(py, "is_closed"));
        is_closed.is_ok_and(|is_closed| is_closed.is_truthy().unwrap_or(true))
    }

    fn continue_later(self: &Arc<Self>) {
        if self.queue.is_empty() {
            return;
        }
        if !self.is_stack() {
            self.schedule();
        } else if self.has_ended.load(Ordering::Acquire) {
            self.run_elsewhere();
        } else {
            self.schedule_above();
        }
    }

    /// Runs the next job, if there is one and no other thread runs one; says whether it did.
    ///
    /// # Errors
    ///
    /// `KeyboardInterrupt` or `SystemExit`, when a handler has raised it.
    pub(super) fn run_next(&self) -> PyResult<bool> {
        let Some((job, turn)) = self.queue.next(|_| true) else {
            return Ok(false);
        };
        if matches!(job, Job::CleanUp { .. }) {
            self.cleanups.fetch_sub(1, Ordering::AcqRel);
        }
        job.run();
        drop(turn);
        END_OF_PROGRAM.take().map_or(Ok(true), Err)
    }

    /// Has something to do that another thread may take up.
    pub(super) fn pass_jobs_on(&self) {
        if !self.queue.is_empty() {
            self.wake_waiters();
        }
    }

    pub(super) fn add_waiter(&self, waiter: &Arc<Waiter>) {
        self.waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(waiter));
    }

    pub(super) fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        self.waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known| !Arc::ptr_eq(known, waiter));
    }

    /// Lets the threads that wait look again.
    pub(super) fn wake_waiters(&self) {
        let waiters = self
            .waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for waiter in waiters {
            waiter.wake();
        }
    }

    /// Notes that the handler that makes this promise's outcome runs on this stack.
    pub(super) fn begin_handler(&self, promise: Core) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(promise);
    }

    pub(super) fn end_handler(&self) {
        let ended = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        drop(ended);
    }

    /// Whether a handler runs on this stack.
    fn is_handling(&self) -> bool {
        let running = self.running.lock();
        !running.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether the handler that makes this promise's outcome runs on this stack.
    pub(super) fn is_running(&self, promise: &Core) -> bool {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(promise)
    }
}

/// Notes what is to be raised where handlers are run.
pub(super) fn end_program(error: PyErr) {
    let before = END_OF_PROGRAM.replace(Some(error));
    drop(before);
}

/// Queues a callback on an event loop, from any thread.
pub(super) fn call_soon(
    event_loop: &Bound<'_, PyAny>,
    callback: Bound<'_, PyAny>,
    arguments: Bound<'_, PyTuple>,
    context: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = event_loop.py();
    if let Ok(native) = event_loop.cast::<NativeEventLoop>() {
        let context = context.map(Bound::cast_into).transpose()?;
        return NativeEventLoop::schedule(native, callback, arguments, context).map(drop);
    }
    let is_here = names::get_running_loop(py)?.call0()?.is(event_loop);
    let method = if is_here {
        intern!(py, "call_soon")
    } else {
        intern!(py, "call_soon_threadsafe")
    };
    let mut positional = vec![callback];
    positional.extend(arguments.iter());
    let keywords = PyDict::new(py);
    if let Some(context) = context {
        keywords.set_item(intern!(py, "context"), context)?;
    }
    event_loop.call_method(method, PyTuple::new(py, positional)?, Some(&keywords))?;
    Ok(())
}

/// An owner as a Python object, for the dictionary of loops.
#[pyclass(frozen)]
struct OwnerReference(Arc<Owner>);

/// The callback that runs a loop's jobs.
#[pyclass(frozen)]
struct JobTurn {
    owner: Arc<Owner>,
    /// Whether it was called, or was never queued.
    is_spent: AtomicBool,
}

impl JobTurn {
    fn new(owner: &Arc<Owner>) -> Self {
        Self {
            owner: Arc::clone(owner),
            is_spent: AtomicBool::new(false),
        }
    }
}

#[pymethods]
impl JobTurn {
    fn __call__(&self) -> PyResult<()> {
        self.is_spent.store(true, Ordering::Relaxed);
        let owner = &self.owner;
        owner.is_scheduled.store(false, Ordering::Release);
        let run = || -> PyResult<()> {
            for _ in 0..JOBS_PER_TURN {
                if !owner.run_next()? {
                    break;
                }
            }
            Ok(())
        };
        let result = if owner.has_ended.load(Ordering::Acquire) {
            instead(owner, run)
        } else {
            run()
        };
        owner.continue_later();
        result
    }
}

impl Drop for JobTurn {
    fn drop(&mut self) {
        // A loop that is closed forgets its callbacks.
        if self.is_spent.load(Ordering::Relaxed) || self.owner.is_stack() {
            return;
        }
        Python::try_attach(|py| {
            if self.owner.is_over(py) {
                pending_error::preserved(py, || self.owner.give_up());
            }
        });
    }
}
