"""What the tests of the event loop share."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import carboy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


@pytest.fixture
def loop() -> Iterator[carboy.EventLoop]:
    """A loop, closed at the end."""
    loop = carboy.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(params=["carboy", "asyncio"])
def run_on_both(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    """Run a coroutine on carboy's loop, and on asyncio's, which says what is right."""

    def run(main: Awaitable[Any]) -> Any:
        is_ours = request.param == "carboy"
        factory: Any = carboy.new_event_loop if is_ours else asyncio.SelectorEventLoop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(main, 20))

    return run


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
