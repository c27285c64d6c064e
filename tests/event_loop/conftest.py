"""What the tests of the event loop share."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

import carboy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[carboy.EventLoop]:
    """A loop, closed at the end."""
    loop = carboy.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who has signed the certificate of `localhost`."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """For a server that is `localhost`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """For a client that trusts it."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
