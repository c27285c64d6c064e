//! Makes an application's response fit what RFC 9110 and RFC 9112 allow.
//!
//! Framing belongs to the server: the application's Content-Length is a promise to
//! be kept, its Transfer-Encoding is dropped. What can't be sent as meant is sent
//! as an error, never as something that only looks right.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;

use crate::activity::TakeoverDecision;
use crate::outgoing::{Length, Outgoing};
use crate::request_record::RequestRecord;
use crate::takeover::TakenOver;
use crate::{Response, ResponseBody};

/// What about the request matters for its response.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseCheck {
    /// The response to HEAD has the head of GET's and no content (RFC 9110
    /// section 9.3.2).
    pub(crate) for_head: bool,
    /// The wire waits for the decision about another protocol.
    pub(crate) may_take_over: bool,
}

/// What a response's Content-Length says.
enum Declared {
    Nothing,
    Bytes(u64),
    Nonsense,
}

impl ResponseCheck {
    /// Checks the response and attaches its bookkeeping.
    pub(crate) fn apply(
        self,
        mut response: Response,
        mut record: RequestRecord,
    ) -> http::Response<Outgoing> {
        let taken_over = response.extensions_mut().remove::<TakenOver>().is_some();
        if self.may_take_over {
            let accepted = taken_over && response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let decision = if accepted {
                TakeoverDecision::Accepted
            } else {
                TakeoverDecision::Declined
            };
            record.context().activity.decide_takeover(decision);
        }
        if response.status().is_informational() && !taken_over {
            response = informational_response(response.status());
        }
        record.answered(response.status());
        let context = record.context();
        let last = context.server().is_draining() || context.activity.is_content_broken();
        if last && !taken_over {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let length = self.settle_length(&mut response, &mut record);
        response.map(|body| Outgoing::new(body, length, record))
    }

    /// Makes head and content agree about the length, as far as can be known now.
    fn settle_length(self, response: &mut Response, record: &mut RequestRecord) -> Length {
        let status = response.status();
        let headers = response.headers_mut();
        headers.remove(TRANSFER_ENCODING);
        let mut declared = declared_length(headers);
        if let Declared::Nonsense = declared {
            headers.remove(CONTENT_LENGTH);
            record.mismatch();
            declared = Declared::Nothing;
        }
        let actual = response.body().size_hint().exact();
        let has_no_content = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if self.for_head || has_no_content || status.is_informational() {
            if status == StatusCode::NO_CONTENT || status.is_informational() {
                response.headers_mut().remove(CONTENT_LENGTH);
            } else if let (Declared::Nothing, Some(actual), true) =
                (declared, actual, self.for_head)
            {
                response
                    .headers_mut()
                    .insert(CONTENT_LENGTH, HeaderValue::from(actual));
            }
            *response.body_mut() = ResponseBody::empty();
            return Length::Free;
        }
        match (declared, actual) {
            (Declared::Bytes(declared), Some(actual)) if declared == actual => Length::Free,
            (Declared::Bytes(declared), Some(actual)) if declared < actual => {
                // The client will take the first bytes for the whole message and
                // the rest for the next one, unless the connection ends.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                if declared == 0 {
                    *response.body_mut() = ResponseBody::empty();
                    record.mismatch();
                }
                Length::Owed(declared)
            }
            (Declared::Bytes(declared), _) => Length::Owed(declared),
            (Declared::Nothing | Declared::Nonsense, _) => Length::Free,
        }
    }
}

fn declared_length(headers: &mut HeaderMap) -> Declared {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Declared::Nothing;
    };
    let bytes = value.as_bytes();
    let is_a_number = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    match number {
        Some(number) if is_a_number && values.all(|other| other == value) => {
            // Equal repetitions are one declaration.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(number));
            Declared::Bytes(number)
        }
        _ => Declared::Nonsense,
    }
}

/// An interim status is not an answer, and a 101 without a takeover would leave
/// the client speaking another protocol to nobody (RFC 9110 section 15.2).
fn informational_response(status: StatusCode) -> Response {
    let text = format!(
        "The application answered with the interim status {}.\n",
        status.as_u16()
    );
    let mut response = Response::new(ResponseBody::full(Bytes::from(text)));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
