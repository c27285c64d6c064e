//! The application that `carboy-server` calls: decides between the loop and a worker.

use std::future::{Future, poll_fn};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use carboy_server::{
    Admission, Application, BodyError, Buffered, Request, RequestBody, Response, ResponseBody,
    TakeoverResponse,
};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, StatusCode};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::oneshot;

use crate::event_loop::NativeEventLoop;
use crate::ffi::context;
use crate::flask::{
    DispatchPlan, Placement, Reason, RequestSource, Route, RouteQuery, Sink, serve_view,
    start_on_loop_thread,
};
use crate::names;
use crate::promise::{begin_scope_of_request, end_scope_of_request};
use crate::worker::{Pool, with_request_input};
use crate::wsgi::{
    EnvironSettings, InputStream, RequestHead, Responder, build_environ, serve_wsgi,
};

/// A body up to this size is collected before an async view runs on the loop; a larger one
/// is served on a worker, where the view's reads may wait.
const BODY_ON_LOOP_BYTES: usize = 1024 * 1024;

/// The server's own answer to a request whose time is up.
const TIME_IS_UP: &str = "504 Gateway Timeout: the time for this request is up\n";

/// A body that is declared to be no larger is waited for before a worker gets the request: a
/// client on a slow line must not hold a thread while it sends a form. What has arrived of
/// others goes to the worker at once, up to this size.
const BODY_AT_ONCE_BYTES: usize = 64 * 1024;

/// A Python application, as the server sees it.
pub(super) struct PythonApplication(Rc<Parts>);

struct Parts {
    plan: Arc<DispatchPlan>,
    pool: Arc<Pool>,
    event_loop: Py<NativeEventLoop>,
    settings: Arc<EnvironSettings>,
}

impl PythonApplication {
    pub(super) fn new(
        plan: Arc<DispatchPlan>,
        pool: Arc<Pool>,
        event_loop: Py<NativeEventLoop>,
        settings: EnvironSettings,
    ) -> Self {
        let settings = Arc::new(settings);
        Self(Rc::new(Parts {
            plan,
            pool,
            event_loop,
            settings,
        }))
    }
}

impl Application for PythonApplication {
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static {
        let parts = Rc::clone(&self.0);
        async move { parts.serve(request).await }
    }
}

impl Parts {
    async fn serve(&self, request: Request) -> Response {
        let Request {
            method,
            uri,
            raw_target,
            version,
            headers,
            body,
            connection,
            takeover,
            client,
            admission,
        } = request;
        let settings = Arc::clone(&self.settings);
        let head = Arc::new(RequestHead::new(
            (method, uri, raw_target, version, headers),
            &connection,
            client,
            settings,
        ));
        let placement = if takeover.is_some() {
            Placement::OnWorker(Reason::Upgrade, None)
        } else if body.expects_continue() {
            // Who asks first is answered when the view reads, not before it runs.
            Placement::OnWorker(Reason::ExpectsContinue, None)
        } else {
            self.place(&head)
        };
        let (reason, route) = match placement {
            Placement::OnLoop(route) => {
                return self.serve_routed(head, body, route, admission).await;
            }
            Placement::OnWorker(reason, route) => (reason, route),
        };
        self.plan.count_on_worker(reason);
        let input = match arriving_input(body).await {
            Ok(input) => input,
            Err(error) => InputStream::failed(error),
        };
        let input = input.of(&head);
        match takeover.map(carboy_server::TakeoverOffer::accept) {
            Some(Ok((socket, takeover))) => {
                self.serve_takeover(head, input, (socket, takeover), admission)
                    .await
            }
            // Without a descriptor for the socket the application sees an ordinary request.
            Some(Err(_)) | None => self.serve_on_worker(head, input, route, admission).await,
        }
    }

