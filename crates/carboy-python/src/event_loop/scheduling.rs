//! `call_soon` and its kin: what a program calls for each callback.

use std::sync::atomic::{AtomicBool, Ordering};

use carboy_event_loop::monotonic_seconds;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyFloat, PyString, PyTuple};
use pyo3::{Borrowed, intern};

use super::call::Call;
use super::factories::CreateTask;
use super::handle_state::HandleState;
use super::pipe::{ReadPipeTransport, WritePipeTransport};
use super::{
    DatagramTransport, Handle, NativeEventLoop, QueuedHandle, StreamTransport, TimerHandle,
    TlsTransport,
};
use crate::ffi::context;
use crate::ffi::fast_method::{self, Arguments, FastMethod};
use crate::ffi::free_list::{self, new_object, new_untracked_object};
use crate::ffi::full_object;
use crate::names;

/// Completes the classes of the loop and its handles, when the module is made.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    free_list::install::<Handle>(py);
    free_list::install::<TimerHandle>(py);
    full_object::install::<StreamTransport>(py);
    full_object::install::<DatagramTransport>(py);
    full_object::install::<ReadPipeTransport>(py);
    full_object::install::<WritePipeTransport>(py);
    full_object::install::<TlsTransport>(py);
    fast_method::add::<CallSoon>(py)?;
    fast_method::add::<CallSoonThreadsafe>(py)?;
    fast_method::add::<CallLater>(py)?;
    fast_method::add::<CallAt>(py)?;
    fast_method::add::<CreateTask>(py)
}

struct CallSoon;

impl FastMethod for CallSoon {
    type Receiver = NativeEventLoop;

    const NAME: &'static std::ffi::CStr = c"call_soon";
    const DOCUMENTATION: &'static std::ffi::CStr =
        c"call_soon($self, callback, *args, context=None)\n--\n\n\
          Arranges for `callback` to be called soon, in the order of calls.";

    fn call<'py>(
        receiver: &Bound<'py, NativeEventLoop>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = receiver.py();
        let event_loop = receiver.get();
        let names = [intern!(py, "callback")];
        let ([callback], arguments, context) = take_apart("call_soon", names, arguments)?;
        if event_loop.catches(py, callback, arguments, context) {
            // The caller is the constructor of asyncio.Task, which has no use for a handle.
            return Ok(py.None().into_bound(py));
        }
        if event_loop.is_debug() {
            receiver.call_method0(intern!(py, "_check_thread"))?;
        }
        let state = new_state(receiver, callback, arguments, context, "call_soon")?;
        queue(receiver, state)
    }
}

struct CallSoonThreadsafe;

impl FastMethod for CallSoonThreadsafe {
    type Receiver = NativeEventLoop;

    const NAME: &'static std::ffi::CStr = c"call_soon_threadsafe";
    const DOCUMENTATION: &'static std::ffi::CStr =
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n\
          As `call_soon`, from any thread.";

    fn call<'py>(
        receiver: &Bound<'py, NativeEventLoop>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let method = "call_soon_threadsafe";
        let names = [intern!(receiver.py(), "callback")];
        let ([callback], arguments, context) = take_apart(method, names, arguments)?;
        let state = new_state(receiver, callback, arguments, context, method)?;
        queue(receiver, state)
    }
}

struct CallLater;

impl FastMethod for CallLater {
    type Receiver = NativeEventLoop;

    const NAME: &'static std::ffi::CStr = c"call_later";
    const DOCUMENTATION: &'static std::ffi::CStr =
        c"call_later($self, delay, callback, *args, context=None)\n--\n\n\
          Arranges for `callback` to be called `delay` seconds from now.";

    fn call<'py>(
        receiver: &Bound<'py, NativeEventLoop>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = receiver.py();
        let names = [intern!(py, "delay"), intern!(py, "callback")];
        let ([delay, callback], arguments, context) = take_apart("call_later", names, arguments)?;
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let when_seconds = monotonic_seconds() + delay.extract::<f64>()?;
        queue_at(receiver, when_seconds, None, callback, arguments, context)
    }
}

struct CallAt;

