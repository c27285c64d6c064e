//! Every Python name that the Rust code imports, each looked up once per process.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Declares a function that imports `module.name` on its first call and keeps it.
macro_rules! imported {
    ($($(#[$documentation:meta])* $function:ident = $module:literal . $name:literal;)*) => {$(
        $(#[$documentation])*
        pub(crate) fn $function(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
            static OBJECT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            OBJECT.import(py, $module, $name)
        }
    )*};
}

imported! {
    /// `asyncio.Task`, the C class.
    task = "asyncio" . "Task";
    asyncio_logger = "asyncio.log" . "logger";
    is_coroutine = "asyncio.coroutines" . "iscoroutine";
    is_coroutine_function = "inspect" . "iscoroutinefunction";
    format_callback_source = "asyncio.format_helpers" . "_format_callback_source";
    format_handle = "asyncio.base_events" . "_format_handle";
    extract_stack = "asyncio.format_helpers" . "extract_stack";
}

/// Whether `asyncio.Task` can take its first step in its constructor (CPython 3.12).
pub(crate) fn has_eager_start(py: Python<'_>) -> bool {
    static ANSWER: PyOnceLock<bool> = PyOnceLock::new();
    *ANSWER.get_or_init(py, || {
        py.import("asyncio")
            .is_ok_and(|asyncio| asyncio.hasattr("eager_task_factory").unwrap_or(false))
    })
}
