//! The extension module `carboy._carboy`: binds the pure crates to Python.
//!
//! This file only lists what is exported; each room has its folder.

use pyo3::prelude::*;

mod attach;
mod cancellation;
mod client;
mod event_loop;
mod ffi;
mod flask;
mod names;
mod promise;
mod runtime;
mod server;
mod worker;
mod wsgi;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of carboy.
#[pymodule(name = "_carboy", gil_used = true)]
mod carboy_module {
    #[pymodule_export]
    use super::client::{
        BlockingCall, CallTemplate, ContentStream, CookieJar, EventStream, HttpAuthentication,
        HttpClient, OriginalParts, PlainCalls, PlainResponse, ResponseData, Transport, Upload,
        UploadSource, forget_blocking_thread, names_a_proxy, url_for_display,
    };
    #[pymodule_export]
    use super::event_loop::{
        DatagramTransport, Handle, NativeEventLoop, StreamTransport, TimerHandle, TlsProtocol,
        TlsTransport,
    };
    #[pymodule_export]
    use super::flask::{AppContextBase, Exchange, RequestContextBase};
    #[pymodule_export]
    use super::promise::{
        Promise, PromiseAwaiter, PromiseResolver, PromiseScope, call_on_own_stack,
        detached_promises, find_request_scope, holds_promises, keep_causes,
    };
    #[pymodule_export]
    use super::server::{InProcessDispatcher, NativeServer, raise_descriptor_limit};
    #[pymodule_export]
    use super::worker::{Slot, WorkerPool, add_home_loop, await_on_loop, awaits, remove_home_loop};
    #[pymodule_export]
    use super::wsgi::{InputStream, StartResponse};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::event_loop::install(module.py())
    }
}
