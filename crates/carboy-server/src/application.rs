//! The seam between the server and what answers requests.
//!
//! It must not know what an application is made of: the binding crate fills this
//! trait with Python, the tests fill it with closures.

use std::future::Future;

use crate::{Request, ResponseBody};

/// What an application answers with.
pub type Response = http::Response<ResponseBody>;

/// Answers requests.
pub trait Application: 'static {
    /// Called on the loop's thread for each request that passed the gate.
    ///
    /// The requests of one connection are answered one after the other, in the
    /// order they came in (RFC 9112 section 9.3.2). The future is dropped if the
    /// connection breaks, so whatever it owns must clean up on drop.
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static;
}
