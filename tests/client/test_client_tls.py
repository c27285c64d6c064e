"""Whom the client trusts, as whom it appears, and what it says when it does not."""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from support.pool import is_whole
from support.raw_upstream import Peer, RawUpstream, ok

from carboy import http

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = http.Timeout(connect=2, read=2, total=5)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def serve(context: ssl.SSLContext) -> RawUpstream:
    def answer(peer: Peer) -> None:
        while peer.read_request():
            peer.send(ok())

    return RawUpstream(answer, context)


def session_trusting(verify: object, **settings: object) -> http.Session:
    return http.Session(verify=verify, timeout=LIMITS, trust_env=False, **settings)  # type: ignore[arg-type]


def refuses(session: http.Session, url: str, reason: str) -> None:
    with session:
        with pytest.raises(http.TLSError, match=reason) as raised:
            session.get(url).result()
        assert isinstance(raised.value, (http.ConnectError, ConnectionError))
        is_whole(session, 0)


def test_an_authority_from_a_file_or_a_context(authority: trustme.CA, trusted: Path) -> None:
    context = ssl.create_default_context(cafile=str(trusted))
    with serve(server_context(authority.issue_cert("127.0.0.1"))) as upstream:
        for verify in (trusted, str(trusted), context):
            with session_trusting(verify) as session:
                response = session.get(upstream.url).result()
                assert response.text == "fine"
                assert response.timings["tls"]
                # TLS was made once, and the connection is kept.
                assert session.get(upstream.url).result().timings["tls"] is None
                is_whole(session, 1)


def test_unknown_authorities(authority: trustme.CA, trusted: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA(organization_name="strangers").cert_pem.write_to_path(str(stranger))
    with serve(server_context(authority.issue_cert("127.0.0.1"))) as upstream:
        refuses(session_trusting(stranger), upstream.url, "verify= can name.*UnknownIssuer")
        # The platform's authorities don't know it either: that is the default.
        refuses(session_trusting(True), upstream.url, "UnknownIssuer")


def test_expired(authority: trustme.CA, trusted: Path) -> None:
    long_ago = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    certificate = authority.issue_cert("127.0.0.1", not_before=long_ago, not_after=long_ago)
    with serve(server_context(certificate)) as upstream:
        refuses(session_trusting(trusted), upstream.url, "expired")


def test_another_name(authority: trustme.CA, trusted: Path) -> None:
    context = ssl.create_default_context(cafile=str(trusted))
    context.check_hostname = False
    with serve(server_context(authority.issue_cert("other.example"))) as upstream:
        refuses(session_trusting(trusted), upstream.url, "not valid for name")
        # Who says that the name does not matter is believed.
        with session_trusting(context) as session:
            assert session.get(upstream.url).result().ok


def test_self_signed(trusted: Path, tmp_path: Path) -> None:
    alone = trustme.CA()
    path = tmp_path / "alone.pem"
    path.write_bytes(alone.private_key_pem.bytes() + alone.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with serve(context) as upstream:
        refuses(session_trusting(trusted), upstream.url, "UnknownIssuer|CaUsedAsEndEntity")
        # Nobody is checked only where that is said.
        with session_trusting(False) as session:
            assert session.get(upstream.url).result().ok
        without = ssl.create_default_context()
        without.check_hostname = False
        without.verify_mode = ssl.CERT_NONE
        with session_trusting(without) as session:
            assert session.get(upstream.url).result().ok


def test_no_protocol_in_common(authority: trustme.CA, trusted: Path) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    # Of TLS 1.2 only what has no forward secrecy, which the client does not offer.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256")
    with serve(context) as upstream:
        refuses(session_trusting(trusted), upstream.url, "HandshakeFailure|alert")


def test_a_server_without_tls(trusted: Path) -> None:
    def answer_at_once(peer: Peer) -> None:
        peer.socket.recv(1)
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with RawUpstream(answer_at_once) as upstream:
        url = upstream.url.replace("http:", "https:")
        refuses(session_trusting(trusted), url, "no TLS connection")


def test_a_server_that_closes_in_the_handshake(trusted: Path) -> None:
    with RawUpstream(lambda peer: peer.socket.recv(1)) as upstream:
        url = upstream.url.replace("http:", "https:")
        with session_trusting(trusted) as session:
            with pytest.raises(http.ConnectError):
                session.get(url).result()
            is_whole(session, 0)


def test_a_handshake_without_end(trusted: Path) -> None:
    with RawUpstream(Peer.wait_for_end) as upstream:
        url = upstream.url.replace("http:", "https:")
        with session_trusting(trusted) as session:
            limits = http.Timeout(connect=0.3)
            with pytest.raises(http.ConnectTimeout):
                session.get(url, timeout=limits).result()
            is_whole(session, 0)
            assert upstream.peers[0].has_ended.wait(5)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates(
    authority: trustme.CA, trusted: Path, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    own = authority.issue_cert("client.example")
    whole, chain, key = (tmp_path / name for name in ("whole.pem", "chain.pem", "key.pem"))
    own.private_key_and_cert_chain_pem.write_to_path(str(whole))
    own.private_key_pem.write_to_path(str(key))
    chain.write_bytes(b"".join(pem.bytes() for pem in own.cert_chain_pems))
    with serve(context) as upstream:
        refuses(session_trusting(trusted), upstream.url, "CertificateRequired|HandshakeFailure")
        for cert in (whole, str(whole), (chain, key)):
            with session_trusting(trusted, cert=cert) as session:
                assert session.get(upstream.url).result().text == "fine"
    with pytest.raises(ValueError, match=r"cert='.*authority\.pem': there is no PEM private key"):
        session_trusting(trusted, cert=trusted.with_name("authority.pem")).get(upstream.url)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        session_trusting(tmp_path / "missing.pem").get("https://127.0.0.1:1/")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"verify='.*empty\.pem': there is no PEM certificate in"):
        session_trusting(tmp_path / "empty.pem").get("https://127.0.0.1:1/")
    with pytest.raises(TypeError, match=r"verify= is to be True, False, a PEM file.*not None"):
        session_trusting(None).get("https://127.0.0.1:1/")
