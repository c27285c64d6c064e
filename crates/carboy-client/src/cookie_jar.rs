//! Cookies, as RFC 6265 says, and not from a public suffix for all that is below it.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie_store::{Cookie, CookieStore, RawCookie, StoreAction};
use http::{HeaderMap, HeaderValue, header};
use url::{Host, Url};

/// So many cookies are kept per domain, and in all: at least 50 and 3000, says RFC 6265 section
/// 6.1, and browsers keep about as many. The oldest make room for others.
const MOST_PER_DOMAIN: usize = 180;
const MOST_IN_ALL: usize = 3000;

/// Longer cookies are left out: name and value together, and a path or domain (RFC 6265bis
/// section 5.6).
const LONGEST_COOKIE_BYTES: usize = 4096;
const LONGEST_ATTRIBUTE_BYTES: usize = 1024;

/// The cookies of a session. It may be used from several threads.
#[derive(Debug, Default)]
pub struct CookieJar {
    store: Mutex<Store>,
}

#[derive(Debug, Default)]
struct Store {
    cookies: CookieStore,
    /// Where they are, the oldest first.
    by_age: VecDeque<Place>,
}

/// What tells cookies apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    domain: String,
    path: String,
    name: String,
}

impl Store {
    /// Puts a cookie there; `false` when the URL can't have it.
    fn insert(&mut self, cookie: &RawCookie<'_>, url: &Url) -> bool {
        let Ok(cookie) = Cookie::try_from_raw_cookie(cookie, url) else {
            return false;
        };
        let cookie = cookie.into_owned();
        let place = Place::of(&cookie);
        match self.cookies.insert(cookie, url) {
            Ok(StoreAction::Inserted) => self.note(place),
            Ok(StoreAction::UpdatedExisting) => {}
            Ok(StoreAction::ExpiredExisting) => self.remove(&place),
            Err(_) => return false,
        }
        true
    }

    /// Notes a new cookie, and removes what is too much then: what is over first.
    fn note(&mut self, place: Place) {
        if self.surplus(&place.domain).is_some() {
            let is_over = |known: &&Place| {
                let Place { domain, path, name } = known;
                !self.cookies.contains(domain, path, name)
            };
            let over: Vec<_> = self.by_age.iter().filter(is_over).cloned().collect();
            for place in &over {
                self.remove(place);
            }
        }
        if let Some(surplus) = self.surplus(&place.domain) {
            self.remove(&surplus);
        }
        self.by_age.push_back(place);
    }

    /// What has to make room for one more cookie of a domain.
    fn surplus(&self, domain: &str) -> Option<Place> {
        let mut of_domain = self.by_age.iter().filter(|known| known.domain == domain);
        let surplus = if self.by_age.len() >= MOST_IN_ALL {
            self.by_age.front()
        } else if of_domain.clone().count() >= MOST_PER_DOMAIN {
            of_domain.next()
        } else {
            None
        };
        surplus.cloned()
    }

    fn remove(&mut self, place: &Place) {
        self.by_age.retain(|known| known != place);
        self.cookies.remove(&place.domain, &place.path, &place.name);
    }
}

impl Place {
    fn of(cookie: &Cookie<'_>) -> Self {
        Self {
            domain: cookie.domain.as_cow().unwrap_or_default().into_owned(),
            path: String::from(&cookie.path),
            name: cookie.name().to_owned(),
        }
    }
}

/// Whether a cookie is longer than any honest one.
fn is_too_long(cookie: &RawCookie<'_>) -> bool {
    let attributes = [cookie.path(), cookie.domain()];
    let mut lengths = attributes.into_iter().flatten().map(str::len);
    cookie.name().len() + cookie.value().len() > LONGEST_COOKIE_BYTES
        || lengths.any(|length| length > LONGEST_ATTRIBUTE_BYTES)
}

