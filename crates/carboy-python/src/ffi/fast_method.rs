//! Methods that take their arguments as CPython has them: no tuple or dict is made of them,
//! and none is taken apart. For those that are called for each callback.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{iter, ptr, slice};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, PyClass};

/// A method of a native class.
pub(crate) trait FastMethod: 'static {
    /// The class.
    type Receiver: PyClass;

    /// Its name.
    const NAME: &'static CStr;

    /// Its docstring, which begins with `name($self, …)\n--\n\n` for `inspect.signature`.
    const DOCUMENTATION: &'static CStr;

    /// Calls it.
    fn call<'py>(
        receiver: &Bound<'py, Self::Receiver>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>>;
}

/// The arguments of a call.
pub(crate) struct Arguments<'a, 'py> {
    /// Those by position.
    pub(crate) positional: &'a [Borrowed<'a, 'py, PyAny>],
    names: Option<Borrowed<'a, 'py, PyTuple>>,
    named: &'a [Borrowed<'a, 'py, PyAny>],
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// The keyword argument of this name.
    pub(crate) fn named(&self, name: &Bound<'py, PyString>) -> Option<Borrowed<'a, 'py, PyAny>> {
        let position = self.names?.iter_borrowed().position(|present| {
            // The names in calls are interned as this one is, as a rule.
            present.is(name) || present.eq(name).unwrap_or(false)
        })?;
        self.named.get(position).copied()
    }

    /// Passes the call on to a function that takes the receiver first.
    pub(crate) fn pass_on(
        &self,
        function: &Bound<'py, PyAny>,
        receiver: Borrowed<'_, 'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let values = iter::once(&receiver)
            .chain(self.positional)
            .chain(self.named)
            .copied()
            .collect::<Vec<_>>();
        call(function, &values, self.names)
    }

    /// How many keyword arguments there are.
    pub(crate) fn named_count(&self) -> usize {
        self.named.len()
    }

    /// The error of a call with keyword arguments but those that are known, or with one that
    /// was passed by position too.
    #[cold]
    pub(crate) fn refuse(&self, method: &str, known: &[&Bound<'py, PyString>]) -> PyErr {
        let mut names = self.names.iter().flat_map(|names| names.iter_borrowed());
        let unknown = names.find(|name| !known.iter().any(|known| name.eq(known).unwrap_or(false)));
        PyTypeError::new_err(match unknown {
            Some(name) => format!("{method}() got an unexpected keyword argument '{}'", *name),
            None => format!("{method}() got multiple values for an argument"),
        })
    }
}

/// Calls a function with the values of its arguments: those by position, and at the end
/// those whose names are given.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    values: &[Borrowed<'_, 'py, PyAny>],
    names: Option<Borrowed<'_, 'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let count = values.len() - names.map_or(0, |names| names.len());
    let names = names.map_or(ptr::null_mut(), Borrowed::as_ptr);
    // SAFETY: A Borrowed is a pointer to a live object; there are as many as the count and
    // the tuple of names say. A new reference comes back, or null with an exception set.
    unsafe {
        let result =
            ffi::PyObject_Vectorcall(function.as_ptr(), values.as_ptr().cast(), count, names);
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// Gives a native class its method, in place of any that PyO3 has made.
///
/// Once per class and method, when the module is made.
pub(crate) fn add<M: FastMethod>(py: Python<'_>) -> PyResult<()> {
    let definition = Box::new(ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: trampoline::<M>,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: M::DOCUMENTATION.as_ptr(),
    });
    let class = py.get_type::<M::Receiver>();
    // SAFETY: The class is live, and the definition, which lives as long as the process,
    // says truly how its function takes arguments. A new reference comes back, or null with
    // an exception set.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), Box::into_raw(definition));
        Bound::from_owned_ptr_or_err(py, method)
    }?;
    class.setattr(PyString::new(py, &M::NAME.to_string_lossy()), method)
}

// SAFETY: CPython calls it through the method descriptor that `add` has made, which has
// checked that the receiver is of the class, on a thread that is attached.
unsafe extern "C" fn trampoline<M: FastMethod>(
    receiver: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: The thread is attached, as it is whenever CPython calls a method.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: The receiver is borrowed for the call, and the descriptor has checked its class.
    let receiver = unsafe { Borrowed::from_ptr(py, receiver).cast_unchecked::<M::Receiver>() };
    // SAFETY: The names are null or a tuple of strings, borrowed for the call.
    let names = unsafe {
        Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked::<PyTuple>())
    };
    let named = names.map_or(0, |names| names.len());
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: `arguments` are as many borrowed objects as `count` says, and behind them one
    // for each name; without any the pointer may be null. A Borrowed is a pointer.
    let (positional, named) = unsafe {
        if arguments.is_null() {
            (&[][..], &[][..])
        } else {
            slice::from_raw_parts(arguments.cast(), count + named).split_at(count)
        }
    };
    let arguments = Arguments {
        positional,
        names,
        named,
    };
    let result = catch_unwind(AssertUnwindSafe(|| M::call(&receiver, &arguments)));
    match result {
        Ok(Ok(value)) => value.into_ptr(),
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
        Err(_) => {
            let message = format!("{} panicked", M::NAME.to_string_lossy());
            PanicException::new_err((message,)).restore(py);
            ptr::null_mut()
        }
    }
}
