//! Finds the view of a request with Werkzeug's own matcher, and says whether the way
//! there is plain.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyWeakrefMethods, PyWeakrefReference};

use super::eligibility::Reason;
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
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
}

/// The view that serves a request on the loop.
pub(crate) struct Route {
    pub(crate) view: Py<PyAny>,
    pub(crate) view_args: Py<PyDict>,
    /// The blueprints of the endpoint, from the inner to the outer.
    pub(crate) blueprints: Vec<Py<PyString>>,
}

/// What stays true of a rule once it is part of a map.
struct RuleFacts {
    /// Says whether it is still the rule at this address, which is the key.
    rule: Py<PyWeakrefReference>,
    endpoint: Py<PyAny>,
    is_plain: bool,
    answers_options: bool,
    blueprints: Vec<Py<PyString>>,
}

/// What stays true of a map until rules are added.
#[derive(Default)]
struct MapFacts {
    rule_count: usize,
    has_own_converter: bool,
    rules: HashMap<usize, RuleFacts>,
    /// Views by address, and whether each is an `async def` function.
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
    /// Matches a request to an async view.
    pub(crate) fn find(
        &self,
        attributes: &Bound<'_, PyDict>,
        url_map: &Bound<'_, PyAny>,
        query: &RouteQuery<'_>,
    ) -> PyResult<Result<Route, Reason>> {
        let py = url_map.py();
        let rules = url_map
            .getattr(intern!(py, "_rules"))?
            .cast_into::<PyList>()?;
        if !self.knows_map(url_map, rules.len())? {
            return Ok(Err(Reason::OwnClass));
        }
        if url_map.getattr(intern!(py, "_remap"))?.is_truthy()? {
            url_map.call_method0(intern!(py, "update"))?;
        }
        let subdomain = url_map.getattr(intern!(py, "default_subdomain"))?;
        let matcher = url_map.getattr(intern!(py, "_matcher"))?;
        let matched = matcher.call_method1(
            intern!(py, "match"),
            (subdomain, query.path, query.method, false),
        );
        let Ok(matched) = matched else {
            return Ok(Err(Reason::NotMatched));
        };
        let (rule, view_args): (Bound<'_, PyAny>, Bound<'_, PyDict>) = matched.extract()?;
        let facts = self.rule_facts(url_map, &rule)?;
        let (endpoint, blueprints) = match facts {
            (_, _, true, false) => return Ok(Err(Reason::SpecialRule)),
            (endpoint, blueprints, ..) => (endpoint, blueprints),
        };
        let functions = attributes.get_item(intern!(py, "view_functions"))?;
        let Some(functions) = functions else {
            return Ok(Err(Reason::NotMatched));
        };
        let Some(view) = functions.cast::<PyDict>()?.get_item(endpoint)? else {
            return Ok(Err(Reason::NotMatched));
        };
        if query.method == "OPTIONS" && self.answers_options(&rule) {
            return Ok(Err(Reason::SpecialRule));
        }
        if !self.is_async(&view)? {
            return Ok(Err(Reason::SyncView));
        }
        Ok(Ok(Route {
            view: view.unbind(),
            view_args: view_args.unbind(),
            blueprints,
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MapFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the map has only converters of Werkzeug's own; looked at anew when rules
    /// were added.
    fn knows_map(&self, url_map: &Bound<'_, PyAny>, rule_count: usize) -> PyResult<bool> {
        {
            let facts = self.lock();
            if facts.rule_count == rule_count && rule_count > 0 {
                return Ok(!facts.has_own_converter);
            }
        }
        let py = url_map.py();
        let has_own_converter = names::has_own_converter(py)?
            .call1((url_map,))?
            .is_truthy()?;
        let fresh = MapFacts {
            rule_count,
            has_own_converter,
            ..MapFacts::default()
        };
        let old = std::mem::replace(&mut *self.lock(), fresh);
        drop(old);
        Ok(!has_own_converter)
    }

    /// The rule's endpoint and blueprints; whether it is known; whether it is plain.
    #[expect(clippy::type_complexity, reason = "private, and used in one place")]
    fn rule_facts(
        &self,
        url_map: &Bound<'_, PyAny>,
        rule: &Bound<'_, PyAny>,
    ) -> PyResult<(Py<PyAny>, Vec<Py<PyString>>, bool, bool)> {
        let py = rule.py();
        let key = rule.as_ptr().addr();
        if let Some(facts) = self.lock().rules.get(&key)
            && refers_to(&facts.rule, rule)
        {
            let blueprints = facts
                .blueprints
                .iter()
                .map(|name| name.clone_ref(py))
                .collect();
            return Ok((
                facts.endpoint.clone_ref(py),
                blueprints,
                true,
                facts.is_plain,
            ));
        }
        let (endpoint, blueprints, is_plain, answers_options): (
            Py<PyAny>,
            Vec<Py<PyString>>,
            bool,
            bool,
        ) = names::rule_facts(py)?.call1((url_map, rule))?.extract()?;
        let facts = RuleFacts {
            rule: PyWeakrefReference::new(rule)?.unbind(),
            endpoint: endpoint.clone_ref(py),
            is_plain,
            answers_options,
            blueprints: blueprints.iter().map(|name| name.clone_ref(py)).collect(),
        };
        let replaced = self.lock().rules.insert(key, facts);
        drop(replaced);
        Ok((endpoint, blueprints, true, is_plain))
    }

    fn answers_options(&self, rule: &Bound<'_, PyAny>) -> bool {
        let facts = self.lock();
        facts
            .rules
            .get(&rule.as_ptr().addr())
            .is_none_or(|facts| facts.answers_options)
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
