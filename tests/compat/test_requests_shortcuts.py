"""The quick functions that stand in requests give what requests' own give."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import requests
from compat_servers import answer, chunked
from requests.cookies import RequestsCookieJar
from requests.models import PreparedRequest
from requests.structures import CaseInsensitiveDict
from urllib3._collections import HTTPHeaderDict

import carboy
from carboy.compat.urllib3_response import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from compat_servers import Received, Upstream


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns or raises, in a form that can be compared."""
    try:
        returned = function(*arguments)
    except Exception as error:
        return type(error), str(error)
    if isinstance(returned, CaseInsensitiveDict):
        return CaseInsensitiveDict, list(returned._store.items())
    if isinstance(returned, dict):
        return type(returned), list(returned.items())
    return type(returned), returned


def assert_same(function: Callable[..., Any], *arguments: Any) -> None:
    original = inspect.unwrap(function)
    assert original is not function, "it isn't replaced"
    assert outcome(function, *arguments) == outcome(original, *arguments)


MAPPINGS: list[Any] = [
    None,
    {},
    {"a": 1, "b": None},
    OrderedDict([("b", 2), ("a", None)]),
    CaseInsensitiveDict({"A": "1", "c": "2"}),
    HTTPHeaderDict([("a", "1"), ("A", "2")]),
    {b"a": b"1"},
    [("a", "1")],
    "text",
    True,
    {1: 2},
]


@pytest.mark.parametrize("kind", [OrderedDict, CaseInsensitiveDict, dict])
@pytest.mark.parametrize("of_session", MAPPINGS, ids=repr)
@pytest.mark.parametrize("of_request", MAPPINGS, ids=repr)
def test_settings_are_merged_alike(of_request: Any, of_session: Any, kind: type) -> None:
    assert_same(requests.sessions.merge_setting, of_request, of_session, kind)


def test_merging_settings_leaves_them_as_they_were() -> None:
    of_session, of_request = CaseInsensitiveDict({"A": "1"}), {"a": None, "B": "2"}
    requests.sessions.merge_setting(of_request, of_session, CaseInsensitiveDict)
    assert list(of_session.items()) == [("A", "1")]
    assert of_request == {"a": None, "B": "2"}


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"A": "1", "a": "2"},
        [("A", "1")],
        HTTPHeaderDict([("X-a", "1"), ("x-A", "2"), ("b", "")]),
        CaseInsensitiveDict({"A": "1"}),
        {1: 2},
        7,
    ],
    ids=repr,
)
def test_headers_are_kept_alike(data: Any) -> None:
    def make(initialise: Callable[..., None]) -> Any:
        made = object.__new__(CaseInsensitiveDict)
        initialise(made, data)
        return made

    quick = CaseInsensitiveDict.__init__
    assert outcome(make, quick) == outcome(make, inspect.unwrap(quick))


def test_a_mapping_of_the_applications_own_keeps_its_ways() -> None:
    class Loud(CaseInsensitiveDict[str]):
        def __setitem__(self, key: str, value: str) -> None:
            super().__setitem__(key, value.upper())

    assert dict(Loud(HTTPHeaderDict([("a", "b")]))) == {"a": "B"}


URLS = [
    "http://example.org",
    "HTTP://Example.ORG:80/a b/../c?q=%7c&r=é#f",
    "http://user:word@münchen.example/",
    "  http://example.org/",
    "http://*.example.org/",
    "http://xn--/",
    "mailto:somebody@example.org",
    "example.org",
    "http://",
    "http://[::1]:8080/?",
    "http://example.org:99999/",
    "http://a b/",
    b"http://example.org/",
]


@pytest.mark.parametrize("params", [None, {}, {"a": "b"}, "x=1", b""], ids=repr)
@pytest.mark.parametrize("url", URLS, ids=repr)
def test_urls_are_prepared_alike(url: Any, params: Any) -> None:
    def prepare(function: Callable[..., None]) -> str | None:
        request = PreparedRequest()
        function(request, url, params)
        return request.url

    quick = PreparedRequest.prepare_url
    # A second time it is a known one.
    for _ in range(2):
        assert outcome(prepare, quick) == outcome(prepare, inspect.unwrap(quick))


PARSED = [
    *URLS,
    *("", "/a?b", "//user@host", "http://[::1", "http://user:p%40s@[::1]:1/", "http://ho]st/"),
    *("http://user\uff20host/", "x" * 3000, None, 7, bytearray(b"http://a@b")),
]


@pytest.mark.parametrize("url", PARSED, ids=lambda url: repr(url)[:40])
def test_urls_are_parsed_alike(url: Any) -> None:
    modules = (requests.adapters, requests.cookies, requests.sessions, requests.utils)
    for module in modules:
        # A second time it is a known one.
        for _ in range(2):
            assert_same(vars(module)["urlparse"], url)
    assert_same(requests.sessions.urlparse, url, "https")
    assert_same(requests.models.get_auth_from_url, url)


PROXIES: list[Any] = [None, {}, {"http": "http://a"}, {"all://example.org": "http://b"}]


@pytest.mark.parametrize("proxies", PROXIES, ids=repr)
def test_proxies_are_chosen_alike(proxies: Any) -> None:
    assert_same(requests.adapters.select_proxy, "http://example.org/", proxies)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "no_proxy", "All_Proxy", "UNRELATED"])
@pytest.mark.parametrize("value", ["", "http://proxy.example:1", "example.org,10.0.0.0/8"])
def test_the_environment_is_read_alike(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    for url in ("http://example.org/", "http://10.1.2.3/", "http://other.example:80/"):
        for no_proxy in (None, "other.example"):
            assert_same(requests.sessions.get_environ_proxies, url, no_proxy)


def test_a_test_that_replaces_what_finds_proxies_is_heeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests.utils, "getproxies", lambda: {"http": "http://mock.example"})
    found = requests.sessions.get_environ_proxies("http://example.org/")
    assert found == {"http": "http://mock.example"}


