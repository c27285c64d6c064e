//! Serves requests that a thread of this process makes, by the rules for connections: what
//! test clients do. The calling thread stands for the worker.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyString};

use crate::event_loop::NativeEventLoop;
use crate::ffi::thread_state;
use crate::flask::{
    DispatchPlan, Placement, Reason, RequestSource, Route, RouteQuery, Sink, call_view_in_process,
    start_on_loop_thread,
};
use crate::worker::{Slot, post_to_loop, wait_for_loop};

/// Dispatches requests of an application that are given as an environ.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct InProcessDispatcher {
    plan: Arc<DispatchPlan>,
}

impl InProcessDispatcher {
    fn place(&self, environ: &Bound<'_, PyDict>) -> PyResult<Placement> {
        let py = environ.py();
        let text = |key: &Bound<'_, PyString>| -> PyResult<String> {
            environ
                .get_item(key)?
                .map_or_else(|| Ok(String::new()), |value| value.extract())
        };
        if environ.contains(intern!(py, "HTTP_UPGRADE"))? {
            return Ok(Placement::OnWorker(Reason::Upgrade, None));
        }
        let method = text(intern!(py, "REQUEST_METHOD"))?;
        let path = text(intern!(py, "PATH_INFO"))?;
        let host = text(intern!(py, "HTTP_HOST"))?;
        // PEP 3333: each character of the path stands for one byte.
        let path: Result<Vec<u8>, _> = path
            .chars()
            .map(|character| u8::try_from(u32::from(character)))
            .collect();
        let path = path.ok().and_then(|path| String::from_utf8(path).ok());
        let query = RouteQuery::new(&method, path.as_deref(), host.as_bytes());
        Ok(self.plan.place(py, &query))
    }
}

#[pymethods]
impl InProcessDispatcher {
    #[new]
    fn new(application: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            plan: Arc::new(DispatchPlan::new(application)?),
        })
    }

    /// Serves a request up to the end of its view, in the caller's context: on the loop, or
    /// on the calling thread.
    ///
    /// Returns None when Flask is to serve it whole on the calling thread, else whether the
    /// view ran on the loop, Flask's context, and what is left to do: see
    /// `carboy.flask.pipeline.finish`.
    fn dispatch(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, NativeEventLoop>,
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<Option<Py<PyAny>>> {
        // On the loop's own thread, inside a view, nothing may wait for the loop.
        if thread_state::is_driving() {
            return Ok(None);
        }
        let route = match self.place(environ)? {
            Placement::OnLoop(route) => route,
            Placement::OnWorker(reason, route) => {
                self.plan.count_on_worker(reason);
                let called = match route {
                    Some(route) => call_view_in_process(&self.plan, environ, &route)?,
                    None => None,
                };
                return called
                    .map(|(context, rest)| served(py, false, context, rest))
                    .transpose();
            }
        };
        self.plan.count_on_loop();
        let plan = Arc::clone(&self.plan);
        let environ = environ.clone().unbind();
        let outcome = wait_for_loop(py, |slot, context| {
            let (slot, context) = (slot.clone().unbind(), context.clone().unbind());
            let home = event_loop.clone().unbind();
            let action = Box::new(move |py: Python<'_>| {
                start(py, home, &plan, environ, route, context, slot);
            });
            post_to_loop(event_loop, action)
        })?;
        let (context, rest): (Py<PyAny>, Py<PyAny>) = outcome.extract(py)?;
        served(py, true, context, rest).map(Some)
    }

    /// Where requests were served, and why: counts by name.
    fn eligibility(&self) -> Vec<(&'static str, u64)> {
        self.plan.counts()
    }
}

fn served<'py>(
    py: Python<'py>,
    was_on_loop: bool,
    context: Py<PyAny>,
    rest: impl IntoPyObject<'py>,
) -> PyResult<Py<PyAny>> {
    Ok((was_on_loop, context, rest)
        .into_pyobject(py)?
        .into_any()
        .unbind())
}

fn start(
    py: Python<'_>,
    event_loop: Py<NativeEventLoop>,
    plan: &Arc<DispatchPlan>,
    environ: Py<PyDict>,
    route: Route,
    context: Py<PyContext>,
    slot: Py<Slot>,
) {
    let sink = Sink::Caller(slot.clone_ref(py));
    let event_loop = event_loop.bind(py);
    let source = RequestSource::Environ(environ);
    let context = context.bind(py);
    if let Err(error) = start_on_loop_thread(event_loop, plan, source, route, context, sink) {
        slot.get().settle(Err(error));
    }
}
