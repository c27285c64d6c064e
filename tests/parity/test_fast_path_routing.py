"""Maps, rules, hosts and views that change: what the fast paths match is what Flask would."""

from typing import Any

import flask
import pytest
from flask import Flask
from support.changed_apps import build_changed, requires_worker
from support.frozen_time import frozen_time
from support.parity import Trace, compare
from werkzeug.routing import BaseConverter, Map, Rule


class ReversedMap(Map):
    """Serves each path backwards: Werkzeug's matcher must not be asked with the plain one."""

    def bind_to_environ(self, environ: Any, *arguments: Any, **keywords: Any) -> Any:
        environ = getattr(environ, "environ", environ)
        turned = {**environ, "PATH_INFO": "/" + environ["PATH_INFO"].strip("/")[::-1]}
        return super().bind_to_environ(turned, *arguments, **keywords)


def test_a_map_of_the_apps_own() -> None:
    def build(trace: Trace) -> Flask:
        class App(Flask):
            url_map_class = ReversedMap

        app = App(__name__)

        @app.get("/abc")
        async def forward() -> str:
            return "forward"

        @app.get("/cba")
        async def backward() -> str:
            return "backward"

        return app

    assert compare(build, "GET /abc", path="own_class").text == "backward"


def session_reading_converter(trace: Trace) -> type[BaseConverter]:
    class SessionConverter(BaseConverter):
        def to_python(self, value: str) -> tuple[str, Any]:
            trace("convert", flask.session.get("user"))
            return value, flask.session.get("user")

        def to_url(self, value: Any) -> str:
            return str(value[0])

    return SessionConverter


def test_a_converter_of_the_apps_own_reads_the_session() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.secret_key = "not a secret"
        app.url_map.converters["own"] = session_reading_converter(trace)

        @app.get("/login")
        async def login() -> str:
            flask.session["user"] = "me"
            return "in"

        @app.get("/as/<own:value>")
        async def view(value: tuple[str, Any]) -> list[Any]:
            return list(value)

        return app

    with frozen_time():
        outcome = compare(build, "GET /login", "GET /as/x", path="own_class")

    assert outcome.body == b'["x","me"]\n'


def test_a_rule_that_was_added_late_with_a_converter_of_the_apps_own() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.url_map.converters["own"] = session_reading_converter(trace)
        app.add_url_rule("/as/<own:value>", "as", lambda value: value[0])

    requires_worker(change, "own_class")


@pytest.mark.parametrize(
    ("key", "value"),
    [("TRUSTED_HOSTS", ["localhost"]), ("TRUSTED_HOSTS", ["elsewhere"])],
    ids=["trusted", "untrusted"],
)
def test_hosts_that_are_restricted_late(key: str, value: object) -> None:
    requires_worker(lambda app, trace: app.config.update({key: value}), "host_matching")


def test_host_matching_that_is_turned_on_late() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.url_map.host_matching = True

    requires_worker(change, "host_matching")


def test_subdomain_matching_that_is_turned_on_late() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.subdomain_matching = True

    requires_worker(change, "host_matching")


def test_a_view_that_is_replaced_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.view_functions["place.view"] = lambda: "sync"

    compare(
        build_changed(change),
        *("GET /", "GET /change", "GET /"),
        path=None,
        paths={"loop": 2, "sync_view": 1},
    )


def test_a_def_view_that_is_replaced_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.view_functions["place.view"] = lambda: "another"

    outcome = compare(
        build_changed(change, is_async=False),
        *("GET /", "GET /change", "GET /"),
        path=None,
        paths={"loop": 1, "sync_view": 2},
    )
    assert outcome.text == "another"


def test_a_view_that_is_replaced_by_another_coroutine_function() -> None:
    def change(app: Flask, trace: Trace) -> None:
        async def other() -> str:
            return "other"

        app.view_functions["place.view"] = other

    assert (
        compare(build_changed(change), "GET /", "GET /change", "GET /", path="loop").text == "other"
    )


def test_a_view_that_is_removed() -> None:
    def change(app: Flask, trace: Trace) -> None:
        del app.view_functions["place.view"]

    requires_worker(change, "not_matched")


def test_rules_that_are_added_to_the_map_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        async def late(name: str) -> str:
            return f"late {name}"

        app.add_url_rule("/late/<name>", "late", late)

    compare(
        build_changed(change),
        "GET /late/x",
        "GET /change",
        "GET /late/x",
        path=None,
        paths={"loop": 2, "not_matched": 1},
    )


def test_a_rule_of_a_known_endpoint_that_is_added_to_the_map_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.url_map.add(Rule("/again", endpoint="place.view"))
        # Whoever matches first updates the map, and leaves no mark that it was changed.
        app.url_map.update()

    compare(
        build_changed(change),
        "GET /",
        "GET /again",
        "GET /change",
        "GET /again",
        "GET /",
        path=None,
        paths={"loop": 4, "not_matched": 1},
    )


def test_a_rule_with_defaults_that_makes_a_known_path_a_redirect() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        @app.get("/pages/<int:number>")
        async def page(number: int) -> str:
            return str(number)

        @app.get("/change")
        async def apply() -> str:
            rule = Rule("/pages", endpoint="page", defaults={"number": 1}, methods=["GET"])
            app.url_map.add(rule)
            return "changed"

        return app

    outcome = compare(
        build,
        "GET /pages/1",
        "GET /change",
        "GET /pages/1",
        path=None,
        paths={"loop": 2, "special_rule": 1},
    )

    assert outcome.status == 308
