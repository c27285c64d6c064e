"""Apps that change while they are served."""

import asyncio
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, request

from support.parity import Trace, compare

Change = Callable[[Flask, Trace], None]


def build_changed(
    change: Change, *, app_class: type[Flask] = Flask, is_async: bool = True
) -> Callable[[Trace], Flask]:
    """An app with one view in a blueprint; a request to another makes the change."""

    def build(trace: Trace) -> Flask:
        app = app_class(__name__)
        blueprint = Blueprint("place", __name__)

        def answer() -> dict[str, Any]:
            trace("view", request.endpoint)
            return {"args": request.args, "data": request.get_data(as_text=True)}

        async def async_view() -> dict[str, Any]:
            await asyncio.sleep(0)
            return answer()

        view = async_view if is_async else answer
        blueprint.add_url_rule("/", "view", view, methods=["GET", "POST"])

        @app.get("/change")
        async def apply() -> str:
            # Flask refuses registration after the first request, extensions do it anyway.
            app._got_first_request = False
            change(app, trace)
            return "changed"

        app.register_blueprint(blueprint)
        return app

    return build


def requires_worker(
    change: Change, reason: str, *, before: Callable[[], object] = lambda: None
) -> None:
    """Serve before the change, the change, and after it; compare all three with Flask."""

    for is_async, paths in ((True, {"loop": 2}), (False, {"sync_view": 1, "loop": 1})):

        def build(trace: Trace, *, is_async: bool = is_async) -> Flask:
            before()
            return build_changed(change, is_async=is_async)(trace)

        requests = ("GET /?q=1", "GET /change", "GET /?q=1")
        compare(build, *requests, path=None, paths={**paths, reason: 1})


def noted(trace: Trace, original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        trace(name)
        return original(*arguments, **keywords)

    return wrapper
