//! URLs as they may be shown in messages, logs and representations.
//!
//! User information is masked always (RFC 3986, section 3.2.1, deprecates showing it), and of
//! query parameters the values of those whose names say that they are secret. OpenTelemetry's
//! conventions (`url.full`) ask for both, with the four names of signed URLs that it lists; the
//! others here are those of OAuth 2.0 (RFC 6749, RFC 6750) and of keys for services. Names stay,
//! so that it is still told which call it was.

use std::borrow::Cow;

/// What is shown instead.
const MASK: &str = "[secret]";

/// Names of secret parameters, in lower case, without `-` and `_`.
const SECRET_NAMES: [&str; 10] = [
    "apikey",
    "auth",
    "authorization",
    "awsaccesskeyid",
    "jwt",
    "key",
    "passwd",
    "pwd",
    "sessionid",
    "sig",
];

/// How names of secret parameters end: `access_token`, `X-Amz-Signature`, `client_secret`.
const SECRET_ENDINGS: [&str; 6] = [
    "accesskey",
    "apikey",
    "credential",
    "password",
    "secret",
    "signature",
];

/// Names that end so are secret unless they say which page is meant.
const TOKEN: &str = "token";

/// A URL, or what was to be one, as it may be shown.
#[must_use]
pub fn for_display(url: &str) -> Cow<'_, str> {
    if !url.contains(['@', '=']) {
        return Cow::Borrowed(url);
    }
    let authority = url.find("://").map_or(0, |at| at + 3);
    let rest = url[authority..]
        .find(['/', '?', '#', '\\'])
        .map_or(url.len(), |at| authority + at);
    let mut shown = String::with_capacity(url.len());
    shown.push_str(&url[..authority]);
    match url[authority..rest].rsplit_once('@') {
        Some((_, host)) if authority > 0 => {
            shown.push_str(MASK);
            shown.push('@');
            shown.push_str(host);
        }
        _ => shown.push_str(&url[authority..rest]),
    }
    let query = url[rest..]
        .find(['?', '#'])
        .map_or(url.len(), |at| rest + at);
    shown.push_str(&url[rest..query]);
    for part in url[query..].split_inclusive(['?', '#', '&', ';']) {
        let (part, end) = match part.char_indices().next_back() {
            Some((at, '?' | '#' | '&' | ';')) => part.split_at(at),
            _ => (part, ""),
        };
        match part.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(MASK);
            }
            _ => shown.push_str(part),
        }
        shown.push_str(end);
    }
    Cow::Owned(shown)
}

fn is_secret(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(|character| !matches!(character, '-' | '_'))
        .map(|character| character.to_ascii_lowercase())
        .collect();
    SECRET_NAMES.contains(&name.as_str())
        || SECRET_ENDINGS.iter().any(|end| name.ends_with(end))
        || name.ends_with(TOKEN) && !name.contains("page")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::for_display;

    #[test]
    fn user_information_is_masked() {
        for (url, shown) in [
            ("http://user:word@host/a@b", "http://[secret]@host/a@b"),
            ("http://user@host", "http://[secret]@host"),
            ("https://a:b@c@host:1/?x=1", "https://[secret]@host:1/?x=1"),
            ("http://host?mail=a@b", "http://host?mail=a@b"),
            ("http://host#a@b", "http://host#a@b"),
            ("/path/a@b", "/path/a@b"),
        ] {
            assert_eq!(for_display(url), shown);
        }
    }

    #[test]
    fn secret_parameters_are_masked() {
        for name in [
            "token",
            "access_token",
            "api_key",
            "apikey",
            "API-Key",
            "key",
            "sig",
            "Signature",
            "AWSAccessKeyId",
            "X-Goog-Signature",
            "X-Amz-Security-Token",
            "X-Amz-Credential",
            "client_secret",
            "password",
            "auth",
        ] {
            let url = format!("http://host/?a=1&{name}=s=e;b=2#c");
            let shown = format!("http://host/?a=1&{name}=[secret];b=2#c");
            assert_eq!(for_display(&url), shown);
        }
        assert_eq!(for_display("/a?token=1"), "/a?token=[secret]");
        assert_eq!(
            for_display("http://h/#access_token=1&x=2"),
            "http://h/#access_token=[secret]&x=2"
        );
    }

    #[test]
    fn what_is_no_secret_stays() {
        for url in [
            "http://host/token=1",
            "http://host/?q=token",
            "http://host/?token",
            "http://host/?token=",
            "http://host/?page_token=x",
            "http://host/?nextPageToken=x",
            "http://host/?sort_key=x",
            "http://host/?monkey=x&id=7",
            "http://host/ä?ö=ü",
            "",
            "?",
            "://",
            "=",
            "@",
        ] {
            assert_eq!(for_display(url), url);
        }
        assert!(matches!(for_display("http://host/a?b"), Cow::Borrowed(_)));
    }
}
