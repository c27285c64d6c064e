"""Calls of httpx' and httpx2's end as they do without carboy: the same program runs on both."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import pickle
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from compat_servers import answer, chunked

import carboy

if TYPE_CHECKING:
    from collections.abc import Callable

    from compat_servers import Received, Upstream

#: Attributes of responses that are objects of one call.
_OBJECTS = {"stream", "_request", "request", "headers", "extensions", "history", "next_request"}
#: Those that say how long something took.
_TIMES = {"_elapsed"}


def seen_response(response: Any, depth: int = 0) -> Any:
    """Everything of a response that somebody can see."""
    seen: dict[str, Any] = {
        name: value
        for name, value in sorted(vars(response).items())
        if name not in _OBJECTS | _TIMES | {"_decoder", "_cookies"}
    }
    seen["_decoder"] = type(vars(response).get("_decoder"))
    seen["has_elapsed"] = outcome(lambda: response.elapsed.total_seconds() > 0)
    seen["headers"] = (
        [(name, value) for name, _, value in response.headers._list if name.lower() != b"date"],
        response.headers._encoding,
    )
    seen["extensions"] = {
        name: value for name, value in response.extensions.items() if name != "network_stream"
    }
    seen["texts"] = (response.http_version, response.reason_phrase, response.num_bytes_downloaded)
    seen["text"] = outcome(lambda: response.text)
    seen["encoding"] = outcome(lambda: response.encoding)
    seen["raised"] = outcome(response.raise_for_status) if depth == 0 else None
    seen["request"] = seen_request(response.request)
    seen["history"] = [seen_response(before, 1) for before in response.history]
    seen["next"] = response.next_request and seen_request(response.next_request)
    seen["pickled"] = sorted(vars(pickle.loads(pickle.dumps(response))))
    return seen


def seen_request(request: Any) -> Any:
    return (
        request.method,
        request.url,
        request.headers._list,
        request.headers._encoding,
        request.extensions,
        vars(request).get("_content"),
        type(request.stream).__name__,
        sorted(vars(request)),
    )


def outcome(function: Callable[[], Any]) -> Any:
    try:
        value = function()
    except Exception as error:
        return seen_error(error)
    return value if isinstance(value, (str, bytes, bool, int, type(None))) else type(value)


def seen_error(error: BaseException) -> Any:
    request = getattr(error, "_request", None)
    message = str(error)
    if type(error).__name__ == "RemoteProtocolError" and "closed" in message:
        # What a server has done wrong each says in its own words.
        message = ""
    return (
        type(error),
        message,
        request and seen_request(request),
        type(error.__cause__),
    )


def wrong_deflate(_request: Received, file: Any) -> bool:
    compressed = zlib.compress(b"x" * 100_000)[:-1]
    file.write(answer("Content-Encoding: deflate", body=compressed[:20] + b"\0" * 50))
    return False


def breaks_off(_request: Received, file: Any) -> bool:
    file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    return True


def slow_halves(request: Received, file: Any) -> bool:
    file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + b"a" * 300_000)
    file.flush()
    file.write(b"b" * 300_000)
    return False


def echo(request: Received, file: Any) -> bool:
    # How names are written, and the order of different ones, is not said to be the same.
    headers = sorted(
        ((name.title(), value) for name, value in request.headers), key=lambda it: it[0]
    )
    said = repr((request.line, headers, request.body)).encode()
    file.write(answer("Content-Type: text/plain; charset=latin-1", body=said))
    return False


BIG = bytes(range(256)) * 4096

ANSWERS: dict[str, Any] = {
    "/echo": echo,
    "/big": answer("X-A: 1", body=BIG),
    "/gzip": answer("Content-Encoding: gzip", body=gzip.compress(b"packed" * 1000)),
    "/twice": answer("Content-Encoding: gzip, deflate", body=zlib.compress(gzip.compress(b"x"))),
    "/big-gzip": answer("Content-Encoding: gzip", body=gzip.compress(BIG * 3, 0)),
    "/wrong-gzip": answer("Content-Encoding: gzip", body=b"no gzip"),
    "/wrong-deflate": wrong_deflate,
    "/unknown-coding": answer("Content-Encoding: rot13", body=b"abc"),
    "/chunked": chunked(b"one", b"two", b"three" * 1000),
    "/empty": answer(status="204 No Content").replace(b"Content-Length: 0\r\n", b""),
    "/latin": answer("Content-Type: text/plain; charset=latin-1", "X-N: \xe9", body=b"\xe9"),
    "/unknown-charset": answer("Content-Type: text/plain; charset=nonsense", body=b"abc"),
    "/cookie": answer("Set-Cookie: a=b; Path=/", "Set-Cookie: c=d; HttpOnly", body=b"x"),
    "/redirect": answer("Location: /echo", status="302 Found", body=b"go"),
    "/redirect-307": answer("Location: /echo?x", status="307 Temporary Redirect"),
    "/redirect-nowhere": answer("Location: http://[", status="302 Found"),
    "/redirect-loop": answer("Location: /redirect-loop", status="301 Moved Permanently"),
    "/missing": answer("X-Twice: 1", "x-twice: 2", status="404 Not Here", body=b"no"),
    "/odd": answer(status="599 ", body=b""),
    "/breaks-off": breaks_off,
    "/slow-halves": slow_halves,
    "/unauthorized": answer("WWW-Authenticate: Basic", status="401 Unauthorized"),
}

#: Method, target, and arguments of the call.
CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{f"get {path}": ("GET", path, {}) for path in ANSWERS},
    **{f"head {path}": ("HEAD", path, {}) for path in ("/echo", "/big", "/gzip")},
    "post json": ("POST", "/echo", {"json": {"a": [1, 2]}}),
    "post form": ("POST", "/echo", {"data": {"a": "1", "b": ["2", "3"]}}),
    "post bytes": ("POST", "/echo", {"content": b"abc"}),
    "post nothing": ("POST", "/echo", {}),
    "put text": ("PUT", "/echo", {"content": "äöü"}),
    "post file": (
        "POST",
        "/echo",
        {
            "files": {"f": ("n.txt", b"abc", "text/plain")},
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
    ),
    "delete": ("DELETE", "/echo", {}),
    "odd method": ("brew", "/echo", {}),
    "params": ("GET", "/echo", {"params": {"q": "a b", "r": "ü"}}),
    "own headers": ("GET", "/echo", {"headers": {"X-A": "1", "accept": "x/y", "Host": "other"}}),
    "headers twice": ("GET", "/echo", {"headers": [("X-A", "1"), ("x-a", "2")]}),
    "bytes of headers": ("GET", "/echo", {"headers": {b"X-B": b"\xe9"}}),
    "own length": ("POST", "/echo", {"content": b"abc", "headers": {"Content-Length": "3"}}),
    "fragment": ("GET", "/echo#part", {}),
    "authentication": ("GET", "/echo", {"auth": ("user", "pass")}),
    "no authentication": ("GET", "/echo", {"auth": None}),
    "digest": ("GET", "/unauthorized", {"auth": "digest"}),
    "followed": ("GET", "/redirect", {"follow_redirects": True}),
    "followed post": ("POST", "/redirect-307", {"follow_redirects": True, "json": [1]}),
    "followed nowhere": ("GET", "/redirect-nowhere", {"follow_redirects": True}),
    "followed loop": ("GET", "/redirect-loop", {"follow_redirects": True}),
    "timeouts": ("GET", "/echo", {"timeout": 7}),
    "no timeouts": ("GET", "/echo", {"timeout": None}),
    "extension": ("GET", "/echo", {"extensions": {"own": 1}}),
    "target": ("GET", "/echo", {"extensions": {"target": b"/echo?other"}}),
    "cookies sent": ("GET", "/echo", {"headers": {"Cookie": "k=v"}}),
}


def arguments(library: Any, given: dict[str, Any]) -> dict[str, Any]:
    if given.get("auth") == "digest":
        return {**given, "auth": library.DigestAuth("user", "pass")}
    return given


def call_sync(library: Any, base: str, call: tuple[str, str, dict[str, Any]]) -> Any:
    method, target, given = call
    hooked: list[Any] = []
    hooks = {
        "request": [lambda it: hooked.append(it.method)],
        "response": [lambda it: hooked.append(it.is_closed)],
    }
    with library.Client(trust_env=False, event_hooks=hooks, max_redirects=3) as client:
        # The first call finds the way for the others.
        client.get(f"{base}/first")
        try:
            response = client.request(method, base + target, **arguments(library, given))
        except Exception as error:
            return seen_error(error), hooked
        return seen_response(response), hooked, cookies_of(client)


async def call_async(library: Any, base: str, call: tuple[str, str, dict[str, Any]]) -> Any:
    method, target, given = call
    hooked: list[Any] = []

    async def before(request: Any) -> None:
        hooked.append(request.method)

    async def behind(response: Any) -> None:
        hooked.append(response.is_closed)

    hooks = {"request": [before], "response": [behind]}
    options: Any = {"trust_env": False, "event_hooks": hooks, "max_redirects": 3}
    async with library.AsyncClient(**options) as client:
        await client.get(f"{base}/first")
        try:
            response = await client.request(method, base + target, **arguments(library, given))
        except Exception as error:
            return seen_error(error), hooked
        return seen_response(response), hooked, cookies_of(client)


def cookies_of(client: Any) -> Any:
    jar = client.cookies.jar
    return [(it.name, it.value, it.domain, it.path) for it in jar], hasattr(jar, "_now")


def on_both(library: Any, program: Callable[[], Any]) -> tuple[Any, Any]:
    installed = program()
    carboy.uninstall(library.__name__)
    try:
        return installed, program()
    finally:
        carboy.install(library.__name__)


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


@pytest.fixture
def base(upstream: Upstream) -> str:
    upstream.answers.update(ANSWERS)
    return upstream.url


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_sync_calls(library: Any, base: str, call: Any) -> None:
    installed, plain = on_both(library, lambda: call_sync(library, base, call))
    assert installed == plain


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_async_calls(library: Any, base: str, call: Any) -> None:
    installed = carboy.run(call_async(library, base, call))
    on_asyncio, plain = on_both(library, lambda: asyncio.run(call_async(library, base, call)))
    assert installed == plain
    assert on_asyncio == plain
