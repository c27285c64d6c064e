//! What is known of one request's client and of its time.
//!
//! # States
//!
//! * **going on**;
//! * **given up**: its client has gone, or its time is up. Its promises are rejected; what it
//!   waits for otherwise is cancelled after a grace period;
//! * **answered for**: its time is up for good, and the server has answered instead of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use carboy_server::{Client, ClientWatch};
use http::{HeaderMap, Method};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use tokio::time::{Instant, Sleep, sleep_until};

use super::settings::CancellationSettings;
use crate::names;

/// How long after its deadline a request may still answer for itself, with a fallback or an
/// error page. Then the server does.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// Why a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    ClientGone = 1,
    TimeIsUp = 2,
}

/// What is known of one request's client and of its time.
pub(crate) struct RequestLife {
    client: Client,
    is_safe: bool,
    /// When its time is up, from the beginning.
    deadline: Option<Instant>,
    /// Whether `answer_by` has a moment.
    has_answer_limit: AtomicBool,
    given_up: AtomicU8,
    /// Whether the client has gone, whatever follows from that.
    is_client_gone: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the server answers instead of the application.
    answer_by: Option<Instant>,
    /// The task that runs async code of the request now.
    task: Option<Py<PyAny>>,
}

impl RequestLife {
    pub(crate) fn new(
        client: Client,
        method: &Method,
        headers: &HeaderMap,
        settings: &CancellationSettings,
    ) -> Self {
        let deadline = settings
            .time_for(headers)
            .and_then(|time| Instant::now().checked_add(time));
        Self {
            client,
            is_safe: method.is_safe(),
            deadline,
            has_answer_limit: AtomicBool::new(deadline.is_some()),
            given_up: AtomicU8::new(0),
            is_client_gone: AtomicBool::new(false),
            state: Mutex::new(State {
                answer_by: deadline.map(|deadline| deadline + ANSWER_MARGIN),
                task: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the method promises to change nothing.
    pub(crate) fn is_safe(&self) -> bool {
        self.is_safe
    }

    /// How long it is to the deadline, if there is one.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Begins to watch the client, on the loop's thread.
    pub(crate) fn watch_client(&self) -> ClientWatch {
        self.client.watch()
    }

    /// Lets the server answer if nothing else has after a time, counted from now.
    pub(crate) fn answer_within(&self, time: Duration) {
        let Some(at) = Instant::now().checked_add(time + ANSWER_MARGIN) else {
            return;
        };
        {
            let mut state = self.state();
            let earlier = state.answer_by.map_or(at, |before| before.min(at));
            state.answer_by = Some(earlier);
        }
        self.has_answer_limit.store(true, Ordering::Release);
        self.client.wake_answer();
    }

    /// Whether the time for an answer is up; wakes the task when it will be.
    pub(crate) fn poll_answer_limit(
        &self,
        timer: &mut Option<Pin<Box<Sleep>>>,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        if !self.has_answer_limit.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let Some(at) = self.state().answer_by else {
            return Poll::Pending;
        };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(task)
    }

    /// Notes that the request is given up; the first reason counts.
    pub(crate) fn give_up(&self, reason: GivenUp) {
        self.given_up
            .compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire)
            .ok();
    }

    /// Notes that the client has gone.
    pub(crate) fn note_client_gone(&self) {
        self.is_client_gone.store(true, Ordering::Release);
    }

    /// Whether the client is known to have gone.
    pub(crate) fn is_client_gone(&self) -> bool {
        self.is_client_gone.load(Ordering::Acquire)
    }

    /// Why the request was given up, if it was.
    pub(crate) fn given_up(&self) -> Option<GivenUp> {
        const CLIENT_GONE: u8 = GivenUp::ClientGone as u8;
        const TIME_IS_UP: u8 = GivenUp::TimeIsUp as u8;
        match self.given_up.load(Ordering::Acquire) {
            CLIENT_GONE => Some(GivenUp::ClientGone),
            TIME_IS_UP => Some(GivenUp::TimeIsUp),
            _ => None,
        }
    }

    /// Says which task runs the request's async code now.
    pub(crate) fn set_task(&self, task: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut self.state().task, task);
        drop(before);
    }

    /// Cancels the task that runs the request's async code now, on the loop's thread.
    pub(crate) fn cancel_task(&self, py: Python<'_>) -> PyResult<()> {
        let task = self.state().task.as_ref().map(|task| task.clone_ref(py));
        match task {
            Some(task) => task.call_method0(py, intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.state.try_lock() {
            Ok(state) => visit.call(&state.task),
            Err(_) => Ok(()),
        }
    }
}

/// The error of code whose request was given up: where it was only cancelled, the reason.
pub(crate) fn explain_end(py: Python<'_>, life: Option<&RequestLife>, error: PyErr) -> PyErr {
    let Some(reason) = life.and_then(RequestLife::given_up) else {
        return error;
    };
    let is_gone = reason == GivenUp::ClientGone;
    let explained = names::explain_end(py)
        .and_then(|explain| explain.call1((error.value(py), is_gone)))
        .map(PyErr::from_value);
    explained.unwrap_or(error)
}
