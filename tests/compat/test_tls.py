"""TLS of other libraries: whom they trust, and what they raise for whom they don't."""

from __future__ import annotations

import datetime
import importlib
import ipaddress
import ssl
from typing import TYPE_CHECKING, Any

import certifi
import pytest
import requests
from compat_servers import Upstream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from urllib3.exceptions import InsecureRequestWarning

from carboy.compat.urllib3_response import Response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serving(certificate: trustme.LeafCert, client_authority: trustme.CA | None = None) -> Upstream:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if client_authority is not None:
        client_authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return Upstream(context)


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Upstream]:
    with serving(authority.issue_cert("127.0.0.1", "localhost")) as upstream:
        yield upstream


def test_requests_trusts_a_bundle(secure: Upstream, authority_file: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = authority_file
        response = session.get(secure.url)
        session.get(secure.url)
    assert isinstance(response.raw, Response)
    assert response.text == "ok"
    assert secure.connections == 1


def test_requests_trusts_nobody_else(secure: Upstream) -> None:
    with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        requests.get(secure.url)
    with pytest.raises(OSError, match="Could not find a suitable TLS CA certificate bundle"):
        requests.get(secure.url, verify="/nowhere")
    assert secure.received == []


def test_requests_trusts_everybody_with_a_warning(secure: Upstream) -> None:
    with pytest.warns(InsecureRequestWarning, match="host '127.0.0.1'"):
        response = requests.get(secure.url, verify=False)
    assert isinstance(response.raw, Response)


def test_names_are_checked(secure: Upstream, authority: trustme.CA, authority_file: str) -> None:
    with (
        serving(authority.issue_cert("elsewhere.test")) as other,
        pytest.raises(requests.exceptions.SSLError, match=r"is not valid for '127\.0\.0\.1'"),
    ):
        requests.get(other.url, verify=authority_file)


def test_an_expired_certificate_costs_one_connection(
    authority: trustme.CA, authority_file: str
) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    certificate = authority.issue_cert(
        "127.0.0.1", not_before=past, not_after=past + datetime.timedelta(days=1)
    )
    with (
        serving(certificate) as upstream,
        pytest.raises(requests.exceptions.SSLError, match="certificate has expired"),
    ):
        requests.get(upstream.url, verify=authority_file)


def self_signed(path: Path) -> None:
    """Write key and certificate of a server that is its own authority, as developers make them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "developer")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, form, plain) + certificate.public_bytes(pem))


def test_whom_only_openssl_trusts_is_called_the_old_way(tmp_path: Path) -> None:
    pair = tmp_path / "pair.pem"
    self_signed(pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pair))
    with Upstream(context) as upstream, requests.Session() as session:
        session.trust_env = False
        session.verify = str(pair)
        first = session.post(upstream.url, data=iter([b"one", b"two"]))
        second = session.get(upstream.url)
    assert [first.text, second.text] == ["ok", "ok"]
    assert not isinstance(first.raw, Response)
    assert upstream.received[0].body == b"onetwo"
    # The second request does not try again.
    assert {received.connection for received in upstream.received} == {2}


def test_certificates_of_clients(
    authority: trustme.CA, authority_file: str, tmp_path: Path
) -> None:
    mine = authority.issue_cert("client.test")
    path = tmp_path / "mine.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(str(path))
    with serving(authority.issue_cert("127.0.0.1"), authority) as upstream:
        response = requests.get(upstream.url, verify=authority_file, cert=str(path))
        assert isinstance(response.raw, Response)
        assert response.text == "ok"
        with pytest.raises(requests.ConnectionError):
            requests.get(upstream.url, verify=authority_file)


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


def is_carboys(response: Any) -> bool:
    network = response.extensions["network_stream"]
    return type(network).__module__ == "carboy.compat.httpcore_message"


def test_httpx_trusts_what_its_environment_says(
    secure: Upstream, library: Any, authority_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with library.Client() as client, pytest.raises(library.ConnectError, match="VERIFY_FAILED"):
        client.get(secure.url)
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    with library.Client() as client:
        assert is_carboys(client.get(secure.url))


def test_httpx_trusts_everybody(secure: Upstream, library: Any) -> None:
    with library.Client(verify=False) as client:
        assert is_carboys(client.get(secure.url))


def test_a_context_of_the_users_own_is_used_by_httpx_itself(
    authority: trustme.CA, library: Any
) -> None:
    # It may hold a client's certificate, which nobody can see.
    context = ssl.create_default_context(cafile=certifi.where())
    authority.configure_trust(context)
    authority.issue_cert("client.test").configure_cert(context)
    with (
        serving(authority.issue_cert("127.0.0.1"), authority) as upstream,
        library.Client(verify=context, trust_env=False) as client,
    ):
        response = client.get(upstream.url)
    assert not is_carboys(response)
    assert response.text == "ok"
