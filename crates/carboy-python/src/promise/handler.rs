//! What a handler does with an outcome.

use std::sync::Arc;

use carboy_promise::{Outcome, Resolver};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PySystemExit, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyContext;

use super::awaitable::{is_awaitable, resolve};
use super::host::{Core, Failure, PromiseHost, Value};
use super::origin::Origin;
use super::owner::Owner;
use crate::ffi::context;

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
    /// `finally_`: a function without arguments, after which the outcome is the same.
    Finally(Py<PyAny>),
    /// `tap`: a function for a value, after which the outcome is the same.
    Tap(Py<PyAny>),
    /// `or_else`: a value instead of an error.
    OrElse(Py<PyAny>),
    /// An earlier outcome, unless the one that comes now is an error.
    Restore(Outcome<PromiseHost>),
}

/// What is to be called, and what its result is for.
enum Call<'a> {
    WithValue(&'a Py<PyAny>),
    WithError(&'a Py<PyAny>),
    Without(&'a Py<PyAny>),
}

impl Handler {
    /// A handler that settles a new promise, which is returned too. It runs in a copy of the
    /// context of the caller.
    pub(super) fn new(
        py: Python<'_>,
        source: &Core,
        action: Action,
        label: &str,
    ) -> PyResult<(Core, Self)> {
        let (promise, resolver) = Core::pending(Owner::current(py)?, Origin::here(py, Some(label)));
        promise.depend_on(source);
        promise.origin().causes.add(&source.origin().causes);
        let handler = Self {
            action,
            context: Some(context::copy_current(py)?),
            resolver,
        };
        Ok((promise, handler))
    }

    pub(super) fn home(&self) -> &Arc<Owner> {
        self.resolver.promise().home()
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
            (Action::Finally(_), _) => true,
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
            | Action::Finally(object)
            | Action::Tap(object)
            | Action::OrElse(object) => visit.call(object),
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
        let called = match self.choose(py, &outcome) {
            Ok(Some(call)) => call,
            Ok(None) => {
                self.pass(py, outcome);
                return;
            }
            Err(error) => {
                self.resolver.reject(Failure::new(py, error));
                return;
            }
        };
        let result = self.call(py, &called, &outcome);
        match result {
            Err(error) => self.fail(py, error),
            Ok(result) => match &self.action {
                Action::Finally(_) | Action::Tap(_) => self.restore(py, &result, outcome),
                Action::AndThen(_) if !is_awaitable(&result).unwrap_or(false) => {
                    let error = PyTypeError::new_err(format!(
                        "and_then() needs a function that returns a promise or another \
                         awaitable, not {}; then() takes any",
                        result.get_type()
                    ));
                    self.resolver.reject(Failure::new(py, error));
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
            ) => Some(Call::WithValue(function)),
            (Action::Then(_, Some(function)), Outcome::Rejected(failure)) => {
                // Cancellation and the end of the program are not for everybody to catch.
                let is_exception = failure.error(py).is_instance_of::<PyException>();
                is_exception.then_some(Call::WithError(function))
            }
            (Action::Catch(class, function), Outcome::Rejected(failure)) => failure
                .error(py)
                .is_instance(class.bind(py))?
                .then_some(Call::WithError(function)),
            (Action::Finally(function), _) => Some(Call::Without(function)),
            _ => None,
        })
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        call: &Call<'_>,
        outcome: &Outcome<PromiseHost>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let here = Owner::current(py)?;
        here.begin_handler(self.resolver.promise().clone());
        let context = self.context.as_ref().map(|context| context.bind(py));
        if let Some(context) = context {
            context::enter(context)?;
            self.resolver.promise().origin().causes.become_known(py);
        }
        let result = match (call, outcome) {
            (Call::WithValue(function), Outcome::Fulfilled(Value(value))) => {
                function.bind(py).call1((value,))
            }
            (Call::WithError(function), Outcome::Rejected(failure)) => {
                function.bind(py).call1((failure.error(py),))
            }
            (
                Call::Without(function) | Call::WithValue(function) | Call::WithError(function),
                _,
            ) => function.bind(py).call0(),
        };
        here.end_handler();
        if let Some(context) = context {
            context::exit(context)?;
        }
        result
    }

    /// Rejects with what a handler has raised. What ends a program also goes on to whoever
    /// runs the handlers.
    fn fail(&self, py: Python<'_>, error: PyErr) {
        let ends_program = error.is_instance_of::<PyKeyboardInterrupt>(py)
            || error.is_instance_of::<PySystemExit>(py);
        if ends_program {
            super::owner::end_program(error.clone_ref(py));
        }
        self.resolver.reject(Failure::new(py, error));
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
        let home = Arc::clone(self.home());
        let (waited, resolver) = Core::pending(home, Origin::here(py, Some("finally_")));
        resolve(py, &resolver, result, self.context.as_ref());
        self.resolver.promise().depend_on(&waited);
        waited.react(carboy_promise::Reaction::Handler(Self {
            action: Action::Restore(outcome),
            context: None,
            resolver: self.resolver,
        }));
    }
}
