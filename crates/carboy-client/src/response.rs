//! What a caller gets.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Version};
use url::Url;

use crate::raw_head::RawHead;
use crate::response_body::ResponseBody;

/// A request that a redirect has asked for.
#[derive(Clone, Debug)]
pub struct FollowingRequest {
    /// Its method.
    pub method: Method,
    /// What is left of the headers that the caller has set.
    pub headers: Arc<HeaderMap>,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase as the server wrote it; `None` when it is the usual one.
    pub reason: Option<Vec<u8>>,
    /// The version of HTTP that was spoken.
    pub version: Version,
    /// The headers, in their order.
    pub headers: HeaderMap,
    /// The head as it came, if the request was a plain one in HTTP/1.1.
    pub raw: Option<RawHead>,
    /// What was requested, after redirects.
    pub url: Url,
    /// The request to that URL, unless it was the first one of the call.
    pub request: Option<FollowingRequest>,
}

/// A response whose content is still to be read.
pub struct Response {
    /// The head.
    pub head: Box<ResponseHead>,
    /// The heads of the redirects that led here.
    pub history: Vec<ResponseHead>,
    /// The content.
    pub body: Box<ResponseBody>,
}
