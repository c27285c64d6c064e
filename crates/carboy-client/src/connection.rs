//! Open connections as the pool keeps them, and the one place that starts tasks.
//!
//! hyper splits a connection into a handle that sends requests and a future that does the work.
//! The future is a task of the thread's own runtime. It ends with the connection, or when the
//! handle is dropped; nobody waits for it. Dropping the handle in the middle of a request ends
//! the task at once: hyper itself would go round in circles there while the server takes no more
//! of the request.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::activity::Activity;
use crate::pool::Permit;
use crate::sending::{Beginning, Upload};
use crate::settings::ResponseLimits;
use crate::stream::{Socket, Stream};
use crate::{Error, ErrorKind};

/// hyper's own limit of header fields. It makes room for as many at each response, and quicker if
/// it was told of no other limit.
const HYPER_HEADER_COUNT: usize = 100;

/// Starts a task on this thread.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) -> AbortHandle {
    tokio::task::spawn_local(task).abort_handle()
}

/// Starts hyper's tasks of an HTTP/2 connection on this thread.
#[derive(Clone, Debug)]
struct LocalExecutor {
    beginning: Beginning,
}

impl<F> Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        self.beginning.has_task(spawn(task));
    }
}

/// An HTTP/1.1 connection: one request at a time.
pub(crate) struct Http1Connection {
    sender: http1::SendRequest<Upload>,
    pub(crate) activity: Rc<Activity>,
    /// When it became idle last.
    pub(crate) idle_since: Instant,
    /// For how long it is used after that, if the server has said so.
    pub(crate) longest_idle_time: Option<Duration>,
    /// How many requests it has served.
    pub(crate) requests: u32,
    /// How long it took to open it.
    pub(crate) connect_time: Duration,
    /// Whether a request was sent whose response was not read to its end.
    is_busy: bool,
    task: AbortHandle,
    /// Its place among the connections that there may be, until it is dropped.
    permit: Permit,
}

