//! The file of a pipe's transport.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::fs::FileType;

use crate::event_loop::system_error::os_error;
use crate::ffi::descriptor;

/// A Python file that a transport has taken over, until it closes it.
pub(super) struct PipeFile {
    file: Mutex<Option<Py<PyAny>>>,
    extra: Py<PyDict>,
}

impl PipeFile {
    /// Takes a file over and makes its descriptor non-blocking. Gives its number, and whether
    /// its other end can be noticed to close.
    ///
    /// # Errors
    ///
    /// `ValueError` with this message for what can't be waited for, such as a regular file.
    pub(super) fn take_over(
        file: &Bound<'_, PyAny>,
        extra: Option<Bound<'_, PyDict>>,
        refusal: &'static str,
    ) -> PyResult<(Self, RawFd, bool)> {
        let py = file.py();
        let number: RawFd = file.call_method0("fileno")?.extract()?;
        let kind = descriptor::with_borrowed(number, |descriptor| {
            let status = rustix::fs::fstat(descriptor)?;
            Ok::<_, io::Error>(FileType::from_raw_mode(status.st_mode))
        });
        let kind = kind
            .and_then(|kind| kind)
            .map_err(|error| os_error(py, &error))?;
        let has_other_end = match kind {
            FileType::Fifo | FileType::Socket => true,
            FileType::CharacterDevice => false,
            _ => return Err(PyValueError::new_err(refusal)),
        };
        let set = descriptor::with_borrowed(number, |descriptor| {
            rustix::io::ioctl_fionbio(descriptor, true).map_err(io::Error::from)
        });
        set.and_then(|set| set)
            .map_err(|error| os_error(py, &error))?;
        let extra = extra.unwrap_or_else(|| PyDict::new(py));
        extra.set_item("pipe", file)?;
        let taken = Self {
            file: Mutex::new(Some(file.clone().unbind())),
            extra: extra.unbind(),
        };
        Ok((taken, number, has_other_end))
    }

    fn take(&self) -> Option<Py<PyAny>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.take()
    }

    /// The file, until it was closed.
    pub(super) fn get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.as_ref().map(|file| file.clone_ref(py))
    }

    /// Sets another file, or none, which counts as closed: as asyncio's attribute allows.
    pub(super) fn set(&self, file: Option<Py<PyAny>>) {
        let previous = {
            let mut place = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, file)
        };
        drop(previous);
    }

    pub(super) fn is_open(&self) -> bool {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.is_some()
    }

    /// Closes the file, once.
    pub(super) fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.take() {
            Some(file) => file.call_method0(py, "close").map(drop),
            None => Ok(()),
        }
    }

    pub(super) fn extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.extra.bind(name.py()).get_item(name)?.or(default))
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.extra)?;
        // What is being changed has nothing to collect.
        match self.file.try_lock() {
            Ok(file) => visit.call(&*file),
            Err(_) => Ok(()),
        }
    }
}
