//! Why a request is answered by the server itself instead of the application.
//!
//! One list of reasons for the gate, the wire and the timers, so that every
//! refusal has a status, a sentence for the person who sent it and a counter.

use http::StatusCode;

/// Declares the reasons with their status, counter name and sentence.
macro_rules! refusals {
    ($($(#[$doc:meta])* $reason:ident = $status:ident, $name:literal, $sentence:literal;)+) => {
        /// A reason for refusing a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal { $($(#[$doc])* $reason,)+ }

        impl Refusal {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)+];

            /// The status of the answer.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$reason => StatusCode::$status,)+ }
            }

            /// The reason as a metric label.
            pub fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)+ }
            }

            /// The reason as a sentence for whoever sent the request.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$reason => $sentence,)+ }
            }
        }
    };
}

refusals! {
    /// Not a request line (RFC 9112 section 3).
    RequestLine = BAD_REQUEST, "request_line",
        "The request line is not 'METHOD target HTTP/1.1' with single spaces.";
    /// A TLS handshake where plain HTTP is spoken.
    TlsHandshake = BAD_REQUEST, "tls_handshake",
        "This port speaks plain HTTP, but a TLS handshake was sent. Use http:// instead of https://.";
    /// A line that ends with a bare line feed, or contains a bare carriage return
    /// (RFC 9112 section 2.2).
    LineEnding = BAD_REQUEST, "line_ending",
        "Every line of the head must end with CR LF, and CR must not occur elsewhere.";
    /// A control character, white space, a fragment or a non-ASCII byte in the
    /// target (RFC 9112 section 3.2).
    TargetCharacter = BAD_REQUEST, "target_character",
        "The request target contains a character that must be percent-encoded.";
    /// A target form that the method does not allow (RFC 9112 section 3.2).
    TargetForm = BAD_REQUEST, "target_form",
        "The request target must be a path that starts with '/', or an http URL.";
    /// A major version other than 1 (RFC 9110 section 15.6.6).
    Version = HTTP_VERSION_NOT_SUPPORTED, "version",
        "Only HTTP/1.1 and HTTP/1.0 are spoken here.";
    /// A request line over the limit.
    RequestLineTooLong = URI_TOO_LONG, "request_line_too_long",
        "The request line is too long.";
    /// A header line that is not 'name: value' (RFC 9112 section 5).
    HeaderLine = BAD_REQUEST, "header_line",
        "A header line is not 'Name: value'.";
    /// White space before a header line or before its colon (RFC 9112 sections
    /// 2.2, 5.1 and 5.2).
    HeaderFolding = BAD_REQUEST, "header_folding",
        "White space before a header name or before its colon is not allowed.";
    /// A control character in a header value (RFC 9110 section 5.5).
    HeaderValue = BAD_REQUEST, "header_value",
        "A header value contains a control character.";
    /// Header lines over the limit of bytes or number.
    HeadersTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large",
        "The header fields are too large or too many.";
    /// A head that did not arrive in time.
    HeaderTimeout = REQUEST_TIMEOUT, "header_timeout",
        "The head of the request did not arrive in time.";
    /// Content-Length is not one decimal number (RFC 9112 section 6.3).
    ContentLength = BAD_REQUEST, "content_length",
        "Content-Length must be given once, as one decimal number.";
    /// Both Content-Length and Transfer-Encoding (RFC 9112 section 6.1).
    AmbiguousFraming = BAD_REQUEST, "ambiguous_framing",
        "Content-Length and Transfer-Encoding must not be sent together.";
    /// Transfer-Encoding is not exactly 'chunked' (RFC 9112 section 6.3).
    TransferEncoding = BAD_REQUEST, "transfer_encoding",
        "Transfer-Encoding must be exactly 'chunked', in HTTP/1.1 only.";
    /// A transfer coding that exists but is not spoken (RFC 9112 section 6.1).
    TransferCoding = NOT_IMPLEMENTED, "transfer_coding",
        "The only transfer coding understood here is 'chunked'.";
    /// More content than allowed.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large",
        "The request body is too large.";
    /// No Host in HTTP/1.1 (RFC 9112 section 3.2).
    HostMissing = BAD_REQUEST, "host_missing",
        "An HTTP/1.1 request must have a Host header.";
    /// More than one Host (RFC 9112 section 3.2).
    HostDuplicate = BAD_REQUEST, "host_duplicate",
        "There must be one Host header only.";
    /// Host is not a host with an optional port (RFC 9110 section 7.2).
    HostInvalid = BAD_REQUEST, "host_invalid",
        "The Host header must be a host name with an optional port.";
    /// The target names another host than Host does (RFC 9112 section 3.2.2).
    HostMismatch = BAD_REQUEST, "host_mismatch",
        "The host in the request target is not the host in the Host header.";
    /// An expectation other than 100-continue (RFC 9110 section 10.1.1).
    Expectation = EXPECTATION_FAILED, "expectation",
        "The only expectation understood here is '100-continue'.";
    /// CONNECT (RFC 9110 section 9.3.6).
    Connect = NOT_IMPLEMENTED, "connect",
        "CONNECT is not supported: this is not a proxy.";
    /// As many requests are in progress as there may be (RFC 9110 section 15.6.4).
    Overloaded = SERVICE_UNAVAILABLE, "overloaded",
        "The server answers as many requests as it may. Try again in a moment.";
    /// Something hyper's parser refused although the wire let it pass.
    Unparsable = BAD_REQUEST, "unparsable",
        "The request could not be parsed.";
}

impl Refusal {
    /// The reason's place among the counters.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}
