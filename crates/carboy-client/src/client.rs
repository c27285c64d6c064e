//! Makes calls: attempt by attempt, each on a connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;
use url::{Position, Url};

use crate::alarm_clock::AlarmClock;
use crate::call::Call;
use crate::connection::{Http1Connection, Http2Connection};
use crate::connector::Connector;
use crate::deadline::Deadline;
use crate::decoding::Decoder;
use crate::exchange::{Failure, exchange};
use crate::message::assemble;
use crate::pool::{Grant, Lease, Permit, Pool, PoolStatistics};
use crate::proxy::ProxyRules;
use crate::redirect;
use crate::request::{Request, Way};
use crate::resolver::Resolver;
use crate::response::{Response, ResponseHead};
use crate::response_body::ResponseBody;
use crate::retry::{RetryBudget, is_idempotent};
use crate::sending::Upload;
use crate::settings::{HttpVersions, PoolLimits, ResponseLimits, TlsVersions};
use crate::target::{Route, Target};
use crate::timings::Stopwatch;
use crate::tls::{Identity, Trust};
use crate::upload::RequestBody;
use crate::{Error, ErrorKind};

/// A connection that was idle for longer than this is looked at before it is used.
const TRUSTED_IDLE_TIME: Duration = Duration::from_millis(100);

/// How often a request is sent again that servers refuse without having looked at it.
const MOST_REFUSALS: u32 = 3;

/// A client that asks for more origins than this forgets where they lead, which costs little.
const MOST_KNOWN_TARGETS: usize = 1000;

/// How a client behaves.
#[derive(Debug, Default)]
pub struct ClientSettings {
    /// How many connections.
    pub pool: PoolLimits,
    /// How large responses may be.
    pub response: ResponseLimits,
    /// Which servers are trusted.
    pub trust: Trust,
    /// As whom to appear to servers that ask for a certificate.
    pub identity: Option<Identity>,
    /// Which versions of HTTP.
    pub versions: HttpVersions,
    /// Which versions of TLS.
    pub tls_versions: TlsVersions,
    /// Which proxies.
    pub proxies: ProxyRules,
    /// Who is asked for the addresses of names.
    pub resolver: Resolver,
}

/// Sends requests. Belongs to the thread of one runtime, as its connections do.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    settings: Arc<ClientSettings>,
    connector: Connector,
    pool: Pool,
    budget: RetryBudget,
    clock: Rc<AlarmClock>,
    /// Where the client's way leads for each origin that was asked for.
    targets: RefCell<HashMap<Box<str>, Rc<Target>>>,
}

impl Client {
    /// A client without connections.
    pub fn new(settings: Arc<ClientSettings>) -> Self {
        let connector = Connector::new(&settings);
        let pool = Pool::new(settings.pool, settings.versions);
        Self {
            shared: Rc::new(Shared {
                settings,
                connector,
                pool,
                budget: RetryBudget::new(),
                clock: Rc::default(),
                targets: RefCell::default(),
            }),
        }
    }

    /// How full the pool is.
    pub fn statistics(&self) -> PoolStatistics {
        self.shared.pool.statistics()
    }

    /// Closes what is idle; requests that come later fail.
    pub fn close(&self) {
        self.shared.pool.close();
    }

    /// Makes a call, to the end of the head of its last response. Needs the runtime of its thread.
    ///
    /// Dropping the future cancels the call down to the socket.
    ///
    /// # Errors
    ///
    /// Every kind; see [`ErrorKind`].
    pub fn send(&self, request: Request) -> impl Future<Output = Result<Response, Error>> + use<> {
        let stopwatch = Rc::new(Stopwatch::start());
        let deadline = Deadline::after(stopwatch.started(), request.timeouts.total);
        self.shared.budget.pay_in();
        let is_streamed = request.is_streamed;
        let call = Call::new(request, deadline, stopwatch);
        let shared = Rc::clone(&self.shared);
        async move {
            let mut response = shared.follow(call).await?;
            if is_streamed {
                response.body.without_deadline();
            }
            Ok(response)
        }
    }
}

impl Shared {
    /// Makes requests until a response is for the caller.
    async fn follow(&self, mut call: Box<Call>) -> Result<Response, Error> {
        loop {
            match self.attempt(&mut call).await {
                Ok((mut head, body)) => {
                    call.store_cookies(&head);
                    if call.answers_challenge(&head) {
                        Box::pin(body.discard()).await;
                        continue;
                    }
                    if let Some(wait) = self.wait_after_status(&mut call, &head) {
                        Box::pin(body.discard()).await;
                        Box::pin(tokio::time::sleep(wait)).await;
                        continue;
                    }
                    if call.request.redirects.is_some()
                        && redirect::is_redirect(head.status, &head.headers)
                    {
                        call.redirect(*head)?;
                        Box::pin(body.discard()).await;
                        continue;
                    }
                    head.request = call.following_request();
                    return Ok(Response {
                        head,
                        history: call.history,
                        body,
                    });
                }
                Err(error) => match self.wait_after_error(&mut call, &error) {
                    Some(wait) => Box::pin(tokio::time::sleep(wait)).await,
                    None => return Err(error),
                },
            }
        }
    }

