//! All of a response's content, as it is kept for Python.

use bytes::Bytes;
use carboy_client::Content;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ffi::attached_cell::AttachedCell;
use crate::ffi::buffer::{copy_to_start, new_bytes};

/// Content, kept once: as it came until Python asks for its object, and as that from then on.
pub(super) struct WholeContent {
    kept: AttachedCell<Kept>,
}

enum Kept {
    Content(Content),
    Object(Py<PyBytes>),
}

/// Content for who reads it here.
pub(super) enum Readable {
    Piece(Bytes),
    Object(Py<PyBytes>),
}

impl WholeContent {
    pub(super) const fn new(content: Content) -> Self {
        Self {
            kept: AttachedCell::new(Kept::Content(content)),
        }
    }

    /// The content as a bytes object, always the same.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let content = self.kept.with(py, |kept| match kept {
            Kept::Content(content) => Ok(content.clone()),
            Kept::Object(object) => Err(object.clone_ref(py)),
        });
        let content = match content {
            Ok(content) => content,
            Err(object) => return Ok(object.into_bound(py)),
        };
        let object = joined(py, content.pieces())?;
        let made = Kept::Object(object.clone().unbind());
        let before = self.kept.with(py, |kept| std::mem::replace(kept, made));
        // Outside of the cell, and only now: it may be the last reference.
        drop(before);
        Ok(object)
    }

    /// The content where it lies; only that of several pieces becomes an object.
    pub(super) fn read(&self, py: Python<'_>) -> PyResult<Readable> {
        let piece = self.kept.with(py, |kept| match kept {
            Kept::Content(content) => content.as_piece().cloned(),
            Kept::Object(_) => None,
        });
        Ok(match piece {
            Some(piece) => Readable::Piece(piece),
            None => Readable::Object(self.object(py)?.unbind()),
        })
    }
}

impl Readable {
    pub(super) fn as_bytes(&self, py: Python<'_>) -> &[u8] {
        match self {
            Self::Piece(piece) => piece,
            Self::Object(object) => object.as_bytes(py),
        }
    }
}

/// Pieces of content as one bytes object, copied once.
///
/// # Errors
///
/// `MemoryError`.
pub(super) fn joined<'py, 'piece>(
    py: Python<'py>,
    pieces: impl Iterator<Item = &'piece Bytes> + Clone,
) -> PyResult<Bound<'py, PyBytes>> {
    let size = pieces.clone().map(Bytes::len).sum();
    let joined = new_bytes(py, size, |mut free| {
        for piece in pieces {
            free = copy_to_start(free, piece);
        }
        Ok(size)
    })?;
    Ok(joined?)
}
