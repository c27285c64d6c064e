//! Bytes in, verdict out. The same vectors go over real sockets in
//! `tests/bad_framing.rs` and `tests/bad_heads.rs`; here every split of the bytes is tried as well.

use super::*;

const LIMITS: Limits = Limits {
    request_line_bytes: 256,
    header_bytes: 1024,
    header_count: 8,
    body_bytes: Some(1 << 20),
};

/// Feeds the bytes in pieces of this size, as a stream would.
fn feed(bytes: &[u8], piece_size: usize) -> (usize, u32, Outcome) {
    let mut wire = Wire::new(&LIMITS);
    let (mut passed, mut heads) = (0, 0);
    let mut held = Vec::new();
    for piece in bytes.chunks(piece_size) {
        held.extend_from_slice(piece);
        let scan = wire.scan(&held);
        held.drain(..scan.passed);
        passed += scan.passed;
        heads += scan.heads;
        if scan.outcome != Outcome::Continue {
            return (passed, heads, scan.outcome);
        }
    }
    (passed, heads, Outcome::Continue)
}

/// Checks the verdict however the bytes are split.
fn check(bytes: &[u8], expected: &(usize, u32, Outcome)) {
    for piece_size in [bytes.len().max(1), 1, 2, 3, 7] {
        assert_eq!(
            feed(bytes, piece_size),
            *expected,
            "{:?} in pieces of {piece_size}",
            String::from_utf8_lossy(bytes)
        );
    }
}

fn passes(bytes: &[u8], heads: u32) {
    check(bytes, &(bytes.len(), heads, Outcome::Continue));
}

fn refused(bytes: &[u8], reason: Refusal) {
    check(bytes, &(0, 0, Outcome::Refused(reason)));
}

#[test]
fn whole_messages_pass() {
    passes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    passes(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    passes(
        b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        2,
    );
    passes(
        b"POST / HTTP/1.1\r\nContent-Length: 005\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
        2,
    );
    passes(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\t \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        1,
    );
    passes(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
          0a ; a;b=c ; d = \"e\\\"f\"\r\n0123456789\r\n000\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        2,
    );
    passes(b"G|T /{}|^ HTTP/1.1\r\nX:\r\nY: \x80\xff\t\r\n\r\n", 1);
}

#[test]
fn unfinished_messages_wait() {
    check(b"\r\n", &(0, 0, Outcome::Continue));
    check(b"GET / HTTP/1.1\r\nHost: a\r\n", &(0, 0, Outcome::Continue));
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = [&head[..], b"5\r\nhel"].concat();
    check(&whole, &(whole.len(), 1, Outcome::Continue));
    let with_half_line = [&head[..], b"5\r\nhello\r\n1"].concat();
    check(
        &with_half_line,
        &(with_half_line.len() - 1, 1, Outcome::Continue),
    );
}

#[test]
fn only_a_begun_head_is_owed() {
    let mut wire = Wire::new(&LIMITS);
    for (bytes, within) in [(&b"\r"[..], false), (b"\r\n", false), (b"\r\nG", true)] {
        wire.scan(bytes);
        assert_eq!(wire.is_within_head(), within, "{bytes:?}");
    }
}

#[test]
fn heads_over_a_limit_are_refused_before_they_end() {
    refused(&[b'A'; 300], Refusal::RequestLineTooLong);
    let long_target = [b"GET /", &[b'a'; 300][..]].concat();
    refused(&long_target, Refusal::RequestLineTooLong);
    let long_value = [b"GET / HTTP/1.1\r\nX: ", &[b'a'; 1100][..]].concat();
    refused(&long_value, Refusal::HeadersTooLarge);
    let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(9)].concat();
    refused(&many, Refusal::HeadersTooLarge);
    refused(
        b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n",
        Refusal::BodyTooLarge,
    );
}

#[test]
fn nothing_passes_after_a_refusal() {
    let mut wire = Wire::new(&LIMITS);
    let scan = wire.scan(b"GET / HTTP/1.1\r\n\r\nBAD\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!((scan.passed, scan.heads), (18, 1));
    assert_eq!(scan.outcome, Outcome::Refused(Refusal::RequestLine));
    let scan = wire.scan(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!((scan.passed, scan.outcome), (0, Outcome::Continue));
}

#[test]
fn a_takeover_stops_the_reading_until_it_is_decided() {
    let request = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    let with_more = [&request[..], b"\x81\x02hi"].concat();
    let mut wire = Wire::new(&LIMITS);
    let scan = wire.scan(&with_more);
    assert_eq!((scan.passed, scan.asks_for_takeover), (request.len(), true));
    assert!(wire.is_at_takeover());
    wire.accept_takeover();
    assert_eq!(wire.scan(b"\x81\x02hi").passed, 4);

    let mut wire = Wire::new(&LIMITS);
    wire.scan(request);
    wire.decline_takeover();
    assert_eq!(wire.scan(b"GET / HTTP/1.1\r\n\r\n").heads, 1);
}

#[test]
fn wrong_chunks_stop_the_content() {
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (chunks, passed) in [
        (&b"\r\n"[..], 0),
        (b"5 \r\nhello\r\n", 0),
        (b"5;\r\nhello\r\n", 0),
        (b"5;a=\r\nhello\r\n", 0),
        (b"5;a=\"b\r\nhello\r\n", 0),
        (b"5\nhello\r\n", 0),
        (b"10000000000000000\r\n", 0),
        (b"5\r\nhello!!\r\n", 8),
        (b"5\r\nhello\r\r\n", 8),
        (b"0\r\nX : y\r\n\r\n", 3),
        (b"0\r\n\n", 3),
    ] {
        let bytes = [&head[..], chunks].concat();
        check(&bytes, &(head.len() + passed, 1, Outcome::Malformed));
    }
}

/// Random bytes must never panic, and passed bytes must never depend on how the
/// stream was split.
#[test]
fn splits_never_matter() {
    const PIECES: [&[u8]; 16] = [
        b"GET / HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"5",
        b"hello",
        b"0\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b";a=\"b\"",
        b" ",
        b":",
        b"POST /x HTTP/1.1\r\n",
        b"\x00",
        b"GET / HTTP/1.0\r\n",
    ];
    let mut seed = 0x9e37_79b9_u32;
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..8 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend_from_slice(PIECES[(seed >> 28) as usize]);
        }
        let whole = feed(&bytes, bytes.len());
        for piece_size in [1, 2, 5] {
            assert_eq!(
                feed(&bytes, piece_size),
                whole,
                "{:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}
