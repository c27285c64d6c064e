"""What an ``ssl.SSLContext`` stands for, as far as that can be seen from outside.

A context does not say everything about itself. What it says to a server can be heard, though: two
handshakes in memory tell its protocols, curves and keys that were agreed before, and whether it
holds a certificate of a client. A context in which nothing but the authorities is its owner's can
be put in carboy's terms.
"""

from __future__ import annotations

import functools
import ssl
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from carboy.compat.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Extensions of a ClientHello that are not settings of a context (RFC 8446 section 4.2): the name
#: of the server, the application's protocols, which a library chooses for each connection, and
#: padding.
_IGNORED_EXTENSIONS = {0, 16, 21}
_KEY_SHARE = 51


class Identity(NamedTuple):
    """A client's certificate.

    Attributes:
        certificate: The path of the chain in PEM, perhaps with the key.
        key: The path of the key, if that is in another file.
    """

    certificate: str
    key: str | None = None


def trust_of_context(context: Any, identity: Identity | None = None) -> Trust | None:
    """Return whom a context trusts, or ``None`` if there is more to it than that.

    Args:
        context: An ``ssl.SSLContext`` as it is now.
        identity: The client's certificate that was loaded into it, if that is known.
    """
    if _own_behaviour(context) is not None or _settings(context) not in _usual_settings():
        return None
    certificate = key = None
    if (shown := _certificate_of(context)) is not None:
        if identity is None or shown != _first_certificate(identity.certificate):
            return None
        certificate, key = identity
    if context.verify_mode == ssl.CERT_NONE:
        return Trust(None, certificate, key)
    if context.verify_mode != ssl.CERT_REQUIRED:
        return None
    # Those of a folder are not among them: who is not trusted for that is OpenSSL's to judge.
    authorities = authorities_of(context)
    if not authorities:
        return None
    return Trust(authorities, certificate, key, checks_names=context.check_hostname)


def authorities_of(context: ssl.SSLContext) -> bytes:
    """Return the authorities that a context trusts, in PEM. Those of a folder can't be seen."""
    return _pem(tuple(context.get_ca_certs(binary_form=True)))


def what_is_not_covered(context: ssl.SSLContext, certificate: str | None = None) -> str | None:
    """Say what a context asks for that carboy can't do; ``None`` if it can do everything.

    Authorities, ``verify_mode``, ``check_hostname``, and the versions 1.2 and 1.3 are covered.

    Args:
        context: The context.
        certificate: The path of a client's certificate that is known beside it.
    """
    if (own := _own_behaviour(context)) is not None:
        return own
    settings = _settings(context)
    usual = [_settings(_with_versions_of(context, make())) for make in (_bare, _default)]
    if settings not in usual:
        differing = [
            name
            for name, own, *others in zip(_SETTINGS, settings, *usual, strict=True)
            if own not in others
        ]
        return " and ".join(differing) or "a mixture of settings"
    known = {ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3}
    lowest, highest = context.minimum_version, context.maximum_version
    if lowest not in known | {_bare().minimum_version}:
        return f"minimum_version {lowest.name}"
    if highest not in known | {_bare().maximum_version}:
        return f"maximum_version {highest.name}"
    shown = _certificate_of(context)
    if shown is not None and (certificate is None or shown != _first_certificate(certificate)):
        return "the client's certificate, which is to be named by cert="
    return None


def _own_behaviour(context: Any) -> str | None:
    """Say what a context does by code or files of its owner's, if anything."""
    kind = type(context)
    if (kind.__module__, kind.__qualname__) != ("ssl", "SSLContext") or vars(context):
        # Another class, or one that was changed: truststore's, for instance.
        return f"the behaviour of {kind.__module__}.{kind.__qualname__}"
    if context.keylog_filename is not None:
        return "keylog_filename"
    if context._msg_callback is not None:
        return "a callback for messages"
    if context.sslobject_class is not ssl.SSLObject or context.sslsocket_class is not ssl.SSLSocket:
        return "classes of sockets"
    if context.cert_store_stats()["crl"]:
        return "lists of revoked certificates"
    return None


