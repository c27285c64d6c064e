//! What exists only because Flask behaves so: which requests may be served on the loop's
//! own thread, and how.

mod context;
mod current_context;
mod eligibility;
mod exchange;
mod guards;
mod lazy_context;
mod pending_request;
mod plan;
mod pushed_context;
mod request_source;
mod response;
mod rest_on_worker;
mod route;
mod view_on_worker;

pub(crate) use current_context::{is_debugging, request_context};
pub(crate) use eligibility::Reason;
pub(crate) use exchange::{Exchange, Sink, start_on_loop_thread};
pub(crate) use lazy_context::{AppContextBase, RequestContextBase};
pub(crate) use plan::{DispatchPlan, Placement};
pub(crate) use request_source::RequestSource;
pub(crate) use route::{Route, RouteQuery};
pub(crate) use view_on_worker::{call_view_in_process, serve_view};
