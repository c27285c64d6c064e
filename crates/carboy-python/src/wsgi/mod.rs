//! PEP 3333: the environ, the body as `wsgi.input`, `start_response`, and the run of a
//! WSGI application on a worker's thread.

mod environ;
mod input;
mod reply;
mod run;
mod start_response;

pub(crate) use environ::{EnvironSettings, RequestHead, build_environ};
pub(crate) use input::InputStream;
pub(crate) use reply::{Head, Responder};
pub(crate) use run::{close, deliver_complete, fail, serve_by, serve_wsgi};
pub(crate) use start_response::StartResponse;
