//! The thread that makes the calls of code that blocks.
//!
//! It has a runtime and connections of its own and never holds the GIL. So a blocking call costs
//! two switches of threads, and nothing of the interpreter is passed to and fro. Workers of the
//! server don't use it: their calls are made by the server's loop, and their threads may serve
//! other requests meanwhile.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::home;
use crate::attach::detached;
use crate::runtime;

/// How often a thread that waits looks whether a signal has arrived.
pub(super) const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce() + Send>;

/// Where jobs for the thread are put, once it was started. Locked with the GIL held only, so
/// that it is free when the process forks.
static JOBS: Mutex<Option<mpsc::UnboundedSender<Job>>> = Mutex::new(None);

/// Runs a job on the thread, which may start local tasks.
pub(super) fn post(_py: Python<'_>, job: impl FnOnce() + Send + 'static) -> PyResult<()> {
    let mut jobs = JOBS.lock().unwrap_or_else(PoisonError::into_inner);
    let jobs = match &mut *jobs {
        Some(jobs) => jobs,
        none => none.insert(start()?),
    };
    jobs.send(Box::new(job))
        .map_err(|_| PyRuntimeError::new_err("the thread for blocking calls has ended"))
}

fn start() -> PyResult<mpsc::UnboundedSender<Job>> {
    let runtime_of_thread = |mut jobs: mpsc::UnboundedReceiver<Job>| {
        let runtime = runtime::new_runtime_without_python()?;
        runtime.block_on(async {
            while let Some(job) = jobs.recv().await {
                job();
            }
            home::forget_connections();
        });
        Ok::<_, std::io::Error>(())
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("carboy-http".to_owned())
        .spawn(move || runtime_of_thread(receiver))?;
    Ok(sender)
}

/// Forget the thread: after a fork there is none in the child.
#[pyfunction]
pub(crate) fn forget_blocking_thread(_py: Python<'_>) {
    let jobs = JOBS.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Dropping it would wake a thread that is not there; its memory is the parent's affair.
    std::mem::forget(jobs);
}

/// Something that the thread does. Dropping this gives it up.
pub(super) struct Begun<T> {
    outcome: Receiver<T>,
    still_wanted: oneshot::Sender<()>,
}

impl<T: Send> Begun<T> {
    /// Waits for the outcome. A wait that a signal ends gives it up.
    ///
    /// # Errors
    ///
    /// What a signal's handler raises.
    pub(super) fn wait(self, py: Python<'_>) -> PyResult<T> {
        let outcome = wait(py, self.outcome);
        drop(self.still_wanted);
        outcome
    }
}

/// Begins something on the thread.
///
/// # Errors
///
/// `RuntimeError` when there is no thread to be had.
pub(super) fn begin<T, F>(
    py: Python<'_>,
    work: impl FnOnce() -> F + Send + 'static,
) -> PyResult<Begun<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (reply, outcome) = sync_channel(1);
    let (still_wanted, given_up) = oneshot::channel::<()>();
    post(py, move || {
        runtime::spawn(async move {
            tokio::select! {
                biased;
                _ = given_up => {}
                outcome = work() => {
                    reply.send(outcome).ok();
                }
            }
        });
    })?;
    Ok(Begun {
        outcome,
        still_wanted,
    })
}

/// Waits for what comes from the thread.
pub(super) fn wait<T: Send>(py: Python<'_>, outcome: Receiver<T>) -> PyResult<T> {
    let outcome = Mutex::new(outcome);
    loop {
        let received = detached(py, || {
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.recv_timeout(SIGNAL_CHECK_INTERVAL)
        });
        match received {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the blocking call was given up"));
            }
        }
    }
}
