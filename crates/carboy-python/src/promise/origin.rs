//! Where in the application a promise was made, and whom it belongs to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::causes::Causes;
use super::done_callbacks::DoneCallbacks;
use super::scope::Scope;
use super::scope_object;
use crate::ffi::frame::Frame;
use crate::names;

/// How many frames of carboy's own are passed over at most.
const FRAMES_OF_OWN: usize = 16;

/// How much of a chain is told, in characters. Longer ones begin with an ellipsis.
const LONGEST_CHAIN: usize = 160;

/// What a promise is, the line that made it, and its owner. The line's number is worked out
/// only when somebody asks.
pub(crate) struct Origin {
    label: Option<Box<str>>,
    /// The code, and the position of the instruction in it.
    place: Option<(Py<PyAny>, i32)>,
    /// The HTTP calls that the outcome is made of.
    pub(super) causes: Causes,
    /// What asyncio's functions want to be called when the promise is settled.
    pub(super) done_callbacks: DoneCallbacks,
    /// The request or the deadline that it was made in.
    scope: Option<Arc<Scope>>,
    /// The scope of what is done by the task that works for it.
    work: OnceLock<Arc<Scope>>,
    is_detached: AtomicBool,
    is_debug: bool,
}

impl Origin {
    /// The line of the application that runs now.
    pub(crate) fn here(py: Python<'_>, label: Option<&str>) -> Self {
        Self::new(py, label.map(Box::from))
    }

    /// The line that makes a promise from another one by a method. In debug mode the chain
    /// is remembered: `GET http://… → then(parse)`.
    pub(super) fn after(
        py: Python<'_>,
        source: &Self,
        method: &str,
        function: Option<&Bound<'_, PyAny>>,
    ) -> Self {
        let mut origin = Self::new(py, None);
        origin.is_detached = AtomicBool::new(source.is_detached());
        origin.causes.add(&source.causes);
        origin.label = Some(if origin.is_debug {
            source.chain(method, function)
        } else {
            method.into()
        });
        origin
    }

    fn new(py: Python<'_>, label: Option<Box<str>>) -> Self {
        let scope = scope_object::current(py).ok().flatten();
        Self {
            label,
            place: find_place(py).ok().flatten(),
            causes: Causes::new(),
            done_callbacks: DoneCallbacks::default(),
            is_debug: match &scope {
                Some(scope) => scope.is_debug(),
                None => names::is_development_mode(py),
            },
            scope,
            work: OnceLock::new(),
            is_detached: AtomicBool::new(false),
        }
    }

    fn chain(&self, method: &str, function: Option<&Bound<'_, PyAny>>) -> Box<str> {
        let name = function.and_then(|function| {
            let name = function.getattr(intern!(function.py(), "__name__")).ok()?;
            name.extract::<String>().ok()
        });
        let own = format!("{method}({})", name.as_deref().unwrap_or("…"));
        let before = self.label.as_deref().unwrap_or("promise");
        let characters = before.chars().count();
        if characters <= LONGEST_CHAIN {
            return format!("{before} → {own}").into();
        }
        let end: String = before.chars().skip(characters - LONGEST_CHAIN).collect();
        format!("…{end} → {own}").into()
    }

    /// The request or the deadline that the promise was made in.
    pub(super) fn scope(&self) -> Option<&Arc<Scope>> {
        self.scope.as_ref()
    }

    /// Notes the scope of the task that works for the promise.
    pub(super) fn set_work(&self, scope: Arc<Scope>) {
        self.work.set(scope).ok();
    }

    pub(super) fn work(&self) -> Option<&Arc<Scope>> {
        self.work.get()
    }

    /// Whether the promise may outlive its request.
    pub(super) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::Acquire)
    }

    pub(super) fn set_detached(&self) {
        self.is_detached.store(true, Ordering::Release);
    }

    /// In debug mode, adds a note to an exception that the promise is rejected with.
    pub(super) fn add_note(&self, py: Python<'_>, error: &PyErr) {
        if self.is_debug && error.is_instance_of::<PyException>(py) {
            let added = names::add_origin(py)
                .and_then(|add| add.call1((error.value(py), self.describe(py))));
            if let Err(error) = added {
                error.write_unraisable(py, None);
            }
        }
    }

    /// Says it for a person: `GET http://…, made at views.py:41 in home`.
    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        let place = self.place.as_ref().and_then(|(code, instruction)| {
            let describe = names::describe_place(py).ok()?;
            let place = describe.call1((code, instruction)).ok()?;
            place.extract::<String>().ok()
        });
        match (&self.label, place) {
            (Some(label), Some(place)) => format!("{label}, made at {place}"),
            (Some(label), None) => label.to_string(),
            (None, Some(place)) => format!("made at {place}"),
            (None, None) => "made by native code".to_owned(),
        }
    }
}

/// The nearest frame that is not of carboy itself.
fn find_place(py: Python<'_>) -> PyResult<Option<(Py<PyAny>, i32)>> {
    let folder = names::package_folder(py)?;
    let mut innermost = Frame::innermost(py);
    for _ in 0..FRAMES_OF_OWN {
        let Some(frame) = innermost else { break };
        let code = frame.code()?;
        let file = code.getattr(intern!(py, "co_filename"))?;
        let is_own = file
            .cast::<PyString>()
            .is_ok_and(|file| file.to_str().is_ok_and(|file| file.starts_with(folder)));
        if !is_own {
            return Ok(Some((code.into_any().unbind(), frame.instruction())));
        }
        innermost = frame.caller();
    }
    Ok(None)
}
