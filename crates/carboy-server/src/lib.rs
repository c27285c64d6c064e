//! Accepts connections and speaks HTTP. Knows no Python.
//!
//! A request's way: `accept` → `connection` → `stream` (where the `wire` reads
//! strictly) → hyper → `service` (where the `gate` decides) → the [`Application`]
//! → `response_check` → hyper → `stream`. Everything runs on one thread.

mod accept;
mod access_log;
mod activity;
mod admission;
mod application;
mod body_error;
mod body_reader;
mod client;
mod connection;
mod connection_context;
mod connection_set;
mod descriptor_limit;
mod gate;
mod half_close;
mod limits;
mod listener;
mod outgoing;
mod patience;
mod refusal;
mod request;
mod request_body;
mod request_record;
mod response_body;
mod response_check;
mod server;
mod service;
mod shutdown;
mod socket;
mod statistics;
mod stream;
mod takeover;
mod tunnel;
mod wire;

pub use access_log::AccessLog;
pub use admission::Admission;
pub use application::{Application, Response};
pub use body_error::BodyError;
pub use body_reader::BodyReader;
pub use client::{Client, ClientWatch, Departure, HalfClosed};
pub use descriptor_limit::raise_descriptor_limit;
// The type with which an application's own reason phrase travels in a response's extensions.
pub use hyper::ext::ReasonPhrase;
pub use limits::{Limits, ServerConfig, Timeouts};
pub use listener::{BindError, Listener};
pub use refusal::Refusal;
pub use request::{Address, ConnectionInfo, Request};
pub use request_body::{Buffered, RequestBody};
pub use response_body::{Disconnected, ResponseBody, StreamAborted, StreamSender, TrySendError};
pub use server::{ServeOutcome, Server};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use statistics::Statistics;
pub use takeover::{TakeoverOffer, TakeoverResponse};
