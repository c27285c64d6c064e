//! What carboy knows of an application: made once, checked per request.

use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use pyo3::exceptions::PyReferenceError;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::context::ContextParts;
use super::eligibility::{EligibilityCounts, Reason};
use super::guards::{Attributes, Guards, has_hook};
use super::lazy_context::RequestContextBase;
use super::response::ResponseParts;
use super::route::{Route, RouteCache, RouteQuery};
use crate::names;
use crate::wsgi::Head;

/// The dispatch plan of an application.
pub(crate) struct DispatchPlan {
    application: Application,
    flask: Option<FlaskParts>,
    counts: EligibilityCounts,
    /// Requests that are being served on the loop.
    requests_on_loop: AtomicUsize,
}

/// Where a request is served.
pub(crate) enum Placement {
    /// Whole on the loop's thread.
    OnLoop(Route),
    /// Whole on a worker, for this reason. With a route, only the view itself is the
    /// application's own code: it can be called in contexts that are made natively.
    OnWorker(Reason, Option<Route>),
}

/// The application, as a rule by a weak reference: a test's app is freed when the test
/// ends, and nothing here may keep it. Who serves an application holds it.
enum Application {
    Weak(Py<PyWeakrefReference>),
    /// For an object of a class that has no weak references.
    Strong(Py<PyAny>),
}

/// What is remembered of a Flask app.
struct FlaskParts {
    guards: Guards,
    routes: RouteCache,
    contexts: Option<ContextParts>,
}

impl DispatchPlan {
    /// Looks at an application. Anything that is not a Flask app is served on workers.
    pub(crate) fn new(application: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = application.py();
        let flask_class = names::flask_class(py)?;
        let flask = if application.is_instance(flask_class)? {
            Some(FlaskParts {
                guards: Guards::new(application)?,
                routes: RouteCache::default(),
                contexts: ContextParts::new(py)?,
            })
        } else {
            None
        };
        let counts = EligibilityCounts::default();
        let application = match PyWeakrefReference::new(application) {
            Ok(reference) => Application::Weak(reference.unbind()),
            Err(_) => Application::Strong(application.clone().unbind()),
        };
        Ok(Self {
            application,
            flask,
            counts,
            requests_on_loop: AtomicUsize::new(0),
        })
    }

    /// The application.
    ///
    /// # Errors
    ///
    /// `ReferenceError` when nobody holds it any more.
    pub(crate) fn application<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.application {
            Application::Strong(application) => Ok(application.bind(py).clone()),
            Application::Weak(reference) => reference
                .bind(py)
                .upgrade()
                .ok_or_else(|| PyReferenceError::new_err("the application is gone")),
        }
    }

    /// The requests that are being served on the loop now, also for clients that have gone.
    pub(crate) fn requests_on_loop(&self) -> &AtomicUsize {
        &self.requests_on_loop
    }

    /// How to make Flask's contexts natively, where that is known for the installed Flask.
    pub(crate) fn contexts(&self) -> Option<&ContextParts> {
        self.flask.as_ref()?.contexts.as_ref()
    }

    /// Makes the response of a plain value natively and pops the contexts that were pushed
    /// natively; none if somebody would get to see more of it than its bytes.
    ///
    /// `send` gets the response before the contexts are popped, as nothing runs at that.
    pub(crate) fn finish_plainly(
        &self,
        pushed: &RequestContextBase,
        value: &Bound<'_, PyAny>,
        send: impl FnOnce(Head, Bytes),
    ) -> PyResult<bool> {
        let py = value.py();
        let Some(flask) = &self.flask else {
            return Ok(false);
        };
        let Some(contexts) = &flask.contexts else {
            return Ok(false);
        };
        if pushed.has_open_session() {
            return Ok(false);
        }
        let application = self.application(py)?;
        let converted = flask.guards.responses.convert(&application, value)?;
        let Some((head, content)) = converted else {
            return Ok(false);
        };
        send(head, content);
        if let Err(error) = contexts.pop(py, pushed) {
            error.write_unraisable(py, None);
        }
        Ok(true)
    }

    /// Where requests were served, and why.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.named()
    }

    /// Decides where a request is served. The caller counts where it is in the end.
    pub(crate) fn place(&self, py: Python<'_>, query: &RouteQuery<'_>) -> Placement {
        // A guard that raises is one that does not hold; Flask's own path will tell.
        match self.decide(py, query).unwrap_or(Err(Reason::Unknown)) {
            Ok(placement) => placement,
            Err(reason) => Placement::OnWorker(reason, None),
        }
    }

    /// Counts a request that is served on the loop.
    pub(crate) fn count_on_loop(&self) {
        self.counts.count_on_loop();
    }

    /// Counts a request that is served on a worker.
    pub(crate) fn count_on_worker(&self, reason: Reason) {
        self.counts.count_on_worker(reason);
    }

    fn decide(
        &self,
        py: Python<'_>,
        query: &RouteQuery<'_>,
    ) -> PyResult<Result<Placement, Reason>> {
        let Some(flask) = &self.flask else {
            return Ok(Err(Reason::NotFlask));
        };
        if !query.is_usual {
            return Ok(Err(Reason::UnusualRequest));
        }
        let application = self.application(py)?;
        let attributes = Attributes::of(&application)?;
        if let Err(reason) = flask.guards.check(&application, &attributes)? {
            return Ok(Err(reason));
        }
        let route = match flask.routes.find(&attributes, query)? {
            Ok(route) => route,
            Err(reason) => return Ok(Err(reason)),
        };
        let has_hook = has_hook(&attributes.of_application, &route)?;
        Ok(match (has_hook, route.is_async) {
            (true, _) => Err(Reason::Hook),
            (false, true) => Ok(Placement::OnLoop(route)),
            (false, false) => Ok(Placement::OnWorker(Reason::SyncView, Some(route))),
        })
    }

    /// Whether the rest of a request is done natively after its view has returned `value`:
    /// no code that is the application's own is on the way, nor was added meanwhile.
    pub(crate) fn may_finish_natively(
        &self,
        py: Python<'_>,
        route: &Route,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let Some(flask) = &self.flask else {
            return Ok(false);
        };
        let application = self.application(py)?;
        let attributes = Attributes::of(&application)?;
        Ok(ResponseParts::runs_only_flask(value)?
            && flask.guards.check(&application, &attributes)?.is_ok()
            && !has_hook(&attributes.of_application, route)?)
    }
}
