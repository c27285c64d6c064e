"""Routing: matches, converters, redirects, methods, hosts and subdomains."""

from typing import Any

import pytest
from flask import Blueprint, Flask, g, request, url_for
from support.parity import Trace, compare
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, RequestRedirect, ValidationError


def build_with_rules(trace: Trace) -> Flask:
    app = Flask(__name__)

    def add(rule: str, endpoint: str | None = None, **options: Any) -> None:
        async def view(**arguments: Any) -> dict[str, Any]:
            adapter_host = request.host
            return {
                "rule": str(request.url_rule),
                "arguments": {key: repr(value) for key, value in arguments.items()},
                "view_args": repr(request.view_args),
                "host": adapter_host,
                "url": request.url,
            }

        app.add_url_rule(rule, endpoint or rule, view, **options)

    add("/")
    add("/plain")
    add("/slash/")
    add("/form/", methods=["GET", "POST"])
    add("/int/<int:number>")
    add("/bounded/<int(max=5):number>")
    add("/bounded/<string:name>")
    add("/float/<float:number>")
    add("/signed/<int(signed=True):number>")
    add("/uuid/<uuid:value>")
    add("/path/<path:rest>/end")
    add("/any/<any(left, right):side>")
    add("/text/<string(length=2):code>")
    add("/two/<first>/<second>")
    add("/é/<name>")
    add("/post", methods=["POST"])
    add("/options", methods=["GET", "OPTIONS"])
    add("/put", methods=["PUT", "DELETE"])
    add("/defaults/", "defaults", defaults={"page": 1})
    app.add_url_rule("/defaults/<int:page>", "defaults", app.view_functions["defaults"])
    add("/old", "old", redirect_to="/plain")
    add("/alias", "/plain-alias", alias=True)
    add("/loose/", strict_slashes=False)
    return app


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("GET /", "loop"),
        ("GET /plain?a=1&a=2&b=%C3%A9", "loop"),
        ("GET /plain/", "not_matched"),
        ("GET /slash/", "loop"),
        ("GET /slash?q=1", "not_matched"),
        ("POST /slash?q=1", "not_matched"),
        ("GET /int/007", "loop"),
        ("GET /int/%D9%A3", "loop"),
        ("GET /int/-1", "not_matched"),
        ("GET /int/x", "not_matched"),
        ("GET /bounded/5", "loop"),
        ("GET /bounded/7", "not_matched"),
        ("GET /bounded/x", "loop"),
        ("GET /float/1.50", "loop"),
        ("GET /float/1", "not_matched"),
        ("GET /signed/-3", "loop"),
        ("GET /uuid/00000000-0000-0000-0000-000000000005", "loop"),
        ("GET /path/a/b/c/end", "loop"),
        ("GET /path/a//b/end", "unusual_request"),
        ("GET /any/left", "loop"),
        ("GET /any/up", "not_matched"),
        ("GET /text/de", "loop"),
        ("GET /text/deu", "not_matched"),
        ("GET /two/a%20b/c%2Bd", "loop"),
        ("GET /two/a%2Fb/c", "not_matched"),
        ("GET /%C3%A9/%F0%9F%90%8D", "loop"),
        ("GET /%ff", "unusual_request"),
        ("GET /two/%E2%82/x", "unusual_request"),
        ("GET //plain", "unusual_request"),
        ("GET /two//x", "unusual_request"),
        ("GET /.././plain", None),
        ("GET /post", "not_matched"),
        ("POST /post", "loop"),
        ("HEAD /plain", "loop"),
        ("HEAD /post", "not_matched"),
        ("OPTIONS /plain", "special_rule"),
        ("OPTIONS /options", "loop"),
        ("OPTIONS /nowhere", "not_matched"),
        ("DELETE /put", "loop"),
        ("PATCH /put", "not_matched"),
        ("BREW /plain", "not_matched"),
        ("GET /defaults/", "special_rule"),
        ("GET /defaults/1", None),
        ("GET /defaults/2", "special_rule"),
        ("GET /old", None),
        ("GET /loose", "loop"),
        ("GET /static/none.css", "sync_view"),
    ],
)
def test_a_path_is_matched_as_by_werkzeug(line: str, path: str | None) -> None:
    compare(build_with_rules, line, path=path)


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_to_the_slash(method: str, debug: bool) -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_rules(trace)
        app.debug = debug
        app.config["PROPAGATE_EXCEPTIONS"] = False
        return app

    body = b"content" if method == "POST" else b""
    outcome = compare(build, f"{method} /form", body=body, path="not_matched")

    assert outcome.status == 308


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:5000",
        "127.0.0.1:80",
        "EXAMPLE.com",
        "b\xfccher.example",
        "xn--bcher-kva.example",
        "[::1]:8000",
        "under_score.example",
        "trailing.example.",
        "example.com:",
        "-",
    ],
)
def test_any_host_reaches_the_view_as_in_flask(host: str) -> None:
    if not host.isascii():
        pytest.skip("refused by the server: a Host header is ASCII")
    compare(build_with_rules, "GET /plain", headers=[("Host", host)], path=None)


