"""What is shown of calls and their settings says what they are, and no secret."""

from __future__ import annotations

import contextvars
import functools
import logging
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from support.raw_upstream import RawUpstream, ok

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS = ("us3r", "w0rd", "s3cret", "t0ken")


@pytest.fixture(autouse=True)
def _context_of_its_own(request: pytest.FixtureRequest) -> None:
    """Run each test in a context of its own: in debug mode one remembers its calls."""
    test = request.node.obj
    request.node.obj = functools.wraps(test)(
        lambda **arguments: contextvars.copy_context().run(test, **arguments)
    )


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream.answering(ok()) as upstream:
        yield upstream


def with_secrets(url: str, path: str = "/") -> str:
    """Return a URL with user information and two secret parameters."""
    return f"{url.replace('://', '://us3r:w0rd@')}{path}?id=7&api_key=s3cret&access_token=t0ken"


def assert_shown(shown: str, host: str) -> None:
    assert f"[secret]@{host}" in shown
    assert "?id=7&api_key=[secret]&access_token=[secret]" in shown
    assert not any(secret in shown for secret in SECRETS)


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (http.Session(), "<Session>"),
        (
            http.Session(base_url="https://us3r:w0rd@api.example/v1"),
            "<Session base_url='https://[secret]@api.example/v1'>",
        ),
        (
            http.Session(
                headers={"X-Api-Key": "s3cret"},
                auth=("us3r", "w0rd"),
                timeout=5,
                retries=2,
            ),
            (
                "<Session headers=['x-api-key'], auth=([secret]),"
                f" timeout={http.Timeout(total=5)!r}, retries={http.Retries(2)!r}>"
            ),
        ),
        (http.Session(auth=http.BearerAuth("t0ken")), "<Session auth=BearerAuth([secret])>"),
        (http.BasicAuth("us3r", "w0rd"), "BasicAuth([secret])"),
        (http.BearerAuth("t0ken"), "BearerAuth([secret])"),
        (http.DigestAuth("us3r", "w0rd"), "DigestAuth([secret])"),
        (
            http.Headers({"Authorization": "t0ken", "Cookie": "s3cret", "Accept": "*/*"}),
            "Headers([('Authorization', '[secret]'), ('Cookie', '[secret]'), ('Accept', '*/*')])",
        ),
        (
            http.Timeout(total=None),
            "Timeout(connect=3.0, read=10.0, write=10.0, pool=3.0, total=None)",
        ),
        (http.Cookies(), "<Cookies: none>"),
        (carboy.deadline(0.8), "<deadline of 0.8 seconds>"),
    ],
)
def test_settings_are_shown(made: object, shown: str) -> None:
    assert repr(made) == shown


def test_a_closed_session_says_so() -> None:
    session = http.Session(base_url="http://a.example")
    session.close()
    assert repr(session) == "<Session base_url='http://a.example', closed>"


def test_cookies_are_shown_by_name() -> None:
    cookies = http.Cookies()
    cookies["theme"] = "s3cret"
    cookies.set("session", "t0ken", "http://api.example/")
    assert repr(cookies) == "<Cookies: theme, session for api.example/>"


def test_a_streamed_call_shows_its_promise(upstream: RawUpstream) -> None:
    call = http.stream("GET", f"{upstream.url}/a")
    assert repr(call).startswith("<StreamedCall <Promise ")
    assert f"GET {upstream.url}/a, made at {__file__}:" in repr(call)
    with call:
        pass


@pytest.mark.parametrize("options", [{}, {"headers": {"a": "b"}}])
def test_promises_and_requests_show_no_secret(upstream: RawUpstream, options: Any) -> None:
    url = with_secrets(upstream.url)
    promise = http.get(url, **options)
    host = upstream.url.removeprefix("http://")
    assert_shown(repr(promise), host)
    assert_shown(repr(promise.result().request), host)
    assert promise.result().request.url == url, "the attribute is exact"
    assert b"api_key=s3cret" in upstream.requests[0], "and so is what is sent"


@pytest.mark.parametrize("options", [{}, {"headers": {"a": "b"}}])
def test_errors_show_no_secret(options: Any) -> None:
    url = with_secrets("http://127.0.0.1:1")
    error = http.get(url, **options).exception(10)
    assert isinstance(error, http.ConnectError)
    assert_shown(str(error), "127.0.0.1:1")
    assert error.request is not None
    assert error.request.url == url
    for wrong in ("http://us3r:w0rd@/?id=7&api_key=s3cret", "foo://us3r:w0rd@h/?token=s3cret"):
        error = http.get(wrong, **options).exception(10)
        assert isinstance(error, http.RequestError)
        assert not any(secret in str(error) for secret in SECRETS)


def test_a_bad_status_shows_no_secret() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    with RawUpstream.answering(answer) as upstream:
        response = http.get(with_secrets(upstream.url)).result()
        with pytest.raises(http.HTTPStatusError) as caught:
            response.raise_for_status()
        assert_shown(str(caught.value), upstream.url.removeprefix("http://"))


def test_the_timeline_shows_no_secret(upstream: RawUpstream) -> None:
    app = Flask(__name__)
    app.debug = True
    with app.test_request_context():
        url = with_secrets(upstream.url)
        assert http.get(url).result().ok
        (call,) = http.timeline()
    assert_shown(repr(call), upstream.url.removeprefix("http://"))
    assert call.url == url


def test_logs_and_notes_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask(__name__)
    app.debug = True

    def fail(_: object) -> None:
        raise KeyError("no")

    with caplog.at_level(logging.ERROR), app.test_request_context():
        promise = http.get(with_secrets("http://127.0.0.1:1")).catch(http.HTTPError, fail)
        promise.detach("a call")
        with pytest.raises(KeyError) as caught:
            promise.result(10)
    assert_shown("\n".join(caught.value.__notes__), "127.0.0.1:1")
    assert_shown(caplog.text, "127.0.0.1:1")


def test_a_header_that_can_not_be_sent_is_no_secret_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"\[secret\] can't be the value of the header") as caught:
        http.get("http://127.0.0.1:1/", headers={"Authorization": "Bearer t0ken\n"})
    assert "t0ken" not in str(caught.value)
