//! The extension module `carboy._carboy`: binds the pure crates to Python.
//!
//! This file only lists what is exported; each room has its folder.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

mod attach;
mod cancellation;
mod client;
mod ending;
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
fn carboy_module(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // Before anything is made: the classes are one for the process, and so is what is kept of
    // Python's. CPython itself refuses only sub-interpreters with a GIL of their own.
    if !ffi::interpreter::is_main(py) {
        return Err(PyImportError::new_err(
            "carboy can't be imported in a sub-interpreter: import it in the main interpreter \
             (with mod_wsgi: WSGIApplicationGroup %{GLOBAL})",
        ));
    }
    module.add_class::<client::BlockingCall>()?;
    module.add_class::<client::CallTemplate>()?;
    module.add_class::<client::ContentStream>()?;
    module.add_class::<client::CookieJar>()?;
    module.add_class::<client::EventStream>()?;
    module.add_class::<client::HttpAuthentication>()?;
    module.add_class::<client::HttpClient>()?;
    module.add_class::<client::OriginalParts>()?;
    module.add_class::<client::PlainCalls>()?;
    module.add_class::<client::PlainResponse>()?;
    module.add_class::<client::ResponseData>()?;
    module.add_class::<client::Transport>()?;
    module.add_class::<client::Upload>()?;
    module.add_class::<client::UploadSource>()?;
    module.add_function(wrap_pyfunction!(client::forget_blocking_thread, module)?)?;
    module.add_function(wrap_pyfunction!(client::names_a_proxy, module)?)?;
    module.add_function(wrap_pyfunction!(client::url_for_display, module)?)?;
    module.add_function(wrap_pyfunction!(ending::note_end_of_process, module)?)?;
    module.add_class::<event_loop::DatagramTransport>()?;
    module.add_class::<event_loop::Handle>()?;
    module.add_class::<event_loop::NativeEventLoop>()?;
    module.add_class::<event_loop::StreamTransport>()?;
    module.add_class::<event_loop::TimerHandle>()?;
    module.add_class::<event_loop::TlsProtocol>()?;
    module.add_class::<event_loop::TlsTransport>()?;
    module.add_class::<flask::AppContextBase>()?;
    module.add_class::<flask::Exchange>()?;
    module.add_class::<flask::RequestContextBase>()?;
    module.add_class::<promise::Promise>()?;
    module.add_class::<promise::PromiseAwaiter>()?;
    module.add_class::<promise::PromiseResolver>()?;
    module.add_class::<promise::PromiseScope>()?;
    module.add_function(wrap_pyfunction!(promise::call_on_own_stack, module)?)?;
    module.add_function(wrap_pyfunction!(promise::detached_promises, module)?)?;
    module.add_function(wrap_pyfunction!(promise::find_request_scope, module)?)?;
    module.add_function(wrap_pyfunction!(promise::holds_promises, module)?)?;
    module.add_function(wrap_pyfunction!(promise::keep_causes, module)?)?;
    module.add_class::<server::InProcessDispatcher>()?;
    module.add_class::<server::NativeServer>()?;
    module.add_function(wrap_pyfunction!(server::raise_descriptor_limit, module)?)?;
    module.add_class::<worker::Slot>()?;
    module.add_class::<worker::WorkerPool>()?;
    module.add_function(wrap_pyfunction!(worker::add_home_loop, module)?)?;
    module.add_function(wrap_pyfunction!(worker::await_on_loop, module)?)?;
    module.add_function(wrap_pyfunction!(worker::awaits, module)?)?;
    module.add_function(wrap_pyfunction!(worker::remove_home_loop, module)?)?;
    module.add_class::<wsgi::InputStream>()?;
    module.add_class::<wsgi::StartResponse>()?;
    event_loop::install(py)
}
