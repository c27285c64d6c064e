"""Views that make a call, in every colour, and how they ended."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from flask import Flask

from carboy import http
from support.live import Live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.upstream import Upstream


COLOURS = ["sync", "sync returned", "async", "async returned", "async behind a hook"]


def make_app(upstream: Upstream, colour: str, **options: Any) -> tuple[Flask, list[Any]]:
    """An app with one view that makes one call, and the list of how it ended."""
    app = Flask(__name__)
    ended: list[Any] = []

    def call() -> Any:
        return http.get(f"{upstream.url}/slow").then(lambda response: response.text)

    if colour.startswith("sync"):

        def view() -> Any:
            try:
                if colour == "sync returned":
                    return {"a": call()}
                return {"a": call().result()}
            except BaseException as error:
                ended.append(type(error))
                raise
            finally:
                ended.append("view")

    else:

        async def view() -> Any:
            try:
                if colour == "async returned":
                    return {"a": call()}
                return {"a": await call()}
            except BaseException as error:
                ended.append(type(error))
                raise
            finally:
                ended.append("view")

    if decorate := options.pop("decorate", None):
        view = decorate(view)
    app.add_url_rule("/", view_func=view, methods=["GET", "POST"])
    app.config.update(options)
    if colour.endswith("hook"):
        app.before_request(lambda: None)
    return app, ended


@contextlib.contextmanager
def served(
    upstream: Upstream, colour: str, **options: Any
) -> Iterator[tuple[Live, list[Any], list[Any]]]:
    """Serve such an app; gives the server, how views ended, and the errors of teardowns."""
    app, ended = make_app(upstream, colour, **options)
    torn_down: list[Any] = []
    if colour.startswith("sync") or colour.endswith("hook"):
        # On a view that runs on the loop it would be sync code on the way.
        app.teardown_request(lambda error: torn_down.append(error))
    with Live(app) as live:
        yield live, ended, torn_down


def has_teardown(colour: str) -> bool:
    return colour.startswith("sync") or colour.endswith("hook")
