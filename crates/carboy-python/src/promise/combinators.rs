//! One promise out of several, as lists, tuples or dicts.

use carboy_promise::{Outcome, Resolver, Rule, gather};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::awaitable::resolve;
use super::host::{Core, Failure, PromiseHost, Value};
use super::object::Promise;
use super::origin::Origin;
use super::owner::Owner;
use crate::names;

/// How the outcomes of a combinator are put together.
pub(crate) struct Shape {
    rule: Rule,
    container: Container,
}

/// What the sources came in.
enum Container {
    /// As arguments of their own.
    Tuple,
    List,
    /// In a dict, with these keys.
    Dict(Vec<Py<PyAny>>),
}

/// Combines what a combinator was called with: several arguments, or one list, dict or other
/// iterable. What is not a promise counts as one of itself.
pub(super) fn combine(
    py: Python<'_>,
    rule: Rule,
    arguments: &Bound<'_, PyTuple>,
    label: &str,
) -> PyResult<Core> {
    let (sources, container) = sources(py, arguments)?;
    if sources.is_empty() && rule == Rule::Race {
        let message = "a race of nothing would never have a winner";
        return Err(PyValueError::new_err(message));
    }
    let shape = Shape { rule, container };
    let origin = Origin::here(py, Some(label));
    for source in &sources {
        origin.causes.add(&source.origin().causes);
    }
    Ok(gather(rule, &sources, shape, Owner::current(py)?, origin))
}

fn sources(py: Python<'_>, arguments: &Bound<'_, PyTuple>) -> PyResult<(Vec<Core>, Container)> {
    if arguments.len() == 1 {
        let only = arguments.get_item(0)?;
        if let Ok(mapping) = only.cast::<PyDict>() {
            let mut cores = Vec::with_capacity(mapping.len());
            let mut keys = Vec::with_capacity(mapping.len());
            for (key, value) in mapping {
                keys.push(key.unbind());
                cores.push(as_promise(py, &value)?);
            }
            return Ok((cores, Container::Dict(keys)));
        }
        let is_many = !only.is_instance_of::<Promise>() && only.hasattr("__iter__")?;
        if is_many && !super::awaitable::is_awaitable(&only)? {
            let cores = only.try_iter()?.map(|item| as_promise(py, &item?));
            return Ok((cores.collect::<PyResult<_>>()?, Container::List));
        }
    }
    let cores = arguments.iter().map(|item| as_promise(py, &item));
    Ok((cores.collect::<PyResult<_>>()?, Container::Tuple))
}

fn as_promise(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Core> {
    if let Ok(promise) = value.cast::<Promise>() {
        return Ok(promise.get().core().clone());
    }
    let (core, resolver) = Core::pending(Owner::current(py)?, Origin::here(py, None));
    resolve(py, &resolver, value, None);
    Ok(core)
}

/// Settles a combinator's promise, when no single outcome has decided it.
pub(super) fn assemble(
    resolver: &Resolver<PromiseHost>,
    shape: Shape,
    outcomes: Vec<Outcome<PromiseHost>>,
) {
    Python::attach(|py| {
        let assembled = if shape.rule == Rule::Any {
            Err(nothing_succeeded(py, outcomes))
        } else {
            put_together(py, shape, outcomes)
        };
        match assembled {
            Ok(value) => resolver.fulfil(Value(value)),
            Err(error) => resolver.reject(Failure::new(py, error)),
        }
    });
}

fn put_together(
    py: Python<'_>,
    shape: Shape,
    outcomes: Vec<Outcome<PromiseHost>>,
) -> PyResult<Py<PyAny>> {
    let mut items = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        let item = match (outcome, shape.rule) {
            (Outcome::Fulfilled(Value(value)), Rule::AllSettled) => {
                names::fulfilled(py)?.call1((value,))?.unbind()
            }
            (Outcome::Fulfilled(Value(value)), _) => value,
            (Outcome::Rejected(failure), _) => {
                let error = failure.into_error(py).into_value(py);
                names::rejected(py)?.call1((error,))?.unbind()
            }
        };
        items.push(item);
    }
    match shape.container {
        Container::Tuple => Ok(PyTuple::new(py, items)?.into_any().unbind()),
        Container::List => Ok(PyList::new(py, items)?.into_any().unbind()),
        Container::Dict(keys) => {
            let dict = PyDict::new(py);
            for (key, item) in keys.into_iter().zip(items) {
                dict.set_item(key, item)?;
            }
            Ok(dict.into_any().unbind())
        }
    }
}

/// The error of an `any` without a winner.
fn nothing_succeeded(py: Python<'_>, outcomes: Vec<Outcome<PromiseHost>>) -> PyErr {
    let mut errors = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        if let Outcome::Rejected(failure) = outcome {
            errors.push(failure.into_error(py).into_value(py));
        }
    }
    if errors.is_empty() {
        return PyValueError::new_err("any() of nothing has no value");
    }
    let group = names::exception_group(py)
        .and_then(|class| class.call1(("none of the promises was fulfilled", errors)));
    group.map_or_else(|error| error, PyErr::from_value)
}
