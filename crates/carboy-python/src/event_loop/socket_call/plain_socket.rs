//! Python sockets whose system calls can be made without Python's help.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use rustix::net::AddressFamily;

use crate::event_loop::socket_address;
use crate::event_loop::socket_owner::SocketKind;
use crate::names;

/// The descriptor of a `socket.socket`; `None` for a socket of another class, whose methods
/// may do more than a system call, and for a closed one.
pub(super) fn descriptor_of(socket: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let py = socket.py();
    if !socket.get_type().is(names::socket(py)?) {
        return Ok(None);
    }
    let number: RawFd = number_of(socket)?;
    Ok((number >= 0).then_some(number))
}

/// The number that any socket says it has.
pub(super) fn number_of(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    socket
        .call_method0(pyo3::intern!(socket.py(), "fileno"))?
        .extract()
}

/// Whether calls on the socket return at once, whatever they are.
pub(super) fn is_non_blocking(socket: &Bound<'_, PyAny>) -> PyResult<bool> {
    let timeout = socket.call_method0(pyo3::intern!(socket.py(), "gettimeout"))?;
    // A socket that waits for ever has None.
    Ok(timeout.extract::<f64>().is_ok_and(|seconds| seconds == 0.0))
}

/// The family, if Rust code knows its addresses. For a `socket.socket`.
pub(super) fn known_family(socket: &Bound<'_, PyAny>) -> PyResult<Option<AddressFamily>> {
    let family = plain_number(socket, "family")?;
    let family = u16::try_from(family).ok().map(AddressFamily::from_raw);
    Ok(family.filter(|family| socket_address::is_known(*family)))
}

/// Family, type and protocol. For a `socket.socket`.
pub(super) fn kind_of(socket: &Bound<'_, PyAny>) -> PyResult<SocketKind> {
    Ok(SocketKind {
        family: plain_number(socket, "family")?,
        kind: plain_number(socket, "type")?,
        protocol: plain_number(socket, "proto")?,
    })
}

/// One of the numbers that the base class has, where `socket.socket` makes members of
/// enumerations of them.
fn plain_number(socket: &Bound<'_, PyAny>, name: &str) -> PyResult<i32> {
    names::plain_socket(socket.py())?
        .getattr(name)?
        .call_method1("__get__", (socket,))?
        .extract()
}