    fn wait_after_status(&self, call: &mut Call, head: &ResponseHead) -> Option<Duration> {
        let request = &call.request;
        let is_wanted = request.retries.retries_status(head.status, &request.method);
        if !is_wanted {
            return None;
        }
        self.wait_for_retry(call, Some(&head.headers))
    }

    fn wait_after_error(&self, call: &mut Call, error: &Error) -> Option<Duration> {
        let request = &call.request;
        let is_wanted = request.retries.retries_error(error.kind(), &request.method);
        if !is_wanted {
            return None;
        }
        self.wait_for_retry(call, None)
    }

    /// The wait before one more attempt; `None` when there shall be none.
    fn wait_for_retry(&self, call: &mut Call, headers: Option<&HeaderMap>) -> Option<Duration> {
        let retries = &call.request.retries;
        if call.attempts >= retries.attempts || !call.request.body.is_repeatable() {
            return None;
        }
        let wait = retries.wait(call.attempts + 1, headers)?;
        let is_in_time = call
            .deadline
            .at()
            .is_none_or(|at| Instant::now() + wait < at);
        if !is_in_time || !self.budget.take() {
            return None;
        }
        call.attempts += 1;
        Some(wait)
    }

    /// Makes one request. Only connections that turn out to be closed are seen to here.
    async fn attempt(
        &self,
        call: &mut Call,
    ) -> Result<(Box<ResponseHead>, Box<ResponseBody>), Error> {
        let request = &mut call.request;
        let target = self.target(request)?;
        let timeouts = request.timeouts;
        let mut refusals = 0;
        loop {
            call.stopwatch.exchange_began(Instant::now());
            let lease = self.lease(&target, request, call.deadline, &call.stopwatch);
            let mut lease = lease.await?;
            let is_http2 = matches!(lease, Lease::Http2(_));
            if let RequestBody::Source(_) = request.body
                && let Some(before) = call.upload.take()
            {
                // A source makes one stream at a time.
                before.give_up();
            }
            let Some(body) = request.body.for_attempt() else {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    "the content is a stream that was sent already, and can't be sent again",
                ));
            };
            let (upload, progress) = Upload::new(body);
            call.upload = Some(progress.clone());
            let message = assemble(request, &target, is_http2, upload)?;
            call.authorization = message.headers().get(header::AUTHORIZATION).cloned();
            let keeps_head = request.is_plain && !is_http2;
            if keeps_head {
                lease.activity().record_head();
            }
            match exchange(
                &mut lease,
                message,
                &progress,
                &timeouts,
                call.deadline,
                &self.clock,
            )
            .await
            {
                Ok(response) => {
                    call.stopwatch.head_came();
                    let (mut head, incoming) = take_apart(response, &request.url);
                    if keeps_head {
                        head.raw = lease.activity().take_head();
                    }
                    let decoder = if request.is_plain {
                        None
                    } else {
                        Decoder::of(&head.headers)?
                    };
                    let body = Box::new(ResponseBody::new(
                        incoming,
                        lease,
                        decoder,
                        timeouts.read,
                        call.deadline,
                        Rc::clone(&call.stopwatch),
                        &self.clock,
                    ));
                    return Ok((head, body));
                }
                Err(Failure::Unsent(body, error)) => {
                    request.body.give_back(body);
                    if lease.requests() <= 1 {
                        // A connection of this very request: the next one would fare no better.
                        return Err(error);
                    }
                }
                Err(Failure::Unanswered { error, is_stale }) => {
                    let may_repeat = is_stale
                        && request.retries.repeats_stale
                        && is_idempotent(&request.method)
                        && request.body.is_repeatable();
                    if !may_repeat || std::mem::replace(&mut call.has_repeated, true) {
                        return Err(error.and(&request.retries.advice(&request.method)));
                    }
                }
                Err(Failure::Refused(error)) => {
                    let reason = if !request.body.is_repeatable() {
                        "its content is a stream that was sent already, and can't be sent again"
                            .to_owned()
                    } else if refusals == MOST_REFUSALS {
                        format!("{} times in a row", refusals + 1)
                    } else {
                        refusals += 1;
                        continue;
                    };
                    let message = format!("{error}: {reason}");
                    return Err(Error::new(error.kind(), message));
                }
                Err(Failure::Final(error)) => return Err(error),
            }
        }
    }

    fn target(&self, request: &Request) -> Result<Rc<Target>, Error> {
        if !matches!(request.way, Way::Default) {
            return Ok(Rc::new(Target::of(&request.url, self.route(request)?)?));
        }
        let origin = &request.url[..Position::AfterPort];
        if let Some(target) = self.targets.borrow().get(origin) {
            return Ok(Rc::clone(target));
        }
        let target = Rc::new(Target::of(&request.url, self.route(request)?)?);
        let mut targets = self.targets.borrow_mut();
        if targets.len() >= MOST_KNOWN_TARGETS {
            targets.clear();
        }
        targets.insert(origin.into(), Rc::clone(&target));
        Ok(target)
    }

    fn route(&self, request: &Request) -> Result<Route, Error> {
        Ok(match &request.way {
            Way::Direct => Route::Direct,
            Way::Proxy(proxy) => Route::Proxy(Arc::clone(proxy)),
            Way::Unix(path) => Route::Unix(path.clone()),
            Way::Default => match self.settings.proxies.find(&request.url)? {
                Some(proxy) => Route::Proxy(proxy),
                None => Route::Direct,
            },
        })
    }

    /// A connection to the target that looks alive.
    async fn lease(
        &self,
        target: &Rc<Target>,
        request: &Request,
        deadline: Deadline,
        stopwatch: &Stopwatch,
    ) -> Result<Lease, Error> {
        loop {
            let grant = match self.pool.acquire_now(target)? {
                Some(grant) => grant,
                None => {
                    let waiting = self.pool.acquire(target, &request.timeouts);
                    Box::pin(deadline.limit(waiting)).await?
                }
            };
            match grant {
                Grant::Reuse(lease) => {
                    if lease.idle_time() > TRUSTED_IDLE_TIME || !is_idempotent(&request.method) {
                        // The runtime looks at its sockets before this goes on, so that the end
                        // of a connection that the server has closed is seen.
                        tokio::task::yield_now().await;
                        if lease.is_closed() {
                            continue;
                        }
                    }
                    stopwatch.acquired(true);
                    return Ok(lease);
                }
                Grant::Open(permit) => {
                    // This is rare, and much code: it is not to make each call's future larger.
                    let timeout = request.timeouts.connect;
                    let connecting = self.connect_within(target, timeout, permit, stopwatch);
                    let lease = Box::pin(deadline.limit(connecting)).await?;
                    stopwatch.acquired(false);
                    return Ok(lease);
                }
            }
        }
    }

    async fn connect_within(
        &self,
        target: &Target,
        timeout: Option<Duration>,
        permit: Permit,
        stopwatch: &Stopwatch,
    ) -> Result<Lease, Error> {
        let began = Instant::now();
        let connecting = self.connect(target, permit, stopwatch);
        let Some(timeout) = timeout else {
            return connecting.await;
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(lease)) => Ok(lease),
            // What fails late is late, also where the timer is too coarse to say so.
            Ok(Err(error)) if began.elapsed() < timeout => Err(error),
            Ok(Err(_)) | Err(_) => {
                let (seconds, authority) = (timeout.as_secs_f64(), target.authority());
                let phase = if stopwatch.is_resolving() {
                    ": the name is still being looked up"
                } else {
                    ""
                };
                let message = format!("no connection to {authority} within {seconds} s{phase}");
                Err(Error::new(ErrorKind::ConnectTimeout, message))
            }
        }
    }

    async fn connect(
        &self,
        target: &Target,
        permit: Permit,
        stopwatch: &Stopwatch,
    ) -> Result<Lease, Error> {
        let began = Instant::now();
        let connected = self.connector.connect(target, stopwatch).await?;
        let connect_time = began.elapsed();
        let limits = &self.settings.response;
        if connected.speaks_http2 {
            let connection =
                Http2Connection::open(connected.socket, connect_time, permit, limits).await?;
            Ok(self.pool.share(connection))
        } else {
            let connection =
                Http1Connection::open(connected.socket, connect_time, permit, limits).await?;
            Ok(self.pool.lease(connection))
        }
    }
}

fn take_apart(response: hyper::Response<Incoming>, url: &Url) -> (Box<ResponseHead>, Incoming) {
    let (parts, incoming) = response.into_parts();
    let reason = parts.extensions.get::<ReasonPhrase>();
    let head = Box::new(ResponseHead {
        status: parts.status,
        reason: reason.map(|reason| reason.as_bytes().to_vec()),
        version: parts.version,
        headers: parts.headers,
        raw: None,
        url: url.clone(),
        request: None,
    });
    (head, incoming)
}
