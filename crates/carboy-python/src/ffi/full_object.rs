//! Native classes whose instances are as full as those of Python classes: any attribute can
//! be set on them, and they have a finalizer.
//!
//! PyO3 has neither whole. The garbage collector may look at an instance with a `__dict__`
//! before its value is there, because CPython 3.11 and 3.12 make the `__dict__` first and may
//! collect garbage then. And a destructor is no finalizer: in a cycle it runs when the
//! collector has taken the objects apart that it needs.

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, PyClassInitializer};

use super::pending_error;

/// A native class with `dict` that has the garbage collector's support and no subclass.
pub(crate) trait FullObject:
    PyClass<Frozen = True> + Sync + Into<PyClassInitializer<Self>>
{
    /// Where the destructor is kept that PyO3 has made for the class.
    fn destructor() -> &'static OnceLock<ffi::destructor>;

    /// As `__del__`: called once, before the object or the cycle that it is part of is taken
    /// apart. It must not panic.
    fn finalize(slf: &Bound<'_, Self>);
}

/// Completes a class. Once per process, when the module is made.
pub(crate) fn install<T: FullObject>(py: Python<'_>) {
    let class = T::type_object_raw(py);
    // SAFETY: The class is live, has a destructor as each class of PyO3's, and no object yet.
    // The new one calls that.
    unsafe {
        if let Some(destructor) = (*class).tp_dealloc
            && T::destructor().set(destructor).is_ok()
        {
            (*class).tp_dealloc = Some(free::<T>);
            (*class).tp_finalize = Some(finalize::<T>);
        }
    }
}

/// Makes an object.
///
/// # Errors
///
/// `MemoryError`.
pub(crate) fn new_object<T: FullObject>(py: Python<'_>, value: T) -> PyResult<Bound<'_, T>> {
    // SAFETY: The thread is attached. Collecting is allowed again below, if it was before.
    let was_enabled = unsafe { ffi::PyGC_Disable() } != 0;
    let object = Bound::new(py, value);
    if was_enabled {
        // SAFETY: The thread is attached.
        unsafe { ffi::PyGC_Enable() };
    }
    object
}

// SAFETY: CPython calls it as the class's `tp_finalize`, once, with a live object of the class.
unsafe extern "C" fn finalize<T: FullObject>(object: *mut ffi::PyObject) {
    // SAFETY: The thread is attached, as it is whenever CPython finalizes an object, which is
    // of this class.
    let (py, object) = unsafe {
        let py = Python::assume_attached();
        let object = Bound::from_borrowed_ptr(py, object);
        (py, object.cast_into_unchecked::<T>())
    };
    pending_error::preserved(py, || T::finalize(&object));
}

// SAFETY: CPython calls it as the class's `tp_dealloc`: on an attached thread, with an object
// to which there is no reference.
unsafe extern "C" fn free<T: FullObject>(object: *mut ffi::PyObject) {
    // SAFETY: As it is called by the destructors of Python classes. A finalizer may have made
    // a new reference, which is what the answer says: the object lives on then.
    if unsafe { ffi::PyObject_CallFinalizerFromDealloc(object) } < 0 {
        return;
    }
    if let Some(destructor) = T::destructor().get() {
        // SAFETY: It is the destructor that the class had before.
        unsafe { destructor(object) };
    }
}
