//! Takes each head from hyper, asks the gate, asks the application, and looks at
//! the response once more on its way back.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::access_log::RequestLine;
use crate::connection_context::ConnectionContext;
use crate::outgoing::Outgoing;
use crate::request_body::Terms;
use crate::request_record::RequestRecord;
use crate::response_check::ResponseCheck;
use crate::{
    Application, Client, Refusal, Request, RequestBody, Response, ResponseBody, TakeoverOffer, gate,
};

/// When a client may try again that was refused for overload: as soon as there may be room.
const RETRY_AFTER_SECONDS: &str = "1";

/// Answers the requests of one connection.
#[derive(Debug)]
pub(crate) struct Service<A> {
    pub(crate) application: Rc<A>,
    pub(crate) context: Rc<ConnectionContext>,
}

impl<A: Application> hyper::service::Service<http::Request<Incoming>> for Service<A> {
    type Response = http::Response<Outgoing>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let context = &self.context;
        let raw_target = context.activity.take_raw_target();
        if let Some(refused) = context.activity.take_head() {
            let line = refused
                .line
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let record = RequestRecord::begin(Rc::clone(context), || {
                line.unwrap_or_else(|| RequestLine::raw(b""))
            });
            return Answer::refusal(refused.reason, record);
        }
        let (mut head, incoming) = request.into_parts();
        let mut record = RequestRecord::begin(Rc::clone(context), || {
            RequestLine::Parsed(head.method.clone(), head.uri.clone(), head.version)
        });
        if let Err(reason) = gate::check(&head.method, &head.uri, head.version, &head.headers) {
            return Answer::refusal(reason, record);
        }
        let Some(admission) = context.server().request_limit.admit() else {
            return Answer::refusal(Refusal::Overloaded, record);
        };
        record.admitted(admission.clone());
        let config = &context.server().config;
        let expects_continue =
            head.version >= Version::HTTP_11 && head.headers.contains_key(EXPECT);
        let understands_interim = head.version >= Version::HTTP_11 && !expects_continue;
        context.activity.allow_interim_response(understands_interim);
        let check = ResponseCheck {
            for_head: head.method == Method::HEAD,
            may_take_over: head.version >= Version::HTTP_11 && head.headers.contains_key(UPGRADE),
        };
        let takeover = if check.may_take_over && asks_for_upgrade(&head.headers) {
            let upgrade = head.extensions.remove::<OnUpgrade>();
            upgrade.map(|upgrade| TakeoverOffer::new(upgrade, Rc::clone(context)))
        } else {
            None
        };
        let request = Request {
            method: head.method,
            uri: head.uri,
            raw_target,
            version: head.version,
            headers: head.headers,
            body: RequestBody::from_network(
                incoming,
                Terms {
                    limit_bytes: config.limits.body_bytes,
                    read_idle: Some(config.timeouts.body_read_idle),
                    expects_continue,
                    activity: Some(Arc::clone(&context.activity)),
                },
            ),
            connection: Rc::clone(&context.info),
            client: Client::new(&context.activity),
            takeover,
            admission,
        };
        let source = Source::Application(Box::pin(self.application.call(request)));
        Answer {
            source,
            check,
            record: Some(record),
        }
    }
}

/// Whether `Connection` names `upgrade`, without which `Upgrade` says nothing
/// (RFC 9110 section 7.8).
fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    })
}

/// One answer in the making.
pub(crate) struct Answer {
    source: Source,
    check: ResponseCheck,
    /// Present until the answer is given.
    record: Option<RequestRecord>,
}

/// Who answers.
enum Source {
    Application(Pin<Box<dyn Future<Output = Response>>>),
    Refused(Refusal),
}

impl Answer {
    fn refusal(reason: Refusal, record: RequestRecord) -> Self {
        record.context().server().counters().count_refusal(reason);
        let check = ResponseCheck::default();
        Self {
            source: Source::Refused(reason),
            check,
            record: Some(record),
        }
    }
}

impl Future for Answer {
    type Output = Result<http::Response<Outgoing>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match &mut self.source {
            Source::Application(application) => ready!(application.as_mut().poll(context)),
            Source::Refused(reason) => refusal_response(*reason),
        };
        match self.record.take() {
            Some(record) => {
                record.context().activity.begin_answer();
                Poll::Ready(Ok(self.check.apply(response, record)))
            }
            // Only a future that is polled after its end comes here.
            None => Poll::Pending,
        }
    }
}

/// Plain text that names what was wrong, and the end of the connection: what
/// follows a refused head can't be trusted to be a request. Only where nothing is wrong with
/// the head, the connection may go on.
fn refusal_response(reason: Refusal) -> Response {
    let text = format!("{}\n{}\n", reason.status(), reason.sentence());
    let mut response = Response::new(ResponseBody::full(Bytes::from(text)));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if reason == Refusal::Overloaded {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