impl Http1Connection {
    pub(crate) async fn open(
        socket: Socket,
        connect_time: Duration,
        permit: Permit,
        limits: &ResponseLimits,
    ) -> Result<Self, Error> {
        let activity = Rc::new(Activity::default());
        let stream = TokioIo::new(Stream::new(socket, Rc::clone(&activity), true));
        let mut builder = http1::Builder::new();
        if limits.header_count != HYPER_HEADER_COUNT {
            builder.max_headers(limits.header_count);
        }
        let (sender, connection) = builder
            .max_header_size(limits.head_bytes)
            .title_case_headers(true)
            .handshake(stream)
            .await
            .map_err(|error| Error::caused(ErrorKind::Connect, "no HTTP connection", error))?;
        let when_ended = permit.when_ended();
        let task = spawn(async move {
            // What goes wrong is told to who waits for a response.
            connection.await.ok();
            when_ended();
        });
        Ok(Self {
            sender,
            activity,
            idle_since: Instant::now(),
            longest_idle_time: None,
            requests: 0,
            connect_time,
            is_busy: false,
            task,
            permit,
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.activity.has_lost_write()
    }

    /// Whether it was idle for longer than the server keeps it, or than it is to be.
    pub(crate) fn is_expired(&self, now: Instant, idle_timeout: Duration) -> bool {
        let longest = self.longest_idle_time.unwrap_or(idle_timeout);
        now.duration_since(self.idle_since) >= longest.min(idle_timeout)
    }

    /// Notes that the response was read to its end.
    pub(crate) fn end_request(&mut self) {
        self.is_busy = false;
    }

    /// Whether the next request can be sent at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until the next request can be sent; `false` when the connection has ended.
    pub(crate) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(crate) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        self.requests += 1;
        self.is_busy = true;
        self.sender.try_send_request(request)
    }

    pub(crate) fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl Drop for Http1Connection {
    fn drop(&mut self) {
        if self.is_busy {
            self.task.abort();
        }
    }
}

/// The half of an HTTP/2 connection that does the work, and knows what the server allows.
type Http2Driver = http2::Connection<TokioIo<Stream>, Upload, LocalExecutor>;

/// How many streams there may be, in hyper's words, until the server has told: a number that no
/// server can tell, since theirs have 32 bits (RFC 9113 section 6.5.1), and that is not the one
/// for those that set no limit.
const UNTOLD_STREAMS: usize = usize::MAX - 1;

/// Of how many streams that were left it is remembered for a second that what still comes for
/// them is nothing to answer.
const REMEMBERED_STREAMS: usize = 1000;

/// An HTTP/2 connection: many requests at a time.
pub(crate) struct Http2Connection {
    sender: http2::SendRequest<Upload>,
    driver: Weak<RefCell<Http2Driver>>,
    /// How many streams there may be until the server has told.
    untold_streams: usize,
    pub(crate) activity: Rc<Activity>,
    pub(crate) streams: Cell<usize>,
    pub(crate) idle_since: Cell<Instant>,
    pub(crate) requests: Cell<u32>,
    pub(crate) connect_time: Duration,
    beginning: Beginning,
    /// Whether no further request is to be sent.
    is_distrusted: Cell<bool>,
    permit: Permit,
}

impl Http2Connection {
    pub(crate) async fn open(
        socket: Socket,
        connect_time: Duration,
        permit: Permit,
        limits: &ResponseLimits,
    ) -> Result<Self, Error> {
        let activity = Rc::new(Activity::default());
        activity.watch(true);
        let stream = TokioIo::new(Stream::new(socket, Rc::clone(&activity), false));
        let head_bytes = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
        let beginning = Beginning::default();
        let executor = LocalExecutor {
            beginning: beginning.clone(),
        };
        let (sender, connection) = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .max_header_list_size(head_bytes)
            .initial_max_send_streams(UNTOLD_STREAMS)
            .max_concurrent_reset_streams(REMEMBERED_STREAMS)
            // What comes for a stream that is forgotten is answered by a reset. As many of them as
            // are h2's limit would end the connection and all calls on it; a client that leaves
            // what it has asked for is no attack by the server. There are no more of them than the
            // client has opened streams.
            .max_local_error_reset_streams(None)
            .adaptive_window(true)
            .handshake(stream)
            .await
            .map_err(|error| Error::caused(ErrorKind::Connect, "no HTTP/2 connection", error))?;
        let driver = Rc::new(RefCell::new(connection));
        let weak_driver = Rc::downgrade(&driver);
        let (when_told, when_ended) = (permit.when_told(), permit.when_ended());
        let its_activity = Rc::clone(&activity);
        spawn(async move {
            let mut known = UNTOLD_STREAMS;
            poll_fn(|context| {
                its_activity.set_watcher(context.waker());
                let ended = Pin::new(&mut *driver.borrow_mut()).poll(context);
                if ended.is_ready() {
                    return Poll::Ready(());
                }
                let streams = driver.borrow().current_max_send_streams();
                if streams != known {
                    known = streams;
                    // From now on it is of interest only while somebody waits for a stream.
                    its_activity.watch(when_told(streams));
                }
                Poll::Pending
            })
            .await;
            drop(driver);
            when_ended();
        });
        let untold_streams = permit.expected_streams();
        Ok(Self {
            sender,
            driver: weak_driver,
            untold_streams,
            activity,
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            requests: Cell::new(0),
            connect_time,
            beginning,
            is_distrusted: Cell::new(false),
            permit,
        })
    }

    /// Whether it takes no further requests.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
            || self.is_distrusted.get()
            // Nobody could ever use it.
            || (self.streams.get() == 0 && self.streams_allowed() == 0)
    }

    /// How many requests the server takes at a time (RFC 9113 section 5.1.2). Until it has told,
    /// as many as on its last connection, or one.
    pub(crate) fn streams_allowed(&self) -> usize {
        let Some(driver) = self.driver.upgrade() else {
            return 0;
        };
        // While it works it may call others.
        let told = driver
            .try_borrow()
            .map_or(UNTOLD_STREAMS, |driver| driver.current_max_send_streams());
        if told == UNTOLD_STREAMS {
            self.untold_streams
        } else {
            told
        }
    }

    /// Takes no further requests: the server has said so, or nothing has come for as long as one
    /// may wait. Then the way to the server may be interrupted, and those who come later are not
    /// to find out one by one.
    pub(crate) fn distrust(&self) {
        self.is_distrusted.set(true);
    }

    pub(crate) fn send(
        &self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        self.requests.set(self.requests.get() + 1);
        request.body().begins_with(&self.beginning);
        self.sender.clone().try_send_request(request)
    }

    pub(crate) fn permit(&self) -> &Permit {
        &self.permit
    }
}
