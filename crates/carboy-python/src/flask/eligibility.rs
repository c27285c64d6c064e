//! Why a request is served whole on a worker instead of on the loop's thread.
//!
//! A request is served on the loop only if all code on its way is async, or is Flask's and
//! Werkzeug's own. What is not listed here as harmless takes Flask's own path on a worker.

use std::sync::atomic::{AtomicU64, Ordering};

/// The reasons, each checked per request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Reason {
    /// The target is another WSGI callable than a Flask app.
    NotFlask,
    /// A method of Flask's request handling was overridden or replaced.
    MethodReplaced,
    /// The session interface, the request class or a converter is the application's own.
    OwnClass,
    /// The app matches hosts or subdomains, or restricts hosts.
    HostMatching,
    /// The path needs a redirect, or no rule matches, or none with this method.
    NotMatched,
    /// The rule redirects, has defaults, or Flask itself answers the method.
    SpecialRule,
    /// The view is not an `async def` function. A worker calls it, and all else is native.
    SyncView,
    /// A function is registered to run before or after the view: Flask serves the request.
    Hook,
    /// A signal of the request's way has a receiver.
    SignalReceiver,
    /// The Host header or the path is unusual.
    UnusualRequest,
    /// The connection is to be upgraded.
    Upgrade,
    /// The body is asked for with "100 Continue", when the view reads it.
    ExpectsContinue,
    /// The body is too large to collect it in memory before the view runs.
    LargeBody,
    /// A guard could not be evaluated.
    Unknown,
}

const REASONS: [(Reason, &str); 14] = [
    (Reason::NotFlask, "not_flask"),
    (Reason::MethodReplaced, "method_replaced"),
    (Reason::OwnClass, "own_class"),
    (Reason::HostMatching, "host_matching"),
    (Reason::NotMatched, "not_matched"),
    (Reason::SpecialRule, "special_rule"),
    (Reason::SyncView, "sync_view"),
    (Reason::Hook, "hook"),
    (Reason::SignalReceiver, "signal_receiver"),
    (Reason::UnusualRequest, "unusual_request"),
    (Reason::Upgrade, "upgrade"),
    (Reason::ExpectsContinue, "expects_continue"),
    (Reason::LargeBody, "large_body"),
    (Reason::Unknown, "unknown"),
];

/// Counts where requests were served, and why.
#[derive(Default)]
pub(crate) struct EligibilityCounts {
    on_loop: AtomicU64,
    on_worker: [AtomicU64; REASONS.len()],
}

impl EligibilityCounts {
    pub(crate) fn count_on_loop(&self) {
        self.on_loop.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_on_worker(&self, reason: Reason) {
        self.on_worker[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts by name: `on_loop`, then each reason that occurred.
    pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
        let mut counts = vec![("on_loop", self.on_loop.load(Ordering::Relaxed))];
        counts.extend(REASONS.iter().filter_map(|(reason, name)| {
            let count = self.on_worker[*reason as usize].load(Ordering::Relaxed);
            (count > 0).then_some((*name, count))
        }));
        counts
    }
}
