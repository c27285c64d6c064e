//! Promises within what a view returns.
//!
//! As long as no promise exists in the process, nothing is searched.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::object::Promise;
use crate::names;

/// How deep containers are searched: as deep as JSON of people's making gets.
const DEEPEST_CONTAINER: usize = 32;

/// How many `Promise` objects exist.
static PROMISES: AtomicUsize = AtomicUsize::new(0);

/// Counts one `Promise` object, as long as it exists.
pub(super) struct Counted;

impl Counted {
    pub(super) fn new() -> Self {
        PROMISES.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        PROMISES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether something is a promise, or a dict, list or tuple with one somewhere in it, or of a class
/// that is derived from those.
#[pyfunction]
pub(crate) fn holds_promises(value: &Bound<'_, PyAny>) -> bool {
    PROMISES.load(Ordering::Relaxed) > 0 && search(value, 0)
}

fn search(value: &Bound<'_, PyAny>, depth: usize) -> bool {
    if depth > DEEPEST_CONTAINER {
        return false;
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        return dict.iter().any(|(_, value)| search(&value, depth + 1));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().any(|value| search(&value, depth + 1));
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return tuple.iter().any(|value| search(&value, depth + 1));
    }
    value.is_exact_instance_of::<Promise>()
}

/// The promise of what a view has returned, if there are promises in it.
pub(crate) fn promise_of_value<'py>(
    value: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !holds_promises(value) {
        return Ok(None);
    }
    names::promise_of_all_within(value.py())?
        .call1((value,))
        .map(Some)
}
