"""A request's context that code of the application enters, too, while the request needs it.

`contextvars` lets one thread at a time be in a context. A callback that a view has put into
its own context may be in it when a worker wants to go on with the request.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import greenlet
import pytest
from flask import Flask, Response
from support.live import Live

#: How long the callback keeps the context, in seconds: the request is not done before.
HELD_SECONDS = 0.2


def current_context() -> contextvars.Context:
    """The context itself, not a copy."""
    context = greenlet.getcurrent().gr_context
    assert context is not None
    return context


class Holder:
    """Keeps the context of a view from the request until the request has been given up."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.given_up = threading.Event()

    def take(self) -> None:
        """Put a callback into the view's own context, for right after the view's step."""
        asyncio.get_running_loop().call_soon(self._hold, context=current_context())

    def _hold(self) -> None:
        self.has_begun.set()
        self.given_up.wait(HELD_SECONDS)


def answer_of_handler(app: Flask) -> Callable[[], Any]:
    @app.errorhandler(ValueError)
    def handle(error: ValueError) -> str:
        return f"handled {error}"

    def fail() -> Any:
        raise ValueError("mistake")

    return fail


def answer_of_body(app: Flask) -> Callable[[], Any]:
    return lambda: Response(iter(["of ", "parts"]))


@pytest.mark.parametrize(
    ("rest", "text"), [(answer_of_handler, "handled mistake"), (answer_of_body, "of parts")]
)
def test_the_rest_of_a_request_waits_for_a_callback_in_its_context(
    rest: Callable[[Flask], Callable[[], Any]], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask(__name__)
    holder = Holder()
    finish = rest(app)
    unraisable: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)

    @app.get("/")
    async def view() -> Any:
        holder.take()
        return finish()

    with Live(app) as live:
        answer = live.get()

    assert holder.has_begun.is_set()
    assert (answer.status, answer.text) == (200, text)
    assert unraisable == []


def test_a_sync_view_waits_for_a_callback_in_its_context_after_async_code() -> None:
    app = Flask(__name__)
    holder = Holder()
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def part() -> str:
        variable.set("set on the loop")
        holder.take()
        return "part"

    @app.get("/")
    def view() -> list[str]:
        return [app.ensure_sync(part)(), variable.get()]

    with Live(app) as live:
        assert live.get().body == b'["part","set on the loop"]\n'

    assert holder.has_begun.is_set()
