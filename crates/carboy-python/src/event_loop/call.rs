//! A callback with its arguments.

use pyo3::Borrowed;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The arguments: most callbacks have none or one, which need no tuple.
enum Arguments {
    None,
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

/// A callback with its arguments.
pub(crate) struct Call {
    callback: Py<PyAny>,
    arguments: Arguments,
}

impl Call {
    /// Of arguments as CPython passes them.
    pub(crate) fn of_slice<'py>(
        callback: Borrowed<'_, 'py, PyAny>,
        arguments: &[Borrowed<'_, 'py, PyAny>],
    ) -> PyResult<Self> {
        let py = callback.py();
        let arguments = match arguments {
            [] => Arguments::None,
            [one] => Arguments::One(Borrowed::to_owned(*one).unbind()),
            many => Arguments::Many(PyTuple::new(py, many)?.unbind()),
        };
        let callback = callback.to_owned().unbind();
        Ok(Self {
            callback,
            arguments,
        })
    }

    /// Of arguments in a tuple.
    pub(crate) fn of_tuple(
        callback: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
    ) -> PyResult<Self> {
        let arguments = match arguments.len() {
            0 => Arguments::None,
            1 => Arguments::One(arguments.get_item(0)?.unbind()),
            _ => Arguments::Many(arguments.unbind()),
        };
        Ok(Self {
            callback: callback.unbind(),
            arguments,
        })
    }

    /// The callback.
    pub(crate) fn callback(&self) -> &Py<PyAny> {
        &self.callback
    }

    /// The arguments as a tuple.
    pub(crate) fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match &self.arguments {
            Arguments::None => Ok(PyTuple::empty(py)),
            Arguments::One(one) => PyTuple::new(py, [one]),
            Arguments::Many(many) => Ok(many.bind(py).clone()),
        }
    }

    /// Calls the callback.
    pub(crate) fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let callback = self.callback.bind(py);
        match &self.arguments {
            Arguments::None => callback.call0(),
            Arguments::One(one) => callback.call1((one.bind_borrowed(py),)),
            Arguments::Many(many) => callback.call1(many.bind(py)),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            callback: self.callback.clone_ref(py),
            arguments: match &self.arguments {
                Arguments::None => Arguments::None,
                Arguments::One(one) => Arguments::One(one.clone_ref(py)),
                Arguments::Many(many) => Arguments::Many(many.clone_ref(py)),
            },
        }
    }

    /// Drops it, on a thread that is known to be attached.
    pub(crate) fn release(self, py: Python<'_>) {
        self.callback.drop_ref(py);
        match self.arguments {
            Arguments::None => {}
            Arguments::One(one) => one.drop_ref(py),
            Arguments::Many(many) => many.drop_ref(py),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callback)?;
        match &self.arguments {
            Arguments::None => Ok(()),
            Arguments::One(one) => visit.call(one),
            Arguments::Many(many) => visit.call(many),
        }
    }
}
