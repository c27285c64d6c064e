//! Refuses heads that are well-formed but mean something RFC 9110 and RFC 9112
//! tell a server to refuse, and that hyper lets pass.
//!
//! A pure function of the head. What is wrong with the bytes themselves, framing
//! included, was already found by the [wire](crate::wire); HTTP/2 will need this
//! gate but not that one.

use http::header::{EXPECT, HOST};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use crate::Refusal;

/// Lets a head pass, or says why not.
pub(crate) fn check(
    method: &Method,
    target: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let host = check_host(version, headers)?;
    check_target(method, target, host)?;
    match headers.get(EXPECT) {
        // HTTP/1.0 knows no expectations, and a server must ignore them there
        // (RFC 9110 section 10.1.1).
        Some(_) if version < Version::HTTP_11 => Ok(()),
        Some(_) => check_expectations(headers),
        None => Ok(()),
    }
}

/// One Host in HTTP/1.1, at most one in HTTP/1.0, and a valid one (RFC 9112
/// section 3.2). An empty one is valid only for targets without an authority, such
/// as `urn:`, which are not served here.
fn check_host(version: Version, headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        let required = version >= Version::HTTP_11;
        return if required {
            Err(Refusal::HostMissing)
        } else {
            Ok(None)
        };
    };
    if hosts.next().is_some() {
        return Err(Refusal::HostDuplicate);
    }
    if is_host(host.as_bytes()) {
        Ok(Some(host))
    } else {
        Err(Refusal::HostInvalid)
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2).
///
/// The comma is allowed in a registered name, but here it is the trace of two Host
/// fields that something merged.
fn is_host(value: &[u8]) -> bool {
    let (name_is_valid, rest) = if let Some(literal) = value.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, rest) = literal.split_at(end);
        let valid = address.contains(&b':')
            && address
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte));
        (valid, rest.strip_prefix(b"]").unwrap_or_default())
    } else {
        let end = value
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(value.len());
        let (name, rest) = value.split_at(end);
        (
            !name.is_empty() && name.iter().copied().all(is_host_byte),
            rest,
        )
    };
    let port_is_valid = match rest.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    name_is_valid && port_is_valid
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

/// Origin form, absolute form, or `*` for OPTIONS (RFC 9112 section 3.2).
///
/// For the absolute form RFC 9112 section 3.2.2 lets the target's authority win.
/// Here both must be equal: whatever reads only one of them, in front of this
/// server or behind it, then reads the right one.
fn check_target(method: &Method, target: &Uri, host: Option<&HeaderValue>) -> Result<(), Refusal> {
    if let Some(scheme) = target.scheme_str() {
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Refusal::TargetForm);
        }
        let authority = target
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        if !is_host(authority.as_bytes()) {
            return Err(Refusal::HostInvalid);
        }
        return match host {
            Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
                Err(Refusal::HostMismatch)
            }
            _ => Ok(()),
        };
    }
    let path = target.path();
    let for_the_server_as_a_whole = path == "*" && target.query().is_none();
    if target.authority().is_some() {
        // The authority form belongs to CONNECT.
        Err(Refusal::TargetForm)
    } else if path.starts_with('/') || (for_the_server_as_a_whole && method == Method::OPTIONS) {
        Ok(())
    } else {
        Err(Refusal::TargetForm)
    }
}

