//! One call on its way, for Python.

use std::sync::Arc;

use carboy_client::{Content, Error, Request, Response};
use pyo3::prelude::*;
use pyo3::types::PyString;
use tokio::sync::oneshot;

use super::call_template::CallTemplate;
use super::content::{ContentStream, Reading};
use super::error::exception;
use super::home::{self, Household};
use super::response::ResponseData;
use crate::ffi::thread_state;
use crate::promise::{PendingPromise, native_loop};
use crate::runtime;
use crate::worker::post_to_loop;

/// What Python knows as the request: an object, or what one is made of when it is asked for.
pub(super) enum CallRequest {
    Made(Py<PyAny>),
    OfTemplate(TemplateRequest),
}

/// A request of a template.
pub(super) struct TemplateRequest {
    pub(super) template: Py<CallTemplate>,
    pub(super) method: Py<PyString>,
    pub(super) url: Py<PyString>,
}

impl TemplateRequest {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            template: self.template.clone_ref(py),
            method: self.method.clone_ref(py),
            url: self.url.clone_ref(py),
        }
    }

    pub(super) fn make(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.template
            .get()
            .make_request(py, &self.method, &self.url)
    }
}

impl CallRequest {
    /// The object.
    pub(super) fn object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Made(request) => Ok(request.clone_ref(py)),
            Self::OfTemplate(request) => request.make(py),
        }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Made(request) => Self::Made(request.clone_ref(py)),
            Self::OfTemplate(request) => Self::OfTemplate(request.clone_ref(py)),
        }
    }

    /// The exception for an error of the call.
    pub(super) fn exception(&self, py: Python<'_>, error: &Error) -> PyErr {
        match self.object(py) {
            Ok(request) => exception(py, error, &request),
            Err(error) => error,
        }
    }
}

/// A call, for Python.
pub(super) struct Call {
    pub(super) request: CallRequest,
    /// What is called with the request (or `None` if it is to be made when asked for) and the
    /// response's data, and returns the response.
    pub(super) response_class: Py<PyAny>,
    pub(super) pending: PendingPromise,
}

impl Call {
    /// Begins the call on the thread of a loop of carboy's: here, if one runs here.
    pub(super) fn begin(
        self,
        py: Python<'_>,
        household: Arc<Household>,
        request: Request,
    ) -> PyResult<()> {
        let (cancel, cancelled) = oneshot::channel();
        self.pending.on_cancel(move || {
            // A call that has ended has nothing to cancel.
            cancel.send(()).ok();
        });
        let reading = request
            .is_streamed
            .then(|| {
                let limit_bytes = household.settings.response.content_bytes;
                Reading::new(py, request.url.as_str(), limit_bytes)
            })
            .transpose()?;
        if thread_state::is_driving() {
            self.start(&household, request, cancelled, reading);
            return Ok(());
        }
        let event_loop = match native_loop(py) {
            Ok(event_loop) => event_loop,
            Err(error) => {
                self.pending.reject(py, error);
                return Ok(());
            }
        };
        let begin = move |_: Python<'_>| self.start(&household, request, cancelled, reading);
        post_to_loop(&event_loop, Box::new(begin))
    }

    /// Starts the call on this thread, which runs a loop of carboy's.
    fn start(
        self,
        household: &Arc<Household>,
        request: Request,
        cancelled: oneshot::Receiver<()>,
        reading: Option<Reading>,
    ) {
        let limit = household.settings.response.content_bytes;
        let limit = (!request.is_streamed).then_some(limit);
        let response = home::client_here(household).send(request);
        // The runtime moves a task several times: what is as large as this is moved once.
        runtime::spawn(Box::pin(run(response, limit, cancelled, self, reading)));
    }

    /// Rejects the promise: the call can't be made.
    pub(super) fn refuse(self, py: Python<'_>, error: &Error) {
        let error = self.request.exception(py, error);
        self.pending.reject(py, error);
    }

    fn settle(self, py: Python<'_>, outcome: Result<Made, Error>, reading: Option<Reading>) {
        let Self {
            request,
            response_class,
            pending,
        } = self;
        let made = match outcome {
            Ok(made) => Self::response(py, request, &response_class, made, reading),
            Err(error) => Err(request.exception(py, &error)),
        };
        match made {
            Ok(response) => pending.fulfil(py, response),
            Err(error) => pending.reject(py, error),
        }
    }

    fn response(
        py: Python<'_>,
        request: CallRequest,
        response_class: &Py<PyAny>,
        (response, content): Made,
        reading: Option<Reading>,
    ) -> PyResult<Py<PyAny>> {
        let timings = response.body.timings();
        let stream = match content {
            Some(_) => None,
            None => {
                let (stream, reader) =
                    ContentStream::new(response.body, request.clone_ref(py), reading);
                runtime::spawn(reader);
                Some(Py::new(py, stream)?)
            }
        };
        let (request, source) = match request {
            CallRequest::Made(request) => (request, None),
            CallRequest::OfTemplate(source) => (py.None(), Some(source)),
        };
        let (head, history) = (response.head, response.history);
        let data = ResponseData::new(py, source, head, history, content, stream, timings)?;
        response_class.call1(py, (request, data))
    }
}

/// Waits for the response, and for its content up to a limit if there is one; settles the promise,
/// unless the call is cancelled.
async fn run(
    response: impl Future<Output = Result<Response, Error>>,
    limit: Option<u64>,
    mut cancelled: oneshot::Receiver<()>,
    call: Call,
    reading: Option<Reading>,
) {
    let sent = tokio::select! {
        biased;
        // What has no response yet is broken off.
        Ok(()) = &mut cancelled => return,
        sent = response => sent,
    };
    let made = match (sent, limit) {
        (Err(error), _) => Err(error),
        (Ok(response), None) => Ok((response, None)),
        (Ok(mut response), Some(limit)) => {
            let content = tokio::select! {
                biased;
                Ok(()) = &mut cancelled => None,
                content = response.body.collect(limit) => Some(content),
            };
            match content {
                None => return response.body.abandon().await,
                Some(content) => content.map(|content| (response, Some(content))),
            }
        }
    };
    Python::attach(|py| call.settle(py, made, reading));
}

/// What a call has brought: a response, with its content unless that is streamed.
type Made = (Response, Option<Content>);
