//! Errors of the client as exceptions of `carboy.http`.

use carboy_client::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::names;

/// The exception for an error. It carries the request.
pub(super) fn exception(py: Python<'_>, error: &Error, request: &Py<PyAny>) -> PyErr {
    let made = names::http_exceptions(py).and_then(|module| {
        let class = module.getattr(class_name(error.kind()))?;
        class.call1((error.message(), request))
    });
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

fn class_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidUrl => "InvalidURL",
        ErrorKind::UnsupportedProtocol => "UnsupportedProtocol",
        ErrorKind::InvalidRequest => "LocalProtocolError",
        ErrorKind::ConnectTimeout => "ConnectTimeout",
        ErrorKind::ReadTimeout => "ReadTimeout",
        ErrorKind::WriteTimeout => "WriteTimeout",
        ErrorKind::PoolTimeout => "PoolTimeout",
        ErrorKind::TotalTimeout => "TotalTimeout",
        ErrorKind::Resolve => "ResolveError",
        ErrorKind::Connect => "ConnectError",
        ErrorKind::Tls => "TLSError",
        ErrorKind::Read => "ReadError",
        ErrorKind::Write => "WriteError",
        ErrorKind::RemoteProtocol => "RemoteProtocolError",
        ErrorKind::Proxy => "ProxyError",
        ErrorKind::Decoding => "DecodingError",
        ErrorKind::BodyTooLarge => "ContentTooLarge",
        ErrorKind::TooManyRedirects => "TooManyRedirects",
        ErrorKind::BodySource => "UploadError",
        ErrorKind::Closed => "ClientClosed",
    }
}
