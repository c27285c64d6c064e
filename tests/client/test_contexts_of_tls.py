"""``verify=`` with an ``ssl.SSLContext`` or a folder: kept to, or refused."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from support.raw_upstream import Peer, RawUpstream, ok

from carboy import http

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import trustme

LIMITS = http.Timeout(connect=2, read=2, total=5)


@pytest.fixture
def context(trusted: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(trusted))


def serve(authority: trustme.CA, *versions: ssl.TLSVersion) -> RawUpstream:
    def answer(peer: Peer) -> None:
        while peer.read_request():
            assert isinstance(peer.socket, ssl.SSLSocket)
            peer.send(ok(str(peer.socket.version()).encode()))

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    if versions:
        server.minimum_version, server.maximum_version = versions
    return RawUpstream(answer, server)


def session_trusting(verify: object, **settings: object) -> http.Session:
    return http.Session(verify=verify, timeout=LIMITS, trust_env=False, **settings)  # type: ignore[arg-type]


def limited(context: ssl.SSLContext, name: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    setattr(context, name, version)
    return context


def test_versions_are_kept_to(authority: trustme.CA, context: ssl.SSLContext) -> None:
    old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    with serve(authority, old, new) as both, serve(authority, old, old) as old_only:
        with session_trusting(limited(context, "maximum_version", old)) as session:
            assert session.get(both.url).result().text == "TLSv1.2"
        context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
        with session_trusting(limited(context, "minimum_version", new)) as session:
            assert session.get(both.url).result().text == "TLSv1.3"
            with pytest.raises(http.TLSError):
                session.get(old_only.url).result()


REFUSED: dict[str, tuple[Callable[[ssl.SSLContext], object], str]] = {
    "ciphers": (lambda context: context.set_ciphers("ECDHE+AESGCM"), "ciphers or curves"),
    "old versions": (
        lambda context: limited(context, "minimum_version", ssl.TLSVersion.MINIMUM_SUPPORTED),
        "minimum_version|ciphers",
    ),
    "options": (
        lambda context: setattr(context, "options", context.options | ssl.OP_NO_TICKET),
        "options",
    ),
    "flags": (
        lambda context: setattr(context, "verify_flags", ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN),
        "verify_flags",
    ),
    "logged keys": (lambda context: setattr(context, "keylog_filename", "/dev/null"), "keylog"),
    "after the handshake": (
        lambda context: setattr(context, "post_handshake_auth", True),
        "post_handshake_auth",
    ),
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_can_not_be_kept_to_is_refused(context: ssl.SSLContext, setting: str) -> None:
    change, name = REFUSED[setting]
    change(context)
    with (
        session_trusting(context) as session,
        pytest.raises(ValueError, match=f"can't keep to: .*({name})"),
    ):
        session.get("https://127.0.0.1:1/")


def test_a_certificate_of_the_client(
    authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    certificate = authority.issue_cert("client.example")
    certificate.configure_cert(context)
    with session_trusting(context) as session, pytest.raises(ValueError, match="named by cert="):
        session.get("https://127.0.0.1:1/")
    # Beside its file, the context is no riddle.
    path = tmp_path / "client.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    with (
        serve(authority) as upstream,
        session_trusting(context, cert=str(path)) as session,
    ):
        assert session.get(upstream.url).result().ok


def test_a_context_of_another_class(trusted: Path) -> None:
    class Own(ssl.SSLContext):
        pass

    context = Own(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted)
    with session_trusting(context) as session, pytest.raises(ValueError, match="Own"):
        session.get("https://127.0.0.1:1/")


def test_a_context_that_trusts_nobody_to_be_seen() -> None:
    """It must not come to trust everybody whom the platform trusts."""
    with (
        session_trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as session,
        pytest.raises(ValueError, match="no authorities can be seen"),
    ):
        session.get("https://127.0.0.1:1/")


def test_a_folder_of_authorities(authority: trustme.CA, trusted: Path, tmp_path: Path) -> None:
    with serve(authority) as upstream:
        with session_trusting(trusted.parent) as session:
            assert session.get(upstream.url).result().ok
        with session_trusting(tmp_path) as session, pytest.raises(ValueError, match="no certific"):
            session.get(upstream.url)


def test_a_certificate_with_a_password(trusted: Path) -> None:
    settings = {"cert": ("chain.pem", "key.pem", "password")}
    with session_trusting(trusted, **settings) as session, pytest.raises(ValueError, match="cert="):
        session.get("https://127.0.0.1:1/")
