//! Which HTTP calls an outcome was made of, for a look at what waits for what.
//!
//! It is known only while calls are kept (`src/carboy/http/timeline.py`): else a promise pays
//! for a look at a flag.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use crate::names;

/// Whether calls are kept.
static ARE_KEPT: AtomicBool = AtomicBool::new(false);

/// What one promise's outcome is made of.
#[derive(Default)]
pub(super) struct Causes(Option<Arc<Node>>);

#[derive(Default)]
struct Node {
    /// A weak reference to the call that has the outcome.
    call: Mutex<Option<Py<PyAny>>>,
    /// What other promises contribute.
    sources: Mutex<Vec<Arc<Node>>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // One after the other: a chain may be longer than the stack is deep.
        let sources = self.sources.get_mut();
        let mut open = std::mem::take(sources.unwrap_or_else(PoisonError::into_inner));
        while let Some(node) = open.pop() {
            if let Some(mut last) = Arc::into_inner(node) {
                let sources = last.sources.get_mut();
                open.append(sources.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

impl Causes {
    pub(super) fn new() -> Self {
        Self(ARE_KEPT.load(Ordering::Relaxed).then(Arc::default))
    }

    pub(super) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Another promise contributes to the outcome.
    pub(super) fn add(&self, source: &Self) {
        if let (Some(node), Some(source)) = (&self.0, &source.0) {
            let mut sources = node.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.push(Arc::clone(source));
        }
    }

    /// The outcome is that of a call.
    pub(super) fn set_call(&self, call: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(node) = &self.0
            && !call.is_none()
        {
            let reference = names::weak_reference(call.py())?.call1((call,))?;
            let mut place = node.call.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(reference.unbind());
        }
        Ok(())
    }

    /// The outcome is made of these calls too.
    pub(super) fn add_calls(&self, calls: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        for call in calls {
            let source = Self::new();
            source.set_call(&call)?;
            self.add(&source);
        }
        Ok(())
    }

    /// Lets the code that has the outcome from now on, and what it will call in this context,
    /// be known to depend on the calls.
    pub(super) fn become_known(&self, py: Python<'_>) {
        let Some(node) = &self.0 else {
            return;
        };
        let noted = nearest_calls(py, node).and_then(|calls| {
            if calls.is_empty() {
                return Ok(());
            }
            names::note_known_calls(py)?.call1((calls,)).map(drop)
        });
        if let Err(error) = noted {
            error.write_unraisable(py, None);
        }
    }
}

/// The calls that are reached without passing another one. They are noted as what the node is
/// made of, so that who goes on from there finds them at once, however long the way was.
fn nearest_calls(py: Python<'_>, from: &Arc<Node>) -> PyResult<Vec<Py<PyAny>>> {
    let mut calls = Vec::new();
    let mut nearest = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![Arc::clone(from)];
    while let Some(node) = open.pop() {
        if !seen.insert(Arc::as_ptr(&node).addr()) {
            continue;
        }
        let reference = {
            let call = node.call.lock().unwrap_or_else(PoisonError::into_inner);
            call.as_ref().map(|call| call.clone_ref(py))
        };
        if let Some(reference) = reference {
            let call = reference.call0(py)?;
            if !call.is_none(py) {
                calls.push(call);
                nearest.push(node);
            }
        } else {
            let sources = node.sources.lock().unwrap_or_else(PoisonError::into_inner);
            open.extend(sources.iter().map(Arc::clone));
        }
    }
    if nearest.iter().all(|node| !Arc::ptr_eq(node, from)) {
        let passed = {
            let mut sources = from.sources.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *sources, nearest)
        };
        drop(passed);
    }
    Ok(calls)
}

/// Begins to note, for each promise, which calls its outcome is made of.
#[pyfunction]
pub(crate) fn keep_causes() {
    ARE_KEPT.store(true, Ordering::Relaxed);
}
