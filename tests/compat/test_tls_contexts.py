"""Which TLS contexts of applications are put in carboy's terms, and which are left to OpenSSL."""

from __future__ import annotations

import importlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from compat_servers import Upstream

import carboy
from carboy.compat import httpcore_message, tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """A context as applications make it, that trusts one authority."""
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Upstream]:
    with Upstream(server_context(authority)) as upstream:
        yield upstream


def server_context(authority: trustme.CA, *names: str, asks: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    if asks:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


def is_carboys(response: Any) -> bool:
    return isinstance(response.extensions["network_stream"], httpcore_message.NetworkStream)


def test_a_context_is_read_as_it_is(context: ssl.SSLContext, authority: trustme.CA) -> None:
    trust = tls_context.trust_of_context(context)
    assert trust is not None
    assert isinstance(trust.authorities, bytes)
    der = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())
    assert ssl.PEM_cert_to_DER_cert(trust.authorities.decode()) == der
    assert (trust.certificate, trust.key, trust.checks_names) == (None, None, True)
    context.check_hostname = False
    trust = tls_context.trust_of_context(context)
    assert trust is not None
    assert not trust.checks_names
    context.verify_mode = ssl.CERT_NONE
    assert tls_context.trust_of_context(context) == tls_context.Trust(None)
    # What httpcore sets for each connection is no setting of the application's.
    context.set_alpn_protocols(["http/1.1", "h2"])
    assert tls_context.trust_of_context(context) == tls_context.Trust(None)


def be_lenient(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_OPTIONAL


def replace_the_handshake(context: ssl.SSLContext) -> None:
    class Own(ssl.SSLObject):
        pass

    context.sslobject_class = Own


CHANGES: dict[str, Callable[[ssl.SSLContext], Any]] = {
    "curve": lambda context: context.set_ecdh_curve("prime256v1"),
    "ciphers": lambda context: context.set_ciphers("ECDHE+AESGCM"),
    "least version": lambda context: setattr(context, "minimum_version", ssl.TLSVersion.TLSv1_3),
    "greatest version": lambda context: setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_2),
    "options": lambda context: setattr(context, "options", context.options | ssl.OP_NO_TICKET),
    "revocation": lambda context: setattr(
        context, "verify_flags", context.verify_flags | ssl.VERIFY_CRL_CHECK_LEAF
    ),
    "late authentication": lambda context: setattr(context, "post_handshake_auth", True),
    "lenient": be_lenient,
    "classes": replace_the_handshake,
    "method": lambda context: setattr(context, "wrap_bio", context.wrap_bio),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_else_was_set_leaves_a_context_to_openssl(
    context: ssl.SSLContext, change: str
) -> None:
    assert tls_context.trust_of_context(context) is not None
    CHANGES[change](context)
    assert tls_context.trust_of_context(context) is None


def test_keys_that_are_logged_or_agreed_before_leave_it_to_openssl(
    context: ssl.SSLContext, tmp_path: Path
) -> None:
    if hasattr(context, "set_psk_client_callback"):
        # Since Python 3.13.
        context.set_psk_client_callback(lambda _: ("me", b"secret"))
        assert tls_context.trust_of_context(context) is None
        context.set_psk_client_callback(None)
        assert tls_context.trust_of_context(context) is not None
    context.keylog_filename = str(tmp_path / "keys")
    assert tls_context.trust_of_context(context) is None


def test_contexts_of_other_kinds_are_left_to_openssl() -> None:
    class Own(ssl.SSLContext):
        pass

    kinds: list[Any] = [
        Own(ssl.PROTOCOL_TLS_CLIENT),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        # It trusts nobody, or who is in a folder.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        None,
    ]
    for context in kinds:
        assert tls_context.trust_of_context(context) is None


@pytest.mark.parametrize("key_type", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
def test_a_certificate_of_a_client_is_seen(
    context: ssl.SSLContext, authority: trustme.CA, key_type: trustme.KeyType, tmp_path: Path
) -> None:
    mine, other = (authority.issue_cert(name, key_type=key_type) for name in ("me.test", "a.test"))
    paths = []
    for number, certificate in enumerate((mine, other)):
        path = tmp_path / f"{number}.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
        paths.append(str(path))
    identity = tls_context.Identity(paths[0])
    # It is not there yet, whatever is said.
    trust = tls_context.trust_of_context(context, identity)
    assert trust is not None
    assert trust.certificate is None
    context.load_cert_chain(paths[0])
    assert tls_context.trust_of_context(context) is None
    trust = tls_context.trust_of_context(context, identity)
    assert trust is not None
    assert trust.certificate == paths[0]
    # Another one has taken its place.
    context.load_cert_chain(paths[1])
    assert tls_context.trust_of_context(context, identity) is None


def test_a_client_with_a_context_of_the_applications_own(
    secure: Upstream, library: Any, context: ssl.SSLContext
) -> None:
    with library.Client(verify=context, trust_env=False) as client:
        assert is_carboys(client.get(secure.url))
        assert is_carboys(client.get(secure.url))
    assert secure.connections == 1


def test_a_client_that_was_there_before_install(
    secure: Upstream, library: Any, context: ssl.SSLContext
) -> None:
    carboy.uninstall(library.__name__)
    with library.Client(verify=context, trust_env=False) as client:
        assert not is_carboys(client.get(secure.url))
        carboy.install(library.__name__)
        assert is_carboys(client.get(secure.url))


async def get_soon(library: Any, url: str, **options: Any) -> Any:
    async with library.AsyncClient(trust_env=False, **options) as client:
        return await client.get(url)


def test_a_client_on_the_loop(secure: Upstream, library: Any, context: ssl.SSLContext) -> None:
    response = carboy.run(get_soon(library, secure.url, verify=context))
    assert is_carboys(response)
    assert response.text == "ok"


def test_names_are_not_checked_if_the_context_says_so(
    authority: trustme.CA, library: Any, context: ssl.SSLContext
) -> None:
    with Upstream(server_context(authority, "elsewhere.test")) as upstream:
        with (
            library.Client(verify=context, trust_env=False) as client,
            pytest.raises(library.ConnectError, match="IP address mismatch"),
        ):
            client.get(upstream.url)
        context.check_hostname = False
        with library.Client(verify=context, trust_env=False) as client:
            assert is_carboys(client.get(upstream.url))
    # Who is unknown is not trusted for that.
    with (
        Upstream(server_context(trustme.CA(), "elsewhere.test")) as upstream,
        library.Client(verify=context, trust_env=False) as client,
        pytest.raises(library.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(upstream.url)


@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")
def test_a_client_shows_the_certificate_that_it_was_given(
    authority: trustme.CA, library: Any, context: ssl.SSLContext, tmp_path: Path
) -> None:
    pair, chain, key = (str(tmp_path / name) for name in ("pair.pem", "chain.pem", "key.pem"))
    mine = authority.issue_cert("me.test")
    mine.private_key_and_cert_chain_pem.write_to_path(pair)
    mine.private_key_pem.write_to_path(key)
    mine.cert_chain_pems[0].write_to_path(chain)
    with Upstream(server_context(authority, asks=True)) as upstream:
        for cert in (pair, (chain, key)):
            context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
            with library.Client(verify=context, cert=cert, trust_env=False) as client:
                response = client.get(upstream.url)
            assert is_carboys(response)
            assert response.text == "ok"
        # Loaded by the application: OpenSSL alone has the key.
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        context.load_cert_chain(pair)
        with library.Client(verify=context, trust_env=False) as client:
            response = client.get(upstream.url)
        assert not is_carboys(response)
        assert response.text == "ok"
