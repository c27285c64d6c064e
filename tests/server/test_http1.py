"""HTTP/1.1 of `carboy run` over raw sockets: connections, order, refusals."""

import textwrap
from collections.abc import Iterator
from socket import SHUT_WR

import pytest
from support.server_process import ServerProcess

APP = """
    import asyncio
    from flask import Flask, request

    app = Flask(__name__)

    @app.route("/echo", methods=["GET", "POST"])
    async def echo():
        return request.get_data() or b"nothing"

    @app.post("/sync-echo")
    def sync_echo():
        return request.get_data() or b"nothing"

    @app.get("/slow/<float:seconds>")
    async def slow(seconds):
        await asyncio.sleep(seconds)
        return f"slow {seconds}"

    @app.get("/sync/<int:number>")
    def sync(number):
        return f"sync {number}"

    @app.get("/async/<int:number>")
    async def async_(number):
        return f"async {number}"

    @app.get("/stream")
    def stream():
        return (f"{number} " for number in range(3))

    @app.post("/unread")
    def unread():
        return "unread"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests that need no options."""
    directory = tmp_path_factory.mktemp("app")
    (directory / "app.py").write_text(textwrap.dedent(APP))
    with ServerProcess(directory, "app:app") as server:
        yield server


def test_a_connection_serves_many_requests(server: ServerProcess) -> None:
    with server.connect() as connection:
        for number in range(50):
            kind = ("sync", "async")[number % 2]
            answer = connection.request("GET", f"/{kind}/{number}")
            assert (answer.status, answer.text) == (200, f"{kind} {number}")
        assert connection.request("GET", "/stream").text == "0 1 2 "
        answer = connection.request("GET", "/echo", [("Connection", "close")])
        assert answer.header("connection") == "close"
        assert connection.is_closed_by_server()


def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    targets = ["/slow/0.1", "/sync/1", "/async/2", "/stream", "/slow/0.01", "/none", "/sync/3"]
    with server.connect() as connection:
        connection.send(b"".join(f"GET {t} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for t in targets))
        answers = [connection.read_response() for _ in targets]

    texts = [answer.text for answer in answers]
    assert texts[:5] == ["slow 0.1", "sync 1", "async 2", "0 1 2 ", "slow 0.01"]
    assert answers[5].status == 404
    assert texts[6] == "sync 3"


@pytest.mark.parametrize("target", ["/echo", "/sync-echo"])
def test_a_client_that_expects_100_continue_gets_it(server: ServerProcess, target: str) -> None:
    with server.connect() as connection:
        connection.send(
            f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        assert connection.read_head().status == 100
        connection.send(b"body")
        assert connection.read_response().text == "body"
        assert connection.request("GET", "/sync/1").text == "sync 1"


def test_a_client_that_expects_100_continue_in_vain_gets_the_answer(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.send(
            b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.read_head().status == 200


@pytest.mark.parametrize("target", ["/sync/1", "/async/1", "/stream", "/none"])
def test_head_has_the_head_of_get_and_no_body(server: ServerProcess, target: str) -> None:
    with server.connect() as connection:
        head = connection.request("HEAD", target)
        get = connection.request("GET", target)

    framing = {"transfer-encoding", "date"}
    assert head.body == b""
    assert [h for h in head.headers if h[0].lower() not in framing] == [
        h for h in get.headers if h[0].lower() not in framing
    ]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            ),
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    ],
    ids=[
        "long line", "long header", "many headers", "no host", "two hosts", "two lengths",
        "length and chunked", "negative length", "nonsense", "version",
    ],
)  # fmt: skip
def test_a_bad_head_is_refused_and_the_server_goes_on(
    server: ServerProcess, data: bytes, status: int
) -> None:
    with server.connect() as connection:
        connection.send(data)
        answer = connection.read_response()
        assert answer.status in (status, 400) if status == 505 else answer.status == status
        assert connection.is_closed_by_server()
    assert server.get("/sync/1").text == "sync 1"


def test_a_body_beyond_the_limit_is_a_413(serve) -> None:
    server = serve(APP, "--limit-body", "1000")
    for target in ("/echo", "/sync-echo"):
        with server.connect() as connection:
            connection.send(
                f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".encode()
            )
            assert connection.read_response().status == 413
        with server.connect() as connection:
            assert connection.request("POST", target, body=b"x" * 1000).status == 200


def test_limits_of_the_command_line(serve) -> None:
    server = serve(APP, "--limit-request-line", "100", "--limit-headers", "500")
    assert server.get("/" + "a" * 200).status == 414
    assert server.get("/sync/1", [("X-Long", "a" * 600)]).status == 431
    assert server.get("/sync/1").status == 200


@pytest.mark.parametrize("target", ["/async/1", "/sync/1", "/stream", "/slow/0.05"])
def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection(
    server: ServerProcess, target: str
) -> None:
    with server.connect() as connection:
        connection.send(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        answer = connection.read_response()
        assert answer.status == 200
        assert answer.header("transfer-encoding") is None
        assert connection.is_closed_by_server()
    assert answer.text == server.get(target).text


@pytest.mark.parametrize("target", ["/async/1", "/sync/1", "/stream", "/slow/0.05"])
def test_a_client_that_only_closes_its_own_half_gets_the_answer(
    server: ServerProcess, target: str
) -> None:
    with server.connect() as connection:
        connection.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        connection.socket.shutdown(SHUT_WR)
        assert connection.read_response().text == server.get(target).text
        assert connection.is_closed_by_server()


def test_a_slow_client_holds_up_nobody(server: ServerProcess) -> None:
    slow = [server.connect() for _ in range(50)]
    for connection in slow:
        connection.send(b"POST /sync-echo HTTP/1.1\r\nHost: a\r\nContent-Le")
    assert server.get("/async/1").text == "async 1"
    assert server.get("/sync/1").text == "sync 1"
    for connection in slow:
        connection.send(b"ngth: 4\r\n\r\nbo")
    assert server.get("/sync/2").text == "sync 2"
    for connection in slow:
        connection.send(b"dy")
        assert connection.read_response().text == "body"
        connection.close()


def test_an_idle_connection_is_closed_after_the_timeout(serve) -> None:
    server = serve(APP, "--keep-alive-timeout", "0.2")
    with server.connect() as connection:
        assert connection.request("GET", "/sync/1").status == 200
        assert connection.is_closed_by_server()


def test_the_access_log_names_each_request(serve) -> None:
    server = serve(APP)
    server.get("/sync/1?q=1")
    server.get("/none")
    server.wait_for_line(r'GET /sync/1\?q=1 HTTP/1\.1" 200')
    server.wait_for_line(r'GET /none HTTP/1\.1" 404')


def test_an_access_log_may_be_left_out(serve) -> None:
    server = serve(APP, "--no-access-log")
    server.get("/sync/1")
    server.send_signal(15)
    server.wait()
    assert "/sync/1" not in server.output


def test_a_unix_socket(serve, tmp_path) -> None:
    path = str(tmp_path / "socket")
    server = serve(APP, "--unix-socket", path)
    assert server.address == path
    with server.connect() as connection:
        assert connection.request("GET", "/sync/1").text == "sync 1"
        assert connection.request("GET", "/async/1").text == "async 1"
