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

use carboy_event_loop::watchdog::Pulse;
use carboy_event_loop::{Driver, EventLoop, Interest, Queues, monotonic_seconds};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyTuple, PyWeakrefReference};

use super::host::PythonHost;
use super::watchdog::Watch;
use super::watched_object::{WatchedObjects, open_descriptor_number};
use super::{Handle, QueuedHandle};
use crate::client;
use crate::ffi::allocator;
use crate::ffi::attached_cell::AttachedCell;
use crate::ffi::free_list::new_object;
use crate::ffi::{descriptor, thread_state};
use crate::{names, runtime};

/// Room for one small read: as much as asyncio reads at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Room for what TLS reads at once, encrypted or decrypted: as much as asyncio's has.
pub(super) const TLS_BUFFER_BYTES: usize = 256 * 1024;

/// The native half of the event loop.
#[pyclass(
    frozen,
    subclass,
    weakref,
    name = "NativeEventLoop",
    module = "carboy._carboy"
)]
pub(crate) struct NativeEventLoop {
    queues: Arc<NativeQueues>,
    stop_requested: AtomicBool,
    running: AtomicBool,
    closed: AtomicBool,
    debug: AtomicBool,
    /// The address of a task's context while the task is made whose first step is to be
    /// taken at once, else 0: the step that its constructor schedules is caught instead of
    /// queued. See `task.rs`.
    pub(super) capturing: AtomicUsize,
    pub(super) captured: AttachedCell<Option<Py<PyAny>>>,
    /// What is to be done as soon as the callback that runs now has left its context.
    deferred: Mutex<Vec<Deferred>>,
    /// Whether there is something, for a look after each callback.
    has_deferred: AtomicBool,
    /// Weak references to the transports, by the number of their descriptors.
    transports: Mutex<HashMap<RawFd, Py<PyAny>>>,
    watched_objects: WatchedObjects,
    /// What the watchdog looks at.
    pulse: Arc<Pulse>,
    pub(super) watch: Watch,
    /// Where small reads go before their length is known.
    read_buffer: Mutex<Vec<u8>>,
    /// Where TLS reads, for all connections: a memoryview of a bytearray.
    tls_buffer: PyOnceLock<Py<PyAny>>,
}

/// The queues of a loop, shared by the threads that are attached to the interpreter.
pub(crate) type NativeQueues = EventLoop<QueuedHandle, AttachedCell<Queues<QueuedHandle>>>;

