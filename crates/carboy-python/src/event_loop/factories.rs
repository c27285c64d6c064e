//! The tasks and futures that a loop makes, and what their classes ask of it for each.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, intern};

use super::NativeEventLoop;
use crate::ffi::fast_method::{self, Arguments, FastMethod};
use crate::names;
use crate::promise::Promise;

/// `create_task`, where there is neither a task factory nor debug mode: then it is what the
/// base class makes of it, and else that itself is called.
pub(super) struct CreateTask;

/// Names of the arguments that a task's constructor is called with.
static LOOP_ALONE: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
static LOOP_NAME_CONTEXT: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();

impl FastMethod for CreateTask {
    type Receiver = NativeEventLoop;

    const NAME: &'static std::ffi::CStr = c"create_task";
    const DOCUMENTATION: &'static std::ffi::CStr =
        c"create_task($self, coro, *, name=None, context=None)\n--\n\n\
          Makes a task of a coroutine, and schedules its first step.";

    fn call<'py>(
        receiver: &Bound<'py, NativeEventLoop>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = receiver.py();
        let event_loop = receiver.get();
        event_loop.check_closed()?;
        let name = arguments.named(intern!(py, "name"));
        let context = arguments.named(intern!(py, "context"));
        let named_count = usize::from(name.is_some()) + usize::from(context.is_some());
        let is_plain = arguments.named_count() == named_count
            && !event_loop.is_debug()
            && receiver.getattr(intern!(py, "_task_factory"))?.is_none();
        let [coroutine] = arguments.positional else {
            return Self::of_base_class(receiver, arguments);
        };
        if !is_plain {
            return Self::of_base_class(receiver, arguments);
        }
        let none = py.None();
        // Looked up each time: some programs put another class there.
        let class = names::asyncio_tasks(py)?.getattr(intern!(py, "Task"))?;
        let this = receiver.as_any().as_borrowed();
        let name = name.filter(|name| !name.is_none());
        let context = context.filter(|context| !context.is_none());
        if name.is_none() && context.is_none() {
            let names = names_tuple(py, &LOOP_ALONE, &["loop"])?;
            return fast_method::call(&class, &[*coroutine, this], Some(names))
                .map_err(|error| explained(error, *coroutine));
        }
        let names = names_tuple(py, &LOOP_NAME_CONTEXT, &["loop", "name", "context"])?;
        let none = none.bind_borrowed(py);
        let values = [
            *coroutine,
            this,
            name.unwrap_or(none),
            context.unwrap_or(none),
        ];
        fast_method::call(&class, &values, Some(names))
            .map_err(|error| explained(error, *coroutine))
    }
}

/// The error of a task that can't be made: one of a promise needs none.
#[cold]
fn explained(error: PyErr, coroutine: Borrowed<'_, '_, PyAny>) -> PyErr {
    let Ok(promise) = coroutine.cast::<Promise>() else {
        return error;
    };
    let explanation = promise.get().needs_no_task(coroutine.py());
    explanation.set_cause(coroutine.py(), Some(error));
    explanation
}

impl CreateTask {
    #[cold]
    fn of_base_class<'py>(
        receiver: &Bound<'py, NativeEventLoop>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = receiver.py();
        let method = names::base_event_loop(py)?.getattr(intern!(py, "create_task"))?;
        arguments.pass_on(&method, receiver.as_any().as_borrowed())
    }
}

fn names_tuple<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyTuple>>,
    names: &[&str],
) -> PyResult<Borrowed<'static, 'py, PyTuple>> {
    let names = cell.get_or_try_init(py, || PyTuple::new(py, names).map(Bound::unbind))?;
    Ok(names.bind_borrowed(py))
}

#[pymethods]
impl NativeEventLoop {
    /// Makes a future of this loop.
    fn create_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let class = names::asyncio_futures(py)?.getattr(intern!(py, "Future"))?;
        let names = names_tuple(py, &LOOP_ALONE, &["loop"])?;
        fast_method::call(&class, &[slf.as_any().as_borrowed()], Some(names))
    }

    /// Whether the debug mode is on. Each future and each task asks.
    fn get_debug(&self) -> bool {
        self.is_debug()
    }
}
