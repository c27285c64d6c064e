"""Arguments that can't be meant are told at once, by their names."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.raw_upstream import RawUpstream, ok

from carboy import Promise, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream.answering(ok()) as upstream:
        yield upstream


class URL:
    """As those of httpx and yarl."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.scheme, _, self.host = text.partition("://")

    def __str__(self) -> str:
        return self.text


@pytest.mark.parametrize("url", [None, b"http://127.0.0.1/", 123, 1.5, ["http://a/"], Decimal(1)])
def test_what_is_no_url_is_told(url: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: http.get(url),
        lambda: http.get(url, timeout=1),
        lambda: http.post(url),
        lambda: http.stream("GET", url),
        lambda: http.Session(base_url="http://127.0.0.1/").get(url),
        lambda: http.get(Promise.resolve(url)).result(10),
    ]
    expected = f"the URL is to be a str, or an object for URLs.*not {re.escape(repr(url))}"
    for call in calls:
        with pytest.raises(TypeError, match=expected):
            call()
    if url is not None:
        with pytest.raises(TypeError, match=expected):
            http.Session(base_url=url)


def test_an_object_for_urls_is_taken_for_its_text(upstream: RawUpstream) -> None:
    class Text(str):
        __slots__ = ()

    assert http.get(URL(f"{upstream.url}/a")).result().url == f"{upstream.url}/a"  # type: ignore[arg-type]
    assert http.get(Text(f"{upstream.url}/a")).result().url == f"{upstream.url}/a"
    session = http.Session(base_url=URL(upstream.url))  # type: ignore[arg-type]
    assert session.get("/b").result().url == f"{upstream.url}/b"


def test_the_urls_of_other_libraries_are_taken(upstream: RawUpstream) -> None:
    httpx = pytest.importorskip(
        "httpx", reason="it takes the URLs of a library that is not installed"
    )
    assert http.get(httpx.URL(f"{upstream.url}/a")).result().url == f"{upstream.url}/a"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: http.Retries(attempts=-1), "attempts is to be 0 or more, not -1"),
        (lambda: http.Retries(attempts=2**40), "attempts is to be 2147483647 or less"),
        (
            lambda: http.get("http://127.0.0.1:1/", retries=-1),
            "attempts is to be 0 or more, not -1",
        ),
        (lambda: http.Session(retries=-1), "attempts is to be 0 or more, not -1"),
        (lambda: http.Retries(statuses=(70000,)), "a status is to be 999 or less, not 70000"),
        (lambda: http.Retries(backoff=math.nan), "backoff is to be 0 seconds or more, not nan"),
        (lambda: http.Retries(longest_wait=-1), "longest_wait is to be 0 seconds or more, not -1"),
        (lambda: http.Timeout(read=-1), "read is to be 0 seconds or more, not -1"),
        (lambda: http.Timeout(total=math.nan), "total is to be 0 seconds or more, not nan"),
        (lambda: http.Timeout(connect=-math.inf), "connect is to be 0 seconds or more, not -inf"),
        (lambda: http.Session(timeout=math.nan), "timeout is to be more than 0 seconds, not nan"),
        (lambda: http.Session(timeout=0), "timeout is to be more than 0 seconds, not 0"),
        (lambda: http.Session(timeout=(1, -1)), "read is to be 0 seconds or more, not -1"),
        (lambda: http.Session(max_redirects=-1), "max_redirects is to be 0 or more, not -1"),
        (lambda: http.Limits(connections=0), "connections is to be 1 or more, not 0"),
        (lambda: http.Limits(connections_per_host=-1), "connections_per_host is to be 1 or more"),
        (lambda: http.Limits(idle_timeout=math.nan), "idle_timeout is to be 0 seconds or more"),
        (lambda: http.Limits(content_bytes=-1), "content_bytes is to be 0 or more, not -1"),
    ],
)
def test_a_number_that_is_none_is_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: http.Retries(attempts=1.5), "attempts is to be a whole number, not 1.5"),  # type: ignore[arg-type]
        (lambda: http.Retries(backoff="1"), "backoff is to be a number of seconds, not '1'"),  # type: ignore[arg-type]
        (lambda: http.Timeout(read="1"), "read is to be a number of seconds, not '1'"),  # type: ignore[arg-type]
        (lambda: http.Timeout(total=True), "total is to be a number of seconds, not True"),
        (lambda: http.Session(timeout="1"), "timeout is to be a number of seconds or a Timeout"),  # type: ignore[arg-type]
        (lambda: http.Limits(connections=None), "connections is to be a whole number, not None"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_number_is_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 1e15])
