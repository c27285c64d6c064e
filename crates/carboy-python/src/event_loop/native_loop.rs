//! The methods of `asyncio.AbstractEventLoop` that are native: scheduling, timers,
//! descriptors, and the run itself. `carboy.event_loop.EventLoop` adds the rest from
//! CPython's own base classes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carboy_event_loop::{Driver, EventLoop, Interest, monotonic_seconds};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyTuple, PyWeakrefReference};

use super::handle::HandleState;
use super::host::PythonHost;
use super::{Handle, QueuedHandle, TimerHandle};
use crate::client;
use crate::ffi::{context, descriptor, thread_state};
use crate::{names, runtime};

/// Room for one small read: as much as asyncio reads at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The native half of the event loop.
#[pyclass(
    frozen,
    subclass,
    weakref,
    name = "NativeEventLoop",
    module = "carboy._carboy"
)]
pub(crate) struct NativeEventLoop {
    queues: Arc<EventLoop<QueuedHandle>>,
    stop_requested: AtomicBool,
    running: AtomicBool,
    closed: AtomicBool,
    debug: AtomicBool,
    /// The address of a task's context while the task is made whose first step is to be
    /// taken at once, else 0: the step that its constructor schedules is caught instead of
    /// queued. See `task.rs`.
    capturing: AtomicUsize,
    captured: Mutex<Option<Py<PyAny>>>,
    /// What is to be done as soon as the callback that runs now has left its context.
    deferred: Mutex<Vec<Deferred>>,
    /// Weak references to the transports, by the number of their descriptors.
    transports: Mutex<HashMap<RawFd, Py<PyAny>>>,
    /// Where small reads go before their length is known.
    read_buffer: Mutex<Vec<u8>>,
}

/// Something that must wait until no context is entered on the loop's thread.
pub(crate) type Deferred = Box<dyn FnOnce(Python<'_>) + Send>;

impl NativeEventLoop {
    pub(crate) fn queues(&self) -> &EventLoop<QueuedHandle> {
        &self.queues
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    pub(crate) fn is_turning(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn is_stop_requested(&self) -> bool {
        self.stop_requested.load(Ordering::Acquire)
    }

    /// Catches the next `call_soon` without arguments in this context instead of queueing
    /// it: a task's constructor makes that one. Others may come in between, from finalizers.
    pub(crate) fn begin_capture(&self, context: &Bound<'_, PyContext>) {
        self.capturing
            .store(context.as_ptr().addr(), Ordering::Relaxed);
    }

    pub(crate) fn end_capture(&self) -> Option<Py<PyAny>> {
        self.capturing.store(0, Ordering::Relaxed);
        self.captured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Does `action` after the callback that runs now, before the next one.
    ///
    /// A context is entered on one thread at a time: who hands it to another thread must
    /// have left it.
    pub(crate) fn defer(&self, action: Deferred) {
        self.deferred
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(action);
    }

    /// Does what was deferred.
    pub(crate) fn run_deferred(slf: &Bound<'_, Self>) {
        let mut deferred = slf
            .get()
            .deferred
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if deferred.is_empty() {
            return;
        }
        let actions = std::mem::take(&mut *deferred);
        drop(deferred);
        for action in actions {
            action(slf.py());
        }
    }

    pub(crate) fn check_closed(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(PyRuntimeError::new_err("Event loop is closed"))
        } else {
            Ok(())
        }
    }

    /// Lends the loop's buffer for a read.
    pub(crate) fn with_read_buffer<T>(&self, read: impl FnOnce(&mut [MaybeUninit<u8>]) -> T) -> T {
        let mut buffer = self
            .read_buffer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        read(buffer.spare_capacity_mut())
    }

    /// Notes that a transport uses a descriptor, so that `add_reader` can refuse it.
    pub(crate) fn register_transport(
        slf: &Bound<'_, Self>,
        number: RawFd,
        transport: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let reference = PyWeakrefReference::new(transport)?.into_any().unbind();
        let previous = slf.get().transports().insert(number, reference);
        drop(previous);
        Ok(())
    }

    pub(super) fn transports(&self) -> MutexGuard<'_, HashMap<RawFd, Py<PyAny>>> {
        self.transports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn new_state(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
        method: &str,
    ) -> PyResult<HandleState> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed()?;
        let source_traceback = if this.is_debug() {
            check_callback(&callback, method)?;
            Some(names::extract_stack(py)?.call0()?.unbind())
        } else {
            None
        };
        let context = match context {
            Some(context) => context.unbind(),
            None => context::copy_current(py)?,
        };
        let event_loop = slf.clone().unbind();
        let (callback, arguments) = (callback.unbind(), arguments.unbind());
        Ok(HandleState::new(
            event_loop,
            callback,
            arguments,
            context,
            source_traceback,
        ))
    }

    /// Queues a callback; the native form of `call_soon_threadsafe`.
    pub(crate) fn schedule(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
    ) -> PyResult<Py<Handle>> {
        let py = slf.py();
        let state = Self::new_state(slf, callback, arguments, context, "call_soon")?;
        let handle = Py::new(py, Handle { state })?;
        slf.get()
            .queues
            .call_soon(QueuedHandle::Soon(handle.clone_ref(py)));
        Ok(handle)
    }

    fn watch(
        slf: &Bound<'_, Self>,
        number: RawFd,
        interest: Interest,
        callback: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        let py = slf.py();
        let state = Self::new_state(slf, callback, arguments, None, "add_reader")?;
        let handle = Py::new(py, Handle { state })?;
        let queued = QueuedHandle::Soon(handle.clone_ref(py));
        let queues = slf.get().queues();
        let previous = descriptor::with_borrowed(number, |descriptor| {
            queues.watch(descriptor, interest, queued)
        })??;
        cancel(py, previous)?;
        Ok(handle)
    }

    fn unwatch(&self, py: Python<'_>, number: RawFd, interest: Interest) -> PyResult<bool> {
        let removed = descriptor::with_borrowed(number, |fd| self.queues.unwatch(fd, interest))?;
        let was_there = removed.is_some();
        cancel(py, removed)?;
        Ok(was_there)
    }
}

/// Cancels a descriptor's callback: an event of it may be queued already.
fn cancel(py: Python<'_>, handle: Option<QueuedHandle>) -> PyResult<()> {
    handle.map_or(Ok(()), |handle| handle.cancel(py))
}

/// The mistake that asyncio's debug mode looks for.
fn check_callback(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let is_coroutine = names::is_coroutine(callback.py())?
        .call1((callback,))?
        .is_truthy()?;
    if is_coroutine
        || names::is_coroutine_function(callback.py())?
            .call1((callback,))?
            .is_truthy()?
    {
        return Err(PyTypeError::new_err(format!(
            "coroutines cannot be used with {method}()"
        )));
    }
    if !callback.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "a callable object was expected by {method}(), got {}",
            callback.repr()?
        )));
    }
    Ok(())
}

