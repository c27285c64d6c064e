//! What carboy knows of an application: made once, checked per request.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyReferenceError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType, PyWeakrefMethods, PyWeakrefReference};

use super::context::ContextParts;
use super::eligibility::{EligibilityCounts, Reason};
use super::response::ResponseParts;
use super::route::{Route, RouteCache, RouteQuery};
use crate::ffi::type_version::version_tag;
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

/// What is compared with, and remembered of, a Flask app.
struct FlaskParts {
    class: Py<PyType>,
    /// The class's version tag when its methods were last compared; see `type_version`.
    compared_tag: AtomicU32,
    /// The methods on a request's way and Flask's own function for each. Replaced ones,
    /// on the class or on the app, are found by identity.
    methods: Vec<(Py<PyString>, Py<PyAny>)>,
    /// The receivers of the signals on a request's way; each signal keeps its dict for life.
    receivers: Vec<Py<PyDict>>,
    session_interface_class: Py<PyAny>,
    /// The address and the version tag of the request class that was found plain last.
    plain_request_class: Mutex<Option<(usize, u32)>>,
    globals_class: Py<PyAny>,
    /// The classes of contexts, sessions and routing with their version tags, 0 for one that
    /// was changed before: Flask would call their methods, the dispatch here does not.
    unchanged_classes: Vec<(Py<PyType>, u32)>,
    routes: RouteCache,
    contexts: Option<ContextParts>,
    responses: ResponseParts,
}

