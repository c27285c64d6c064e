//! Serving a WSGI application: over connections with `carboy-server`, or called by a
//! thread of the same process.

mod application;
mod in_process;
mod native_server;

pub(crate) use in_process::InProcessDispatcher;
pub(crate) use native_server::{NativeServer, raise_descriptor_limit};
