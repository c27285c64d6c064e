//! Cookies, as RFC 6265 says, and not from a public suffix for all that is below it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie_store::{Cookie, CookieStore, RawCookie};
use http::{HeaderMap, HeaderValue, header};
use url::{Host, Url};

/// The cookies of a session. It may be used from several threads.
#[derive(Debug, Default)]
pub struct CookieJar {
    store: Mutex<CookieStore>,
}

/// A cookie as the jar holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCookie {
    /// Its name.
    pub name: String,
    /// Its value, as it was sent.
    pub value: String,
    /// The host it is for, or the domain with all its subdomains; empty when it is for any.
    pub domain: String,
    /// The path it is for, and what is below.
    pub path: String,
}

impl CookieJar {
    fn store(&self) -> MutexGuard<'_, CookieStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the cookies of a response.
    pub fn store_response(&self, headers: &HeaderMap, url: &Url) {
        if !headers.contains_key(header::SET_COOKIE) {
            return;
        }
        let mut store = self.store();
        for value in headers.get_all(header::SET_COOKIE) {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let Ok(cookie) = RawCookie::parse(text) else {
                continue;
            };
            if cookie.domain().is_some_and(|domain| is_public(domain, url)) {
                continue;
            }
            // A cookie for somewhere else is left out.
            store.insert_raw(&cookie.into_owned(), url).ok();
        }
    }

    /// The value of the `Cookie` header for a request; `None` when there is no cookie for it.
    pub fn header(&self, url: &Url) -> Option<HeaderValue> {
        let store = self.store();
        store.iter_any().next()?;
        let pairs: Vec<String> = store
            .get_request_values(url)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        HeaderValue::from_str(&pairs.join("; ")).ok()
    }

    /// Puts a cookie there, for the URL's host and all of its paths. `false` when the URL can have
    /// no cookies or the name can't be one.
    pub fn set(&self, name: &str, value: &str, url: &Url) -> bool {
        let cookie = RawCookie::build((name.to_owned(), value.to_owned()))
            .path("/")
            .build();
        self.store().insert_raw(&cookie, url).is_ok()
    }

    /// Removes the cookies of this name, and says how many there were.
    pub fn remove(&self, name: &str) -> usize {
        let mut store = self.store();
        let found: Vec<_> = store
            .iter_any()
            .filter(|cookie| cookie.name() == name)
            .map(place)
            .collect();
        for cookie in &found {
            store.remove(&cookie.domain, &cookie.path, &cookie.name);
        }
        found.len()
    }

    /// Removes all cookies.
    pub fn clear(&self) {
        self.store().clear();
    }

    /// The cookies that are not over.
    pub fn cookies(&self) -> Vec<StoredCookie> {
        self.store().iter_unexpired().map(place).collect()
    }
}

fn place(cookie: &Cookie<'static>) -> StoredCookie {
    StoredCookie {
        name: cookie.name().to_owned(),
        value: cookie.value().to_owned(),
        domain: cookie.domain.as_cow().unwrap_or_default().into_owned(),
        path: String::from(&cookie.path),
    }
}

/// Whether a `Domain` attribute names a public suffix (`com`, `co.uk`) that is not the host
/// itself: a cookie there would go to everybody's sites.
fn is_public(domain: &str, url: &Url) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    if url.host_str() == Some(domain.as_str()) {
        return false;
    }
    if !matches!(url.host(), Some(Host::Domain(_))) {
        return true;
    }
    psl::suffix_str(&domain).is_none_or(|suffix| suffix == domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn jar(from: &str, cookies: &[&str]) -> CookieJar {
        let jar = CookieJar::default();
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        jar.store_response(&headers, &url(from));
        jar
    }

    fn sent(jar: &CookieJar, to: &str) -> String {
        jar.header(&url(to))
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    }

    #[test]
    fn cookies_go_where_they_belong() {
        let jar = jar(
            "https://shop.example.com/cart/",
            &[
                "here=1",
                "wide=2; Domain=example.com; Path=/",
                "safe=3; Secure; Path=/",
                "gone=4; Max-Age=0",
            ],
        );
        assert_eq!(sent(&jar, "https://other.example.com/"), "wide=2");
        assert!(sent(&jar, "https://shop.example.com/cart/x").contains("here=1"));
        assert!(!sent(&jar, "https://shop.example.com/").contains("here"));
        assert!(sent(&jar, "https://shop.example.com/").contains("safe=3"));
        assert!(!sent(&jar, "http://shop.example.com/").contains("safe"));
        assert!(!sent(&jar, "https://shop.example.com/cart/").contains("gone"));
        assert_eq!(sent(&jar, "https://example.org/"), "");
    }

    #[test]
    fn nobody_sets_cookies_for_everybody() {
        let public = ["a=1; Domain=com", "b=2; Domain=.co.uk", "c=3; Domain=uk"];
        let of_uk = jar("https://shop.co.uk/", &public);
        assert_eq!(of_uk.cookies(), []);
        let foreign = jar("https://shop.example/", &["a=1; Domain=example.com"]);
        assert_eq!(foreign.cookies(), []);
        let of_localhost = jar("http://localhost/", &["a=1; Domain=localhost"]);
        assert_eq!(sent(&of_localhost, "http://localhost/"), "a=1");
    }

    #[test]
    fn a_caller_sets_and_removes_cookies() {
        let jar = CookieJar::default();
        assert!(jar.set("token", "abc", &url("http://127.0.0.1:8000/deep/path")));
        assert_eq!(sent(&jar, "http://127.0.0.1:8000/"), "token=abc");
        assert_eq!(jar.remove("token"), 1);
        assert_eq!(jar.cookies(), []);
    }
}
