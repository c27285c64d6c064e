//! One call on its way, and what a response changes about it: cookies, credentials, redirects.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use crate::authentication::{Authentication, Verdict};
use crate::deadline::Deadline;
use crate::redirect;
use crate::request::Request;
use crate::response::{FollowingRequest, ResponseHead};
use crate::sending::UploadProgress;
use crate::timings::Stopwatch;
use crate::upload::RequestBody;
use crate::{Error, ErrorKind, for_display};

/// One call on its way.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) deadline: Deadline,
    pub(crate) stopwatch: Rc<Stopwatch>,
    pub(crate) history: Vec<ResponseHead>,
    pub(crate) attempts: u32,
    /// Whether the request was sent again after a connection that turned out to be closed.
    pub(crate) has_repeated: bool,
    /// The sending of the last attempt's content.
    pub(crate) upload: Option<UploadProgress>,
    /// The credentials that were sent last.
    pub(crate) authorization: Option<HeaderValue>,
    /// How many challenges of this URL were answered.
    challenges: u32,
}

impl Call {
    pub(crate) fn new(
        mut request: Request,
        deadline: Deadline,
        stopwatch: Rc<Stopwatch>,
    ) -> Box<Self> {
        take_credentials(&mut request);
        // Futures are moved as a whole: what is large is kept apart.
        Box::new(Self {
            request,
            deadline,
            stopwatch,
            history: Vec::new(),
            attempts: 0,
            has_repeated: false,
            upload: None,
            authorization: None,
            challenges: 0,
        })
    }

    pub(crate) fn store_cookies(&mut self, head: &ResponseHead) {
        if !head.headers.contains_key(header::SET_COOKIE) {
            return;
        }
        if self.request.cookies.is_none() && self.request.keeps_own_cookies {
            self.request.cookies = Some(Arc::default());
        }
        if let Some(jar) = &self.request.cookies {
            jar.store_response(&head.headers, &head.url);
        }
    }

    /// Whether a 401 response asks for something that can be answered. That is done once for each
    /// URL, whatever the server asks next: with a wrong password it might go on for ever.
    pub(crate) fn answers_challenge(&mut self, head: &ResponseHead) -> bool {
        if head.status != StatusCode::UNAUTHORIZED || !self.request.body.is_repeatable() {
            return false;
        }
        let Some(authentication) = &self.request.authentication else {
            return false;
        };
        let Some(verdict) =
            authentication.take_challenge(&head.headers, self.authorization.as_ref())
        else {
            return false;
        };
        let is_answered = match verdict {
            Verdict::Asked => self.challenges == 0,
            // The answer was right, but not to the latest question (RFC 7616 section 3.3).
            Verdict::AskedAnew => self.challenges <= 1,
            Verdict::Refused => false,
        };
        self.challenges += 1;
        is_answered
    }

    /// The request as it is now, if a redirect has asked for it.
    pub(crate) fn following_request(&self) -> Option<FollowingRequest> {
        (!self.history.is_empty()).then(|| FollowingRequest {
            method: self.request.method.clone(),
            headers: Arc::clone(&self.request.headers),
        })
    }

    /// Changes the request into the one that a redirect asks for.
    pub(crate) fn redirect(&mut self, mut head: ResponseHead) -> Result<(), Error> {
        head.request = self.following_request();
        let request = &mut self.request;
        let limit = request.redirects.unwrap_or_default();
        if self.history.len() >= limit {
            return Err(Error::new(
                ErrorKind::TooManyRedirects,
                format!(
                    "more than {limit} redirects, the last one from {}",
                    for_display(head.url.as_str())
                ),
            ));
        }
        let next = redirect::location(&head.url, &head.headers)?;
        if let Err(error) = crate::target::is_tls(&next) {
            let message = format!(
                "the server redirects to {}: {error}",
                for_display(next.as_str())
            );
            return Err(Error::new(error.kind(), message));
        }
        let method = redirect::method_after(head.status, &request.method);
        if method != request.method {
            request.method = method;
            request.body = RequestBody::Empty;
            redirect::strip_content_headers(Arc::make_mut(&mut request.headers));
        } else if !request.body.is_repeatable() {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                format!(
                    "the server redirects to {} and wants the content there, but that is a \
                     stream that was sent already",
                    for_display(next.as_str())
                ),
            ));
        }
        if !redirect::are_same_origin(&head.url, &next) {
            redirect::strip_origin_headers(Arc::make_mut(&mut request.headers));
            request.authentication = None;
        }
        request.url = next;
        take_credentials(request);
        self.challenges = 0;
        self.authorization = None;
        self.history.push(head);
        Ok(())
    }
}

/// Makes authentication of a URL's user and password, unless there is one, and takes them out.
fn take_credentials(request: &mut Request) {
    let url = &mut request.url;
    if url.username().is_empty() && url.password().is_none() {
        return;
    }
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    if request.authentication.is_none() {
        request.authentication = Authentication::basic(&user, &password).map(Arc::new);
    }
    // A URL that has credentials has a host, so these can't fail.
    url.set_username("").ok();
    url.set_password(None).ok();
}
