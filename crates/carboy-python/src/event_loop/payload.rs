//! The bytes that a transport is given to write.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes};

use crate::ffi::buffer;
use crate::names;

/// Bytes that wait to be written: the caller's own object if it can't change, else a copy.
pub(crate) enum Piece {
    Shared(PyBackedBytes),
    Copied(Vec<u8>),
}

impl Piece {
    /// Makes a piece of any object with a buffer.
    pub(crate) fn of(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return Ok(Self::Shared(PyBackedBytes::from(bytes.clone())));
        }
        buffer::with_bytes(data, |bytes| Self::Copied(bytes.to_vec()))
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// Lends what a transport's `write` was given to `operation`, with a function that makes a
/// piece of it. The operation must not run Python code.
///
/// # Errors
///
/// `TypeError` for what asyncio does not take for data.
pub(crate) fn with_data<T>(
    data: &Bound<'_, PyAny>,
    operation: impl FnOnce(&[u8], &dyn Fn() -> Piece) -> T,
) -> PyResult<T> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        let piece = || Piece::Shared(PyBackedBytes::from(bytes.clone()));
        return Ok(operation(bytes.as_bytes(), &piece));
    }
    check(data)?;
    // What its owner may change is copied if it can't be written at once.
    buffer::with_bytes(data, |bytes| {
        operation(bytes, &|| Piece::Copied(bytes.to_vec()))
    })
}

/// Raises unless asyncio takes this for data: `bytes`, `bytearray` or `memoryview`.
fn check(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance(names::memory_view(data.py())?)?
    {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "data argument must be a bytes-like object, not {}",
        data.get_type().name()?.repr()?
    )))
}
