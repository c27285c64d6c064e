//! `carboy.http`: calls made by `carboy-client`, as promises.
//!
//! A call is made on the thread of a loop of carboy's, by the runtime that turns it: on the
//! loop that runs here, on that of the server, or on the one in the background
//! (`promise/native_loop.rs`). Each thread keeps connections of its own (`home.rs`).

mod arguments;
mod authentication;
mod blocking_call;
mod blocking_thread;
mod call;
mod call_template;
mod content;
mod cookies;
mod error;
mod event_stream;
mod home;
mod native_client;
mod original_parts;
mod plain_calls;
mod plain_response;
mod reading_orders;
mod response;
mod rest;
mod transport;
mod upload;
mod whole_content;

pub(crate) use authentication::HttpAuthentication;
pub(crate) use blocking_call::BlockingCall;
pub(crate) use blocking_thread::forget_blocking_thread;
pub(crate) use call_template::CallTemplate;
pub(crate) use content::ContentStream;
pub(crate) use cookies::CookieJar;
pub(crate) use event_stream::EventStream;
pub(crate) use home::forget_connections;
pub(crate) use native_client::HttpClient;
pub(crate) use original_parts::{OriginalParts, names_a_proxy};
pub(crate) use plain_calls::PlainCalls;
pub(crate) use plain_response::PlainResponse;
pub(crate) use response::ResponseData;
pub(crate) use transport::Transport;
pub(crate) use upload::{Upload, UploadSource};

/// A URL as it may be shown: user information and secret parameters are masked.
#[pyo3::pyfunction]
pub(crate) fn url_for_display(url: &str) -> std::borrow::Cow<'_, str> {
    carboy_client::for_display(url)
}
