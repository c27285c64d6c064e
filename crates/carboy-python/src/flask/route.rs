//! Finds the view of a request with Werkzeug's own matcher, and says whether the way
//! there is plain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyWeakrefMethods, PyWeakrefReference};

use super::eligibility::Reason;
use super::guards::Attributes;
use crate::ffi::dict_version::{DictVersion, dict_version};
use crate::names;

/// What of a request decides its route.
pub(crate) struct RouteQuery<'a> {
    pub(crate) method: &'a str,
    /// The decoded path.
    pub(crate) path: &'a str,
    /// Whether the head has nothing that only Flask's own code should judge.
    pub(crate) is_usual: bool,
}

impl<'a> RouteQuery<'a> {
    /// A query for a request with this head. The path is none when it is not UTF-8.
    pub(crate) fn new(method: &'a str, path: Option<&'a str>, host: &[u8]) -> Self {
        let is_usual_path = path.is_some_and(|path| path.starts_with('/') && !path.contains("//"));
        Self {
            method,
            path: path.unwrap_or_default(),
            is_usual: is_usual_path && is_usual_host(host),
        }
    }
}

/// Whether a host is a plain name or IPv4 address with an optional port: one that every
/// version of Werkzeug takes as it is.
fn is_usual_host(host: &[u8]) -> bool {
    let (name, port) = match host.iter().position(|byte| *byte == b':') {
        Some(colon) => (&host[..colon], &host[colon + 1..]),
        None => (host, &b"80"[..]),
    };
    let is_usual_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    name.split(|byte| *byte == b'.').all(is_usual_label)
        && (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
}

/// The view that serves a request.
pub(crate) struct Route {
    pub(crate) rule: Py<PyAny>,
    pub(crate) endpoint: Py<PyAny>,
    pub(crate) view: Py<PyAny>,
    /// Whether the view is an `async def` function.
    pub(crate) is_async: bool,
    /// None for a rule without a variable part.
    pub(crate) view_args: Option<Py<PyDict>>,
    /// The blueprints of the endpoint, from the inner to the outer.
    pub(crate) blueprints: Arc<[Py<PyString>]>,
}

impl Route {
    /// Calls the view with what the path gives it.
    pub(crate) fn call_view<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let view = self.view.bind(py);
        match &self.view_args {
            None => view.call0(),
            Some(arguments) => view.call((), Some(arguments.bind(py))),
        }
    }
}

/// What stays true of a rule once it is part of a map.
struct RuleFacts {
    /// Says whether it is still the rule at this address.
    rule: Py<PyWeakrefReference>,
    endpoint: Py<PyAny>,
    is_plain: bool,
    answers_options: bool,
    /// Whether the path has no variable part: then a path that led here once does so always.
    is_static: bool,
    blueprints: Arc<[Py<PyString>]>,
}

/// Methods that were asked for at a path, and the rule for each.
type RulesByMethod = Vec<(Box<str>, Arc<RuleFacts>)>;

/// Tells a map from the same map with more rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MapVersion {
    /// The state of the map's attributes: adding a rule changes it.
    Attributes(DictVersion),
    /// The number of rules, where CPython can't tell whether attributes were set.
    RuleCount(usize),
}

impl MapVersion {
    fn of(attributes: &Attributes<'_>) -> PyResult<Self> {
        if let Some(version) = dict_version(&attributes.of_url_map) {
            return Ok(Self::Attributes(version));
        }
        let by_endpoint = intern!(attributes.url_map.py(), "_rules_by_endpoint");
        let Some(by_endpoint) = attributes.of_url_map.get_item(by_endpoint)? else {
            return Ok(Self::RuleCount(0));
        };
        let mut count = 0;
        for (_, rules) in by_endpoint.cast::<PyDict>()?.iter() {
            count += rules.len()?;
        }
        Ok(Self::RuleCount(count))
    }
}

/// What stays true of a map until rules are added.
#[derive(Default)]
struct MapFacts {
    version: Option<MapVersion>,
    has_own_converter: bool,
    /// By the rule's address.
    rules: HashMap<usize, Arc<RuleFacts>>,
    /// By the path, for each method that was asked for: rules without a variable part.
    static_paths: HashMap<Box<str>, RulesByMethod>,
    /// By the view's address: whether it is an `async def` function.
    views: HashMap<usize, (Py<PyWeakrefReference>, bool)>,
}

/// Remembers what was found out about rules and views.
#[derive(Default)]
pub(crate) struct RouteCache {
    facts: Mutex<MapFacts>,
}

/// Past this many views somebody makes them anew all the time; then they are forgotten.
const REMEMBERED_VIEWS: usize = 4096;

