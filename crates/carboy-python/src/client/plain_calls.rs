//! The calls of a session that say nothing but a method and a URL, without a frame of Python code.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::call_template::CallTemplate;

/// What a session's plain calls need, and how often settings, headers and cookies had been changed
/// when it was made.
struct Prepared {
    template: Py<CallTemplate>,
    changes: u64,
    headers_changes: u64,
    cookies_changes: u64,
}

/// The base class of ``Session``.
#[pyclass(frozen, subclass, module = "carboy._carboy")]
pub(crate) struct PlainCalls {
    prepared: Mutex<Option<Prepared>>,
    /// How often a setting was changed.
    changes: AtomicU64,
}

#[pymethods]
impl PlainCalls {
    #[new]
    #[pyo3(signature = (*_arguments, **_options))]
    fn new(_arguments: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            prepared: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Without arguments: so ``copy.copy`` can make another one.
    fn __getnewargs__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyTuple> {
        PyTuple::empty(slf.py())
    }

    /// Begin a GET; see ``request``.
    #[pyo3(signature = (url, **options))]
    fn get(
        slf: &Bound<'_, Self>,
        url: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        begin(slf, intern!(slf.py(), "GET"), url, options)
    }

    /// Begin a HEAD; see ``request``.
    #[pyo3(signature = (url, **options))]
    fn head(
        slf: &Bound<'_, Self>,
        url: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        begin(slf, intern!(slf.py(), "HEAD"), url, options)
    }

    /// Begin a DELETE; see ``request``.
    #[pyo3(signature = (url, **options))]
    fn delete(
        slf: &Bound<'_, Self>,
        url: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        begin(slf, intern!(slf.py(), "DELETE"), url, options)
    }

    /// Notes that a setting was changed.
    fn _note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts the changes of settings, headers and cookies.
    fn _count_changes(slf: &Bound<'_, Self>) -> PyResult<(u64, u64, u64)> {
        count_changes(slf)
    }

    /// Keeps a template for later calls, which was made when there had been so many changes.
    fn _keep_template(&self, template: Py<CallTemplate>, changes: (u64, u64, u64)) {
        let (changes, headers_changes, cookies_changes) = changes;
        let kept = Prepared {
            template,
            changes,
            headers_changes,
            cookies_changes,
        };
        let before = self.lock().replace(kept);
        // Not while it is locked: this may run any code.
        drop(before);
    }
}

impl PlainCalls {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_changes(slf: &Bound<'_, PlainCalls>) -> PyResult<(u64, u64, u64)> {
    let py = slf.py();
    let changes = intern!(py, "changes");
    let of = |name| slf.getattr(name)?.getattr(changes)?.extract::<u64>();
    Ok((
        slf.get().changes.load(Ordering::Acquire),
        of(intern!(py, "headers"))?,
        of(intern!(py, "cookies"))?,
    ))
}

/// Begins a call, by the template if that is all it takes.
fn begin(
    slf: &Bound<'_, PlainCalls>,
    method: &Bound<'_, PyString>,
    url: &Bound<'_, PyAny>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    if options.is_some_and(|options| !options.is_empty()) {
        let request = slf.getattr(intern!(py, "request"))?;
        return request.call((method, url), options).map(Bound::unbind);
    }
    if let Some(template) = prepared(slf)?
        && let Some(promise) = CallTemplate::begin(template.bind(py), method, url)?
    {
        return Ok(promise.into_any());
    }
    slf.call_method1(intern!(py, "_begin"), (method, url))
        .map(Bound::unbind)
}

/// The template, unless something has changed since it was made.
fn prepared(slf: &Bound<'_, PlainCalls>) -> PyResult<Option<Py<CallTemplate>>> {
    let py = slf.py();
    if slf.getattr(intern!(py, "hooks"))?.is_truthy()? {
        return Ok(None);
    }
    let now = count_changes(slf)?;
    let prepared = slf.get().lock();
    Ok(prepared.as_ref().and_then(|prepared| {
        let made_at = (
            prepared.changes,
            prepared.headers_changes,
            prepared.cookies_changes,
        );
        (made_at == now).then(|| prepared.template.clone_ref(py))
    }))
}