NETRC = "machine example.org login somebody password word\n"


@pytest.mark.parametrize("name", [".netrc", "_netrc", "NETRC", None])
def test_credentials_of_netrc_are_found_alike(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    quick = requests.sessions.get_netrc_auth
    assert quick("http://example.org/") is None
    if name is not None:
        # It appears while the program runs.
        (tmp_path / name).write_text(NETRC)
        if name == "NETRC":
            monkeypatch.setenv("NETRC", str(tmp_path / name))
        assert quick("http://example.org/") == ("somebody", "word")
    for url in ("http://example.org/", "http://other.example/"):
        assert_same(quick, url)


def test_cookies_go_out_alike() -> None:
    request = requests.Request("GET", "http://example.org/").prepare()
    jar = RequestsCookieJar()
    assert_same(requests.models.get_cookie_header, jar, request)
    jar.set("a", "1")
    assert_same(requests.models.get_cookie_header, jar, request)
    jar.clear()
    assert_same(requests.models.get_cookie_header, jar, request)


LARGE = bytes(range(256)) * 4096


def test_large_content_is_waited_for_once_and_is_whole(
    upstream: Upstream, session: requests.Session
) -> None:
    upstream.answers["/length"] = answer(body=LARGE)
    upstream.answers["/chunked"] = chunked(LARGE[:100_000], LARGE[100_000:])
    for path in ("/length", "/chunked"):
        response = session.get(upstream.url + path)
        assert isinstance(response.raw, Response)
        assert response.content == LARGE
        assert response.raw.tell() == len(LARGE)
        assert response.raw.read() == b""
        assert b"".join(response.iter_content(7777)) == LARGE


def test_streamed_content_is_not_read_ahead(upstream: Upstream, session: requests.Session) -> None:
    pieces: list[bytes] = []

    def trickle(_: Received, file: Any) -> bool:
        file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        # Only when the first half was given out, the second is sent.
        assert session_has_first.wait(10)
        file.write(b"after")
        return True

    session_has_first = threading.Event()
    upstream.answers["/"] = trickle
    response = session.get(upstream.url, stream=True)
    for piece in response.iter_content(5):
        pieces.append(piece)
        session_has_first.set()
    assert b"".join(pieces) == b"firstafter"


def test_content_that_breaks_off_is_reported_as_by_requests(upstream: Upstream) -> None:
    def break_off(_: Received, file: Any) -> bool:
        file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + LARGE[:700_000])
        return True

    upstream.answers["/"] = break_off
    reports = []
    for install in (True, False):
        (carboy.install if install else carboy.uninstall)("requests")
        with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
            requests.get(upstream.url)
        reports.append(str(caught.value))
    assert reports[0] == reports[1]
    assert "700000 bytes read, 300000 more expected" in reports[0]


def test_content_that_was_read_from_is_not_given_whole(
    upstream: Upstream, session: requests.Session
) -> None:
    upstream.answers["/"] = answer(body=LARGE)
    response = session.get(upstream.url, stream=True)
    assert response.raw.read(10) == LARGE[:10]
    assert response.content == LARGE[10:]


def test_a_response_class_with_its_own_way_of_reading_keeps_it(
    upstream: Upstream, session: requests.Session
) -> None:
    class Own(requests.Response):
        def iter_content(self, *_: Any, **__: Any) -> Any:
            yield b"own"

    response = session.get(upstream.url, stream=True)
    own = Own()
    own.__dict__.update(response.__dict__)
    assert own.content == b"own"


def test_pools_are_those_of_the_manager(upstream: Upstream) -> None:
    with requests.Session() as session:
        adapter = session.get_adapter(upstream.url)
        assert isinstance(adapter, requests.adapters.HTTPAdapter)
        session.get(upstream.url)
        manager: Any = adapter.poolmanager
        (key,) = manager.pools.keys()
        first = manager.pools.get(key)
        session.get(upstream.url)
        assert first.num_requests == 2
        # Settings that make another pool, and a manager that was emptied.
        manager.connection_pool_kw["timeout"] = 7
        session.get(upstream.url)
        assert len(manager.pools.keys()) == 2
        manager.clear()
        session.get(upstream.url)
        assert len(manager.pools.keys()) == 1
        assert first.num_requests == 2
        session.get(upstream.url.replace("127.0.0.1", "localhost"))
        assert {key.key_host for key in manager.pools.keys()} == {"127.0.0.1", "localhost"}  # noqa: SIM118


def test_what_goes_out_can_be_seen_in_the_log(
    upstream: Upstream, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="urllib3.connectionpool"):
        session.get(upstream.url + "/seen?a=b")
    expected = f'http://127.0.0.1:{upstream.port} "GET /seen?a=b HTTP/1.1" 200 2'
    assert expected in [record.getMessage() for record in caplog.records]


def test_uninstalling_puts_every_function_back() -> None:
    assert inspect.unwrap(requests.sessions.merge_setting) is not requests.sessions.merge_setting
    carboy.uninstall("requests")
    for owner, name in [
        (requests.sessions, "merge_setting"),
        (requests.sessions, "get_netrc_auth"),
        (requests.sessions, "get_environ_proxies"),
        (requests.adapters, "select_proxy"),
        (requests.models, "get_cookie_header"),
        (CaseInsensitiveDict, "__init__"),
        (PreparedRequest, "prepare_url"),
    ]:
        function = getattr(owner, name)
        assert inspect.unwrap(function) is function
    content = vars(requests.Response)["content"]
    assert content.fget.__module__ == "requests.models"
