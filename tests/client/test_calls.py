"""carboy.http from every kind of code, against an app that carboy serves."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from typing import TYPE_CHECKING

import pytest
from flask import Flask, Response, jsonify, redirect, request
from support.live import Live
from support.raw_upstream import Peer, RawUpstream

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def upstream_app() -> Flask:
    app = Flask("upstream")

    @app.route("/echo", methods=["GET", "POST", "PUT"])
    def echo() -> Response:
        return jsonify(
            args=request.args.to_dict(flat=False),
            headers=dict(request.headers),
            body=request.get_data(as_text=True),
        )

    @app.post("/form")
    def form() -> Response:
        files = {
            name: [file.filename, file.read().decode()] for name, file in request.files.items()
        }
        return jsonify(fields=request.form.to_dict(), files=files)

    @app.get("/status/<int:code>")
    def status(code: int) -> tuple[str, int]:
        return "told", code

    @app.get("/redirect")
    def to_echo() -> object:
        response = redirect("/echo")
        response.set_cookie("seen", "1")
        return response

    @app.get("/lines")
    def lines() -> Response:
        return Response((f"line {number}\r\n" for number in range(3)), mimetype="text/plain")

    @app.get("/events")
    def events() -> Response:
        return Response("data: a\n\nevent: b\ndata: {}\n\n", mimetype="text/event-stream")

    return app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Live(upstream_app()) as live:
        yield live.url


def test_sync_code_takes_the_result(url: str) -> None:
    response = http.get(f"{url}/echo", params={"a": [1, 2], "none": None}).result()
    assert response.status_code == 200
    assert response.ok
    assert response.headers["CONTENT-TYPE"] == "application/json"
    assert response.json()["args"] == {"a": ["1", "2"]}
    assert json.loads(response.text) == json.loads(response.content)
    assert response.timings["total"]


async def call_two(url: str) -> list[str]:
    first, second = http.get(f"{url}/echo?1"), http.get(f"{url}/echo?2")
    return [(await first).url, (await second).url]


@pytest.mark.parametrize("run", [asyncio.run, carboy.run])
def test_async_code_awaits_on_any_loop(url: str, run: object) -> None:
    # Twice: no loop meets the connections of the one before.
    for _ in range(2):
        assert run(call_two(url)) == [f"{url}/echo?1", f"{url}/echo?2"]  # type: ignore[operator]


def test_views_of_both_kinds(url: str) -> None:
    app = Flask("views")

    @app.get("/sync")
    def sync_view() -> object:
        first, second = http.get(f"{url}/echo?1"), http.get(f"{url}/echo?2")
        return [first.result().url, second.result().url]

    @app.get("/async")
    async def async_view() -> object:
        return await call_two(url)

    with Live(app) as live:
        for path in ("/sync", "/async"):
            response = http.get(live.url + path).result()
            assert response.json() == [f"{url}/echo?1", f"{url}/echo?2"]


def test_what_is_sent(url: str) -> None:
    def echo(**options: object) -> dict[str, object]:
        return http.post(f"{url}/echo", **options).result().json()

    assert echo(json={"ä": 1})["body"] == '{"ä":1}'
    assert echo(data={"a": "b c", "d": [1, 2]})["headers"]["Content-Length"] == "13"
    assert echo(content=(piece for piece in [b"one", "two"]))["body"] == "onetwo"
    assert echo(content=io.BytesIO(b"file"))["body"] == "file"
    assert echo(content=b"x", auth=("user", "pass"))["headers"]["Authorization"]
    with pytest.raises(TypeError, match="json can't be combined"):
        http.post(url, json=1, data={"a": 1})
    answer = http.post(
        f"{url}/form", data={"a": "1"}, files={"f": ("n.txt", io.BytesIO(b"content"))}
    )
    assert answer.result().json() == {"fields": {"a": "1"}, "files": {"f": ["n.txt", "content"]}}


def test_async_uploads(url: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            await asyncio.sleep(0)
            yield piece

    async def main() -> str:
        return (await http.post(f"{url}/echo", content=pieces())).json()["body"]

    assert asyncio.run(main()) == "onetwo"
    assert carboy.run(main()) == "onetwo"
    with pytest.raises(TypeError, match="async code only"):
        http.post(f"{url}/echo", content=pieces())


def test_an_upload_that_fails_fails_the_call(url: str) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    with pytest.raises(http.UploadError, match="no more"):
        http.post(f"{url}/echo", content=broken()).result()


def test_streams_in_both_kinds_of_code(url: str) -> None:
    lines = [f"line {number}" for number in range(3)]
    with http.stream("GET", f"{url}/lines") as response:
        with pytest.raises(http.StreamConsumed):
            _ = response.content
        assert list(response.iter_lines()) == lines

    async def main() -> None:
        async with http.stream("GET", f"{url}/lines") as response:
            assert [line async for line in response.aiter_lines()] == lines
        async with http.stream("GET", f"{url}/events") as response:
            events = [event async for event in response.aiter_sse()]
            assert [(event.event, event.data) for event in events] == [
                ("message", "a"),
                ("b", "{}"),
            ]

    carboy.run(main())


def test_a_stream_that_is_left_is_told_with_its_line(url: str) -> None:
    response = http.get(f"{url}/lines", stream=True).result()
    with pytest.warns(ResourceWarning, match=r"test_calls\.py:\d+"):
        del response


def test_errors_carry_the_request_and_are_builtin_ones(url: str) -> None:
    with pytest.raises(http.HTTPStatusError, match="404") as status:
        http.get(f"{url}/status/404").result().raise_for_status()
    assert status.value.response.text == "told"
    with pytest.raises(http.ConnectError) as refused:
        http.get("http://127.0.0.1:1/").result()
    assert isinstance(refused.value, ConnectionError)
    assert refused.value.request is not None
    assert refused.value.request.url == "http://127.0.0.1:1/"
    with pytest.raises(http.InvalidURL):
        http.get("http://").result()
    with pytest.raises(http.UnsupportedProtocol):
        http.get("ftp://127.0.0.1/").result()


def test_a_forgotten_timeout_is_finite() -> None:
    timeout = http.Session().timeout
    assert all(limit is not None and limit <= 30 for limit in timeout.as_tuple())
    with pytest.raises(ValueError, match="more than 0"):
        http.get("http://127.0.0.1:1/", timeout=0)


def test_the_loop_is_never_blocked(url: str) -> None:
    async def main() -> None:
        promise = http.get(f"{url}/echo")
        with pytest.raises(RuntimeError):
            promise.result()
        await promise

    carboy.run(main())


def test_sessions_have_things_in_common(url: str) -> None:
    seen: list[int] = []
    hooks = {"response": [lambda response: seen.append(response.status_code)]}
    with http.Session(base_url=url, headers={"X-Own": "1"}, hooks=hooks) as session:
        response = session.get("/redirect").result()
        assert response.url == f"{url}/echo"
        assert [one.status_code for one in response.history] == [302]
        assert response.json()["headers"]["X-Own"] == "1"
        assert response.json()["headers"]["Cookie"] == "seen=1"
        assert dict(session.cookies) == {"seen": "1"}
        assert seen == [200]
        assert session.get("/redirect", allow_redirects=False).result().is_redirect
    with pytest.raises(http.ClientClosed):
        session.get("/echo").result()
    plain = http.get(f"{url}/echo").result()
    assert "Cookie" not in plain.json()["headers"], "calls without a session share no cookies"


def test_each_redirect_has_its_request(url: str) -> None:
    def serve(peer: Peer) -> None:
        while request := peer.read_request():
            if request.startswith(b"POST /first "):
                peer.send(redirection("303 See Other", "/second#part"))
            elif request.startswith(b"GET /second "):
                peer.send(redirection("307 Temporary Redirect", f"{url}/echo?third"))

    with RawUpstream(serve) as upstream, http.Session(headers={"X-Own": "1"}) as session:
        response = session.post(
            f"{upstream.url}/first", json={}, headers={"Authorization": "secret"}
        ).result()
        hops = [*response.history, response]
        assert [(hop.request.method, hop.request.url, hop.status_code) for hop in hops] == [
            ("POST", f"{upstream.url}/first", 303),
            ("GET", f"{upstream.url}/second#part", 307),
            ("GET", f"{url}/echo?third#part", 200),
        ]
        assert [hop.request.headers.get("content-type") for hop in hops] == [
            "application/json", None, None,
        ]  # fmt: skip
        # Another origin is not shown what was for the first one.
        assert [hop.request.headers.get("authorization") for hop in hops] == [
            "secret", "secret", None,
        ]  # fmt: skip
        assert [hop.request.headers.get("x-own") for hop in hops] == ["1"] * 3
        assert response.request is response.request
        assert str(response.request) == f"GET {url}/echo?third#part"
        plain = session.get(f"{url}/echo").result()
        assert (plain.request.method, plain.request.url) == ("GET", f"{url}/echo")


def redirection(status: str, location: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def test_one_session_in_many_threads_and_loops(url: str) -> None:
    session = http.Session(base_url=url)
    failures: list[BaseException] = []

    async def main() -> None:
        await session.get("/echo")

    def work() -> None:
        try:
            for _ in range(5):
                session.get("/echo").result()
                carboy.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_timeline_of_a_request(url: str) -> None:
    app = Flask("views")
    app.debug = True

    @app.get("/")
    async def view() -> object:
        await call_two(url)
        return [[call.url, call.status_code, len(call.phases) > 0] for call in http.timeline()]

    with Live(app) as live:
        calls = http.get(live.url).result().json()
    assert calls == [[f"{url}/echo?1", 200, True], [f"{url}/echo?2", 200, True]]