    /// Serves a request of an async view: on the loop, once its body has arrived.
    async fn serve_routed(
        &self,
        head: Arc<RequestHead>,
        body: RequestBody,
        route: Route,
        admission: Admission,
    ) -> Response {
        let content = if body.is_empty() {
            Bytes::new()
        } else {
            match body.buffer(BODY_ON_LOOP_BYTES).await {
                Buffered::Complete(content) => content,
                Buffered::Partial { prefix, rest } => {
                    self.plan.count_on_worker(Reason::LargeBody);
                    let input = InputStream::arriving(rest.into_reader(prefix)).of(&head);
                    return self.serve_on_worker(head, input, None, admission).await;
                }
                Buffered::Failed(error) => return refuse(&error),
            }
        };
        self.plan.count_on_loop();
        self.serve_on_loop(head, content, route, admission).await
    }

    fn place(&self, head: &RequestHead) -> Placement {
        let path = head.decoded_path();
        let host = match head.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => head
                .headers
                .get(HOST)
                .map_or(&[][..], HeaderValue::as_bytes),
        };
        let query = RouteQuery::new(head.method.as_str(), std::str::from_utf8(&path).ok(), host);
        Python::attach(|py| self.plan.place(py, &query))
    }

    async fn serve_on_loop(
        &self,
        head: Arc<RequestHead>,
        content: Bytes,
        route: Route,
        admission: Admission,
    ) -> Response {
        let (responder, answer) = Responder::new(&head.method, admission);
        let answer = await_answer(answer, Arc::clone(&head));
        Python::attach(|py| {
            let started = context::new_empty(py).and_then(|context| {
                let source = RequestSource::Connection(head, content);
                let sink = Sink::Connection(responder, Arc::clone(&self.pool));
                let event_loop = self.event_loop.bind(py);
                start_on_loop_thread(
                    event_loop,
                    &self.plan,
                    source,
                    route,
                    context.bind(py),
                    sink,
                )
            });
            if let Err(error) = started {
                error.write_unraisable(py, None);
            }
        });
        answer.await
    }

    /// Serves a request on a worker. With a route, nothing but its view is the application's.
    async fn serve_on_worker(
        &self,
        head: Arc<RequestHead>,
        input: InputStream,
        route: Option<Route>,
        admission: Admission,
    ) -> Response {
        let (responder, answer) = Responder::new(&head.method, admission);
        let answer = await_answer(answer, Arc::clone(&head));
        match route {
            None => self.dispatch(head, input, responder, None),
            Some(route) => self.dispatch_view(head, input, responder, route),
        }
        answer.await
    }

    /// Serves a request that asks for an upgrade: a library in the application may take
    /// the connection over by the socket in the environ, or answer in the ordinary way.
    async fn serve_takeover(
        &self,
        head: Arc<RequestHead>,
        input: InputStream,
        (socket, takeover): (UnixStream, TakeoverResponse),
        admission: Admission,
    ) -> Response {
        let (responder, answer) = Responder::new(&head.method, admission);
        let answer = await_answer(answer, Arc::clone(&head));
        self.dispatch(head, input, responder, Some(socket));
        takeover.or_answer(answer).await
    }

    fn dispatch(
        &self,
        head: Arc<RequestHead>,
        input: InputStream,
        responder: Responder,
        socket: Option<UnixStream>,
    ) {
        let plan = Arc::clone(&self.plan);
        self.pool.dispatch(Box::new(move |py| {
            let served = plan.application(py).and_then(|application| {
                serve_on_this_thread(&application, &head, input, responder, socket)
            });
            if let Err(error) = served {
                error.write_unraisable(py, None);
            }
        }));
    }

    fn dispatch_view(
        &self,
        head: Arc<RequestHead>,
        input: InputStream,
        responder: Responder,
        route: Route,
    ) {
        let plan = Arc::clone(&self.plan);
        self.pool.dispatch(Box::new(move |py| {
            let served = plan.application(py).and_then(|application| {
                let input = Py::new(py, input)?;
                in_context_of_request(py, &input, || {
                    serve_view(&plan, &application, head, &input, &route, responder)
                })?
            });
            if let Err(error) = served {
                error.write_unraisable(py, None);
            }
        }));
    }
}

