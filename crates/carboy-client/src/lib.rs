//! Sends HTTP requests. Knows no Python.
//!
//! A call's way: [`Client`] (authentication, cookies, redirects, retries) → `pool` (which
//! connection) → `connector` (`dial`, `tunnel`, `tls`) → `exchange` (hyper, timed) →
//! [`ResponseBody`] (decoding), which gives the connection back. Everything runs on one thread,
//! on its runtime; nothing is `Send` but requests, settings and what of a response was read.

mod activity;
mod alarm_clock;
mod authentication;
mod call;
mod client;
mod connection;
mod connector;
mod content;
mod cookie_jar;
mod deadline;
mod decoding;
mod dial;
mod error;
mod event_stream;
mod exchange;
mod keep_alive;
mod message;
mod no_proxy;
mod pool;
mod proxy;
mod raw_head;
mod redaction;
mod redirect;
mod request;
mod resolver;
mod response;
mod response_body;
mod retry;
mod sending;
mod settings;
mod stream;
mod target;
mod timings;
mod tls;
mod tunnel;
mod upload;

pub use authentication::{Authentication, DigestCredentials};
pub use client::{Client, ClientSettings};
pub use content::{Content, ContentCollector};
pub use cookie_jar::{CookieJar, StoredCookie};
pub use error::{Error, ErrorKind};
pub use event_stream::{Event, EventStream};
pub use pool::PoolStatistics;
pub use proxy::{Proxy, ProxyRules};
pub use raw_head::RawHead;
pub use redaction::for_display;
pub use request::{MOST_REDIRECTS, Request, Way};
pub use resolver::Resolver;
pub use response::{FollowingRequest, Response, ResponseHead};
pub use response_body::ResponseBody;
pub use retry::Retries;
pub use settings::{HttpVersions, PoolLimits, ResponseLimits, Timeouts, TlsVersions};
pub use timings::Timings;
pub use tls::{Identity, Trust};
pub use upload::{ContentSource, RequestBody, UploadEnded, UploadSender, UploadStream};
