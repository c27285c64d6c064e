//! Socket addresses in the form that Python's `socket` gives them.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketAddrV4, SocketAddrV6};

/// Whether Rust code knows the addresses of a family.
pub(crate) fn is_known(family: AddressFamily) -> bool {
    matches!(
        family,
        AddressFamily::INET | AddressFamily::INET6 | AddressFamily::UNIX
    )
}

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

/// An address as a system call has answered it; `None` where it has given none, as for a unix
/// socket without a name that sends a datagram.
pub(crate) fn of_answer<'py>(
    py: Python<'py>,
    address: Option<&SocketAddrAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match address {
        Some(address) => to_python(py, address),
        None => Ok(None),
    }
}

/// The address that Python means, for a socket of this family; `None` where finding out
/// takes more than reading it, such as a host's name, and for whatever Python refuses.
pub(crate) fn from_python(
    address: &Bound<'_, PyAny>,
    family: AddressFamily,
) -> Option<SocketAddrAny> {
    match family {
        AddressFamily::INET => {
            let (host, port) = address.cast::<PyTuple>().ok()?.extract().ok()?;
            let host: Ipv4Addr = str::parse(host).ok()?;
            Some(SocketAddrV4::new(host, port).into())
        }
        AddressFamily::INET6 => {
            let address = address.cast::<PyTuple>().ok()?;
            // The flow label and the scope may be left out.
            let (host, port, flow, scope): (&str, u16, u32, u32) = match address.len() {
                2 => {
                    let (host, port) = address.extract().ok()?;
                    (host, port, 0, 0)
                }
                3 => {
                    let (host, port, flow) = address.extract().ok()?;
                    (host, port, flow, 0)
                }
                _ => address.extract().ok()?,
            };
            let host: Ipv6Addr = host.parse().ok()?;
            // It has 20 bits, and the kernel keeps it in network order.
            let flow = (flow < 1 << 20).then_some(flow.to_be())?;
            Some(SocketAddrV6::new(host, port, flow, scope).into())
        }
        AddressFamily::UNIX => unix_from_python(address).map(Into::into),
        _ => None,
    }
}

fn unix_from_python(address: &Bound<'_, PyAny>) -> Option<SocketAddrUnix> {
    let path = match address.cast::<PyString>() {
        // Other text is encoded in the way of the file system.
        Ok(text) => text
            .to_str()
            .ok()
            .filter(|text| text.is_ascii())?
            .as_bytes(),
        Err(_) => address.cast::<PyBytes>().ok()?.as_bytes(),
    };
    match path.split_first()? {
        (0, name) => SocketAddrUnix::new_abstract_name(name).ok(),
        _ => SocketAddrUnix::new(path).ok(),
    }
}