#[pymethods]
impl NativeEventLoop {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self {
            queues: Arc::new(EventLoop::new()?),
            stop_requested: AtomicBool::new(false),
            running: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            capturing: AtomicUsize::new(0),
            captured: Mutex::new(None),
            deferred: Mutex::new(Vec::new()),
            transports: Mutex::new(HashMap::new()),
            read_buffer: Mutex::new(Vec::with_capacity(READ_BUFFER_BYTES)),
        })
    }

    /// The time of the loop's clock, in seconds: `time.monotonic()`.
    #[expect(clippy::unused_self, reason = "a method in asyncio's interface")]
    fn time(&self) -> f64 {
        monotonic_seconds()
    }

    /// Whether the loop is running now.
    fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Arranges for `callback` to be called soon, in the order of calls.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
    ) -> PyResult<Option<Py<Handle>>> {
        let this = slf.get();
        let awaited = this.capturing.load(Ordering::Relaxed);
        if awaited != 0
            && args.is_empty()
            && context
                .as_ref()
                .is_some_and(|context| context.as_ptr().addr() == awaited)
        {
            this.capturing.store(0, Ordering::Relaxed);
            // The caller is the constructor of asyncio.Task, which has no use for a handle.
            let step = callback.unbind();
            *this.captured.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
            return Ok(None);
        }
        if this.is_debug() {
            slf.call_method0("_check_thread")?;
        }
        Self::schedule(slf, callback, args, context).map(Some)
    }

    /// As `call_soon`, from any thread.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon_threadsafe(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
    ) -> PyResult<Py<Handle>> {
        Self::schedule(slf, callback, args, context)
    }

    /// Arranges for `callback` to be called `delay` seconds from now.
    #[pyo3(signature = (delay, callback, *args, context = None))]
    fn call_later(
        slf: &Bound<'_, Self>,
        delay: Option<f64>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
    ) -> PyResult<Py<TimerHandle>> {
        let delay = delay.ok_or_else(|| PyTypeError::new_err("delay must not be None"))?;
        Self::call_at(
            slf,
            Some(monotonic_seconds() + delay),
            callback,
            args,
            context,
        )
    }

    /// Arranges for `callback` to be called at the time `when`, in seconds of `loop.time()`.
    #[pyo3(signature = (when, callback, *args, context = None))]
    fn call_at(
        slf: &Bound<'_, Self>,
        when: Option<f64>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
    ) -> PyResult<Py<TimerHandle>> {
        let when = when.ok_or_else(|| PyTypeError::new_err("when cannot be None"))?;
        if slf.get().is_debug() {
            slf.call_method0("_check_thread")?;
        }
        let state = Self::new_state(slf, callback, args, context, "call_at")?;
        let timer = TimerHandle {
            state,
            when_seconds: when,
            fired: AtomicBool::new(false),
        };
        let handle = Py::new(slf.py(), timer)?;
        let queued = QueuedHandle::Timer(handle.clone_ref(slf.py()));
        slf.get().queues.call_at(when, queued);
        Ok(handle)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        Self::watch(slf, descriptor_number(fd)?, Interest::Read, callback, args)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        Self::watch(slf, descriptor_number(fd)?, Interest::Write, callback, args)
    }

    fn _remove_reader(&self, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.unwatch(fd.py(), descriptor_number(fd)?, Interest::Read)
    }

    fn _remove_writer(&self, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.unwatch(fd.py(), descriptor_number(fd)?, Interest::Write)
    }

    /// Another thread's message is already in the queue: nothing to write.
    #[expect(clippy::unused_self, reason = "a method of the base class")]
    fn _write_to_self(&self) {}

    /// asyncio's base classes queue their own handles with it.
    fn _add_callback(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        if !handle.getattr("_cancelled")?.is_truthy()? {
            let run = handle.getattr("_run")?;
            Self::schedule(slf, run, PyTuple::empty(slf.py()), None)?;
        }
        Ok(())
    }

    fn _request_stop(&self) {
        self.stop_requested.store(true, Ordering::Release);
        self.queues.wake();
    }

    fn _set_native_debug(&self, enabled: bool) {
        self.debug.store(enabled, Ordering::Relaxed);
    }

    /// Empties the queues and refuses what comes later.
    fn _close_native(&self) {
        self.closed.store(true, Ordering::Release);
        let callbacks = self.queues.take_all();
        drop(callbacks);
    }

    /// Turns the loop until a stop is requested.
    ///
    /// The GIL is held throughout and given back exactly while the runtime is parked.
    fn _run_native(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let runtime = runtime::new_local_runtime()?;
        let failure = Rc::new(RefCell::new(None));
        let host = PythonHost::new(slf.clone().unbind(), Rc::clone(&failure));
        let queues = Arc::clone(&this.queues);
        let _running = RunningGuard::new(this);
        {
            let _driving = thread_state::DrivingGuard::new(py);
            runtime.block_on(async move { Driver::new(queues, host).await });
        }
        client::forget_connections();
        // Tasks of the server and the client that are left end with their runtime. A name that
        // is being looked up is not waited for.
        runtime.shutdown_background();
        match thread_state::take_signal_error().or_else(|| failure.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.queues.try_for_each(|handle| {
            if result.is_ok() {
                result = visit.call(handle.object());
            }
        });
        result
    }

    fn __clear__(&self) {
        let callbacks = self.queues.take_all();
        drop(callbacks);
    }
}

/// Marks a loop as running, however the run ends.
struct RunningGuard<'a>(&'a NativeEventLoop);

impl<'a> RunningGuard<'a> {
    fn new(event_loop: &'a NativeEventLoop) -> Self {
        event_loop.running.store(true, Ordering::Release);
        Self(event_loop)
    }
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
        self.0.stop_requested.store(false, Ordering::Release);
    }
}

/// A descriptor's number from an int or from an object with `fileno()`.
fn descriptor_number(descriptor: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match descriptor.extract::<RawFd>() {
        Ok(number) => Ok(number),
        Err(_) => descriptor.call_method0("fileno")?.extract(),
    }
}
