//! What ends a request before its answer: its client goes, or its time is up.
//!
//! The policy is in `settings.rs`. What is known of one request is in `request_life.rs`; it is
//! a part of its head, so that a request for which nothing is to be watched pays nothing.
//! What follows for the request's promises is in `promise/scope.rs`.

mod request_life;
mod settings;

pub(crate) use request_life::{GivenUp, RequestLife, explain_end};
pub(crate) use settings::{CancellationSettings, Policy};
