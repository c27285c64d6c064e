//! Vectors of bytes that must never be misunderstood, and what must become of each.
//!
//! Each vector goes over a fresh connection and is followed by a request for
//! `/probe`. A refused vector gets one answer and the end of the connection; the
//! probe must not be answered, neither as itself nor out of left-over bytes.
//!
//! Sources of the vectors: `Http11Probe`, http-garden's list of found bugs, gunicorn's,
//! llhttp's and aiohttp's tests, and the advisories of many servers.

use super::TestServer;

/// The request that follows each vector.
pub const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What must become of a vector.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// One refusal with this status, then the end.
    Refused(u16),
    /// Content that the application is told to be broken, then the end.
    BrokenContent,
    /// A request like any other, with this content; the probe is answered too.
    Served(&'static str),
    /// The same, where the table of vectors allows a refusal too. The second part
    /// says why it is served.
    ServedBecause(&'static str, &'static str),
}
pub use Fate::{BrokenContent, Refused, Served, ServedBecause};

fn check(server: &TestServer, vector: &[u8], fate: Fate) {
    let name = String::from_utf8_lossy(vector.get(..200).unwrap_or(vector)).into_owned();
    let mut client = server.connect();
    client.send(vector).send(PROBE).end();
    let replies = client.replies();
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    for reply in &replies {
        assert_ne!(reply.text().trim(), "GET /evil", "smuggled by {name:?}");
    }
    match fate {
        Refused(status) => {
            assert_eq!(statuses, [status], "{name:?} -> {replies:?}");
            assert!(replies[0].closes(), "{name:?}");
            assert!(
                replies[0].text().lines().count() >= 2,
                "a sentence for {name:?}"
            );
        }
        BrokenContent => {
            assert_eq!(statuses, [400], "{name:?} -> {replies:?}");
            assert!(
                replies[0].text().contains("the request body"),
                "{name:?} -> {replies:?}"
            );
            assert!(replies[0].closes(), "{name:?}");
        }
        Served(content) | ServedBecause(content, _) => {
            let because = if let ServedBecause(_, because) = fate {
                because
            } else {
                "valid"
            };
            assert_eq!(statuses, [200, 200], "{name:?}, {because} -> {replies:?}");
            assert_eq!(replies[0].text(), content, "{name:?}");
            assert_eq!(replies[1].text(), "GET /probe ", "{name:?}");
        }
    }
}

/// Checks every vector: `before` + vector + `after`.
pub fn check_all(before: &[u8], vectors: &[(&[u8], Fate)], after: &[u8]) {
    let server = TestServer::echo();
    for (vector, fate) in vectors {
        check(&server, &[before, vector, after].concat(), *fate);
    }
    assert_eq!(server.statistics.panics(), 0);
}
