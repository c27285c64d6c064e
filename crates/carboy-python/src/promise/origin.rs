//! Where in the application a promise was made.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::causes::Causes;
use crate::ffi::frame::Frame;
use crate::names;

/// How many frames of carboy's own are passed over at most.
const FRAMES_OF_OWN: usize = 16;

/// What a promise is, and the line that made it. The line's number is worked out only when
/// somebody asks.
pub(crate) struct Origin {
    label: Option<Box<str>>,
    /// The code, and the position of the instruction in it.
    place: Option<(Py<PyAny>, i32)>,
    /// The HTTP calls that the outcome is made of.
    pub(super) causes: Causes,
}

impl Origin {
    /// The line of the application that runs now.
    pub(crate) fn here(py: Python<'_>, label: Option<&str>) -> Self {
        Self {
            label: label.map(Box::from),
            place: find_place(py).ok().flatten(),
            causes: Causes::new(),
        }
    }

    /// Says it for a person: `GET http://… (views.py:41 in home)`.
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
