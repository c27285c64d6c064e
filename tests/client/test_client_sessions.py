"""What calls of a session have in common, also when it changes."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.raw_upstream import RawUpstream, ok

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream.answering(ok(b'{"a": 1}')) as upstream:
        yield upstream


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def target_of(request: bytes) -> str:
    return request.split(b" ")[1].decode()


def test_base_urls(upstream: RawUpstream) -> None:
    def target(base: str, url: str) -> str:
        upstream.requests.clear()
        with http.Client(base_url=upstream.url + base, trust_env=False) as client:
            plain = client.get(url).result()
            # A call with options takes another way to the same.
            other = client.get(url, timeout=5).result()
        assert plain.url == other.url
        first, second = map(target_of, upstream.requests)
        assert first == second
        return first

    assert target("", "/a") == "/a"
    assert target("/v1", "a") == "/v1/a"
    assert target("/v1/", "/a?b=c") == "/v1/a?b=c"
    assert target("/v1", "") == "/v1"
    assert target("/v1", f"{upstream.url}/whole") == "/whole"
    assert target("/v1", "/a?next=http://elsewhere/") == "/v1/a?next=http://elsewhere/"
    assert target("/v1?key=7", "a") == "/v1/a?key=7"
    assert target("/v1?key=7", "a?b=c#d") == "/v1/a?key=7&b=c"
    assert target("/v1?key=7", "") == "/v1?key=7"


def test_whatever_is_changed_the_next_call_has(upstream: RawUpstream) -> None:
    session = http.Session(trust_env=False)

    def sent(**options: object) -> dict[str, str]:
        upstream.requests.clear()
        assert session.get(upstream.url + "/x", **options).result().ok  # type: ignore[arg-type]
        return headers_of(upstream.requests[0]) | {"target": target_of(upstream.requests[0])}

    assert "x-own" not in sent()
    session.headers["X-Own"] = "1"
    assert sent()["x-own"] == "1"
    session.headers["X-Own"] = "2"
    assert sent()["x-own"] == "2"
    assert sent(headers={"x-own": "3"})["x-own"] == "3"
    del session.headers["X-Own"]
    assert "x-own" not in sent()
    session.headers.add("X-Own", "4")
    assert sent()["x-own"] == "4"
    session.headers = http.Headers({"User-Agent": "me"})
    assert sent()["user-agent"] == "me"
    assert "x-own" not in sent()
    session.cookies["a"] = "b"
    assert sent()["cookie"] == "a=b"
    assert sent(cookies={"c": "d"})["cookie"] == "a=b; c=d"
    del session.cookies["a"]
    assert "cookie" not in sent()
    session.auth = ("user", "pass")
    assert sent()["authorization"].startswith("Basic ")
    session.auth = http.BearerAuth("token")
    assert sent()["authorization"] == "Bearer token"
    session.auth = None
    assert "authorization" not in sent()
    session.params = {"p": 1}
    assert sent()["target"] == "/x?p=1"
    assert sent(params={"q": 2})["target"] == "/x?p=1&q=2"
    session.params = None
    assert sent()["target"] == "/x"
    seen: list[str] = []
    session.hooks["request"] = [lambda request: seen.append(request.url)]
    sent()
    assert seen == [upstream.url + "/x"]
    session.hooks.clear()
    sent()
    assert len(seen) == 1
    session.close()
    with pytest.raises(http.ClientClosed):
        session.get(upstream.url).result()


def test_a_copy_has_settings_of_its_own(upstream: RawUpstream) -> None:
    original = http.Session(base_url=upstream.url)
    original.get("/first").result()
    other = copy.copy(original)
    other.base_url = f"{upstream.url}/other"
    for session in (original, other, original):
        session.get("/a").result()
    assert [target_of(request) for request in upstream.requests] == [
        "/first",
        "/a",
        "/other/a",
        "/a",
    ]


def test_a_subclass_sees_the_calls_that_it_overrides(upstream: RawUpstream) -> None:
    seen = []

    class Watching(http.Session):
        def get(self, url: Any, **options: Any) -> Any:
            seen.append((url, options))
            return super().get(url, **options)

    with Watching(base_url=upstream.url) as session:
        for options in ({}, {"timeout": 5}, {}):
            assert session.get("/a", **options).result().json() == {"a": 1}
    assert seen == [("/a", {}), ("/a", {"timeout": 5}), ("/a", {})]
    with pytest.raises(TypeError, match="url"):
        session.get()  # type: ignore[call-arg]


def test_a_request_is_made_when_it_is_asked_for(upstream: RawUpstream) -> None:
    with http.Session(headers={"X-Own": "1"}, trust_env=False) as session:
        response = session.get(upstream.url + "/a").result()
        request = response.request
        assert (request.method, request.url) == ("GET", upstream.url + "/a")
        assert request.headers["x-own"] == "1"
        assert response.request is request
        assert str(request) == f"GET {upstream.url}/a"
        # What is changed there is nobody else's.
        request.headers["X-Own"] = "2"
        assert session.get(upstream.url).result().request.headers["x-own"] == "1"


def test_hooks_see_and_change_requests_and_see_responses(upstream: RawUpstream) -> None:
    def sign(request: http.Request) -> None:
        request.headers["X-Signature"] = f"{request.method} {len(request.url)}"

    async def later(response: http.Response) -> None:
        seen.append(response.json()["a"])

    seen: list[object] = []
    hooks = {"request": [sign], "response": [lambda response: seen.append(response.ok), later]}
    with http.Session(hooks=hooks, trust_env=False) as session:
        session.get(upstream.url).result()
        assert seen == [True, 1]
        assert headers_of(upstream.requests[0])["x-signature"] == f"GET {len(upstream.url)}"

        def refuse(response: http.Response) -> None:
            raise PermissionError("not this one")

        session.hooks["response"] = [refuse]
        with pytest.raises(PermissionError):
            session.get(upstream.url).result()
    with pytest.raises(ValueError, match="'request' and 'response'"):
        http.Session(hooks={"responses": []})


def test_a_hook_may_be_one_function(upstream: RawUpstream) -> None:
    seen: list[int] = []

    def note(response: http.Response) -> None:
        seen.append(response.status_code)

    with http.Session(hooks={"response": note}, trust_env=False) as session:
        session.get(upstream.url).result()
        session.hooks["response"] = note  # type: ignore[assignment]
        session.get(upstream.url).result()
    assert seen == [200, 200]
    with pytest.raises(TypeError, match="a hook for each request is to be a function, not 'x'"):
        http.Session(hooks={"request": ["x"]})  # type: ignore[list-item]


def test_hooks_may_be_async(upstream: RawUpstream) -> None:
    async def token() -> str:
        await asyncio.sleep(0)
        return "token"

    async def authorize(request: http.Request) -> None:
        request.headers["Authorization"] = f"Bearer {await token()}"

    def count(request: http.Request) -> None:
        request.headers["X-Seen"] = request.headers["Authorization"]

    session = http.Session(hooks={"request": [authorize, count]}, trust_env=False)

    def sent() -> dict[str, str]:
        return headers_of(upstream.requests.pop())

    async def main() -> None:
        assert (await session.post(upstream.url, json={})).ok
        assert sent()["x-seen"] == "Bearer token"
        async with session.stream("GET", upstream.url) as response:
            assert await response.aread() == b'{"a": 1}'
        assert sent()["x-seen"] == "Bearer token"

    assert session.get(upstream.url).result().json() == {"a": 1}
    assert sent()["authorization"] == "Bearer token"
    asyncio.run(main())
    carboy.run(main())

    async def refuse(request: http.Request) -> None:
        raise PermissionError(str(request))

    session.hooks["request"] = [refuse]
    with pytest.raises(PermissionError, match=f"GET {upstream.url}"):
        session.get(upstream.url).result()
    assert not upstream.requests


def test_timings(upstream: RawUpstream) -> None:
    with http.Session(trust_env=False) as session:
        first, second = (session.get(upstream.url).result() for _ in range(2))
    assert set(first.timings) == {
        *("start", "pool", "resolve", "connect", "tls", "head", "content", "total", "reused"),
    }
    assert first.timings["connect"] is not None
    assert first.timings["tls"] is None
    assert not first.timings["reused"]
    assert second.timings["connect"] is None
    assert second.timings["reused"]
    for response in (first, second):
        phases = [
            value for name, value in response.timings.items() if name not in ("total", "reused")
        ]
        total = response.timings["total"]
        assert total is not None
        assert 0 < sum(value for value in phases if value is not None) <= total * 1.01
        assert 0 < response.elapsed.total_seconds() <= total


def test_netrc(upstream: RawUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login me password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def authorization(**settings: object) -> str | None:
        upstream.requests.clear()
        with http.Session(**settings) as session:  # type: ignore[arg-type]
            session.get(upstream.url).result()
        return headers_of(upstream.requests[0]).get("authorization")

    assert authorization() == "Basic bWU6c2VjcmV0"
    assert authorization(trust_env=False) is None
    assert authorization(auth=("other", "one")) == "Basic b3RoZXI6b25l"
    assert authorization(headers={"Authorization": "own"}) == "own"
    file.write_text("machine elsewhere.example login me password secret\n")
    assert authorization() is None
    file.unlink()
    assert authorization() is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.5, -3e2, true, false, null, "\\u00e4\\ud83d\\ude00"]}',
        " \r\n\t[1]\n ",
        '"ä😀"\n',
        "12345678901234567890123",
        "NaN",
        "-Infinity",
        '{"a": 1, "a": 2}',
        "\ufeff[1]",
        '"\\ud800"',
        "0.1",
        "1e400",
        '""',
    ],
)
def test_json_is_what_the_standard_library_makes_of_it(text: str) -> None:
    for encoded in (text.encode(), text.encode("utf-16"), text.encode("utf-32")):
        with RawUpstream.answering(ok(encoded)) as upstream:
            response = http.get(upstream.url).result()
            try:
                expected = json.loads(encoded)
            except json.JSONDecodeError:
                with pytest.raises(json.JSONDecodeError):
                    response.json()
                continue
            value = response.json()
            assert repr(value) == repr(expected)
            assert response.json(parse_int=str) == json.loads(encoded, parse_int=str) or (
                value != value
            )


@pytest.mark.parametrize(
    "content", [b"", b" ", b"{", b"[1] [2]", b"\xff\xfe", b"[1]\x0c", b"\x0c[1]", b"nul", b'"\xc3"']
)
def test_what_is_not_json_is_told_as_the_standard_library_tells_it(content: bytes) -> None:
    with RawUpstream.answering(ok(content)) as upstream:
        response = http.get(upstream.url).result()
        with pytest.raises(ValueError, match=r".") as expected:
            json.loads(content)
        with pytest.raises(type(expected.value)) as raised:
            response.json()
        assert str(raised.value) == str(expected.value)


def test_json_in_an_encoding_that_the_server_names() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=latin-1\r\n"
    with RawUpstream.answering(head + b'Content-Length: 9\r\n\r\n{"a":"\xfc"}') as upstream:
        assert http.get(upstream.url).result().json() == {"a": "ü"}
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    answer = head + b'Content-Length: 9\r\n\r\n{"a":"\xfc"}'
    with RawUpstream.answering(answer) as upstream, pytest.raises(UnicodeDecodeError):
        http.get(upstream.url).result().json()


def test_what_is_not_json_is_told_with_what_it_is() -> None:
    head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n"
    with RawUpstream.answering(head + b"Content-Length: 6\r\n\r\n<html>") as upstream:
        response = http.get(f"{upstream.url}/?token=secret").result()
    with pytest.raises(json.JSONDecodeError) as caught:
        response.json()
    [note] = caught.value.__notes__
    assert note == (
        f"The response, 502 Bad Gateway for GET {upstream.url}/?token=[secret], has content of "
        "text/html, 6 bytes."
    )


def test_a_cookie_of_one_call_takes_the_place_of_the_servers() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
    with (
        RawUpstream.answering(answer) as upstream,
        http.Session(trust_env=False) as session,
    ):

        def sent(**options: Any) -> str | None:
            session.get(upstream.url, **options).result()
            return headers_of(upstream.requests[-1]).get("cookie")

        assert sent() is None
        assert sent() == "a=1; b=2"
        assert sent(cookies={"a": "own"}) == "a=own; b=2"
        assert sent(headers={"Cookie": "b=own; c=3"}) == "b=own; c=3; a=1"
        session.cookies["b"] = "session"
        assert sent() == "b=session; a=1"


def test_cookies_of_redirects(upstream: RawUpstream) -> None:
    def serve(peer: object) -> None:
        while request := peer.read_request():  # type: ignore[attr-defined]
            redirecting.requests.append(request)
            if target_of(request) == "/":
                peer.send(  # type: ignore[attr-defined]
                    b"HTTP/1.1 302 Found\r\nLocation: /next\r\nSet-Cookie: seen=1\r\n"
                    b"Content-Length: 0\r\n\r\n"
                )
            else:
                peer.send(ok())  # type: ignore[attr-defined]

    with RawUpstream(serve) as redirecting:
        for _ in range(2):
            redirecting.requests.clear()
            # Without a session cookies live as long as the call,
            assert http.get(redirecting.url).result().ok
            first, second = map(headers_of, redirecting.requests)
            assert "cookie" not in first
            assert second["cookie"] == "seen=1"
        with http.Session(trust_env=False) as session:
            session.get(redirecting.url).result()
            redirecting.requests.clear()
            # with one as long as that.
            session.get(redirecting.url).result()
            assert headers_of(redirecting.requests[0])["cookie"] == "seen=1"


def test_a_unix_socket(tmp_path: Path) -> None:
    import socket
    import threading

    path = str(tmp_path / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        connected, _ = listener.accept()
        with connected:
            received.append(connected.recv(65536))
            connected.sendall(ok(b"by a file"))

    received: list[bytes] = []
    thread = threading.Thread(target=serve)
    thread.start()
    with http.Session(uds=path, base_url="http://service", trust_env=False) as session:
        assert session.get("/a").result().text == "by a file"
    thread.join()
    listener.close()
    assert received[0].startswith(b"GET /a HTTP/1.1\r\n")
    assert headers_of(received[0])["host"] == "service"


def test_programs_of_every_kind(upstream: RawUpstream) -> None:
    import asyncio

    async def main() -> str:
        return (await http.get(upstream.url)).text

    for run in (asyncio.run, carboy.run):
        assert run(main()) == '{"a": 1}'