impl FastMethod for CallAt {
    type Receiver = NativeEventLoop;

    const NAME: &'static std::ffi::CStr = c"call_at";
    const DOCUMENTATION: &'static std::ffi::CStr =
        c"call_at($self, when, callback, *args, context=None)\n--\n\n\
          Arranges for `callback` to be called at the time `when`, in seconds of `loop.time()`.";

    fn call<'py>(
        receiver: &Bound<'py, NativeEventLoop>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = receiver.py();
        let names = [intern!(py, "when"), intern!(py, "callback")];
        let ([when, callback], arguments, context) = take_apart("call_at", names, arguments)?;
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        let when_seconds = when.extract()?;
        let given = (!when.is_exact_instance_of::<PyFloat>()).then(|| when.to_owned().unbind());
        queue_at(receiver, when_seconds, given, callback, arguments, context)
    }
}

/// What `call_soon` and its kin were given: the leading parameters, the callback's own
/// arguments, and the context.
type Parts<'a, 'py, const N: usize> = (
    [Borrowed<'a, 'py, PyAny>; N],
    &'a [Borrowed<'a, 'py, PyAny>],
    Option<Borrowed<'a, 'py, PyAny>>,
);

fn take_apart<'a, 'py, const N: usize>(
    method: &str,
    names: [&Bound<'py, PyString>; N],
    arguments: &Arguments<'a, 'py>,
) -> PyResult<Parts<'a, 'py, N>> {
    let context_name = intern!(names[0].py(), "context");
    let context = arguments.named(context_name);
    let mut taken = usize::from(context.is_some());
    let (leading, rest) = if let Some((leading, rest)) = arguments.positional.split_first_chunk() {
        (*leading, rest)
    } else {
        (
            named_leading(method, names, arguments, &mut taken)?,
            &[][..],
        )
    };
    if arguments.named_count() != taken {
        let known = [names.as_slice(), &[context_name]].concat();
        return Err(arguments.refuse(method, &known));
    }
    let context = context.filter(|context| !context.is_none());
    Ok((leading, rest, context))
}

/// The leading parameters, where some were passed by name.
#[cold]
fn named_leading<'a, 'py, const N: usize>(
    method: &str,
    names: [&Bound<'py, PyString>; N],
    arguments: &Arguments<'a, 'py>,
    taken: &mut usize,
) -> PyResult<[Borrowed<'a, 'py, PyAny>; N]> {
    let mut leading = [None; N];
    for (index, name) in names.iter().enumerate() {
        leading[index] = arguments.positional.get(index).copied().or_else(|| {
            let named = arguments.named(name);
            *taken += usize::from(named.is_some());
            named
        });
        if leading[index].is_none() {
            return Err(PyTypeError::new_err(format!(
                "{method}() missing 1 required positional argument: {}",
                name.repr()?
            )));
        }
    }
    // None is missing, as was checked.
    Ok(leading.map(|value| value.unwrap_or_else(|| unreachable!())))
}

fn new_state<'py>(
    event_loop: &Bound<'py, NativeEventLoop>,
    callback: Borrowed<'_, 'py, PyAny>,
    arguments: &[Borrowed<'_, 'py, PyAny>],
    context: Option<Borrowed<'_, 'py, PyAny>>,
    method: &str,
) -> PyResult<HandleState> {
    let context = match context {
        Some(context) => Some(context.to_owned().cast_into::<PyContext>()?),
        None => None,
    };
    let source_traceback = check(event_loop, callback, Some(method))?;
    let call = Call::of_slice(callback, arguments)?;
    handle_state(event_loop, call, context, source_traceback)
}

fn handle_state(
    event_loop: &Bound<'_, NativeEventLoop>,
    call: Call,
    context: Option<Bound<'_, PyContext>>,
    source_traceback: Option<Py<PyAny>>,
) -> PyResult<HandleState> {
    let context = match context {
        Some(context) => context.unbind(),
        None => context::copy_current(event_loop.py())?,
    };
    let event_loop = event_loop.clone().unbind();
    Ok(HandleState::new(
        event_loop,
        call,
        context,
        source_traceback,
    ))
}

/// Refuses what a loop refuses, and says in debug mode where the call came from. Only some
/// methods look at the callback then.
fn check<'py>(
    event_loop: &Bound<'py, NativeEventLoop>,
    callback: Borrowed<'_, 'py, PyAny>,
    method: Option<&str>,
) -> PyResult<Option<Py<PyAny>>> {
    event_loop.get().check_closed()?;
    if !event_loop.get().is_debug() {
        return Ok(None);
    }
    if let Some(method) = method {
        check_callback(&callback, method)?;
    }
    let stack = names::extract_stack(event_loop.py())?.call0()?;
    Ok(Some(stack.unbind()))
}

