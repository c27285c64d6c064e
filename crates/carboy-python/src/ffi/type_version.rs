//! Whether a class was changed.
//!
//! CPython gives a class a new version tag whenever an attribute of it or of one of its
//! bases is set or deleted; its own method caches rely on it. Comparing the tag replaces
//! looking at many attributes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The class's version tag; 0 says that it has none at the moment.
pub(crate) fn version_tag(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: The pointer is to a live type object, whose tag is a plain integer that is
    // written under the GIL, which is held here.
    unsafe { (*class.as_type_ptr()).tp_version_tag }
}

/// The class's version tag, after a look-up that makes CPython give it one if it has none;
/// 0 if it can have none.
pub(crate) fn assigned_version_tag(class: &Bound<'_, PyType>) -> u32 {
    // Whatever comes of it, the look-up has gone through the cache that needs the tag.
    drop(class.getattr(intern!(class.py(), "__init__")));
    version_tag(class)
}