def _bare() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _default() -> ssl.SSLContext:
    # A path, so that it does not read all authorities of the system.
    return ssl.create_default_context(capath=".")


def _with_versions_of(context: ssl.SSLContext, made: ssl.SSLContext) -> ssl.SSLContext:
    made.minimum_version = context.minimum_version
    made.maximum_version = context.maximum_version
    return made


@functools.lru_cache(maxsize=8)
def _pem(certificates: tuple[bytes, ...]) -> bytes:
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode()


@functools.cache
def _usual_settings() -> list[Any]:
    """Return the settings of contexts as Python makes them."""
    return [_settings(_bare()), _settings(_default())]


#: What `_settings` returns, by name.
_SETTINGS = (
    "options",
    "verify_flags",
    "the security level",
    "post_handshake_auth",
    "minimum_version",
    "maximum_version",
    "ciphers or curves",
)


def _settings(context: ssl.SSLContext) -> Any:
    return (
        context.options,
        context.verify_flags,
        context.security_level,
        context.post_handshake_auth,
        context.minimum_version,
        context.maximum_version,
        _client_hello(context),
    )


def _client_hello(context: ssl.SSLContext) -> Any:
    """Return what a context offers to a server: ciphers, curves, signatures, versions, keys."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        connection = context.wrap_bio(incoming, outgoing, server_hostname="example.org")
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return _parsed_client_hello(outgoing.read())
    except ssl.SSLError as error:
        # It can't even begin.
        return str(error)
    return None


def _parsed_client_hello(record: bytes) -> Any:
    """Return the parts of a ClientHello (RFC 8446 section 4.1.2) that are not random."""
    # The heads of record and message, the version, and the random value.
    position = 5 + 4 + 2 + 32
    position += 1 + record[position]  # The session.
    (size,) = struct.unpack_from("!H", record, position)
    ciphers = record[position + 2 : position + 2 + size]
    position += 2 + size
    size = record[position]
    compressions = record[position + 1 : position + 1 + size]
    position += 1 + size + 2
    return ciphers, compressions, dict(_extensions(record, position))


def _extensions(record: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    while position < len(record):
        kind, size = struct.unpack_from("!HH", record, position)
        content = record[position + 4 : position + 4 + size]
        position += 4 + size
        if kind == _KEY_SHARE:
            # The keys are random, their curves are not.
            content = b"".join(_curves(content))
        if kind not in _IGNORED_EXTENSIONS:
            yield kind, content


def _curves(shares: bytes) -> Iterator[bytes]:
    position = 2
    while position < len(shares):
        yield shares[position : position + 2]
        position += 4 + struct.unpack_from("!H", shares, position + 2)[0]


# Certificates.


def _certificate_of(context: ssl.SSLContext) -> bytes | None:
    """Return the certificate that a context holds, in DER, or nothing.

    A server's side of a connection takes its certificates from a context that is given to it before
    the handshake (as for names of servers), and shows them to its client.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_context, client_context = _probes()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    server.context = context
    client = client_context.wrap_bio(to_client, to_server)
    # A round trip and a half, at most.
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            # There is nothing to show.
            return None
    return client.getpeercert(binary_form=True)


@functools.cache
def _probes() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    for context in (server, client):
        # Weak certificates are to be seen, too.
        context.set_ciphers("ALL:@SECLEVEL=0")
    return server, client


def _first_certificate(path: str) -> bytes | None:
    """Return the first certificate of a PEM file in DER; that is the one which is shown."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    try:
        with open(path, encoding="latin-1") as file:
            _, found, rest = file.read().partition(begin)
        return ssl.PEM_cert_to_DER_cert(f"{begin}{rest.partition(end)[0]}{end}") if found else None
    except (OSError, ValueError):
        return None