/// The mistake that asyncio's debug mode looks for.
fn check_callback(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let py = callback.py();
    let is_coroutine = names::is_coroutine(py)?.call1((callback,))?.is_truthy()?;
    if is_coroutine
        || names::is_coroutine_function(py)?
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

fn queue<'py>(
    event_loop: &Bound<'py, NativeEventLoop>,
    state: HandleState,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    // See `QueuedHandle::leave_to_collector`.
    let handle = if event_loop.get().is_turning() {
        new_untracked_object(py, Handle { state })?
    } else {
        new_object(py, Handle { state })?
    };
    let queued = QueuedHandle::Soon(handle.clone().unbind());
    event_loop.get().queues().call_soon(py, queued);
    Ok(handle.into_any())
}

fn queue_at<'py>(
    event_loop: &Bound<'py, NativeEventLoop>,
    when_seconds: f64,
    given: Option<Py<PyAny>>,
    callback: Borrowed<'_, 'py, PyAny>,
    arguments: &[Borrowed<'_, 'py, PyAny>],
    context: Option<Borrowed<'_, 'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    if event_loop.get().is_debug() {
        event_loop.call_method0(intern!(py, "_check_thread"))?;
    }
    let timer = TimerHandle {
        state: new_state(event_loop, callback, arguments, context, "call_at")?,
        when_seconds,
        given,
        fired: AtomicBool::new(false),
    };
    let handle = new_object(py, timer)?;
    let queued = QueuedHandle::Timer(handle.clone().unbind());
    event_loop.get().queues().call_at(py, when_seconds, queued);
    Ok(handle.into_any())
}

impl NativeEventLoop {
    /// Queues a callback; the native form of `call_soon_threadsafe`.
    pub(crate) fn schedule(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
    ) -> PyResult<()> {
        let state = Self::new_handle_state(slf, callback, arguments, context)?;
        queue(slf, state).map(drop)
    }

    /// What a handle of such a callback is made of.
    pub(super) fn new_handle_state(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyContext>>,
    ) -> PyResult<HandleState> {
        let source_traceback = check(slf, callback.as_borrowed(), None)?;
        let call = Call::of_tuple(callback, arguments)?;
        handle_state(slf, call, context, source_traceback)
    }

    /// Catches the next `call_soon` without arguments in this context instead of queueing
    /// it: a task's constructor makes that one. Others may come in between, from finalizers.
    pub(crate) fn begin_capture(&self, context: &Bound<'_, PyContext>) {
        self.capturing
            .store(context.as_ptr().addr(), Ordering::Relaxed);
    }

    /// Gives back what was caught.
    pub(crate) fn end_capture(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.capturing.store(0, Ordering::Relaxed);
        self.captured.with(py, Option::take)
    }

    fn catches(
        &self,
        py: Python<'_>,
        callback: Borrowed<'_, '_, PyAny>,
        arguments: &[Borrowed<'_, '_, PyAny>],
        context: Option<Borrowed<'_, '_, PyAny>>,
    ) -> bool {
        let awaited = self.capturing.load(Ordering::Relaxed);
        let is_awaited = awaited != 0
            && arguments.is_empty()
            && context.is_some_and(|context| context.as_ptr().addr() == awaited);
        if is_awaited {
            self.capturing.store(0, Ordering::Relaxed);
            let step = callback.to_owned().unbind();
            let previous = self.captured.with(py, |captured| captured.replace(step));
            drop(previous);
        }
        is_awaited
    }
}
