//! Instances of Python classes without their constructors, and their attributes.

use std::ptr;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

/// A new instance of a class whose `__init__` was not called, as `class.__new__(class)`.
pub(crate) fn new_instance<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let type_object = class.as_type_ptr();
    // SAFETY: Both are live type objects, whose slots are set once when they are made ready.
    let (constructor, plain_constructor, allocate) = unsafe {
        let base = &raw mut ffi::PyBaseObject_Type;
        (
            (*type_object).tp_new,
            (*base).tp_new,
            (*type_object).tp_alloc,
        )
    };
    let address = |function: ffi::newfunc| function as usize;
    let is_plain = constructor.map(address) == plain_constructor.map(address);
    let allocate = allocate.filter(|_| is_plain);
    match allocate {
        // SAFETY: For a class that inherits object.__new__, that does nothing but call the
        // allocator with no extra items; it returns a new reference, or null with an error.
        Some(allocate) => unsafe { Bound::from_owned_ptr_or_err(py, allocate(type_object, 0)) },
        None => class.call_method1(intern!(py, "__new__"), (class,)),
    }
}

/// A new instance of a class that inherits the constructor of a native class, whose
/// `__init__` was not called: `class.__new__(class)` without the look-up.
pub(crate) fn new_native_instance<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: A live type object, whose slots are set once when it is made ready.
    let constructor = unsafe { (*class.as_type_ptr()).tp_new };
    let Some(constructor) = constructor else {
        return class.call_method1(intern!(py, "__new__"), (class,));
    };
    let arguments = PyTuple::empty(py);
    // SAFETY: The slot is called as CPython calls it: with the type, a tuple, and no keyword
    // arguments. It returns a new reference, or null with an exception set.
    unsafe {
        let instance = constructor(class.as_type_ptr(), arguments.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, instance)
    }
}

/// The dict of an object's attributes, as `object.__dict__` for a class that does not define
/// that itself.
///
/// # Errors
///
/// `AttributeError` when the object has none.
pub(crate) fn attributes_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: The object is live; the function returns a new reference, or null with an
    // exception set.
    let attributes = unsafe {
        let attributes = ffi::PyObject_GenericGetDict(object.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), attributes)
    }?;
    Ok(attributes.cast_into::<PyDict>()?)
}
