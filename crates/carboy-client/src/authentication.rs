//! Who the caller is: basic (RFC 7617), bearer (RFC 6750) and digest (RFC 7616).

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, header};
use md5::Md5;
use sha2::{Digest, Sha256};
use url::{Position, Url};

/// How a request proves who sends it.
#[derive(Debug)]
pub enum Authentication {
    /// A fixed value of the `Authorization` header.
    Header(HeaderValue),
    /// Answers to a server's challenges.
    Digest(DigestCredentials),
}

impl Authentication {
    /// Basic authentication; `None` when the values can't be sent.
    pub fn basic(user: &[u8], password: &[u8]) -> Option<Self> {
        let encoded = BASE64_STANDARD.encode([user, b":", password].concat());
        Self::header(&format!("Basic {encoded}"))
    }

    /// A bearer token; `None` when it can't be sent.
    pub fn bearer(token: &str) -> Option<Self> {
        Self::header(&format!("Bearer {token}"))
    }

    fn header(value: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some(Self::Header(value))
    }

    /// Digest authentication.
    pub fn digest(user: &str, password: &str) -> Self {
        Self::Digest(DigestCredentials {
            user: user.to_owned(),
            password: password.to_owned(),
            challenge: Mutex::default(),
        })
    }

    /// The header's value for a request, if one is known before the server has asked.
    pub(crate) fn value(&self, method: &Method, url: &Url) -> Option<HeaderValue> {
        match self {
            Self::Header(value) => Some(value.clone()),
            Self::Digest(credentials) => credentials.answer(method, url),
        }
    }

    /// Takes a 401 response's challenge, if there is one that can be answered, and says what it
    /// means after the credentials that were sent.
    pub(crate) fn take_challenge(
        &self,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
    ) -> Option<Verdict> {
        match self {
            Self::Header(_) => None,
            Self::Digest(credentials) => credentials.take_challenge(headers, sent),
        }
    }
}

/// What a challenge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Who is there? Perhaps because the answer to another challenge was wrong.
    Asked,
    /// The answer was right, but its challenge is too old.
    AskedAnew,
    /// The answer to this very challenge was wrong, and so is the password.
    Refused,
}

/// A name and a password that are never sent themselves.
pub struct DigestCredentials {
    user: String,
    password: String,
    challenge: Mutex<Option<Challenge>>,
}

impl std::fmt::Debug for DigestCredentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DigestCredentials({:?})", self.user)
    }
}

/// What a server asks, and how often it was answered.
#[derive(Clone, Debug)]
struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// As the server wrote it, to be repeated.
    algorithm_name: Option<String>,
    has_qop: bool,
    /// Whether the answer before was right, but to a challenge that is too old.
    is_stale: bool,
    answers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Algorithm {
    is_sha256: bool,
    is_session: bool,
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        let (base, is_session) = match name.to_ascii_lowercase() {
            name if name.ends_with("-sess") => (name[..name.len() - 5].to_owned(), true),
            name => (name, false),
        };
        let is_sha256 = match base.as_str() {
            "md5" => false,
            "sha-256" => true,
            _ => return None,
        };
        Some(Self {
            is_sha256,
            is_session,
        })
    }

    fn hash(self, text: &str) -> String {
        let bytes: Vec<u8> = if self.is_sha256 {
            Sha256::digest(text.as_bytes()).to_vec()
        } else {
            Md5::digest(text.as_bytes()).to_vec()
        };
        bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").ok();
            hex
        })
    }
}

impl DigestCredentials {
    fn take_challenge(&self, headers: &HeaderMap, sent: Option<&HeaderValue>) -> Option<Verdict> {
        let offered = headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .filter_map(parse_challenge)
            // The stronger one of several.
            .max_by_key(|challenge| challenge.algorithm.is_sha256)?;
        let nonce = format!("nonce=\"{}\"", quoted(&offered.nonce));
        let is_answer = |sent: &HeaderValue| {
            let sent = sent.as_bytes();
            sent.windows(nonce.len())
                .any(|part| part == nonce.as_bytes())
        };
        let verdict = if offered.is_stale {
            Verdict::AskedAnew
        } else if sent.is_some_and(is_answer) {
            Verdict::Refused
        } else {
            Verdict::Asked
        };
        let mut known = self
            .challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A challenge that several calls were given is counted on.
        if known
            .as_ref()
            .is_none_or(|known| known.nonce != offered.nonce)
        {
            *known = Some(offered);
        }
        Some(verdict)
    }