fn check_expectations(headers: &HeaderMap) -> Result<(), Refusal> {
    let understood = headers
        .get_all(EXPECT)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if understood {
        Ok(())
    } else {
        Err(Refusal::Expectation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, target: &str, version: Version, fields: &[(&str, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        check(&method, &target.parse().unwrap(), version, &headers)
    }

    type Verdict = Result<(), Refusal>;

    #[test]
    fn hosts() {
        const CASES: &[(&[&str], Verdict)] = &[
            (&["a"], Ok(())),
            (&["example.com:8080"], Ok(())),
            (&["a:"], Ok(())),
            (&["under_score"], Ok(())),
            (&["192.0.2.1:80"], Ok(())),
            (&["[2001:db8::1]"], Ok(())),
            (&["[::ffff:192.0.2.1]:443"], Ok(())),
            (&["%41.example"], Ok(())),
            (&[], Err(Refusal::HostMissing)),
            (&["a", "a"], Err(Refusal::HostDuplicate)),
            (&["a", "b"], Err(Refusal::HostDuplicate)),
            (&[""], Err(Refusal::HostInvalid)),
            (&["a, b"], Err(Refusal::HostInvalid)),
            (&["a,b"], Err(Refusal::HostInvalid)),
            (&["user@a"], Err(Refusal::HostInvalid)),
            (&["a/path"], Err(Refusal::HostInvalid)),
            (&["a?q"], Err(Refusal::HostInvalid)),
            (&["a#f"], Err(Refusal::HostInvalid)),
            (&["a b"], Err(Refusal::HostInvalid)),
            (&["a\\b"], Err(Refusal::HostInvalid)),
            (&["a:b"], Err(Refusal::HostInvalid)),
            (&["a:123456"], Err(Refusal::HostInvalid)),
            (&["a:1:2"], Err(Refusal::HostInvalid)),
            (&[":80"], Err(Refusal::HostInvalid)),
            (&["[::1"], Err(Refusal::HostInvalid)),
            (&["[]"], Err(Refusal::HostInvalid)),
            (&["[::1]x"], Err(Refusal::HostInvalid)),
            (&["[a@b:c]"], Err(Refusal::HostInvalid)),
            (&["\u{e9}"], Err(Refusal::HostInvalid)),
        ];
        for (hosts, expected) in CASES {
            let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let found = verdict("GET", "/", Version::HTTP_11, &fields);
            assert_eq!(found, *expected, "HTTP/1.1 with Host {hosts:?}");
            let for_old = if hosts.is_empty() { Ok(()) } else { *expected };
            let found = verdict("GET", "/", Version::HTTP_10, &fields);
            assert_eq!(found, for_old, "HTTP/1.0 with Host {hosts:?}");
        }
    }

    #[test]
    fn targets() {
        const CASES: &[(&str, &str, Verdict)] = &[
            ("GET", "/", Ok(())),
            ("GET", "//evil/..", Ok(())),
            ("GET", "http://a/p?q", Ok(())),
            ("GET", "HTTP://A/", Ok(())),
            ("GET", "https://a/", Ok(())),
            ("OPTIONS", "*", Ok(())),
            ("TRACE", "/", Ok(())),
            ("get", "/", Ok(())),
            ("GET", "*", Err(Refusal::TargetForm)),
            ("GET", "a", Err(Refusal::TargetForm)),
            ("GET", "a:443", Err(Refusal::TargetForm)),
            ("GET", "ftp://a/", Err(Refusal::TargetForm)),
            ("GET", "http://other/", Err(Refusal::HostMismatch)),
            ("GET", "http://a:80/", Err(Refusal::HostMismatch)),
            ("GET", "http://u@a/", Err(Refusal::HostInvalid)),
            ("CONNECT", "a:443", Err(Refusal::Connect)),
        ];
        for (method, target, expected) in CASES {
            let found = verdict(method, target, Version::HTTP_11, &[("host", "a")]);
            assert_eq!(found, *expected, "{method} {target}");
        }
    }

    #[test]
    fn expectations() {
        const CASES: &[(Version, &[&str], Verdict)] = &[
            (Version::HTTP_11, &["100-continue"], Ok(())),
            (Version::HTTP_11, &["100-Continue"], Ok(())),
            (Version::HTTP_11, &["200-ok"], Err(Refusal::Expectation)),
            (
                Version::HTTP_11,
                &["100-continue", "x"],
                Err(Refusal::Expectation),
            ),
            (Version::HTTP_11, &[""], Err(Refusal::Expectation)),
            (Version::HTTP_10, &["200-ok"], Ok(())),
        ];
        for (version, values, expected) in CASES {
            let mut fields = vec![("host", "a")];
            fields.extend(values.iter().map(|value| ("expect", *value)));
            assert_eq!(
                verdict("POST", "/", *version, &fields),
                *expected,
                "{values:?}"
            );
        }
    }
}
