//! When a failed call is made again, and how long to wait before.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};

use crate::ErrorKind;

/// How often and when a call is made again.
///
/// What is never asked for: a request of which nothing was sent gets another connection, whatever
/// its method; and an idempotent one that met a connection which the server was closing as idle,
/// once, unless `repeats_stale` is off.
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Further attempts after the first one.
    pub attempts: u32,
    /// Statuses that are worth another attempt.
    pub statuses: Vec<u16>,
    /// The wait before the first further attempt; doubled for each.
    pub backoff: Duration,
    /// The longest wait, also if `Retry-After` asks for a longer one: then there is no retry.
    pub longest_wait: Duration,
    /// Whether also methods that are not idempotent (POST, PATCH) are made again.
    pub any_method: bool,
    /// Whether an idempotent request is sent once more when the kept connection that it was sent
    /// on turns out to be closed already.
    pub repeats_stale: bool,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 0,
            statuses: vec![429, 502, 503, 504],
            backoff: Duration::from_millis(100),
            longest_wait: Duration::from_secs(10),
            any_method: false,
            repeats_stale: true,
        }
    }
}

impl Retries {
    fn suits(&self, method: &Method) -> bool {
        self.any_method || is_idempotent(method)
    }

    /// Whether a call that failed with this error may be made again. One that never reached the
    /// server may, whatever its method.
    pub(crate) fn retries_error(&self, kind: ErrorKind, method: &Method) -> bool {
        match kind {
            ErrorKind::Resolve | ErrorKind::Connect | ErrorKind::ConnectTimeout => true,
            ErrorKind::Read
            | ErrorKind::Write
            | ErrorKind::RemoteProtocol
            | ErrorKind::ReadTimeout => self.suits(method),
            _ => false,
        }
    }

    /// What is to be said to who has got no answer on a connection that others had used before:
    /// why the request is not sent again, and how that can be asked for.
    pub(crate) fn advice(&self, method: &Method) -> String {
        let way = if !self.suits(method) {
            format!(
                "since the server may have acted on it, a {method} is sent again only if it is \
                 asked for, by Retries(any_method=True): where twice does no harm, as with an \
                 idempotency key"
            )
        } else if self.attempts == 0 {
            "Retries ask for further attempts".to_owned()
        } else {
            "there are no further attempts".to_owned()
        };
        format!(". It was kept from an earlier call, and nothing of an answer has come; {way}")
    }

    pub(crate) fn retries_status(&self, status: StatusCode, method: &Method) -> bool {
        self.statuses.contains(&status.as_u16()) && self.suits(method)
    }

    /// The wait before a further attempt: doubled each time, and anywhere between nothing and
    /// that ("full jitter"), so that clients who failed together don't come back together; after
    /// what the server asks for. `None` when that is too long.
    pub(crate) fn wait(&self, attempt: u32, headers: Option<&HeaderMap>) -> Option<Duration> {
        let asked = headers.and_then(retry_after).unwrap_or_default();
        if asked > self.longest_wait {
            return None;
        }
        let longest = self
            .backoff
            .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)))
            .min(self.longest_wait);
        // Those who are all told the same time don't come back together either.
        let wait = asked + longest.mul_f64(fastrand::f64());
        Some(wait.min(self.longest_wait))
    }
}

/// RFC 9110 section 9.2.2.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is longer than anybody waits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Keeps retries from becoming a storm: each call pays in a fifth, each retry costs one. A client
/// whose calls all fail so makes a fifth more of them, not many times as many.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    fifths: Cell<u32>,
}

const FIFTHS_PER_RETRY: u32 = 5;
/// Ten retries are free, so that a client that makes few calls may retry them.
const MOST_FIFTHS: u32 = 10 * FIFTHS_PER_RETRY;

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self {
            fifths: Cell::new(MOST_FIFTHS),
        }
    }

    pub(crate) fn pay_in(&self) {
        self.fifths.set((self.fifths.get() + 1).min(MOST_FIFTHS));
    }

    pub(crate) fn take(&self) -> bool {
        let left = self.fifths.get().checked_sub(FIFTHS_PER_RETRY);
        self.fifths.set(left.unwrap_or(self.fifths.get()));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_have_jitter() {
        let retries = Retries::default();
        for attempt in 1..40 {
            let most = Duration::from_millis(100 * 2_u64.pow(attempt.min(20) - 1));
            let wait = retries.wait(attempt, None).unwrap();
            assert!(wait <= most.min(retries.longest_wait));
        }
    }

    #[test]
    fn the_server_may_ask_for_a_wait_within_reason() {
        let retries = Retries::default();
        let asked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retries.wait(1, Some(&headers))
        };
        let base = Duration::from_millis(100);
        let after = |seconds| {
            let least = Duration::from_secs(seconds);
            move |wait: Duration| wait >= least && wait <= least + base
        };
        assert!(asked("2").is_some_and(after(2)));
        assert_eq!(asked("3600"), None);
        assert_eq!(asked("99999999999999999999999999"), None);
        assert_eq!(asked("Sat, 06 Nov 2494 08:49:37 GMT"), None);
        // What asks for nothing gets the usual wait.
        for nothing in [
            "0",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "soon",
            "-5",
            "+5",
            "",
            "1.5",
        ] {
            assert!(asked(nothing).is_some_and(after(0)), "{nothing}");
        }
        assert_ne!(asked("0"), asked("0"), "with jitter");
    }

    #[test]
    fn a_storm_of_retries_ends() {
        let budget = RetryBudget::new();
        let mut retries = 0;
        for _ in 0..1000 {
            budget.pay_in();
            retries += u32::from(budget.take());
        }
        assert!((200..=210).contains(&retries), "{retries}");
    }
}
