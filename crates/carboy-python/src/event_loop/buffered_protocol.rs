//! Which protocols fill a buffer of their own.

use pyo3::intern;
use pyo3::prelude::*;

use crate::names;

/// Whether a protocol is to be asked for a buffer: an `asyncio.BufferedProtocol`, or one that
/// has the methods of that and could not be told of data in another way, as with uvloop.
pub(crate) fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = protocol.py();
    Ok(protocol.is_instance(names::buffered_protocol(py)?)?
        || !protocol.hasattr(intern!(py, "data_received"))?
            && protocol.hasattr(intern!(py, "get_buffer"))?
            && protocol.hasattr(intern!(py, "buffer_updated"))?)
}