def test_a_time_may_be_as_long_as_one_likes(upstream: RawUpstream, seconds: float) -> None:
    limits = http.Timeout(seconds, seconds, seconds, seconds, seconds)
    assert http.get(upstream.url, timeout=seconds).result().ok
    assert http.get(upstream.url, timeout=limits).result().ok
    session = http.Session(
        timeout=limits,
        retries=http.Retries(1, backoff=seconds, longest_wait=seconds),
        limits=http.Limits(idle_timeout=seconds),
    )
    assert session.get(upstream.url).result().ok
    assert session.get(upstream.url, timeout=(seconds, seconds)).result().ok


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verify": False}, "that is a setting of sessions, Session(verify=...)"),
        ({"proxies": {}}, "that is a setting of sessions, Session(proxy={...})"),
        ({"follow_redirects": True}, "it is 'allow_redirects' here"),
        ({"timout": 1}, "request() got an unexpected keyword argument 'timout'"),
        ({"timeout": (1, 2, 3)}, "Timeout(connect=1, read=5, write=5, pool=1, total=10)"),
        ({"content": 5}, "int can't be sent as content: that is bytes, text, an open file"),
        ({"content": Path("x")}, "can't be sent as content: open it: open(path, 'rb')"),
        ({"files": {"f": Path("x")}}, "open it by open(path, 'rb')"),
    ],
)
def test_what_belongs_elsewhere_is_told_with_the_way_there(
    options: dict[str, Any], message: str
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: http.post("http://127.0.0.1:1/", **options),
        lambda: http.Session().put("http://127.0.0.1:1/", **options),
        lambda: http.get("http://127.0.0.1:1/", **options),
        lambda: http.stream("GET", "http://127.0.0.1:1/", **options),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            call()


def test_proxies_are_named_by_schemes() -> None:
    with pytest.raises(ValueError, match="proxy= is by 'http', 'https' or 'all', and not by"):
        http.Session(proxy={"htp": "http://127.0.0.1:1"}).get("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "it is empty"),
        ("127.0.0.1/x", "it begins with neither http:// nor https://"),
        ("/x", "it begins with neither http:// nor https://"),
        ("http:///x", "it has no host"),
        ("https://", "empty host"),
    ],
)
def test_a_url_that_can_not_be_called_is_told_with_the_reason(url: str, reason: str) -> None:
    for options in ({}, {"timeout": 5}):
        with pytest.raises(http.InvalidURL, match=re.escape(f"can't be used: {reason}")):
            http.get(url, **options).result()  # type: ignore[arg-type]


def test_a_stream_without_its_block_is_told(upstream: RawUpstream) -> None:
    call = http.stream("GET", upstream.url)
    with pytest.raises(AttributeError, match=r"status_code is an attribute of the response.*with"):
        call.status_code  # noqa: B018
    with pytest.raises(AttributeError, match="'StreamedCall' object has no attribute 'nothing'"):
        call.nothing  # noqa: B018
    with call as response:
        assert response.status_code == 200
    promise = http.get(upstream.url, stream=True)
    expected = r"http\.stream\(…\).*use 'await'.*test_arguments\.py"
    with pytest.raises(TypeError, match=expected), promise:
        pass
    promise.result().close()
