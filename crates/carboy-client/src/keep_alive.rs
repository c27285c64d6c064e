//! How long a server keeps an idle connection, in its own words.
//!
//! Many say so: `Keep-Alive: timeout=5` (RFC 2068 section 19.7.1.1). A request that is sent in the
//! moment in which the server closes the connection may be lost, and one that is no idempotent one
//! can't be repeated. So the connection is left alone a while before.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How much earlier than the server says: a request needs its time to get there.
const MARGIN: Duration = Duration::from_secs(1);

/// How long the connection of a response may be idle and still be used; `None` where the server
/// does not say.
pub(crate) fn longest_idle_time(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let timeout = value.split(',').find_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| seconds.trim().parse().ok()).flatten()
    })?;
    let timeout = Duration::from_secs(timeout);
    Some(timeout.saturating_sub(MARGIN).max(timeout / 2))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ends_before_the_server_does() {
        let milliseconds = |value: &'static str| {
            let headers = HeaderMap::from_iter([(KEEP_ALIVE, HeaderValue::from_static(value))]);
            longest_idle_time(&headers).map(|time| time.as_millis())
        };
        assert_eq!(milliseconds("timeout=5"), Some(4000));
        assert_eq!(milliseconds("max=100, Timeout = 60"), Some(59_000));
        assert_eq!(milliseconds("timeout=1"), Some(500));
        assert_eq!(milliseconds("timeout=0"), Some(0));
        assert_eq!(milliseconds("300"), None);
        assert_eq!(milliseconds("timeout=soon, max=5"), None);
        assert_eq!(milliseconds("timeout=-1"), None);
        assert_eq!(longest_idle_time(&HeaderMap::new()), None);
    }
}