def build_with_hosts(trace: Trace) -> Flask:
    app = Flask(__name__, host_matching=True, static_host="static.example")

    @app.get("/", host="one.example")
    async def one() -> str:
        return "one"

    @app.get("/", host="<name>.two.example:8000")
    async def two(name: str) -> str:
        return f"two {name} {url_for('one')}"

    return app


@pytest.mark.parametrize("host", ["one.example", "x.two.example:8000", "other.example"])
def test_hosts_are_matched(host: str) -> None:
    compare(build_with_hosts, "GET /", headers=[("Host", host)], path="host_matching")


def build_with_subdomains(trace: Trace) -> Flask:
    app = Flask(__name__, subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com"
    inner = Blueprint("inner", __name__, subdomain="inner")

    @app.get("/")
    async def top() -> str:
        return "top"

    @inner.get("/")
    async def below() -> str:
        return f"below {url_for('top', _external=True)}"

    @app.get("/", subdomain="<user>")
    async def of_user(user: str) -> str:
        return f"user {user}"

    app.register_blueprint(inner)
    return app


@pytest.mark.filterwarnings("ignore:Current server name")
@pytest.mark.parametrize(
    "host", ["example.com", "inner.example.com", "me.example.com", "elsewhere.example"]
)
def test_subdomains_are_matched(host: str) -> None:
    compare(build_with_subdomains, "GET /", headers=[("Host", host)], path="host_matching")


@pytest.mark.parametrize("host", ["good.example", "sub.good.example", "bad.example"])
def test_hosts_that_are_not_trusted_get_400_after_the_hooks(host: str) -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_rules(trace)
        app.config["TRUSTED_HOSTS"] = ["good.example"]

        @app.before_request
        def before() -> None:
            trace("before", request.endpoint)

        return app

    outcome = compare(build, "GET /plain", headers=[("Host", host)], path="host_matching")

    assert outcome.status == (200 if host == "good.example" else 400)
    assert outcome.trace


def test_server_name_and_root_do_not_restrict_requests() -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_rules(trace)
        app.config.update(
            SERVER_NAME="example.com:8080", APPLICATION_ROOT="/root", PREFERRED_URL_SCHEME="https"
        )

        @app.get("/urls")
        async def urls() -> list[str]:
            return [url_for("/plain"), url_for("/plain", _external=True), request.root_url]

        return app

    compare(build, "GET /urls", headers=[("Host", "elsewhere.example")], path="loop")


def test_url_value_preprocessors_and_defaults() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        blueprint = Blueprint("lang", __name__, url_prefix="/<lang>")

        @blueprint.url_value_preprocessor
        def pull(endpoint: str | None, values: dict[str, Any]) -> None:
            g.lang = values.pop("lang")

        @blueprint.url_defaults
        def push(endpoint: str, values: dict[str, Any]) -> None:
            values.setdefault("lang", g.lang)

        @blueprint.get("/page/<int:number>")
        async def page(number: int) -> str:
            return f"{g.lang} {number} {url_for('lang.page', number=2)}"

        app.register_blueprint(blueprint)
        return app

    assert compare(build, "GET /de/page/1", path="hook").text == "de 1 /de/page/2"


RAISED_BY_CONVERTERS = {
    "ValidationError": ValidationError,
    "NotFound": NotFound,
    "RequestRedirect": lambda: RequestRedirect("http://localhost/new"),
    "ValueError": lambda: ValueError("in the converter"),
}


@pytest.mark.parametrize("kind", RAISED_BY_CONVERTERS)
def test_a_converter_that_raises(kind: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        class Raising(BaseConverter):
            def to_python(self, value: str) -> Any:
                trace("convert", value)
                raise RAISED_BY_CONVERTERS[kind]()

        app.url_map.converters["raising"] = Raising

        @app.get("/<raising:value>")
        async def view(value: object) -> str:
            return str(value)

        return app

    outcome = compare(build, "GET /x", path="own_class")

    assert outcome.trace == [("convert", "x")]
