//! What exists only because Flask behaves so: which requests may be served on the loop's
//! own thread, and how.

mod context;
mod eligibility;
mod exchange;
mod plan;
mod response;
mod route;

pub(crate) use eligibility::Reason;
pub(crate) use exchange::{Exchange, Sink, start_on_loop_thread};
pub(crate) use plan::DispatchPlan;
pub(crate) use route::{Route, RouteQuery};