/// Whether a cookie's name promises what is not so (RFC 6265bis section 4.1.3).
fn breaks_its_prefix(cookie: &RawCookie<'_>, url: &Url) -> bool {
    let has = |prefix: &str| {
        let start = cookie.name().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is_of_host = has("__Host-");
    let is_safe = url.scheme() == "https" && cookie.secure().unwrap_or(false);
    let is_for_host = cookie.domain().is_none() && cookie.path() == Some("/");
    ((is_of_host || has("__Secure-")) && !is_safe) || (is_of_host && !is_for_host)
}

/// The names of the cookies in a `Cookie` header.
fn names_in(header: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let pairs = header.as_bytes().split(|byte| *byte == b';');
    pairs.map(|pair| {
        let name = pair.split(|byte| *byte == b'=').next();
        name.unwrap_or_default().trim_ascii()
    })
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
    fn store(&self) -> MutexGuard<'_, Store> {
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
            let is_of_all = cookie.domain().is_some_and(|domain| is_public(domain, url));
            if is_too_long(&cookie) || is_of_all || breaks_its_prefix(&cookie, url) {
                continue;
            }
            // A cookie for somewhere else is left out.
            store.insert(&cookie, url);
        }
    }

    /// The value of the `Cookie` header for a request; `None` when there is no cookie for it.
    /// Those with longer paths come first, and else the older ones (RFC 6265 section 5.4).
    ///
    /// `given` are `Cookie` headers that the request has already: names in them are left out.
    pub fn header<'a>(
        &self,
        url: &Url,
        given: impl IntoIterator<Item = &'a HeaderValue>,
    ) -> Option<HeaderValue> {
        let store = self.store();
        store.by_age.front()?;
        let given: Vec<_> = given.into_iter().flat_map(names_in).collect();
        let is_https = url.scheme() == "https";
        let mut cookies: Vec<_> = store
            .cookies
            .matches(url)
            .into_iter()
            // On this machine, too: a server that speaks plain HTTP shall not get them.
            .filter(|cookie| is_https || !cookie.secure().unwrap_or(false))
            .filter(|cookie| !given.contains(&cookie.name().as_bytes()))
            .collect();
        if cookies.len() > 1 {
            let age = |place: &Place| store.by_age.iter().position(|known| known == place);
            cookies.sort_by_cached_key(|cookie| {
                let place = Place::of(cookie);
                (Reverse(place.path.len()), age(&place))
            });
        }
        let mut pairs = String::new();
        for cookie in cookies {
            let separator = if pairs.is_empty() { "" } else { "; " };
            let (name, value) = cookie.name_value();
            write!(pairs, "{separator}{name}={value}").ok();
        }
        if pairs.is_empty() {
            return None;
        }
        HeaderValue::from_str(&pairs).ok()
    }

    /// Puts a cookie there, for the URL's host and all of its paths. `false` when the URL can have
    /// no cookies or the name can't be one.
    pub fn set(&self, name: &str, value: &str, url: &Url) -> bool {
        let cookie = RawCookie::build((name.to_owned(), value.to_owned()))
            .path("/")
            .build();
        self.store().insert(&cookie, url)
    }

    /// Removes the cookies of this name, and says how many there were.
    pub fn remove(&self, name: &str) -> usize {
        let mut store = self.store();
        let found: Vec<_> = store
            .by_age
            .iter()
            .filter(|place| place.name == name)
            .cloned()
            .collect();
        for place in &found {
            store.remove(place);
        }
        found.len()
    }

    /// Removes all cookies.
    pub fn clear(&self) {
        *self.store() = Store::default();
    }

    /// The cookies that are not over.
    pub fn cookies(&self) -> Vec<StoredCookie> {
        self.store().cookies.iter_unexpired().map(stored).collect()
    }
}

