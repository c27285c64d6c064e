//! What carboy knows of an application: made once, checked per request.

use std::sync::atomic::AtomicUsize;

use pyo3::exceptions::PyReferenceError;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::context::ContextParts;
use super::eligibility::{EligibilityCounts, Reason};
use super::guards::{Attributes, Guards, has_hook};
use super::response::ResponseParts;
use super::route::{Route, RouteCache, RouteQuery};
use crate::names;

/// The dispatch plan of an application.
pub(crate) struct DispatchPlan {
    application: Application,
    flask: Option<FlaskParts>,
    counts: EligibilityCounts,
    /// Requests that are being served on the loop.
    requests_on_loop: AtomicUsize,
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

    /// How to make plain responses.
    pub(crate) fn responses(&self) -> Option<&ResponseParts> {
        self.flask.as_ref().map(|flask| &flask.guards.responses)
    }

    /// Where requests were served, and why.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.named()
    }

    /// Decides where a request is served: here and now on the loop with the given route, or
    /// whole on a worker.
    ///
    /// The caller counts where it is served in the end.
    ///
    /// # Errors
    ///
    /// The reason for a worker.
    pub(crate) fn route_on_loop(
        &self,
        py: Python<'_>,
        query: &RouteQuery<'_>,
    ) -> Result<Route, Reason> {
        // A guard that raises is one that does not hold; Flask's own path will tell.
        self.decide(py, query).unwrap_or(Err(Reason::Unknown))
    }

    /// Counts a request that is served on the loop.
    pub(crate) fn count_on_loop(&self) {
        self.counts.count_on_loop();
    }

    /// Counts a request that is served on a worker.
    pub(crate) fn count_on_worker(&self, reason: Reason) {
        self.counts.count_on_worker(reason);
    }

    fn decide(&self, py: Python<'_>, query: &RouteQuery<'_>) -> PyResult<Result<Route, Reason>> {
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
        if has_hook(&attributes.of_application, &route)? {
            return Ok(Err(Reason::Hook));
        }
        Ok(Ok(route))
    }

    /// Whether the rest of a request may run on the loop after its view has returned
    /// `value`: no code that is the application's own is on the way, nor was added meanwhile.
    pub(crate) fn may_finish_on_loop(
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
