"""The environ: what PEP 3333 requires, and what gunicorn and Werkzeug give besides."""

import io
import json
import sys
from typing import Any

import pytest
from support.live import Live


def show(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the environ, as JSON."""
    assert type(environ) is dict
    shown = {
        key: value if isinstance(value, (str, int, bool, tuple)) else type(value).__name__
        for key, value in environ.items()
    }
    wrong = [key for key, value in environ.items() if "." not in key and type(value) is not str]
    shown["wrong types"] = wrong
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]


def environ_of(
    target: str, headers: list[tuple[str, str]] | None = None, method: str = "GET"
) -> dict[str, Any]:
    with Live(show) as live, live.connect() as connection:
        answer = connection.request(method, target, headers)
        assert answer.status == 200, answer
        environ = json.loads(answer.body)
        assert environ["SERVER_PORT"] == str(live.address[1])
        assert environ["REMOTE_PORT"] == str(connection.socket.getsockname()[1])
    assert environ["wrong types"] == []
    return environ


def test_the_keys_of_a_plain_request() -> None:
    environ = environ_of("/a%20b/%C3%A9?q=%20&r", [("User-Agent", "test"), ("X-Own", "1")])

    assert {key: environ[key] for key in environ if key.isupper()} == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/\xc3\xa9",
        "QUERY_STRING": "q=%20&r",
        "RAW_URI": "/a%20b/%C3%A9?q=%20&r",
        "REQUEST_URI": "/a%20b/%C3%A9?q=%20&r",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": environ["SERVER_SOFTWARE"],
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": environ["SERVER_PORT"],
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": environ["REMOTE_PORT"],
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "test",
        "HTTP_X_OWN": "1",
    }
    assert "carboy/" in environ["SERVER_SOFTWARE"]


def test_the_keys_of_wsgi() -> None:
    environ = environ_of("/")

    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert {"wsgi.input", "wsgi.errors", "wsgi.file_wrapper"} <= environ.keys()


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/?", "/", ""),
        ("/a?b?c", "/a", "b?c"),
        ("/%2e%2E/x", "/../x", ""),
        ("/a/../b", "/a/../b", ""),
        ("/100%", "/100%", ""),
        ("/%zz", "/%zz", ""),
        ("/%00", "/\x00", ""),
        ("/a+b", "/a+b", ""),
        ("/a;b=c", "/a;b=c", ""),
        ("/%ff", "/\xff", ""),
        ("//double//slash", "//double//slash", ""),
        ("/x?%zz=%ff", "/x", "%zz=%ff"),
    ],
)
def test_the_path_is_decoded_once_and_the_query_never(target: str, path: str, query: str) -> None:
    environ = environ_of(target)

    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == target


def test_content_headers_have_keys_of_their_own() -> None:
    with Live(show) as live:
        answer = live.post("/", b"body", [("Content-Type", "text/x"), ("Content-Encoding", "x")])
    environ = json.loads(answer.body)

    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/x", "4")
    assert environ["HTTP_CONTENT_ENCODING"] == "x"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()


def test_headers_that_occur_more_than_once_are_joined() -> None:
    environ = environ_of(
        "/", [("X-Many", "1"), ("x-many", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    )

    assert environ["HTTP_X_MANY"] == "1,2"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


def test_headers_that_could_be_mistaken_for_others_are_dropped() -> None:
    environ = environ_of(
        "/", [("X_Forwarded_For", "forged"), ("X-Forwarded-For", "true"), ("Proxy", "http://x")]
    )

    assert environ["HTTP_X_FORWARDED_FOR"] == "true"
    assert "HTTP_PROXY" not in environ


def test_values_of_headers_are_latin_1() -> None:
    assert environ_of("/", [("X-Name", "caf\xe9")])["HTTP_X_NAME"] == "caf\xe9"


def test_a_target_with_an_authority() -> None:
    environ = environ_of("http://example.com:81/path?q", [("Host", "example.com:81")])

    assert environ["PATH_INFO"] == "/path"
    assert environ["HTTP_HOST"] == "example.com:81"
    assert environ["RAW_URI"] == "http://example.com:81/path?q"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/<a>", "/<a>", ""),
        ("/`a`/%3Cb%3E?c=`d`", "/`a`/<b>", "c=`d`"),
        ('/a?b="c"&d=<e>%22?', "/a", 'b="c"&d=<e>%22?'),
        ('/"a"', '/"a"', ""),
        ("/<%c3%a9>", "/<\xc3\xa9>", ""),
        ("/<a>?", "/<a>", ""),
    ],
)
def test_characters_that_no_uri_has_stay_as_they_were_sent(
    target: str, path: str, query: str
) -> None:
    environ = environ_of(target)

    assert environ["PATH_INFO"] == path
    assert environ["QUERY_STRING"] == query
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == target


def test_http_1_0() -> None:
    with Live(show) as live, live.connect() as connection:
        connection.send(b"GET /old HTTP/1.0\r\n\r\n")
        answer = connection.read_response()
        assert connection.is_closed_by_server()
    environ = json.loads(answer.body)

    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "HTTP_HOST" not in environ


def test_the_standard_input_and_errors_are_files() -> None:
    kept: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append(environ["wsgi.errors"])
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    with Live(application) as live:
        assert live.get().body == b""

    assert all(hasattr(kept[0], name) for name in ("write", "writelines", "flush"))


def test_standard_error_that_is_replaced_later_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.errors"].write("written")
        start_response("200 OK", [])
        return []

    with Live(application) as live:
        live.get()
        replacement = io.StringIO()
        monkeypatch.setattr(sys, "stderr", replacement)
        live.get()

    assert replacement.getvalue() == "written"
