//! The objects whose descriptors `add_reader` and `add_writer` were asked to watch.
//!
//! Who closes an object and stops the watch after that names an object without a number.
//! As in asyncio, whose selector keeps the object, it is then found by its identity.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// Objects with a `fileno` method, by the number that it gave when the watch began.
#[derive(Default)]
pub(crate) struct WatchedObjects {
    by_number: Mutex<HashMap<RawFd, Py<PyAny>>>,
}

impl WatchedObjects {
    fn objects(&self) -> MutexGuard<'_, HashMap<RawFd, Py<PyAny>>> {
        self.by_number
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the object of a watch that has begun, unless it is a bare number.
    pub(crate) fn note(&self, number: RawFd, object: &Bound<'_, PyAny>) {
        if object.extract::<RawFd>().is_err() {
            let previous = self.objects().insert(number, object.clone().unbind());
            drop(previous);
        }
    }

    /// Lets go of the object of a watch that has ended.
    pub(crate) fn forget(&self, number: RawFd) {
        let object = self.objects().remove(&number);
        drop(object);
    }

    /// The number of a descriptor that is or was watched.
    ///
    /// # Errors
    ///
    /// `ValueError` for an object that is closed and not watched, as in asyncio.
    pub(crate) fn number_of(&self, object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
        let number = descriptor_number(object)?;
        if number >= 0 {
            return Ok(number);
        }
        let known = {
            let objects = self.objects();
            let mut objects = objects.iter();
            objects.find_map(|(number, watched)| watched.is(object).then_some(*number))
        };
        known.ok_or_else(|| invalid_descriptor(number))
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While the map is being changed there is nothing to collect here.
        if let Ok(objects) = self.by_number.try_lock() {
            for object in objects.values() {
                visit.call(object)?;
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&self) {
        let objects = std::mem::take(&mut *self.objects());
        drop(objects);
    }
}

/// The number of a descriptor that is to be watched.
///
/// # Errors
///
/// `ValueError` for a closed one, as in asyncio.
pub(crate) fn open_descriptor_number(descriptor: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match descriptor_number(descriptor)? {
        number if number >= 0 => Ok(number),
        number => Err(invalid_descriptor(number)),
    }
}

/// A descriptor's number from an int or from an object with `fileno()`.
fn descriptor_number(descriptor: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match descriptor.extract::<RawFd>() {
        Ok(number) => Ok(number),
        Err(_) => descriptor.call_method0("fileno")?.extract(),
    }
}

fn invalid_descriptor(number: RawFd) -> PyErr {
    PyValueError::new_err(format!("Invalid file descriptor: {number}"))
}
