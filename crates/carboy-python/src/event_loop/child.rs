//! Child processes whose end the loop notices by itself, by a descriptor of the process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use carboy_event_loop::Interest;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus};

use super::system_error::os_error;
use super::watched::{Ready, Watched};
use super::{NativeEventLoop, QueuedHandle};

/// A child process that the loop waits for.
///
/// States: *watched* until the process has ended, then *reaped*: this has taken its exit
/// status, or has found that somebody else did. *Closed* at once when nobody waits any more.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct ChildWatch {
    event_loop: Py<NativeEventLoop>,
    /// A number of the process that no other process can get.
    pidfd: OwnedFd,
    callback: Mutex<Option<Py<PyAny>>>,
    is_watched: AtomicBool,
}

#[pymethods]
impl NativeEventLoop {
    /// Calls `callback` with the return code of a child process when that has ended, or with
    /// None if somebody else has taken it.
    ///
    /// Raises `ProcessLookupError` if there is no such process any more, and `OSError` if it
    /// can't be watched.
    fn _watch_child(
        slf: &Bound<'_, Self>,
        pid: i32,
        callback: Py<PyAny>,
    ) -> PyResult<Py<ChildWatch>> {
        let py = slf.py();
        slf.get().check_closed()?;
        let pid = Pid::from_raw(pid)
            .ok_or_else(|| PyValueError::new_err("0 is no child process's number"))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| os_error(py, &io::Error::from(error)))?;
        let watch = ChildWatch {
            event_loop: slf.clone().unbind(),
            pidfd,
            callback: Mutex::new(Some(callback)),
            is_watched: AtomicBool::new(true),
        };
        let watch = Py::new(py, watch)?;
        let queued = QueuedHandle::Ready(Watched::Child(watch.clone_ref(py)), Interest::Read);
        slf.get()
            .queues()
            .watch(py, watch.get().pidfd.as_fd(), Interest::Read, queued)
            .map_err(|error| os_error(py, &error))?;
        Ok(watch)
    }
}

impl ChildWatch {
    fn take_callback(&self) -> Option<Py<PyAny>> {
        let mut callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner);
        callback.take()
    }

    fn stop_watching(&self, py: Python<'_>) {
        if self.is_watched.swap(false, Ordering::AcqRel) {
            let queues = self.event_loop.get().queues();
            let removed = queues.unwatch(py, self.pidfd.as_fd(), Interest::Read);
            drop(removed);
        }
    }

    /// Takes the exit status; `None` while the process runs.
    fn reap(&self) -> Result<Option<i32>, Errno> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(status) => return Ok(status.as_ref().and_then(return_code)),
            }
        }
    }
}

/// The return code as `subprocess` has it: negative for the signal that ended the process.
fn return_code(status: &WaitIdStatus) -> Option<i32> {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| -signal))
}

#[pymethods]
impl ChildWatch {
    /// The number of the descriptor that stands for the process.
    fn fileno(&self) -> i32 {
        self.pidfd.as_raw_fd()
    }

    /// Stops waiting for the process.
    fn close(&self, py: Python<'_>) {
        self.stop_watching(py);
        drop(self.take_callback());
    }

    fn __repr__(&self) -> String {
        format!("<ChildWatch fd={}>", self.pidfd.as_raw_fd())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // What is being changed has nothing to collect.
        match self.callback.try_lock() {
            Ok(callback) => visit.call(&*callback),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.take_callback());
    }
}

impl Ready for ChildWatch {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        &self.event_loop
    }

    fn is_cancelled(&self, _interest: Interest) -> bool {
        !self.is_watched.load(Ordering::Acquire)
    }

    fn cancel(&self) {
        self.is_watched.store(false, Ordering::Release);
    }

    fn ready(slf: &Bound<'_, Self>, _interest: Interest) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let return_code = match this.reap() {
            Ok(None) => return Ok(()),
            Ok(return_code) => return_code,
            Err(Errno::CHILD) => None,
            Err(error) => {
                this.stop_watching(py);
                return Err(os_error(py, &io::Error::from(error)));
            }
        };
        this.stop_watching(py);
        match this.take_callback() {
            Some(callback) => callback.call1(py, (return_code,)).map(drop),
            None => Ok(()),
        }
    }
}