impl RouteCache {
    /// Matches a request to a view.
    pub(crate) fn find(
        &self,
        attributes: &Attributes<'_>,
        query: &RouteQuery<'_>,
    ) -> PyResult<Result<Route, Reason>> {
        let url_map = &attributes.url_map;
        let py = url_map.py();
        if self.has_own_converter(attributes)? {
            return Ok(Err(Reason::OwnClass));
        }
        let (rule, facts, view_args) = match self.find_static(py, query) {
            Some((rule, facts)) => (rule, facts, None),
            None => {
                let subdomain = url_map.getattr(intern!(py, "default_subdomain"))?;
                let matcher = url_map.getattr(intern!(py, "_matcher"))?;
                let arguments = (subdomain, query.path, query.method, false);
                let Ok(matched) = matcher.call_method1(intern!(py, "match"), arguments) else {
                    return Ok(Err(Reason::NotMatched));
                };
                let (rule, view_args): (Bound<'_, PyAny>, Bound<'_, PyDict>) = matched.extract()?;
                let facts = self.rule_facts(url_map, &rule, query)?;
                (rule, facts, Some(view_args))
            }
        };
        if !facts.is_plain || (query.method == "OPTIONS" && facts.answers_options) {
            return Ok(Err(Reason::SpecialRule));
        }
        let functions = attributes
            .of_application
            .get_item(intern!(py, "view_functions"))?;
        let Some(functions) = functions else {
            return Ok(Err(Reason::NotMatched));
        };
        let Some(view) = functions.cast::<PyDict>()?.get_item(&facts.endpoint)? else {
            return Ok(Err(Reason::NotMatched));
        };
        let is_async = self.is_async(&view)?;
        Ok(Ok(Route {
            rule: rule.unbind(),
            endpoint: facts.endpoint.clone_ref(py),
            view: view.unbind(),
            is_async,
            view_args: view_args.map(Bound::unbind),
            blueprints: Arc::clone(&facts.blueprints),
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MapFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule without a variable part that this path and method led to before.
    fn find_static<'py>(
        &self,
        py: Python<'py>,
        query: &RouteQuery<'_>,
    ) -> Option<(Bound<'py, PyAny>, Arc<RuleFacts>)> {
        let facts = {
            let known = self.lock();
            let methods = known.static_paths.get(query.path)?;
            let (_, facts) = methods
                .iter()
                .find(|(method, _)| **method == *query.method)?;
            Arc::clone(facts)
        };
        Some((facts.rule.bind(py).upgrade()?, facts))
    }

    /// Whether the map has a converter that is not Werkzeug's own; looked at anew when rules
    /// were added.
    fn has_own_converter(&self, attributes: &Attributes<'_>) -> PyResult<bool> {
        let version = MapVersion::of(attributes)?;
        {
            let facts = self.lock();
            if facts.version == Some(version) {
                return Ok(facts.has_own_converter);
            }
        }
        let url_map = &attributes.url_map;
        let py = url_map.py();
        if url_map.getattr(intern!(py, "_remap"))?.is_truthy()? {
            url_map.call_method0(intern!(py, "update"))?;
        }
        // The update has changed the map's attributes, but no rule.
        let version = Some(MapVersion::of(attributes)?);
        let has_own_converter = names::has_own_converter(py)?
            .call1((url_map,))?
            .is_truthy()?;
        let fresh = MapFacts {
            version,
            has_own_converter,
            ..MapFacts::default()
        };
        let old = std::mem::replace(&mut *self.lock(), fresh);
        drop(old);
        Ok(has_own_converter)
    }

    /// What is known of a rule that this query has matched.
    fn rule_facts(
        &self,
        url_map: &Bound<'_, PyAny>,
        rule: &Bound<'_, PyAny>,
        query: &RouteQuery<'_>,
    ) -> PyResult<Arc<RuleFacts>> {
        let py = rule.py();
        let key = rule.as_ptr().addr();
        let known = self.lock().rules.get(&key).map(Arc::clone);
        if let Some(facts) = known.filter(|facts| refers_to(&facts.rule, rule))
            && !facts.is_static
        {
            return Ok(facts);
        }
        let (endpoint, blueprints, is_plain, answers_options, is_static): (
            Py<PyAny>,
            Vec<Py<PyString>>,
            bool,
            bool,
            bool,
        ) = names::rule_facts(py)?.call1((url_map, rule))?.extract()?;
        let facts = Arc::new(RuleFacts {
            rule: PyWeakrefReference::new(rule)?.unbind(),
            endpoint,
            is_plain,
            answers_options,
            is_static,
            blueprints: blueprints.into(),
        });
        let replaced = {
            let mut known = self.lock();
            if is_static {
                let methods = known.static_paths.entry(query.path.into()).or_default();
                methods.push((query.method.into(), Arc::clone(&facts)));
            }
            known.rules.insert(key, Arc::clone(&facts))
        };
        drop(replaced);
        Ok(facts)
    }

    fn is_async(&self, view: &Bound<'_, PyAny>) -> PyResult<bool> {
        let key = view.as_ptr().addr();
        if let Some((known, is_async)) = self.lock().views.get(&key)
            && refers_to(known, view)
        {
            return Ok(*is_async);
        }
        let py = view.py();
        let is_async = names::is_coroutine_function(py)?
            .call1((view,))?
            .is_truthy()?;
        let Ok(known) = PyWeakrefReference::new(view) else {
            return Ok(is_async);
        };
        let forgotten = {
            let mut facts = self.lock();
            let forgotten = if facts.views.len() >= REMEMBERED_VIEWS {
                std::mem::take(&mut facts.views)
            } else {
                HashMap::new()
            };
            facts.views.insert(key, (known.unbind(), is_async));
            forgotten
        };
        drop(forgotten);
        Ok(is_async)
    }
}

/// Whether a weak reference is to this very object. Addresses are used again.
fn refers_to(reference: &Py<PyWeakrefReference>, object: &Bound<'_, PyAny>) -> bool {
    reference
        .bind(object.py())
        .upgrade()
        .is_some_and(|referent| referent.is(object))
}
