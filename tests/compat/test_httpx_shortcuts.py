"""The quick functions that stand in httpx and httpx2 give what the library's own give."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import pickle
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any

import pytest
from compat_servers import answer

import carboy
from carboy.compat.httpx_known import KNOWN, is_known
from carboy.compat.httpx_modules import Modules

if TYPE_CHECKING:
    from collections.abc import Callable

    from compat_servers import Upstream


@pytest.fixture(params=["httpx", "httpx2"])
def modules(request: pytest.FixtureRequest) -> Modules:
    return Modules(request.param)


def outcome(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function returns or raises."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        return type(error), str(error)


def original_of(function: Any) -> Any:
    """The library's own function below a quick one."""
    original = inspect.unwrap(function)
    assert original is not function, "it isn't replaced"
    return original


QUICK = (
    *(("models", "Headers", name) for name in ("__init__", "__getitem__", "__contains__")),
    *(("models", "Headers", name) for name in ("get_list", "update")),
    *(("models", "Request", name) for name in ("_prepare", "read")),
    *(("models", "Response", name) for name in ("read", "aread")),
    ("models", "Cookies", "__bool__"),
    ("client", "BaseClient", "_build_request_auth"),
    ("client", "Client", "_send_handling_auth"),
    ("client", "AsyncClient", "_send_handling_auth"),
    ("transports", "HTTPTransport", "handle_request"),
    ("transports", "AsyncHTTPTransport", "handle_async_request"),
)


@pytest.mark.parametrize(("module", "owner", "name"), QUICK)
def test_quick_functions_stand_in_the_versions_of_the_tests(
    modules: Modules, module: str, owner: str, name: str
) -> None:
    original_of(getattr(getattr(getattr(modules, module), owner), name))


def test_functions_of_modules_are_quick(modules: Modules) -> None:
    original_of(modules.urls.urlparse)
    assert modules.client.request_context is not modules.exceptions.request_context
    assert modules.models.request_context is not modules.exceptions.request_context


def test_what_was_put_back_is_the_librarys_own(modules: Modules) -> None:
    quick = modules.models.Headers.__dict__["encoding"]
    carboy.uninstall(modules.name)
    headers = modules.models.Headers
    assert inspect.unwrap(headers.__getitem__) is headers.__getitem__
    assert headers.__dict__["encoding"] is not quick
    assert is_known(headers, "encoding")
    assert modules.client.request_context is modules.exceptions.request_context


