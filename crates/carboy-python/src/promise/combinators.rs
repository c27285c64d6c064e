//! One promise out of several, as lists, tuples or dicts.

use carboy_promise::{Outcome, Resolver, Rule, gather};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyTuple};

use super::awaitable::resolve;
use super::handler::as_object;
use super::host::{Core, PromiseHost, Value, reject};
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

/// Combines what a combinator was called with: several arguments, or one list, mapping or
/// other iterable. What is not a promise counts as one of itself. If the iterable fails, so
/// does the promise.
pub(super) fn combine(
    py: Python<'_>,
    rule: Rule,
    arguments: &Bound<'_, PyTuple>,
    label: &str,
) -> PyResult<Core> {
    let (mut sources, mut container) = (Vec::new(), Container::Tuple);
    let collected = collect(py, arguments, &mut sources, &mut container);
    if collected.is_ok() && sources.is_empty() && rule == Rule::Race {
        let message = "a race of nothing would never have a winner";
        return Err(PyValueError::new_err(message));
    }
    let shape = Shape { rule, container };
    let (home, origin) = (Owner::current(py)?, Origin::here(py, Some(label)));
    for source in &sources {
        origin.causes.add(&source.origin().causes);
    }
    let Err(error) = collected else {
        return Ok(gather(rule, &sources, shape, home, origin));
    };
    let (promise, resolver) = Core::pending(home, origin);
    for source in &sources {
        source.mark_handled();
        promise.depend_on(source);
    }
    reject(py, &resolver, error);
    Ok(promise)
}

/// Makes promises of what a combinator was called with.
fn collect(
    py: Python<'_>,
    arguments: &Bound<'_, PyTuple>,
    sources: &mut Vec<Core>,
    container: &mut Container,
) -> PyResult<()> {
    if arguments.len() == 1 {
        let only = arguments.get_item(0)?;
        if let Ok(mapping) = only.cast::<PyMapping>() {
            let mut keys = Vec::with_capacity(mapping.len()?);
            for item in mapping.items()? {
                let (key, value) = item.extract::<(Py<PyAny>, Bound<'_, PyAny>)>()?;
                keys.push(key);
                sources.push(as_promise(py, &value)?);
            }
            *container = Container::Dict(keys);
            return Ok(());
        }
        let is_many = !only.is_instance_of::<Promise>() && only.hasattr("__iter__")?;
        if is_many && !super::awaitable::is_awaitable(&only)? {
            *container = Container::List;
            for item in only.try_iter()? {
                sources.push(as_promise(py, &item?)?);
            }
            return Ok(());
        }
    }
    for item in arguments {
        sources.push(as_promise(py, &item)?);
    }
    Ok(())
}

fn as_promise(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Core> {
    if let Ok(promise) = value.cast::<Promise>() {
        return Ok(promise.get().core().clone());
    }
    let (core, resolver) = Core::pending(Owner::current(py)?, Origin::here(py, None));
    resolve(py, &resolver, value, None);
    Ok(core)
}

#[pymethods]
impl Promise {
    /// Return a promise of all values, which fails with the first error.
    ///
    /// ``all(a, b)`` gives a tuple, ``all([a, b])`` a list, ``all({"a": a})`` a dict. When it
    /// fails or is cancelled, what nobody else waits for is cancelled.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn all(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::All, promises, "all").map(Self::new)
    }

    /// Return a promise of all outcomes, as ``Fulfilled(value)`` and ``Rejected(error)`` of
    /// ``carboy.promise``. Arguments as for ``all``.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn all_settled(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::AllSettled, promises, "all_settled").map(Self::new)
    }

    /// Return a promise of the first value; if all fail, of an ``ExceptionGroup``. The others
    /// are cancelled. Arguments as for ``all``.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn any(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::Any, promises, "any").map(Self::new)
    }

    /// Return a promise of the first outcome, value or error. The others are cancelled.
    /// Arguments as for ``all``.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn race(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::Race, promises, "race").map(Self::new)
    }

    /// Call a function for each item and return the promise of the list of results.
    ///
    /// Args:
    ///     items: The items.
    ///     function: Returns a value, a promise or another awaitable.
    ///     concurrency: How many results may be waited for at a time; ``None`` for all.
    #[staticmethod]
    #[pyo3(signature = (items, function, concurrency = None))]
    fn map<'py>(
        py: Python<'py>,
        items: Bound<'py, PyAny>,
        function: Bound<'py, PyAny>,
        concurrency: Option<isize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        names::map_items(py)?.call1((items, function, concurrency))
    }

    /// Call a function and return the promise of its result. Promises among the arguments are
    /// waited for before, and the function gets their values.
    #[staticmethod]
    #[pyo3(signature = (function, /, *arguments, **keywords))]
    fn call<'py>(
        function: Bound<'py, PyAny>,
        arguments: Bound<'py, PyTuple>,
        keywords: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        let keywords = keywords.unwrap_or_else(|| PyDict::new(py));
        names::call_with_values(py)?.call1((function, arguments, keywords))
    }

    /// Wait for promises and call a function with their values, one argument each; return the
    /// promise of what that returns. ``join(a, b, f)`` is ``call(f, a, b)`` the other way
    /// round, for two values that belong together.
    #[staticmethod]
    #[pyo3(signature = (*promises_and_function))]
    fn join<'py>(
        py: Python<'py>,
        promises_and_function: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        names::join_promises(py)?.call1(promises_and_function)
    }
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
            Ok(value) => {
                resolver.fulfil(Value(value));
            }
            Err(error) => reject(py, resolver, error),
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
        let item = match outcome {
            Outcome::Fulfilled(Value(value)) if shape.rule != Rule::AllSettled => value,
            outcome => as_object(py, outcome)?,
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