fn stored(cookie: &Cookie<'static>) -> StoredCookie {
    let Place { domain, path, name } = Place::of(cookie);
    StoredCookie {
        value: cookie.value().to_owned(),
        name,
        domain,
        path,
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
        jar.header(&url(to), [])
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
    fn longer_paths_and_older_cookies_come_first() {
        let jar = jar(
            "http://shop.example/",
            &[
                "b=1; Path=/",
                "a=2; Path=/",
                "a=3; Path=/deep/er",
                "a=4; Path=/deep",
                "c=5; Path=/",
            ],
        );
        assert_eq!(
            sent(&jar, "http://shop.example/deep/er"),
            "a=3; a=4; b=1; a=2; c=5"
        );
        let given = HeaderValue::from_static("a=own; c");
        let header = jar.header(&url("http://shop.example/deep"), [&given]);
        assert_eq!(header.unwrap(), "b=1");
        let all = HeaderValue::from_static("a=1;b=2 ; c=3");
        assert_eq!(jar.header(&url("http://shop.example/deep"), [&all]), None);
    }

    #[test]
    fn what_is_to_be_secret_is_not_sent_in_the_clear() {
        let jar = jar(
            "https://127.0.0.1/",
            &["safe=1; Secure; Path=/", "open=2; Path=/"],
        );
        assert_eq!(sent(&jar, "https://127.0.0.1/"), "safe=1; open=2");
        assert_eq!(sent(&jar, "http://127.0.0.1/"), "open=2");
    }

    #[test]
    fn names_keep_what_their_prefixes_promise() {
        let names = |from: &str, cookies: &[&str]| {
            let mut names: Vec<_> = jar(from, cookies)
                .cookies()
                .into_iter()
                .map(|it| it.name)
                .collect();
            names.sort();
            names
        };
        let cookies = [
            "__Host-a=1; Secure; Path=/",
            "__Host-b=1; Path=/",
            "__Host-c=1; Secure; Path=/x",
            "__Host-d=1; Secure",
            "__Host-e=1; Secure; Path=/; Domain=shop.example",
            "__Secure-f=1; Secure; Domain=shop.example",
            "__secure-g=1",
        ];
        let kept = names("https://shop.example/", &cookies);
        assert_eq!(kept, ["__Host-a", "__Secure-f"]);
        assert!(names("http://shop.example/", &cookies).is_empty());
        assert!(names("http://127.0.0.1/", &cookies).is_empty());
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
    fn a_flood_of_cookies_is_bounded() {
        let jar = CookieJar::default();
        let store = |from: &str, cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::SET_COOKIE, HeaderValue::from_str(cookie).unwrap());
            jar.store_response(&headers, &url(from));
        };
        store("https://quiet.example/", "kept=1");
        store("https://flood.example/", "first=1");
        store("https://flood.example/", "second=1");
        store("https://flood.example/", "first=2");
        for number in 0..MOST_PER_DOMAIN - 1 {
            store("https://flood.example/", &format!("name{number}=x"));
        }
        assert_eq!(jar.cookies().len(), MOST_PER_DOMAIN + 1);
        let left = sent(&jar, "https://flood.example/");
        // The oldest goes, and a new value makes none younger.
        assert!(!left.contains("first="), "{left}");
        assert!(left.contains("second=1"), "{left}");
        assert_eq!(sent(&jar, "https://quiet.example/"), "kept=1");
        // What is over makes room.
        store("https://flood.example/", "second=1; Max-Age=0");
        store("https://flood.example/", "third=1");
        let left = sent(&jar, "https://flood.example/");
        assert!(
            left.contains("name0=x") && left.contains("third=1"),
            "{left}"
        );
        for number in 0..MOST_IN_ALL {
            store(&format!("https://host{number}.example/"), "one=1");
        }
        assert_eq!(jar.cookies().len(), MOST_IN_ALL);
        assert_eq!(sent(&jar, "https://quiet.example/"), "");
        assert_eq!(sent(&jar, "https://host2999.example/"), "one=1");
        store(
            "https://long.example/",
            &format!("long={}", "x".repeat(4100)),
        );
        store(
            "https://long.example/",
            &format!("path=1; Path=/{}", "x".repeat(1100)),
        );
        assert_eq!(sent(&jar, "https://long.example/"), "");
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
