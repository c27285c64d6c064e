//! Whether a dict was changed.
//!
//! CPython 3.11 gives each state of each dict a number of its own (PEP 509). CPython 3.12
//! calls a function when a watched dict changes (`PyDict_Watch`). Comparing replaces looking
//! at many attributes.
//!
//! CPython 3.13 keeps an object's attributes beside its dict, and sets them there without
//! telling a watcher: there it can't be told.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A state of a dict: equal to another only if it is the same dict, and nothing was set or
/// deleted in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DictVersion {
    address: usize,
    number: u64,
}

/// The present state of a dict, or none where CPython can't tell.
pub(crate) fn dict_version(dict: &Bound<'_, PyDict>) -> Option<DictVersion> {
    Some(DictVersion {
        address: dict.as_ptr().addr(),
        number: number(dict)?,
    })
}

#[cfg(not(Py_3_12))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "later versions of CPython may have none"
)]
fn number(dict: &Bound<'_, PyDict>) -> Option<u64> {
    use pyo3::ffi;

    let dict = dict.as_ptr().cast::<ffi::PyDictObject>();
    // SAFETY: The pointer is to a live dict, whose number is written under the GIL, which is
    // held here.
    Some(unsafe { (*dict).ma_version_tag })
}

#[cfg(Py_3_13)]
fn number(_dict: &Bound<'_, PyDict>) -> Option<u64> {
    None
}

#[cfg(all(Py_3_12, not(Py_3_13)))]
fn number(dict: &Bound<'_, PyDict>) -> Option<u64> {
    watcher::changes(dict)
}

#[cfg(all(Py_3_12, not(Py_3_13)))]
mod watcher {
    use std::ffi::c_int;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use pyo3::ffi::{self, PyObject};
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    /// Changes of all watched dicts together. A dict that is freed changes too, so that its
    /// address is not taken for the same dict again.
    static CHANGES: AtomicU64 = AtomicU64::new(0);

    type WatchCallback = extern "C" fn(c_int, *mut PyObject, *mut PyObject, *mut PyObject) -> c_int;

    // SAFETY: As CPython's header declares it (Include/cpython/dictobject.h); PyO3 leaves it out.
    unsafe extern "C" {
        fn PyDict_AddWatcher(callback: WatchCallback) -> c_int;
    }

    extern "C" fn count_change(
        _event: c_int,
        _dict: *mut PyObject,
        _key: *mut PyObject,
        _value: *mut PyObject,
    ) -> c_int {
        CHANGES.fetch_add(1, Ordering::Release);
        0
    }

    /// The number of the watcher, or none if others have taken all that there are.
    fn watcher(py: Python<'_>) -> Option<c_int> {
        static WATCHER: OnceLock<Option<c_int>> = OnceLock::new();
        *WATCHER.get_or_init(|| {
            // SAFETY: The interpreter is attached, and the function, which touches nothing
            // but a counter, lives as long as the process.
            let number = unsafe { PyDict_AddWatcher(count_change) };
            if number < 0 {
                drop(PyErr::take(py));
                return None;
            }
            Some(number)
        })
    }

    pub(super) fn changes(dict: &Bound<'_, PyDict>) -> Option<u64> {
        let watcher = watcher(dict.py())?;
        // SAFETY: The watcher is ours, and the object is a live dict. To watch one again
        // does nothing.
        if unsafe { ffi::PyDict_Watch(watcher, dict.as_ptr()) } != 0 {
            drop(PyErr::take(dict.py()));
            return None;
        }
        Some(CHANGES.load(Ordering::Acquire))
    }
}
