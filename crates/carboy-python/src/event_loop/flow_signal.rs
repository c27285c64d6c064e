//! Tells a protocol to pause or to resume writing.

use carboy_event_loop::transport::FlowSignal;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::NativeEventLoop;
use super::system_error::ends_the_loop;

/// Calls `pause_writing` or `resume_writing`. What they raise goes to the loop's handler.
///
/// # Errors
///
/// What ends the loop.
pub(crate) fn tell(
    event_loop: &Py<NativeEventLoop>,
    transport: &Bound<'_, PyAny>,
    protocol: Option<Bound<'_, PyAny>>,
    signal: FlowSignal,
) -> PyResult<()> {
    let py = transport.py();
    let Some(protocol) = protocol else {
        return Ok(());
    };
    let method = match signal {
        FlowSignal::Pause => "pause_writing",
        FlowSignal::Resume => "resume_writing",
    };
    match protocol.call_method0(method) {
        Ok(_) => Ok(()),
        Err(error) if ends_the_loop(py, &error) => Err(error),
        Err(error) => {
            let details = PyDict::new(py);
            details.set_item("message", format!("protocol.{method}() failed"))?;
            details.set_item("exception", error.into_value(py))?;
            details.set_item("transport", transport)?;
            details.set_item("protocol", protocol)?;
            let event_loop = event_loop.bind(py);
            event_loop.call_method1("call_exception_handler", (details,))?;
            Ok(())
        }
    }
}