def test_a_function_that_somebody_has_replaced_stays(
    modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    carboy.uninstall(modules.name)
    transport = modules.transports.HTTPTransport

    def handle_request(self: Any, request: Any) -> Any:
        return modules.models.Response(299)

    monkeypatch.setattr(transport, "handle_request", handle_request)
    carboy.install(modules.name)
    with importlib.import_module(modules.name).Client() as client:
        assert client.get("http://nowhere.invalid").status_code == 299
    assert transport.handle_request is handle_request


def test_a_wrapper_is_not_taken_for_what_it_wraps(
    modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    carboy.uninstall(modules.name)
    original = modules.models.Headers.update

    @functools.wraps(original)
    def update(self: Any, headers: Any = None) -> None:
        original(self, headers)

    monkeypatch.setattr(modules.models.Headers, "update", update)
    assert not is_known(modules.models.Headers, "update")


def test_every_known_source_is_named_once() -> None:
    assert KNOWN
    digests = [digest for found in KNOWN.values() for digest in found]
    assert all(len(digest) == 16 for digest in digests)


URLS: list[Any] = [
    "",
    "http://example.org",
    "http://example.org:80/a%20b?q=1&r=%7C#f",
    "HTTPS://User:Pass%40@EXAMPLE.org:443/../x/./y",
    "http://müller.de/ü",
    "http://[::1]:8080/",
    "/relative?x",
    "//host/path",
    "http://1.2.3.4/\x7f",
    "http://host:port/",
    "http://host:99999999/",
    "http://[nonsense]/",
    "http://999.1.1.1/",
    "http://example.org/" + "a" * 2500,
    "http://example.org/" + "a" * 70000,
    "mailto:somebody@example.org",
    "http://ex ample.org/ ?q= ",
]


@pytest.mark.parametrize("url", URLS, ids=lambda url: repr(url[:40]))
def test_urls_are_parsed_alike(modules: Modules, url: str) -> None:
    urlparse = modules.urls.urlparse
    for _ in range(2):
        assert outcome(urlparse, url) == outcome(original_of(urlparse), url)
    assert outcome(urlparse, url, host="other") == outcome(original_of(urlparse), url, host="other")


HEADERS: list[Any] = [
    None,
    {},
    {"A": "1", "b": "2"},
    {b"A": b"\xff", "b": "2"},
    {"Ä": "1"},
    [("A", "1"), ("a", "2"), (b"C", b"3")],
    [(b"A", b"1"), (b"a", b"2"), (b"Content-Encoding", b"gzip, br")],
    [(b"A", "ü".encode())],
    [(b"A", b"\xff\xfe"), (b"B", b"1")],
    [(b"A", 1)],
    [(b"A",)],
    [b"AB"],
    "text",
    7,
]


def state_of(headers: Any) -> Any:
    return headers._list, headers._encoding


def headers_by(init: Callable[..., None], kind: type, given: Any, encoding: Any) -> Any:
    headers = object.__new__(kind)
    init(headers, given, encoding)
    return state_of(headers)


@pytest.mark.parametrize("encoding", [None, "utf-8"])
@pytest.mark.parametrize("given", HEADERS, ids=repr)
def test_headers_are_made_alike(modules: Modules, given: Any, encoding: Any) -> None:
    kind = modules.models.Headers
    init = kind.__init__
    own = original_of(init)
    assert outcome(headers_by, init, kind, given, encoding) == outcome(
        headers_by, own, kind, given, encoding
    )


def test_headers_are_copied(modules: Modules) -> None:
    kind = modules.models.Headers
    first = kind([(b"A", b"1")])
    second = kind(first)
    second["A"] = "2"
    assert first["A"] == "1"


KEYS: list[Any] = ["a", "A", "b", "content-encoding", "none", "ü", b"a", 7]


@pytest.mark.parametrize("given", HEADERS[:9], ids=repr)
def test_headers_are_found_alike(modules: Modules, given: Any) -> None:
    kind = modules.models.Headers
    if isinstance(outcome(kind, given), tuple):
        return
    quick_ones = (kind.__getitem__, kind.__contains__, kind.get_list)
    for quick, key in itertools.product(quick_ones, KEYS):
        headers, other = kind(given), kind(given)
        assert outcome(quick, headers, key) == outcome(original_of(quick), other, key)
        assert state_of(headers) == state_of(other)
    quick = kind.get_list
    for key in KEYS:
        assert outcome(quick, kind(given), key, split_commas=True) == outcome(
            original_of(quick), kind(given), key, split_commas=True
        )


@pytest.mark.parametrize("given", HEADERS[:9], ids=repr)
def test_encodings_are_alike(modules: Modules, given: Any) -> None:
    kind = modules.models.Headers
    if isinstance(outcome(kind, given), tuple):
        return
    encoding = kind(given).encoding
    carboy.uninstall(modules.name)
    assert kind(given).encoding == encoding


def test_an_encoding_can_be_set(modules: Modules) -> None:
    headers = modules.models.Headers([(b"A", "ü".encode())])
    assert headers.encoding == "utf-8"
    headers.encoding = "latin-1"
    assert headers["A"] == "Ã¼"


@pytest.mark.parametrize("given", HEADERS[:9], ids=repr)
def test_headers_are_updated_alike(modules: Modules, given: Any) -> None:
    kind = modules.models.Headers
    quick = kind.update
    first, second = kind({"A": "0", "x": "y"}), kind({"A": "0", "x": "y"})
    assert outcome(quick, first, given) == outcome(original_of(quick), second, given)
    assert state_of(first) == state_of(second)


DEFAULTS = [
    {},
    {"Content-Length": "3"},
    {"Content-Length": "3", "Content-Type": "application/json"},
    {"Transfer-Encoding": "chunked"},
    {"Content-Type": "ü"},
]
OWN = [
    {},
    {"Host": "other"},
    {"content-length": "7"},
    {"transfer-encoding": "chunked"},
    {"content-type": "x/y"},
    {b"X": b"\xff"},
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "QUERY", "DELETE"])
def test_requests_are_prepared_alike(modules: Modules, method: str) -> None:
    request = modules.models.Request
    quick = request._prepare

    def prepared(function: Callable[..., None], url: str, own: Any, defaults: Any) -> Any:
        made = object.__new__(request)
        made.method, made.url = method, modules.urls.URL(url)
        made.headers = modules.models.Headers(own)
        function(made, defaults)
        return state_of(made.headers)

    for given in itertools.product(("http://example.org:81/", "/relative"), OWN, DEFAULTS):
        assert outcome(prepared, quick, *given) == outcome(prepared, original_of(quick), *given)


@pytest.mark.parametrize("content", [None, b"", b"x", "text", [b"a", b"b"]])
def test_contents_of_requests_are_read_alike(modules: Modules, content: Any) -> None:
    request = modules.models.Request("POST", "http://example.org", content=content)
    own = original_of(modules.models.Request.read)
    copy = pickle.loads(pickle.dumps(request)) if hasattr(request, "_content") else request
    assert request.read() == own(copy)
    assert request.content == request.read()


def test_errors_know_their_request(modules: Modules) -> None:
    request = modules.models.Request("GET", "http://example.org")
    other = modules.models.Request("GET", "http://example.com")
    for context in (modules.client.request_context, modules.exceptions.request_context):
        error = modules.exceptions.ReadError("x", request=other)
        with pytest.raises(modules.exceptions.ReadError) as raised, context(request=request):
            raise error
        assert raised.value is error
        assert error.request is request
        with pytest.raises(modules.exceptions.ReadError), context(request=None):
            raise error
        assert error.request is request
        with pytest.raises(KeyError), context(request=request):
            raise KeyError


class RefusedError(Exception):
    """What a part raises that must not be passed by."""


def refuse(*_: Any, **__: Any) -> Any:
    raise RefusedError


PARTS = [
    ("client", "Client", "_transport_for_url"),
    ("client", "Client", "_send_handling_redirects"),
    ("models", "Response", "iter_bytes"),
    ("models", "Response", "iter_raw"),
    ("models", "Response", "close"),
    ("transports", "HTTPTransport", "handle_request"),
    ("transports", "ResponseStream", "__iter__"),
    ("auth", "Auth", "auth_flow"),
    ("auth", "Auth", "sync_auth_flow"),
]


@pytest.mark.parametrize(("module", "owner", "name"), PARTS)
def test_a_part_that_was_replaced_later_is_not_passed_by(
    modules: Modules,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    owner: str,
    name: str,
) -> None:
    with importlib.import_module(modules.name).Client(trust_env=False) as client:
        assert client.get(upstream.url).text == "ok"
        with monkeypatch.context() as patch:
            patch.setattr(getattr(getattr(modules, module), owner), name, refuse)
            with pytest.raises(RefusedError):
                client.get(upstream.url)
        assert client.get(upstream.url).text == "ok"


@pytest.mark.parametrize("name", ["ConnectionPool", "HTTPProxy"])
def test_a_mock_of_a_pool_is_not_passed_by(
    modules: Modules, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    library = importlib.import_module(modules.name)
    core = importlib.import_module(modules.name.replace("httpx", "httpcore"))
    options = {"proxy": upstream.url} if name == "HTTPProxy" else {}
    with library.Client(trust_env=False, **options) as client:
        assert client.get(upstream.url).text == "ok"
        pool = client._transport_for_url(modules.urls.URL(upstream.url))._pool
        assert isinstance(pool, getattr(core, name))
        with monkeypatch.context() as patch:
            patch.setattr(getattr(core, name), "handle_request", refuse, raising=False)
            with pytest.raises(RefusedError):
                client.get(upstream.url)
        with monkeypatch.context() as patch:
            patch.setattr(pool, "handle_request", refuse, raising=False)
            with pytest.raises(RefusedError):
                client.get(upstream.url)
        assert client.get(upstream.url).text == "ok"


def test_cookies_of_a_jar_of_another_kind(modules: Modules, upstream: Upstream) -> None:
    class Counting(CookieJar):
        seen = 0

        def extract_cookies(self, response: Any, request: Any) -> None:
            Counting.seen += 1
            super().extract_cookies(response, request)

    upstream.answers["/set"] = answer("Set-Cookie: a=b")
    with importlib.import_module(modules.name).Client(trust_env=False) as client:
        client.cookies.jar = Counting()
        client.get(f"{upstream.url}/set")
        assert Counting.seen == 1
        assert client.cookies["a"] == "b"
