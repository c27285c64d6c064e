//! Socket addresses in the form that Python's `socket` gives them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketAddrV4, SocketAddrV6};

/// An address as `socket.getsockname()` returns it; `None` for a family that Rust code
/// does not know.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    address: &SocketAddrAny,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let object = match address.address_family() {
        AddressFamily::INET => {
            let Ok(address) = SocketAddrV4::try_from(address.clone()) else {
                return Ok(None);
            };
            (address.ip().to_string(), address.port()).into_bound_py_any(py)?
        }
        AddressFamily::INET6 => {
            let Ok(address) = SocketAddrV6::try_from(address.clone()) else {
                return Ok(None);
            };
            let (host, port) = (address.ip().to_string(), address.port());
            // The kernel keeps the flow label in network order.
            let flow = u32::from_be(address.flowinfo());
            (host, port, flow, address.scope_id()).into_bound_py_any(py)?
        }
        AddressFamily::UNIX => {
            let Ok(address) = SocketAddrUnix::try_from(address.clone()) else {
                return Ok(None);
            };
            // An address without a name looks like an abstract one whose name is empty.
            if let Some(name) = address.abstract_name().filter(|name| !name.is_empty()) {
                let name = [b"\0", name].concat();
                PyBytes::new(py, &name).into_any()
            } else {
                let path = address.path_bytes().unwrap_or_default();
                OsStr::from_bytes(path).into_bound_py_any(py)?
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(object))
}