/// Does something in a fresh and empty context, and ends the request of this body.
fn in_context_of_request<T>(
    py: Python<'_>,
    input: &Py<InputStream>,
    serve: impl FnOnce() -> T,
) -> PyResult<T> {
    let context = context::new_empty(py)?.into_bound(py);
    context::enter(&context)?;
    if let Some(head) = input.get().request()
        && head.life.time_left().is_some()
        && let Err(error) = begin_scope_of_request(py, head, None)
    {
        error.write_unraisable(py, None);
    }
    let result = with_request_input(py, input, serve);
    end_scope_of_request(py);
    context::exit(&context).and(input.get().release(py))?;
    Ok(result)
}

/// A worker's side: the whole request, in a fresh and empty context.
fn serve_on_this_thread(
    application: &Bound<'_, PyAny>,
    head: &RequestHead,
    input: InputStream,
    responder: Responder,
    socket: Option<UnixStream>,
) -> PyResult<()> {
    let py = application.py();
    let input = Py::new(py, input)?;
    let environ = build_environ(py, head, &input)?;
    let socket = socket
        .map(|socket| offer_socket(&environ, socket))
        .transpose()?;
    let left = in_context_of_request(py, &input, || {
        serve_wsgi(py, application, &environ, responder);
    });
    if let Some(socket) = socket {
        socket.call_method0("close")?;
    }
    left
}

/// Puts a socket into the environ under the name of Werkzeug's server: what libraries that
/// speak websockets by themselves look for.
fn offer_socket<'py>(
    environ: &Bound<'py, PyDict>,
    socket: UnixStream,
) -> PyResult<Bound<'py, PyAny>> {
    let py = environ.py();
    let keywords = PyDict::new(py);
    keywords.set_item("fileno", socket.into_raw_fd())?;
    let socket = names::socket(py)?.call((), Some(&keywords))?;
    environ.set_item("werkzeug.socket", &socket)?;
    Ok(socket)
}

/// The body for a worker: what is there at once, the rest as it is read.
async fn arriving_input(body: RequestBody) -> Result<InputStream, BodyError> {
    if body.is_empty() {
        return Ok(InputStream::complete(Bytes::new()));
    }
    // Who expects "100 Continue" gets it when the application begins to read.
    if body.expects_continue() {
        return Ok(InputStream::arriving(body.into_reader(Vec::new())));
    }
    let is_small = body.content_length().is_some_and(|length| {
        usize::try_from(length).is_ok_and(|length| length <= BODY_AT_ONCE_BYTES)
    });
    let buffered = if is_small {
        body.buffer(BODY_AT_ONCE_BYTES).await
    } else {
        body.buffer_available(BODY_AT_ONCE_BYTES).await
    };
    match buffered {
        Buffered::Complete(content) => Ok(InputStream::complete(content)),
        Buffered::Partial { prefix, rest } => Ok(InputStream::arriving(rest.into_reader(prefix))),
        Buffered::Failed(error) => Err(error),
    }
}

/// Waits for the application's answer, or for the end of the time that there is for it.
async fn await_answer(mut answer: oneshot::Receiver<Response>, head: Arc<RequestHead>) -> Response {
    let mut timer = None;
    poll_fn(|task| {
        if let Poll::Ready(answer) = Pin::new(&mut answer).poll(task) {
            // A request that was broken off before its head has nothing better to say.
            let broken_off =
                |_| plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n");
            return Poll::Ready(answer.unwrap_or_else(broken_off));
        }
        let is_late = head.life.poll_answer_limit(&mut timer, task);
        is_late.map(|()| plain(StatusCode::GATEWAY_TIMEOUT, TIME_IS_UP))
    })
    .await
}

/// The answer to a request whose body can't be had, where no application reads it.
fn refuse(error: &BodyError) -> Response {
    let status = match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        BodyError::Incomplete | BodyError::Malformed => StatusCode::BAD_REQUEST,
    };
    plain(status, &format!("{status}: {error}\n"))
}

fn plain(status: StatusCode, message: &str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    let mut response = Response::new(ResponseBody::full(Bytes::from(message.to_owned())));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