impl DispatchPlan {
    /// Looks at an application. Anything that is not a Flask app is served on workers.
    pub(crate) fn new(application: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = application.py();
        let flask_class = names::flask_class(py)?;
        let flask = if application.is_instance(flask_class)? {
            let parts = names::request_path_parts(py)?.call0()?;
            let (methods, receivers, session_interface_class, globals_class, classes): (
                _,
                _,
                _,
                _,
                Vec<(Bound<'_, PyType>, bool)>,
            ) = parts.extract()?;
            let tagged = |(class, is_plain): (Bound<'_, PyType>, bool)| {
                // The look-up makes CPython give the class a tag if it has none.
                class.getattr(intern!(py, "__init__"))?;
                let tag = if is_plain { version_tag(&class) } else { 0 };
                PyResult::Ok((class.unbind(), tag))
            };
            Some(FlaskParts {
                class: application.get_type().unbind(),
                compared_tag: AtomicU32::new(0),
                methods,
                receivers,
                session_interface_class,
                plain_request_class: Mutex::new(None),
                globals_class,
                unchanged_classes: classes.into_iter().map(tagged).collect::<PyResult<_>>()?,
                routes: RouteCache::default(),
                contexts: ContextParts::new(py)?,
                responses: ResponseParts::new(py)?,
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
        self.flask.as_ref().map(|flask| &flask.responses)
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
        let attributes = application
            .getattr(intern!(py, "__dict__"))?
            .cast_into::<PyDict>()?;
        if flask.has_replaced_method(py, &attributes)? {
            return Ok(Err(Reason::MethodReplaced));
        }
        if flask.has_signal_receiver(py) {
            return Ok(Err(Reason::SignalReceiver));
        }
        if flask.has_own_class(&application)? {
            return Ok(Err(Reason::OwnClass));
        }
        let url_map = item(&attributes, intern!(py, "url_map"))?;
        let config = item(&attributes, intern!(py, "config"))?;
        let config = config.cast::<PyDict>()?;
        let restricts_hosts = config
            .get_item(intern!(py, "TRUSTED_HOSTS"))?
            .is_some_and(|hosts| !hosts.is_none());
        if restricts_hosts
            || url_map.getattr(intern!(py, "host_matching"))?.is_truthy()?
            || item(&attributes, intern!(py, "subdomain_matching"))?.is_truthy()?
        {
            return Ok(Err(Reason::HostMatching));
        }
        let route = match flask.routes.find(&attributes, &url_map, query)? {
            Ok(route) => route,
            Err(reason) => return Ok(Err(reason)),
        };
        if has_hook(&attributes, &route)? {
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
        let attributes = application
            .getattr(intern!(py, "__dict__"))?
            .cast_into::<PyDict>()?;
        Ok(!flask.has_replaced_method(py, &attributes)?
            && !flask.has_own_class(&application)?
            && ResponseParts::runs_only_flask(value)?
            && !flask.has_signal_receiver(py)
            && !has_hook(&attributes, route)?)
    }
}

impl FlaskParts {
    fn has_replaced_method(
        &self,
        py: Python<'_>,
        attributes: &Bound<'_, PyDict>,
    ) -> PyResult<bool> {
        for (name, _) in &self.methods {
            if attributes.contains(name)? {
                return Ok(true);
            }
        }
        let class = self.class.bind(py);
        let tag = version_tag(class);
        if tag != 0 && tag == self.compared_tag.load(Ordering::Relaxed) {
            return Ok(false);
        }
        for (name, own) in &self.methods {
            if !class.getattr(name)?.is(own) {
                return Ok(true);
            }
        }
        // The look-ups have given the class a tag, if it had none.
        self.compared_tag
            .store(version_tag(class), Ordering::Relaxed);
        Ok(false)
    }

    fn has_signal_receiver(&self, py: Python<'_>) -> bool {
        self.receivers
            .iter()
            .any(|receivers| !receivers.bind(py).is_empty())
    }

    /// Whether requests of this class are made, checked and closed by Werkzeug's own code.
    fn is_plain_request_class(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let tag = version_tag(class);
        let address = class.as_ptr().addr();
        let known = self
            .plain_request_class
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if tag != 0 && *known == Some((address, tag)) {
            return Ok(true);
        }
        drop(known);
        if !names::is_plain_request_class(class.py())?
            .call1((class,))?
            .is_truthy()?
        {
            return Ok(false);
        }
        // The look-ups have given the class a tag. Tags are never used again for another
        // class, so that the address needs no reference to stay valid.
        let known = Some((address, version_tag(class)));
        *self
            .plain_request_class
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = known;
        Ok(true)
    }

    fn has_own_class(&self, application: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = application.py();
        let is_changed =
            |(class, tag): &(Py<PyType>, u32)| *tag == 0 || version_tag(class.bind(py)) != *tag;
        if self.unchanged_classes.iter().any(is_changed) {
            return Ok(true);
        }
        let session_interface = application.getattr(intern!(py, "session_interface"))?;
        if !session_interface
            .get_type()
            .is(&self.session_interface_class)
            || session_interface
                .getattr(intern!(py, "__dict__"))?
                .is_truthy()?
        {
            return Ok(true);
        }
        if !self.responses.are_flasks_own(application)? {
            return Ok(true);
        }
        let globals_class = application.getattr(intern!(py, "app_ctx_globals_class"))?;
        if !globals_class.is(&self.globals_class) {
            return Ok(true);
        }
        let request_class = application.getattr(intern!(py, "request_class"))?;
        Ok(!self.is_plain_request_class(request_class.cast::<PyType>()?)?)
    }
}

fn item<'py>(
    attributes: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    attributes
        .get_item(name)?
        .ok_or_else(|| pyo3::exceptions::PyAttributeError::new_err(name.clone().unbind()))
}

/// Whether a function is registered for the app or one of the route's blueprints.
fn has_hook(attributes: &Bound<'_, PyDict>, route: &Route) -> PyResult<bool> {
    let py = attributes.py();
    let registries = [
        intern!(py, "before_request_funcs"),
        intern!(py, "after_request_funcs"),
        intern!(py, "teardown_request_funcs"),
        intern!(py, "url_value_preprocessors"),
    ];
    for registry in registries {
        let registry = item(attributes, registry)?;
        let registry = registry.cast::<PyDict>()?;
        if registry.is_empty() {
            continue;
        }
        if let Some(functions) = registry.get_item(py.None())?
            && functions.is_truthy()?
        {
            return Ok(true);
        }
        for blueprint in route.blueprints.iter() {
            if let Some(functions) = registry.get_item(blueprint)?
                && functions.is_truthy()?
            {
                return Ok(true);
            }
        }
    }
    item(attributes, intern!(py, "teardown_appcontext_funcs"))?.is_truthy()
}
