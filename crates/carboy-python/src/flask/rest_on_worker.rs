//! The rest of a request on a worker, in the request's context, by Flask's own methods: what comes
//! after its view.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict};

use crate::ffi::context;
use crate::names;
use crate::promise::end_scope_of_request;
use crate::worker::{enter_again, with_request_input};
use crate::wsgi::{InputStream, Responder, fail, serve_by};

/// The application, Flask's context, the environ, and what is left to do: the arguments of
/// `carboy.flask.pipeline.finish`.
pub(super) type FinishArguments<'py> = (
    Py<PyAny>,
    Option<Py<PyAny>>,
    &'py Bound<'py, PyDict>,
    &'static str,
    Py<PyAny>,
);

/// Does the rest of a request that has begun on the loop, and ends its scope.
pub(super) fn finish_on_worker(
    py: Python<'_>,
    context: &Bound<'_, PyContext>,
    arguments: FinishArguments<'_>,
    mut responder: Responder,
) {
    // The application may have put something of its own into this very context, which is in
    // it for the length of a step.
    if let Err(error) = enter_again(context) {
        return fail(py, arguments.2, error, &mut responder);
    }
    // The request's own, by which the server knows what it serves here.
    let input = arguments.2.get_item(intern!(py, "wsgi.input"));
    let input = input.ok().flatten();
    let input = input.and_then(|input| input.cast_into::<InputStream>().ok());
    let finish = || finish_in_context(py, arguments, responder);
    match input {
        Some(input) => with_request_input(py, &input.unbind(), finish),
        None => finish(),
    }
    end_scope_of_request(py);
    if let Err(error) = context::exit(context) {
        error.write_unraisable(py, None);
    }
}

/// Does the rest of a request whose context is entered.
pub(super) fn finish_in_context(
    py: Python<'_>,
    (application, flask_context, environ, stage, value): FinishArguments<'_>,
    responder: Responder,
) {
    serve_by(py, environ, responder, |start_response| {
        let arguments = (
            application,
            flask_context,
            environ,
            stage,
            value,
            start_response,
        );
        names::finish(py)?.call1(arguments)
    });
}
