//! Serves a request of a `def` view on a worker's thread, where nothing but the view is the
//! application's own: in contexts that are made natively, with the answer made natively if it
//! is a plain value. Everything else is done by Flask's own methods, on the same thread.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::exchange::note_first_request;
use super::rest_on_worker::finish_in_context;
use super::{DispatchPlan, RequestContextBase, RequestSource, Route};
use crate::wsgi::{InputStream, RequestHead, Responder, fail, serve_wsgi};

/// What a view did: what it returned, or the exception that it raised.
enum Outcome<'py> {
    Returned(Bound<'py, PyAny>),
    Raised(Py<PyAny>),
}

impl Outcome<'_> {
    /// The arguments `stage` and `value` of `carboy.flask.pipeline.finish`.
    fn into_stage(self) -> (&'static str, Py<PyAny>) {
        match self {
            Self::Returned(value) => ("value", value.unbind()),
            Self::Raised(error) => ("error", error),
        }
    }
}

/// Flask's context and what is left to do: see `carboy.flask.pipeline.finish`.
type Rest = (Py<PyAny>, (&'static str, Py<PyAny>));

/// Pushes the contexts of a request, if they can be made natively.
///
/// # Errors
///
/// The source, if they can't, or if a guard raises: Flask's own path will tell.
fn push(
    plan: &DispatchPlan,
    application: &Bound<'_, PyAny>,
    source: RequestSource,
    route: &Route,
) -> Result<PyResult<Py<RequestContextBase>>, RequestSource> {
    match plan.contexts() {
        Some(contexts) if contexts.applies_to(application, &source).unwrap_or(false) => {
            Ok(contexts.push(application, source, route))
        }
        _ => Err(source),
    }
}

fn call_view<'py>(application: &Bound<'py, PyAny>, route: &Route) -> Outcome<'py> {
    let py = application.py();
    match note_first_request(application).and_then(|()| route.call_view(py)) {
        Ok(value) => Outcome::Returned(value),
        Err(error) => Outcome::Raised(error.into_value(py).into_any()),
    }
}

/// Serves a request on the calling worker, in the request's context.
pub(crate) fn serve_view(
    plan: &DispatchPlan,
    application: &Bound<'_, PyAny>,
    head: Arc<RequestHead>,
    input: &Py<InputStream>,
    route: &Route,
    mut responder: Responder,
) -> PyResult<()> {
    let py = application.py();
    let source = RequestSource::Arriving(head, input.clone_ref(py));
    let pushed = match push(plan, application, source, route) {
        Ok(pushed) => pushed?,
        Err(source) => {
            let environ = source.environ(py)?;
            serve_wsgi(py, application, &environ, responder);
            return Ok(());
        }
    };
    let outcome = call_view(application, route);
    if let Outcome::Returned(value) = &outcome
        && finish_plainly(plan, pushed.get(), route, value, &mut responder).unwrap_or(false)
    {
        return Ok(());
    }
    let environ = match pushed.get().environ(py) {
        Ok(environ) => environ,
        Err(error) => {
            fail(py, &PyDict::new(py), error, &mut responder);
            return Ok(());
        }
    };
    let (stage, value) = outcome.into_stage();
    let application = application.clone().unbind();
    let flask_context = Some(pushed.into_any());
    let arguments = (application, flask_context, &environ, stage, value);
    finish_in_context(py, arguments, responder);
    Ok(())
}

/// Answers with a plain value, if nobody gets to see more of it than its bytes.
fn finish_plainly(
    plan: &DispatchPlan,
    pushed: &RequestContextBase,
    route: &Route,
    value: &Bound<'_, PyAny>,
    responder: &mut Responder,
) -> PyResult<bool> {
    let py = value.py();
    if pushed.has_after_request_functions(py)? || !plan.may_finish_natively(py, route, value)? {
        return Ok(false);
    }
    plan.finish_plainly(pushed, value, |head, content| {
        responder.send_whole(head, content);
    })
}

/// Calls the view for a request of a test client, on the calling thread and in its context.
///
/// Returns none if Flask has to serve it.
pub(crate) fn call_view_in_process(
    plan: &DispatchPlan,
    environ: &Bound<'_, PyDict>,
    route: &Route,
) -> PyResult<Option<Rest>> {
    let py = environ.py();
    let application = plan.application(py)?;
    let source = RequestSource::Environ(environ.clone().unbind());
    let Ok(pushed) = push(plan, &application, source, route) else {
        return Ok(None);
    };
    let pushed = pushed?.into_any();
    Ok(Some((pushed, call_view(&application, route).into_stage())))
}
