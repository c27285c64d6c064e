"""What a request leaves behind is garbage, and the collector finds it."""

import contextvars
import gc
import sys
import weakref
from collections.abc import Callable

import pytest
from flask import Flask, g, request
from support.live import Live
from support.waiting import eventually


class MistakeError(Exception):
    """Its traceback leads to the request, and the request to it."""


_variable: contextvars.ContextVar[MistakeError] = contextvars.ContextVar("mistake")


def on_g(error: MistakeError) -> None:
    g.error = error


def in_the_environ(error: MistakeError) -> None:
    request.environ["error"] = error


def in_a_context_variable(error: MistakeError) -> None:
    _variable.set(error)


@pytest.mark.parametrize("keep", [on_g, in_the_environ, in_a_context_variable])
def test_an_error_that_its_own_request_keeps_is_collected(
    keep: Callable[[MistakeError], None],
) -> None:
    app = Flask(__name__)
    errors: list[weakref.ref[MistakeError]] = []

    @app.get("/")
    async def view() -> str:
        raise MistakeError

    @app.errorhandler(MistakeError)
    def handle(error: MistakeError) -> str:
        assert error.__traceback__ is not None
        errors.append(weakref.ref(error))
        keep(error)
        return "handled"

    with Live(app) as live:
        assert live.get().text == "handled"
        assert live.paths_taken() == {"loop": 1}

    def is_collected() -> bool:
        gc.collect()
        return errors[0]() is None

    eventually(is_collected, what="the collector has found the cycle", timeout=3)


def test_the_exchange_of_a_request_shows_the_collector_what_it_holds() -> None:
    app = Flask(__name__)
    seen: list[set[str]] = []

    @app.get("/<name>")
    async def view(name: str) -> str:
        frame = sys._getframe(1)
        while "exchange" not in frame.f_locals:
            assert frame.f_back is not None
            frame = frame.f_back
        held = gc.get_referents(frame.f_locals["exchange"])
        seen.append({type(thing).__name__ for thing in held})
        return "seen"

    with Live(app) as live:
        assert live.get("/x").text == "seen"

    assert {"Context", "dict", "function"} <= seen[0]