    fn answer(&self, method: &Method, url: &Url) -> Option<HeaderValue> {
        let client_nonce = format!("{:032x}", fastrand::u128(..));
        let mut challenge = self
            .challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let challenge = challenge.as_mut()?;
        challenge.answers += 1;
        let uri = &url[Position::BeforePath..Position::AfterQuery];
        let text = self.answer_to(challenge, method, uri, &client_nonce);
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// RFC 7616 section 3.4.
    fn answer_to(
        &self,
        challenge: &Challenge,
        method: &Method,
        uri: &str,
        client_nonce: &str,
    ) -> String {
        let algorithm = challenge.algorithm;
        let (realm, nonce) = (&challenge.realm, &challenge.nonce);
        let mut secret = algorithm.hash(&format!("{}:{realm}:{}", self.user, self.password));
        if algorithm.is_session {
            secret = algorithm.hash(&format!("{secret}:{nonce}:{client_nonce}"));
        }
        let request = algorithm.hash(&format!("{method}:{uri}"));
        let count = format!("{:08x}", challenge.answers);
        let response = if challenge.has_qop {
            algorithm.hash(&format!(
                "{secret}:{nonce}:{count}:{client_nonce}:auth:{request}"
            ))
        } else {
            algorithm.hash(&format!("{secret}:{nonce}:{request}"))
        };
        let mut text = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", \
             response=\"{response}\"",
            quoted(&self.user),
            quoted(realm),
            quoted(nonce),
        );
        if let Some(opaque) = &challenge.opaque {
            write!(text, ", opaque=\"{}\"", quoted(opaque)).ok();
        }
        if let Some(name) = &challenge.algorithm_name {
            write!(text, ", algorithm={name}").ok();
        }
        if challenge.has_qop {
            write!(text, ", qop=auth, nc={count}, cnonce=\"{client_nonce}\"").ok();
        } else if algorithm.is_session {
            write!(text, ", cnonce=\"{client_nonce}\"").ok();
        }
        text
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The parameters of a `Digest` challenge; `None` when it is another one, or asks for something
/// that is not known here.
fn parse_challenge(value: &str) -> Option<Challenge> {
    let start = value.to_ascii_lowercase().find("digest ")?;
    let parameters = parameters(&value[start + 7..]);
    let find = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    };
    let algorithm_name = find("algorithm");
    let algorithm = Algorithm::of(algorithm_name.as_deref().unwrap_or("MD5"))?;
    let qop = find("qop");
    let has_qop = qop.as_deref().is_some_and(|qop| {
        qop.split(',')
            .any(|one| one.trim().eq_ignore_ascii_case("auth"))
    });
    if qop.is_some() && !has_qop {
        return None;
    }
    Some(Challenge {
        realm: find("realm")?,
        nonce: find("nonce")?,
        opaque: find("opaque"),
        algorithm,
        algorithm_name,
        has_qop,
        is_stale: find("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        answers: 0,
    })
}

/// `name=value` and `name="value"`, separated by commas. Ends at what is something else: the
/// next challenge.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim();
        if name.is_empty() || name.contains([' ', ',']) {
            break;
        }
        let after = after.trim_start();
        let mut value = String::new();
        let consumed = if let Some(inner) = after.strip_prefix('"') {
            let mut end = inner.len();
            let mut characters = inner.char_indices();
            while let Some((index, character)) = characters.next() {
                match character {
                    '"' => {
                        end = index + 1;
                        break;
                    }
                    '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                    other => value.push(other),
                }
            }
            end + 1
        } else {
            let end = after.find(',').unwrap_or(after.len());
            after[..end].trim().clone_into(&mut value);
            end
        };
        found.push((name.to_owned(), value));
        rest = after[consumed.min(after.len())..].trim_start_matches([' ', ',']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_CHALLENGE: &str = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
        algorithm=ALGORITHM, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
        opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    /// The example of RFC 7616 section 3.9.1.
    fn rfc_answer(algorithm: &str) -> String {
        let mut challenge =
            parse_challenge(&RFC_CHALLENGE.replace("ALGORITHM", algorithm)).unwrap();
        challenge.answers = 1;
        let Authentication::Digest(credentials) =
            Authentication::digest("Mufasa", "Circle of Life")
        else {
            unreachable!("it was just made");
        };
        let client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        credentials.answer_to(&challenge, &Method::GET, "/dir/index.html", client_nonce)
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert!(rfc_answer("MD5").contains("response=\"8ca523f5e9506fed4657c9700eebdbec\""));
        assert!(rfc_answer("SHA-256").contains(
            "response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\""
        ));
    }

    #[test]
    fn a_wrong_password_is_tried_once() {
        let url = Url::parse("http://example.org/x?y=1").unwrap();
        let credentials = Authentication::digest("user", "wrong");
        assert!(credentials.value(&Method::GET, &url).is_none());
        let mut headers = HeaderMap::new();
        let value = RFC_CHALLENGE.replace("ALGORITHM", "MD5");
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_str(&value).unwrap(),
        );
        let verdict = credentials.take_challenge(&headers, None);
        assert_eq!(verdict, Some(Verdict::Asked));
        let answer = credentials.value(&Method::GET, &url).unwrap();
        assert!(answer.to_str().unwrap().contains("uri=\"/x?y=1\""));
        let verdict = credentials.take_challenge(&headers, Some(&answer));
        assert_eq!(verdict, Some(Verdict::Refused));
        // Somebody else's call may be asked the same.
        let verdict = credentials.take_challenge(&headers, None);
        assert_eq!(verdict, Some(Verdict::Asked));
        let next = credentials.value(&Method::GET, &url).unwrap();
        assert!(next.to_str().unwrap().contains("nc=00000002"));
        let stale = HeaderValue::from_str(&format!("{value}, stale=TRUE")).unwrap();
        headers.insert(header::WWW_AUTHENTICATE, stale);
        let verdict = credentials.take_challenge(&headers, Some(&next));
        assert_eq!(verdict, Some(Verdict::AskedAnew));
    }

    #[test]
    fn other_challenges_are_left_alone() {
        assert!(parse_challenge("Basic realm=\"x\"").is_none());
        assert!(parse_challenge("Digest realm=\"x\", nonce=\"n\", algorithm=NEW").is_none());
        assert!(parse_challenge("Digest realm=\"\\\"x\", nonce=").is_some());
    }
}
