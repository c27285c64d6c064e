//! What a handler does with an outcome.

use std::sync::Arc;

use carboy_promise::{Outcome, Resolver};
use pyo3::exceptions::{
    PyException, PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyTypeError,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyContext;

use super::awaitable::{is_awaitable, resolve};
use super::cleanup::Cleanup;
use super::host::{Core, PromiseHost, Value, reject};
use super::origin::Origin;
use super::owner::Owner;
use super::scope::Scope;
use super::scope_object;
use crate::ffi::context;
use crate::names;

/// A reaction that was made by `then` or one of its kin: the code, the context it runs in,
/// and the promise of its result.
pub(crate) struct Handler {
    action: Action,
    context: Option<Py<PyContext>>,
    resolver: Resolver<PromiseHost>,
}

/// What is done with an outcome.
pub(super) enum Action {
    /// `then`: one function for a value, one for an error.
    Then(Option<Py<PyAny>>, Option<Py<PyAny>>),
    /// `and_then`: a function for a value, which returns an awaitable.
    AndThen(Py<PyAny>),
    /// `catch`: a function for errors of a class.
    Catch(Py<PyAny>, Py<PyAny>),
    /// `settle`: a function for an outcome of either kind.
    Settle(Py<PyAny>),
    /// `finally_`: a function without arguments, after which the outcome is the same. The
    /// promise of the result has it, so that it runs when that is cancelled, too.
    Finally,
    /// `tap`: a function for a value, after which the outcome is the same.
    Tap(Py<PyAny>),
    /// `or_else`: a value instead of an error.
    OrElse(Py<PyAny>),
    /// An earlier outcome, unless the one that comes now is an error.
    Restore(Outcome<PromiseHost>),
}

/// What is to be called, and with what.
enum Call<'a> {
    Value(&'a Py<PyAny>),
    Error(&'a Py<PyAny>),
    Outcome(&'a Py<PyAny>),
}

impl Handler {
    /// A handler that settles a new promise, which is returned too. It runs in a copy of the
    /// context of the caller.
    pub(super) fn new(
        py: Python<'_>,
        source: &Core,
        action: Action,
        method: &str,
    ) -> PyResult<(Core, Self)> {
        let origin = Origin::after(py, source.origin(), method, action.function(py));
        let (promise, resolver) = Core::pending(Owner::current(py)?, origin);
        promise.depend_on(source);
        let handler = Self {
            action,
            context: Some(context::copy_current(py)?),
            resolver,
        };
        Ok((promise, handler))
    }

    /// Rejects the promise of what the handler would have returned: its event loop has ended.
    pub(super) fn give_up(self) {
        Python::attach(|py| {
            let error = PyRuntimeError::new_err(
                "the event loop that was to run this handler has ended: await the promise before \
                 it does, or call then() and its kin in sync code",
            );
            reject(py, &self.resolver, error);
        });
    }

    /// A handler for `finally_`.
    pub(super) fn with_cleanup(
        py: Python<'_>,
        source: &Core,
        function: Bound<'_, PyAny>,
    ) -> PyResult<(Core, Self)> {
        let origin = Origin::after(py, source.origin(), "finally_", Some(&function));
        let (promise, resolver) = Core::pending(Owner::current(py)?, origin);
        let cleanup = Cleanup::new(function.unbind(), context::copy_current(py)?);
        promise.set_cleanup(cleanup);
        promise.depend_on(source);
        let handler = Self {
            action: Action::Finally,
            context: None,
            resolver,
        };
        Ok((promise, handler))
    }

    /// The promise of the result.
    pub(super) fn promise(&self) -> &Core {
        self.resolver.promise()
    }

    /// Whether there is something to be called for this outcome.
    pub(super) fn needs_home(&self, outcome: &Outcome<PromiseHost>) -> bool {
        match (&self.action, outcome) {
            (Action::Then(function, _), Outcome::Fulfilled(_))
            | (Action::Then(_, function), Outcome::Rejected(_)) => function.is_some(),
            (Action::AndThen(_) | Action::Tap(_), outcome) => {
                matches!(outcome, Outcome::Fulfilled(_))
            }
            (Action::Catch(..), outcome) => matches!(outcome, Outcome::Rejected(_)),
            (Action::Finally | Action::Settle(_), _) => true,
            (Action::OrElse(_) | Action::Restore(_), _) => false,
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(context) = &self.context {
            visit.call(context)?;
        }
        match &self.action {
            Action::Then(on_value, on_error) => {
                for function in [on_value, on_error].into_iter().flatten() {
                    visit.call(function)?;
                }
                Ok(())
            }
            Action::Catch(class, function) => {
                visit.call(class)?;
                visit.call(function)
            }
            Action::AndThen(object)
            | Action::Settle(object)
            | Action::Tap(object)
            | Action::OrElse(object) => visit.call(object),
            Action::Finally => Ok(()),
            Action::Restore(Outcome::Fulfilled(Value(value))) => visit.call(value),
            Action::Restore(Outcome::Rejected(failure)) => failure.traverse(visit),
        }
    }

    /// Does what is to be done with the outcome, and settles the promise of the result.
    pub(super) fn run(self, py: Python<'_>, outcome: Outcome<PromiseHost>) {
        if self.resolver.promise().is_settled() {
            // Cancelled meanwhile: nobody wants the result.
            return;
        }
        if matches!(self.action, Action::Finally) {
            self.run_cleanup(py, outcome);
            return;
        }
        let called = match self.choose(py, &outcome) {
            Ok(Some(call)) => call,
            Ok(None) => {
                self.pass(py, outcome);
                return;
            }
            Err(error) => {
                reject(py, &self.resolver, error);
                return;
            }
        };
        match self.call(py, &called, &outcome) {
            Err(error) => self.fail(py, error),
            Ok(result) => match &self.action {
                Action::Tap(_) => self.restore(py, &result, outcome),
                Action::AndThen(_) if !is_awaitable(&result).unwrap_or(false) => {
                    let error = PyTypeError::new_err(format!(
                        "and_then() needs a function that returns a promise or another \
                         awaitable, not {}; then() takes any",
                        result.get_type()
                    ));
                    reject(py, &self.resolver, error);
                }
                _ => resolve(py, &self.resolver, &result, self.context.as_ref()),
            },
        }
    }

    /// Chooses what is to be called, if anything.
    fn choose(&self, py: Python<'_>, outcome: &Outcome<PromiseHost>) -> PyResult<Option<Call<'_>>> {
        Ok(match (&self.action, outcome) {
            (
                Action::Then(Some(function), _) | Action::AndThen(function) | Action::Tap(function),
                Outcome::Fulfilled(_),
            ) => Some(Call::Value(function)),
            (Action::Then(_, Some(function)), Outcome::Rejected(failure)) => {
                // Cancellation and the end of the program are not for everybody to catch.
                let is_exception = failure.error(py).is_instance_of::<PyException>();
                is_exception.then_some(Call::Error(function))
            }
            (Action::Catch(class, function), Outcome::Rejected(failure)) => failure
                .error(py)
                .is_instance(class.bind(py))?
                .then_some(Call::Error(function)),
            (Action::Settle(function), Outcome::Fulfilled(_)) => Some(Call::Outcome(function)),
            (Action::Settle(function), Outcome::Rejected(failure)) => {
                let is_exception = failure.error(py).is_instance_of::<PyException>();
                is_exception.then_some(Call::Outcome(function))
            }
            _ => None,
        })
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        call: &Call<'_>,
        outcome: &Outcome<PromiseHost>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (Call::Value(function) | Call::Error(function) | Call::Outcome(function)) = call;
        let argument = match (call, outcome) {
            (Call::Outcome(_), outcome) => as_object(py, outcome.clone())?,
            (_, Outcome::Fulfilled(Value(value))) => value.clone_ref(py),
            // With its own traceback, whoever has raised it meanwhile.
            (_, Outcome::Rejected(failure)) => {
                let error = failure.clone().into_error(py);
                error.into_value(py).into_any()
            }
        };
        let promise = self.resolver.promise();
        let here = Owner::current(py)?;
        here.begin_handler(promise.clone());
        let context = self.context.as_ref().map(|context| context.bind(py));
        let result = in_context(context, || {
            promise.origin().causes.become_known(py);
            if promise.origin().is_detached() {
                scope_object::set_current(py, Scope::detached(py))?;
            }
            function.bind(py).call1((argument,))
        });
        here.end_handler();
        result
    }

    /// Runs what `finally_` was given, unless a cancellation has done so.
    fn run_cleanup(self, py: Python<'_>, outcome: Outcome<PromiseHost>) {
        let promise = self.resolver.promise();
        let Some(cleanup) = promise.take_cleanup() else {
            return;
        };
        match cleanup.call(py, promise) {
            Err(error) => self.fail(py, error),
            Ok(result) if is_awaitable(&result).unwrap_or(false) => {
                let (waited, resolver) = cleanup.waiting(py, promise);
                resolve(py, &resolver, &result, Some(cleanup.context()));
                self.restore_after(&waited, outcome);
            }
            Ok(_) => {
                self.resolver.settle(outcome);
            }
        }
    }

    /// Rejects with what a handler has raised. What ends a program also goes on to whoever
    /// runs the handlers.
    fn fail(&self, py: Python<'_>, error: PyErr) {
        fails_program(py, &error);
        reject(py, &self.resolver, error);
    }

    /// Takes over the outcome, as far as nothing is to be called for it.
    fn pass(self, py: Python<'_>, outcome: Outcome<PromiseHost>) {
        match (self.action, outcome) {
            (Action::OrElse(value), Outcome::Rejected(failure))
                if failure.error(py).is_instance_of::<PyException>() =>
            {
                resolve(py, &self.resolver, value.bind(py), self.context.as_ref());
            }
            (Action::Restore(outcome), Outcome::Fulfilled(_)) | (_, outcome) => {
                self.resolver.settle(outcome);
            }
        }
    }

    /// Settles with an earlier outcome, as soon as what a function has returned is there.
    fn restore(self, py: Python<'_>, result: &Bound<'_, PyAny>, outcome: Outcome<PromiseHost>) {
        if !is_awaitable(result).unwrap_or(false) {
            self.resolver.settle(outcome);
            return;
        }
        let origin = Origin::after(py, self.resolver.promise().origin(), "tap", None);
        let (waited, resolver) = Core::pending(Arc::clone(self.promise().home()), origin);
        resolve(py, &resolver, result, self.context.as_ref());
        self.restore_after(&waited, outcome);
    }

    /// Settles with an earlier outcome after another promise, unless that fails.
    fn restore_after(self, waited: &Core, outcome: Outcome<PromiseHost>) {
        self.resolver.promise().depend_on(waited);
        waited.react(carboy_promise::Reaction::Handler(Self {
            action: Action::Restore(outcome),
            context: None,
            resolver: self.resolver,
        }));
    }
}

impl Action {
    /// What the user has passed to be called.
    fn function<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        match self {
            Self::Then(function, other) => function.as_ref().or(other.as_ref()),
            Self::AndThen(function)
            | Self::Catch(_, function)
            | Self::Settle(function)
            | Self::Tap(function) => Some(function),
            Self::OrElse(_) | Self::Finally | Self::Restore(_) => None,
        }
        .map(|function| function.bind(py))
    }
}

/// Does something in a context, or in the current one.
pub(super) fn in_context<T>(
    context: Option<&Bound<'_, PyContext>>,
    action: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    let Some(context) = context else {
        return action();
    };
    context::enter(context)?;
    let result = action();
    context::exit(context)?;
    result
}

/// Notes what ends the program, for whoever runs the handlers.
pub(super) fn fails_program(py: Python<'_>, error: &PyErr) {
    let ends_program =
        error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py);
    if ends_program {
        super::owner::end_program(error.clone_ref(py));
    }
}

/// An outcome as Python sees it: `Fulfilled(value)` or `Rejected(error)`.
pub(super) fn as_object(py: Python<'_>, outcome: Outcome<PromiseHost>) -> PyResult<Py<PyAny>> {
    let object = match outcome {
        Outcome::Fulfilled(Value(value)) => names::fulfilled(py)?.call1((value,))?,
        Outcome::Rejected(failure) => {
            let error = failure.into_error(py).into_value(py);
            names::rejected(py)?.call1((error,))?
        }
    };
    Ok(object.unbind())
}
