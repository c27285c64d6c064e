//! A promise taken for its value: each such mistake is told where it is made.

use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::object::Promise;

impl Promise {
    /// The error for who takes the promise for its value. Its traceback has the line of the
    /// mistake, and its message the one where the promise was made.
    fn misuse(&self, py: Python<'_>, what: &str) -> String {
        format!(
            "{what}: this is a promise, not its value; use 'await' in async code or .result() in \
             sync code first (the promise: {})",
            self.core().origin().describe(py)
        )
    }

    fn refuse<T>(&self, py: Python<'_>, what: &str) -> PyResult<T> {
        Err(PyTypeError::new_err(self.misuse(py, what)))
    }

    /// The error for who wants a task of the promise.
    pub(crate) fn needs_no_task(&self, py: Python<'_>) -> PyErr {
        PyTypeError::new_err(format!(
            "no task can be made of a promise, which has begun already: await it, or use \
             asyncio.ensure_future() where it has to be a task (the promise: {})",
            self.core().origin().describe(py)
        ))
    }

    fn refuse_arithmetic(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.refuse(py, "it can't be calculated with")
    }
}

/// Whether something may be what a promise's value is compared with.
fn is_plain_value(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyInt>()
        || value.is_instance_of::<PyFloat>()
        || value.is_instance_of::<PyBool>()
        || value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyDict>()
        || value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
}

#[pymethods]
impl Promise {
    fn __str__(&self, py: Python<'_>) -> PyResult<String> {
        self.refuse(py, "no text can be made of it")
    }

    fn __format__(&self, py: Python<'_>, _specification: &str) -> PyResult<String> {
        self.refuse(py, "it can't be formatted")
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        self.refuse(py, "it is neither true nor false")
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.refuse(py, "it has no length")
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.refuse(py, "it can't be iterated")
    }

    fn __contains__(&self, py: Python<'_>, _item: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.refuse(py, "it contains nothing")
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.refuse(
            py,
            "'with' needs what it is the promise of, and a stream is http.stream(…)",
        )
    }

    // `with` asks for it first, and never calls it.
    #[pyo3(signature = (*_args))]
    fn __exit__(_slf: &Bound<'_, Self>, _args: &Bound<'_, PyTuple>) {}

    fn __aenter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.refuse(
            py,
            "'async with' needs what it is the promise of, and a stream is http.stream(…)",
        )
    }

    #[pyo3(signature = (*_args))]
    fn __aexit__(_slf: &Bound<'_, Self>, _args: &Bound<'_, PyTuple>) {}

    /// Two promises are equal if they are the same. With a value, none is compared.
    fn __richcmp__(
        slf: &Bound<'_, Self>,
        other: &Bound<'_, PyAny>,
        operator: CompareOp,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        match operator {
            CompareOp::Eq | CompareOp::Ne if !is_plain_value(other) => {
                // Other classes may have an opinion of their own; without, it is identity.
                Ok(py.NotImplemented())
            }
            CompareOp::Eq | CompareOp::Ne => {
                let what = format!("it can't be compared with {}", other.repr()?);
                slf.get().refuse(py, &what)
            }
            _ => slf.get().refuse(py, "it can't be compared"),
        }
    }

    fn __hash__(slf: &Bound<'_, Self>) -> isize {
        slf.as_ptr().addr().cast_signed() >> 4
    }

    fn __add__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __radd__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __sub__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __rsub__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __mul__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __rmul__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __truediv__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __rtruediv__(&self, py: Python<'_>, _other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.refuse_arithmetic(py)
    }

    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        if name == "__html__" {
            // Templates and Flask's JSON ask for it before they take anything as text.
            return self.refuse(py, "it can't become a part of a page or of JSON");
        }
        if name.starts_with("__") {
            return Err(PyAttributeError::new_err(name.to_owned()));
        }
        let what = format!("it has no attribute {name:?}");
        Err(PyAttributeError::new_err(self.misuse(py, &what)))
    }
}
