//! Whether a Flask app is as Flask made it, on a request's way: checked per request.
//!
//! What can be replaced is looked at one by one. While nothing was set on the app, its
//! class, its configuration or its URL map, the answer stays the same.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use super::eligibility::Reason;
use super::response::ResponseParts;
use super::route::Route;
use crate::ffi::dict_version::{DictVersion, dict_version};
use crate::ffi::instance::attributes_of;
use crate::ffi::type_version::{assigned_version_tag, version_tag};
use crate::names;

/// What is compared with, and how the app looked when it was last found plain.
pub(super) struct Guards {
    class: Py<PyType>,
    /// The methods on a request's way and Flask's own function for each. Replaced ones,
    /// on the class or on the app, are found by identity.
    methods: Vec<(Py<PyString>, Py<PyAny>)>,
    /// The receivers of the signals on a request's way; each signal keeps its dict for life.
    receivers: Vec<Py<PyDict>>,
    session_interface_class: Py<PyAny>,
    globals_class: Py<PyAny>,
    /// The classes of contexts, sessions and routing with their version tags, 0 for one that
    /// was changed before: Flask would call their methods, the dispatch here does not.
    unchanged_classes: Vec<(Py<PyType>, u32)>,
    pub(super) responses: ResponseParts,
    plain: Mutex<Option<PlainState>>,
    /// The address and the version tag of the request class that was found plain last.
    plain_request_class: Mutex<Option<(usize, u32)>>,
}

/// A state in which nothing was replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PlainState {
    class_tag: u32,
    attributes: DictVersion,
    config: DictVersion,
    url_map: DictVersion,
}

impl PlainState {
    /// The present state, if its parts can be told.
    fn of(
        class: &Bound<'_, PyType>,
        attributes: &Bound<'_, PyDict>,
        config: &Bound<'_, PyDict>,
        url_map_attributes: &Bound<'_, PyDict>,
    ) -> Option<Self> {
        let class_tag = version_tag(class);
        if class_tag == 0 {
            return None;
        }
        Some(Self {
            class_tag,
            attributes: dict_version(attributes)?,
            config: dict_version(config)?,
            url_map: dict_version(url_map_attributes)?,
        })
    }
}

/// The attributes of an app, and of its URL map.
pub(super) struct Attributes<'py> {
    pub(super) of_application: Bound<'py, PyDict>,
    pub(super) of_url_map: Bound<'py, PyDict>,
    pub(super) url_map: Bound<'py, PyAny>,
}

impl<'py> Attributes<'py> {
    pub(super) fn of(application: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = application.py();
        let of_application = attributes_of(application)?;
        let url_map = item(&of_application, intern!(py, "url_map"))?;
        let of_url_map = attributes_of(&url_map)?;
        Ok(Self {
            of_application,
            of_url_map,
            url_map,
        })
    }
}

impl Guards {
    pub(super) fn new(application: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = application.py();
        let parts = names::request_path_parts(py)?.call0()?;
        let (methods, receivers, session_interface_class, globals_class, classes): (
            _,
            _,
            _,
            _,
            Vec<(Bound<'_, PyType>, bool)>,
        ) = parts.extract()?;
        let tagged = |(class, is_plain): (Bound<'_, PyType>, bool)| {
            let tag = if is_plain {
                assigned_version_tag(&class)
            } else {
                0
            };
            (class.unbind(), tag)
        };
        Ok(Self {
            class: application.get_type().unbind(),
            methods,
            receivers,
            session_interface_class,
            globals_class,
            unchanged_classes: classes.into_iter().map(tagged).collect(),
            responses: ResponseParts::new(py)?,
            plain: Mutex::new(None),
            plain_request_class: Mutex::new(None),
        })
    }

    /// Whether all code on a request's way, apart from its view and its hooks, is Flask's
    /// and Werkzeug's own.
    ///
    /// # Errors
    ///
    /// What is not.
    pub(super) fn check(
        &self,
        application: &Bound<'_, PyAny>,
        attributes: &Attributes<'_>,
    ) -> PyResult<Result<(), Reason>> {
        let py = application.py();
        let config = item(&attributes.of_application, intern!(py, "config"))?;
        let config = config.cast::<PyDict>()?;
        let class = self.class.bind(py);
        let state = PlainState::of(
            class,
            &attributes.of_application,
            config,
            &attributes.of_url_map,
        );
        let was_plain = state.is_some() && {
            let plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
            *plain == state
        };
        if !was_plain && self.has_replaced_method(py, &attributes.of_application)? {
            return Ok(Err(Reason::MethodReplaced));
        }
        if self.has_signal_receiver(py) {
            return Ok(Err(Reason::SignalReceiver));
        }
        // The classes may change without the app.
        if self.has_own_class(application, was_plain)? {
            return Ok(Err(Reason::OwnClass));
        }
        if !was_plain {
            if matches_hosts(config, attributes)? {
                return Ok(Err(Reason::HostMatching));
            }
            *self.plain.lock().unwrap_or_else(PoisonError::into_inner) = state;
        }
        Ok(Ok(()))
    }

    fn has_replaced_method(
        &self,
        py: Python<'_>,
        attributes: &Bound<'_, PyDict>,
    ) -> PyResult<bool> {
        let class = self.class.bind(py);
        for (name, own) in &self.methods {
            if attributes.contains(name)? || !class.getattr(name)?.is(own) {
                return Ok(true);
            }
        }
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

    fn has_own_class(&self, application: &Bound<'_, PyAny>, was_plain: bool) -> PyResult<bool> {
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
            || !attributes_of(&session_interface)?.is_empty()
        {
            return Ok(true);
        }
        if !self.responses.are_plain(py) {
            return Ok(true);
        }
        if !was_plain {
            let globals_class = application.getattr(intern!(py, "app_ctx_globals_class"))?;
            if !self.responses.are_flasks_own(application)?
                || !globals_class.is(&self.globals_class)
            {
                return Ok(true);
            }
        }
        let request_class = application.getattr(intern!(py, "request_class"))?;
        Ok(!self.is_plain_request_class(request_class.cast::<PyType>()?)?)
    }
}

fn matches_hosts(config: &Bound<'_, PyDict>, attributes: &Attributes<'_>) -> PyResult<bool> {
    let py = config.py();
    let restricts_hosts = config
        .get_item(intern!(py, "TRUSTED_HOSTS"))?
        .is_some_and(|hosts| !hosts.is_none());
    let subdomain_matching = intern!(py, "subdomain_matching");
    Ok(restricts_hosts
        || item(&attributes.of_url_map, intern!(py, "host_matching"))?.is_truthy()?
        || item(&attributes.of_application, subdomain_matching)?.is_truthy()?)
}

fn item<'py>(
    attributes: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    attributes
        .get_item(name)?
        .ok_or_else(|| PyAttributeError::new_err(name.clone().unbind()))
}

/// Whether a function is registered for the app or one of the route's blueprints.
pub(super) fn has_hook(attributes: &Bound<'_, PyDict>, route: &Route) -> PyResult<bool> {
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
