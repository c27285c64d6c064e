"""requests over carboy's pool: what it sends, gets and raises."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import requests
from compat_servers import answer, chunked
from requests.adapters import HTTPAdapter
from support.waiting import eventually
from urllib3.exceptions import MaxRetryError, NewConnectionError, ReadTimeoutError
from urllib3.util import Retry

import carboy
from carboy.compat.blocking import BlockingCallInAsyncView
from carboy.compat.requests import Adapter
from carboy.compat.urllib3_response import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compat_servers import Received, Upstream


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def is_carboys(response: requests.Response) -> bool:
    return isinstance(response.raw, Response)


def test_a_request_goes_out_as_requests_has_made_it(
    upstream: Upstream, session: requests.Session
) -> None:
    target = "/a%20b/..%2Fc;x=1?q=%7C&r=a+b"
    response = session.get(upstream.url + target, headers={"X-Own": "wert-ä".encode("latin-1")})
    assert is_carboys(response)
    assert response.text == "ok"
    (received,) = upstream.received
    assert received.line == f"GET {target} HTTP/1.1"
    assert received.headers[0] == ("Host", f"127.0.0.1:{upstream.port}")
    assert received.header("x-own") == "wert-ä"
    assert received.header("user-agent") == requests.utils.default_user_agent()
    assert received.header("content-length") is None


def test_names_of_headers_keep_their_letters_and_values_of_one_name_are_joined(
    upstream: Upstream, session: requests.Session
) -> None:
    upstream.answers["/"] = answer("X-FoO: 1", "x-foo: 2", "ETag: é", body=b"x", status="203 Odd")
    response = session.get(upstream.url)
    assert dict(response.headers)["X-FoO"] == "1, 2"
    assert dict(response.headers)["ETag"] == "é"
    assert (response.status_code, response.reason) == (203, "Odd")
    assert response.raw.version == 11
    assert response.elapsed.total_seconds() > 0


def test_cookies_reach_the_session(upstream: Upstream, session: requests.Session) -> None:
    upstream.answers["/"] = answer("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Path=/", body=b"x")
    assert session.get(upstream.url).cookies.get_dict() == {"a": "1", "b": "2"}
    session.get(upstream.url)
    assert upstream.received[1].header("cookie") == "a=1; b=2"


def test_connections_are_kept_and_closed_with_the_session(upstream: Upstream) -> None:
    ended = threading.Event()

    def watch(request: Received, file: Any) -> None:
        file.write(answer(body=b"x"))

    upstream.answers["/"] = watch
    session = requests.Session()
    for _ in range(3):
        session.get(upstream.url)
    assert {received.connection for received in upstream.received} == {1}
    handler_threads = [
        thread for thread in threading.enumerate() if "process_request" in thread.name
    ]
    session.close()
    eventually(
        lambda: not any(thread.is_alive() for thread in handler_threads),
        what="the server has seen the end of the connection",
    )
    assert not ended.is_set()
    assert session.get(upstream.url).ok, "a session may be used after its close()"
    session.close()


@pytest.mark.parametrize("compressed", [False, True])
def test_content_comes_whole_in_pieces_and_decoded(
    upstream: Upstream, session: requests.Session, compressed: bool
) -> None:
    content = bytes(range(256)) * 4000
    sent = gzip.compress(content) if compressed else content
    coding = ["Content-Encoding: gzip"] if compressed else []
    upstream.answers["/whole"] = answer(*coding, body=sent)
    assert session.get(f"{upstream.url}/whole").content == content
    with session.get(f"{upstream.url}/whole", stream=True) as response:
        pieces = list(response.iter_content(1000))
    assert b"".join(pieces) == content
    assert {len(piece) for piece in pieces[:-1]} == {1000}
    with session.get(f"{upstream.url}/whole", stream=True) as response:
        assert response.raw.read(10) == sent[:10]
        assert response.raw.tell() == 10
        assert response.raw.read() == sent[10:]
        assert response.raw.closed
    assert {received.connection for received in upstream.received} == {1}


def test_chunks_are_given_as_they_come(upstream: Upstream, session: requests.Session) -> None:
    go_on = threading.Event()

    def trickle(request: Received, file: Any) -> None:
        whole = chunked(b"first\n", b"second\n")
        half = whole.index(b"7\r\nsecond")
        file.write(whole[:half])
        assert go_on.wait(10)
        file.write(whole[half:])

    upstream.answers["/"] = trickle
    with session.get(upstream.url, stream=True) as response:
        lines = response.iter_lines(chunk_size=None)
        assert response.raw.chunked
        pieces = response.raw.stream(1024, decode_content=True)
        assert next(pieces) == b"first\n"
        go_on.set()
        assert list(pieces) == [b"second\n"]
        assert list(lines) == []


def test_a_stream_that_is_left_closes_its_connection(
    upstream: Upstream, session: requests.Session
) -> None:
    upstream.answers["/"] = answer(body=b"x" * 5_000_000)
    with session.get(upstream.url, stream=True) as response:
        assert len(next(response.iter_content(1000))) == 1000
    upstream.answers["/"] = answer(body=b"after")
    assert session.get(upstream.url).text == "after"
    assert upstream.received[1].connection == 2


def test_uploads(upstream: Upstream, session: requests.Session) -> None:
    thread = threading.get_ident()

    def pieces() -> Iterator[bytes]:
        for piece in (b"one", b"", b"two"):
            assert threading.get_ident() == thread
            yield piece

    session.post(upstream.url, data={"a": "ä"})
    session.post(upstream.url, data=pieces())
    session.put(upstream.url, data=io.BytesIO(b"file" * 10_000))
    session.post(upstream.url, files={"f": ("name.txt", b"content")})
    session.post(upstream.url)
    form, generated, file, multipart, empty = upstream.received
    assert form.body == b"a=%C3%A4"
    assert generated.body == b"onetwo"
    assert generated.header("transfer-encoding") == "chunked"
    assert file.body == b"file" * 10_000
    assert file.header("content-length") == "40000"
    assert b'filename="name.txt"' in multipart.body
    assert empty.header("content-length") == "0"


def test_what_a_generator_raises_comes_out_and_breaks_the_request_off(
    upstream: Upstream, session: requests.Session
) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        session.post(upstream.url, data=pieces())
    assert session.get(upstream.url).ok


def test_refused_connections(session: requests.Session) -> None:
    with pytest.raises(requests.ConnectionError) as raised:
        session.get("http://127.0.0.1:1/x")
    reason = raised.value.args[0]
    assert isinstance(reason, MaxRetryError)
    assert isinstance(reason.reason, NewConnectionError)
    assert "HTTPConnectionPool(host='127.0.0.1', port=1): Max retries exceeded" in str(reason)
    assert "[Errno 111] Connection refused" in str(reason)


def test_read_timeouts(upstream: Upstream, session: requests.Session) -> None:
    gone = threading.Event()

    def never(request: Received, file: Any) -> bool:
        return gone.wait(10)

    def half(request: Received, file: Any) -> bool:
        file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        return gone.wait(10)

    upstream.answers["/never"] = never
    upstream.answers["/half"] = half
    try:
        with pytest.raises(requests.ReadTimeout) as raised:
            session.get(f"{upstream.url}/never", timeout=(5, 0.05))
        assert isinstance(raised.value.args[0], ReadTimeoutError)
        assert "Read timed out. (read timeout=0.05)" in str(raised.value)
        with pytest.raises(requests.ConnectionError, match="Read timed out"):
            session.get(f"{upstream.url}/half", timeout=0.05)
    finally:
        gone.set()


def test_broken_answers(upstream: Upstream, session: requests.Session) -> None:
    upstream.answers["/nothing"] = lambda request, file: True
    upstream.answers["/noise"] = b"noise\r\n\r\n"
    upstream.answers["/short"] = lambda request, file: file.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"
    )
    upstream.answers["/chunk"] = lambda request, file: file.write(chunked(b"a")[:-6] + b"zz\r\n")
    with pytest.raises(requests.ConnectionError, match="Remote end closed connection without"):
        session.get(f"{upstream.url}/nothing")
    with pytest.raises(requests.ConnectionError, match="Connection aborted"):
        session.get(f"{upstream.url}/noise")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        session.get(f"{upstream.url}/short")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="Connection broken"):
        session.get(f"{upstream.url}/chunk")


def test_retries_are_urllib3s(upstream: Upstream, session: requests.Session) -> None:
    answers = [
        answer("Retry-After: 0", status="503 Busy", body=b"busy"),
        answer(status="500 Broken", body=b"broken"),
        answer(body=b"done"),
    ]
    upstream.answers["/"] = lambda request, file: file.write(answers.pop(0)) and None
    retry = Retry(total=3, status_forcelist=[500], backoff_factor=0)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    response = session.get(upstream.url)
    assert is_carboys(response)
    assert response.text == "done"
    assert [step.status for step in response.raw.retries.history] == [503, 500]
    upstream.answers["/"] = answer(status="500 Broken")
    with pytest.raises(requests.exceptions.RetryError, match="too many 500 error responses"):
        session.get(upstream.url)


def test_redirects_and_heads(upstream: Upstream, session: requests.Session) -> None:
    upstream.answers["/from"] = answer("Location: /to", status="302 Found", body=b"there")
    upstream.answers["/to"] = lambda request, file: (
        file.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
            + (b"" if request.line.startswith("HEAD") else b"content")
        )
        and None
    )
    response = session.get(f"{upstream.url}/from")
    assert response.text == "content"
    assert [step.status_code for step in response.history] == [302]
    head = session.head(f"{upstream.url}/to")
    assert (head.content, head.headers["content-length"]) == (b"", "7")
    assert {received.connection for received in upstream.received} == {1}


def test_proxies(upstream: Upstream, session: requests.Session) -> None:
    session.proxies = {"http": f"http://user:pass%20word@127.0.0.1:{upstream.port}"}
    response = session.get("http://elsewhere.test/path?q=1")
    assert is_carboys(response)
    (received,) = upstream.received
    assert received.line == "GET http://elsewhere.test/path?q=1 HTTP/1.1"
    assert received.header("host") == "elsewhere.test"
    assert received.header("proxy-authorization") == "Basic dXNlcjpwYXNzIHdvcmQ="
    session.proxies = {"http": "http://127.0.0.1:1"}
    with pytest.raises(requests.exceptions.ProxyError):
        session.get("http://elsewhere.test/")


def test_threads_share_a_session(upstream: Upstream, session: requests.Session) -> None:
    texts: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: texts.extend(session.get(upstream.url).text for _ in range(20))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["ok"] * 160
    assert upstream.connections <= 8


def test_a_limit_of_connections_is_kept(upstream: Upstream, session: requests.Session) -> None:
    session.mount("http://", HTTPAdapter(pool_maxsize=2, pool_block=True))
    threads = [threading.Thread(target=session.get, args=(upstream.url,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(upstream.received) == 8
    assert upstream.connections <= 2


def test_a_response_may_be_read_on_another_thread(
    upstream: Upstream, session: requests.Session
) -> None:
    upstream.answers["/"] = answer(body=b"x" * 1_000_000)
    response = session.get(upstream.url, stream=True)
    sizes: list[int] = []
    thread = threading.Thread(target=lambda: sizes.append(len(response.content)))
    thread.start()
    thread.join()
    assert sizes == [1_000_000]


def test_sessions_and_responses_can_be_pickled(
    upstream: Upstream, session: requests.Session
) -> None:
    response = session.get(upstream.url)
    assert pickle.loads(pickle.dumps(response)).text == "ok"
    again = pickle.loads(pickle.dumps(session))
    with again:
        assert again.get(upstream.url).text == "ok"


def test_on_carboys_loop_a_call_says_where_it_is_instead_of_blocking(upstream: Upstream) -> None:
    async def view() -> None:
        requests.get(upstream.url)

    with pytest.raises(
        BlockingCallInAsyncView, match=r"test_installed_requests\.py:\d+ would block"
    ) as raised:
        carboy.run(view())
    assert "await" in str(raised.value)
    # On asyncio's own loop it blocks, as it always did.
    asyncio.run(view())
    assert len(upstream.received) == 1


def test_an_adapter_for_one_session(upstream: Upstream) -> None:
    carboy.uninstall("requests")
    with requests.Session() as session:
        session.trust_env = False
        assert not is_carboys(session.get(upstream.url))
        session.mount("http://", Adapter(max_retries=2))
        assert is_carboys(session.get(upstream.url))


def test_what_is_not_covered_goes_the_old_way(
    upstream: Upstream, session: requests.Session
) -> None:
    class FromAddress(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, source_address=("127.0.0.1", 0), **options)

    assert not is_carboys(session.get(upstream.url, headers={"Upgrade": "x"}))
    session.mount("http://", FromAddress())
    assert not is_carboys(session.get(upstream.url))


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_response_goes_without_a_collection_of_garbage(
    upstream: Upstream, session: requests.Session, *, is_streamed: bool
) -> None:
    upstream.answers["/"] = answer(body=b"x" * 100_000)
    gc.collect()
    gc.disable()
    try:
        response = session.get(upstream.url, stream=is_streamed)
        assert len(response.content) == 100_000
        file = weakref.ref(response.raw._fp)
        assert file() is not None
        del response
        assert file() is None
    finally:
        gc.enable()