/// Something that must wait until no context is entered on the loop's thread.
pub(crate) type Deferred = Box<dyn FnOnce(Python<'_>) + Send>;

impl NativeEventLoop {
    pub(crate) fn queues(&self) -> &NativeQueues {
        &self.queues
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
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

    /// Does `action` after the callback that runs now, before the next one.
    ///
    /// A context is entered on one thread at a time: who hands it to another thread must
    /// have left it.
    pub(crate) fn defer(&self, action: Deferred) {
        self.deferred
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(action);
        self.has_deferred.store(true, Ordering::Release);
    }

    /// Does what was deferred.
    pub(crate) fn run_deferred(slf: &Bound<'_, Self>) {
        if slf.get().has_deferred.load(Ordering::Acquire) {
            Self::run_deferred_actions(slf);
        }
    }

    #[cold]
    fn run_deferred_actions(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.has_deferred.store(false, Ordering::Release);
        let mut deferred = this.deferred.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The buffer for TLS. Nothing stays in it: who fills it empties it before other code of
    /// the loop's thread runs.
    pub(super) fn tls_buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let buffer = self.tls_buffer.get_or_try_init(py, || {
            let bytes = PyByteArray::new_with(py, TLS_BUFFER_BYTES, |_| Ok(()))?;
            let view = names::memory_view(py)?.call1((bytes,))?;
            Ok::<_, PyErr>(view.unbind())
        })?;
        Ok(buffer.bind(py).clone())
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

    fn watch_object(
        slf: &Bound<'_, Self>,
        object: &Bound<'_, PyAny>,
        interest: Interest,
        callback: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        let number = open_descriptor_number(object)?;
        let handle = Self::watch(slf, number, interest, callback, arguments)?;
        slf.get().watched_objects.note(number, object);
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
        let state = Self::new_handle_state(slf, callback, arguments, None)?;
        let handle = new_object(py, Handle { state })?.unbind();
        let queued = QueuedHandle::Soon(handle.clone_ref(py));
        let queues = slf.get().queues();
        let previous = descriptor::with_borrowed(number, |descriptor| {
            queues.watch(py, descriptor, interest, queued)
        })??;
        cancel(py, previous)?;
        Ok(handle)
    }

    fn unwatch(&self, py: Python<'_>, number: RawFd, interest: Interest) -> PyResult<bool> {
        let removed = descriptor::with_borrowed(number, |descriptor| {
            self.queues.unwatch(py, descriptor, interest)
        })?;
        let was_there = removed.is_some();
        let is_watched = |interest| self.queues.is_watched(py, number, interest);
        if was_there && !is_watched(Interest::Read) && !is_watched(Interest::Write) {
            self.watched_objects.forget(number);
        }
        cancel(py, removed)?;
        Ok(was_there)
    }
}

/// Cancels a descriptor's callback: an event of it may be queued already.
fn cancel(py: Python<'_>, handle: Option<QueuedHandle>) -> PyResult<()> {
    handle.map_or(Ok(()), |handle| handle.cancel(py))
}

#[pymethods]
impl NativeEventLoop {
    #[new]
    #[pyo3(signature = (*arguments, **_keywords))]
    fn new(
        arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> PyResult<Self> {
        allocator::keep_freed_memory(arguments.py());
        Ok(Self {
            queues: Arc::new(EventLoop::new()?),
            stop_requested: AtomicBool::new(false),
            running: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            capturing: AtomicUsize::new(0),
            captured: AttachedCell::new(None),
            deferred: Mutex::new(Vec::new()),
            has_deferred: AtomicBool::new(false),
            transports: Mutex::new(HashMap::new()),
            watched_objects: WatchedObjects::default(),
            pulse: Arc::default(),
            watch: Watch::default(),
            read_buffer: Mutex::new(Vec::with_capacity(READ_BUFFER_BYTES)),
            tls_buffer: PyOnceLock::new(),
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

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        Self::watch_object(slf, fd, Interest::Read, callback, args)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        Self::watch_object(slf, fd, Interest::Write, callback, args)
    }

    fn _remove_reader(&self, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.unwatch(fd.py(), self.watched_objects.number_of(fd)?, Interest::Read)
    }

    fn _remove_writer(&self, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.unwatch(
            fd.py(),
            self.watched_objects.number_of(fd)?,
            Interest::Write,
        )
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

    fn _request_stop(&self, py: Python<'_>) {
        self.stop_requested.store(true, Ordering::Release);
        self.queues.wake(py);
    }

    fn _set_native_debug(&self, enabled: bool) {
        self.debug.store(enabled, Ordering::Relaxed);
    }

    /// Empties the queues, closes the loop's own descriptors, and refuses what comes later.
    fn _close_native(&self, py: Python<'_>) {
        self.closed.store(true, Ordering::Release);
        let callbacks = self.queues.close(py);
        drop(callbacks);
        self.watched_objects.clear();
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
        let _running = RunningGuard::new(slf);
        let _turning = TurningGuard::new(slf);
        let ran = {
            let _driving = thread_state::DrivingGuard::new(py, Arc::clone(&this.pulse));
            let driver = {
                let _entered = runtime.enter();
                Driver::new(Arc::clone(&this.queues), host)
            };
            match driver {
                Ok(driver) => runtime::run(&runtime, driver),
                Err(error) => Err(error.into()),
            }
        };
        client::forget_connections();
        // Tasks of the server and the client that are left end with their runtime. A name that
        // is being looked up is not waited for.
        runtime.shutdown_background();
        ran?;
        match thread_state::take_signal_error().or_else(|| failure.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.queues.guard().visit(&visit, |queues| {
            queues.for_each(|handle| {
                if result.is_ok() {
                    result = visit.call(handle.object());
                }
            });
        });
        result?;
        self.watched_objects.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        let callbacks = self.queues.take_all(py);
        drop(callbacks);
        self.watched_objects.clear();
    }
}

thread_local! {
    /// The loop that turns on this thread.
    static TURNING_HERE: RefCell<Option<Py<NativeEventLoop>>> = const { RefCell::new(None) };
}

/// The asyncio event loop, of whichever make, that runs on this thread.
///
/// For a loop of carboy's this is quicker than asyncio's own answer, which asks the system for the
/// number of the process each time.
///
/// # Errors
///
/// What asyncio raises when it is asked.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let own =
        TURNING_HERE.with_borrow(|turning| turning.as_ref().map(|turning| turning.clone_ref(py)));
    if let Some(own) = own {
        return Ok(Some(own.into_bound(py).into_any()));
    }
    let running = names::get_running_loop(py)?.call0()?;
    Ok((!running.is_none()).then_some(running))
}

/// Whether this very loop turns on this thread.
pub(crate) fn turns_here(event_loop: &Bound<'_, NativeEventLoop>) -> bool {
    TURNING_HERE.with_borrow(|turning| {
        turning
            .as_ref()
            .is_some_and(|turning| turning.is(event_loop))
    })
}

/// Marks a loop as turning on this thread, until dropped.
struct TurningGuard {
    before: Option<Py<NativeEventLoop>>,
}

impl TurningGuard {
    fn new(event_loop: &Bound<'_, NativeEventLoop>) -> Self {
        Self {
            before: TURNING_HERE.replace(Some(event_loop.clone().unbind())),
        }
    }
}

impl Drop for TurningGuard {
    fn drop(&mut self) {
        let turning = TURNING_HERE.replace(self.before.take());
        drop(turning);
    }
}

/// Marks a loop as running, however the run ends.
struct RunningGuard<'a, 'py>(&'a Bound<'py, NativeEventLoop>);

impl<'a, 'py> RunningGuard<'a, 'py> {
    fn new(event_loop: &'a Bound<'py, NativeEventLoop>) -> Self {
        event_loop.get().running.store(true, Ordering::Release);
        Self(event_loop)
    }
}

impl Drop for RunningGuard<'_, '_> {
    fn drop(&mut self) {
        let (event_loop, py) = (self.0.get(), self.0.py());
        event_loop.running.store(false, Ordering::Release);
        event_loop.stop_requested.store(false, Ordering::Release);
        // From now on the loop may be collected with what it holds.
        event_loop.queues.guard().with(py, |queues| {
            queues.for_each(|handle| handle.make_known(py));
        });
    }
}
