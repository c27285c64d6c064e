//! The bytes of Python objects, lent to a system call.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

// SAFETY: This is its declaration in CPython's bytesobject.h, which PyO3 leaves out.
unsafe extern "C" {
    fn _PyBytes_Resize(object: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

fn contiguous(object: &Bound<'_, PyAny>) -> PyResult<PyUntypedBuffer> {
    let buffer = PyUntypedBuffer::get(object)?;
    if buffer.is_c_contiguous() {
        Ok(buffer)
    } else {
        Err(PyBufferError::new_err(
            "memoryview: underlying buffer is not C-contiguous",
        ))
    }
}

/// Lends the bytes of an object to `operation`, which must not run Python code.
///
/// # Errors
///
/// `TypeError` when the object has no buffer, `BufferError` when it is not contiguous.
pub(crate) fn with_bytes<T>(
    object: &Bound<'_, PyAny>,
    operation: impl FnOnce(&[u8]) -> T,
) -> PyResult<T> {
    let buffer = contiguous(object)?;
    if buffer.len_bytes() == 0 {
        return Ok(operation(&[]));
    }
    // SAFETY: The buffer is contiguous and exported while `buffer` lives, so it has this
    // address and length. Nobody changes it meanwhile: the thread is attached, and the
    // operation runs no Python code.
    let bytes = unsafe { slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) };
    Ok(operation(bytes))
}

/// Lends an object's writable bytes to `operation`, which must not run Python code.
///
/// # Errors
///
/// `TypeError` when the object has no buffer or one that can't be written, `BufferError`
/// when it is not contiguous.
pub(crate) fn with_writable<T>(
    object: &Bound<'_, PyAny>,
    operation: impl FnOnce(&mut [u8]) -> T,
) -> PyResult<T> {
    let buffer = contiguous(object)?;
    if buffer.readonly() {
        return Err(PyTypeError::new_err(
            "a read-write bytes-like object is required",
        ));
    }
    if buffer.len_bytes() == 0 {
        return Ok(operation(&mut []));
    }
    // SAFETY: As in with_bytes; the exporter has said that the buffer may be written.
    let bytes =
        unsafe { slice::from_raw_parts_mut(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) };
    Ok(operation(bytes))
}

/// A part of a memoryview, from one index to another, which refers to the same memory.
///
/// PyO3's `PySlice::new` can't be used for it: up to its version 0.30 it never gives back the
/// three integers that it makes.
///
/// # Errors
///
/// What the memoryview raises: it was released, or has more than one dimension.
pub(crate) fn part<'py>(
    view: &Bound<'py, PyAny>,
    from: usize,
    to: usize,
) -> PyResult<Bound<'py, PyAny>> {
    // No buffer is longer than these can say.
    let bound = |index: usize| isize::try_from(index).unwrap_or(isize::MAX);
    // SAFETY: The thread is attached and the object live. What is returned is a new reference,
    // or null with an exception set, which is what from_owned_ptr_or_err expects.
    unsafe {
        let part = ffi::PySequence_GetSlice(view.as_ptr(), bound(from), bound(to));
        Bound::from_owned_ptr_or_err(view.py(), part)
    }
}

/// Copies bytes to the start of a place that is at least as long, and returns the rest of it.
///
/// # Panics
///
/// When the place is too short.
pub(crate) fn copy_to_start<'place>(
    place: &'place mut [MaybeUninit<u8>],
    bytes: &[u8],
) -> &'place mut [MaybeUninit<u8>] {
    let (start, rest) = place.split_at_mut(bytes.len());
    // SAFETY: Both are of the same length, and what is borrowed mutably lies elsewhere.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_mut_ptr().cast::<u8>(), bytes.len());
    }
    rest
}

/// Makes a bytes object that `fill` writes into: it says how much it wrote.
///
/// # Errors
///
/// `MemoryError`; the error of `fill` is the inner one.
pub(crate) fn new_bytes(
    py: Python<'_>,
    capacity_bytes: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<usize>,
) -> PyResult<io::Result<Bound<'_, PyBytes>>> {
    let capacity = isize::try_from(capacity_bytes)
        .map_err(|_| PyBufferError::new_err("the buffer is too large"))?;
    // SAFETY: The interpreter is attached. Without a source the object's bytes are not
    // initialised, and until it is returned nobody else knows it.
    let mut object = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), capacity) };
    if object.is_null() {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: A bytes object of this capacity has that many bytes at this address.
    let buffer = unsafe {
        let start = ffi::PyBytes_AsString(object).cast::<MaybeUninit<u8>>();
        slice::from_raw_parts_mut(start, capacity_bytes)
    };
    let filled = match fill(buffer) {
        Ok(filled_bytes) => filled_bytes.min(capacity_bytes),
        Err(error) => {
            // SAFETY: The reference is ours, and the object was shown to nobody.
            unsafe { ffi::Py_DECREF(object) };
            return Ok(Err(error));
        }
    };
    if filled < capacity_bytes {
        let filled = isize::try_from(filled).unwrap_or(capacity);
        // SAFETY: The reference is the only one, as the function asks. On failure it has
        // given it back and set the pointer to null.
        let status = unsafe { _PyBytes_Resize(&raw mut object, filled) };
        if status != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    // SAFETY: The reference is ours and to a bytes object.
    let object = unsafe { Bound::from_owned_ptr(py, object) };
    Ok(Ok(object.cast_into::<PyBytes>()?))
}
