"""Whom a promise belongs to, and what becomes of it when that has ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, g, request
from flask import globals as flask_globals
from support.live import Live
from support.waiting import eventually

from carboy import Promise, deadline, remaining_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLOURS = ["sync", "async", "async behind a hook"]


def make_app(make: Callable[[], Any], colour: str, **config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(config)

    if colour == "sync":

        def view() -> Any:
            return make()

    else:

        async def view() -> Any:
            value = make()
            # What is to happen in its turn has happened.
            for _ in range(8):
                await asyncio.sleep(0)
            return value

    app.add_url_rule("/", view_func=view)
    if colour.endswith("hook"):
        app.before_request(lambda: None)
    return app


async def failed(error: BaseException) -> Any:
    raise error


def fail(_: object) -> Any:
    raise ValueError("nobody looks")


def never() -> Promise[Any]:
    return Promise.with_resolvers()[0]


async def for_ever() -> None:
    await asyncio.Event().wait()


class Records(logging.Handler):
    """Keeps what is logged, by any thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Return what is logged as an error during the test."""
    handler = Records()
    logging.getLogger().addHandler(handler)
    yield handler.kept
    logging.getLogger().removeHandler(handler)


# Errors that nobody looks at.

UNSEEN: dict[str, Callable[[], object]] = {
    "rejected": lambda: Promise.reject(ValueError("nobody looks")),
    "chain": lambda: Promise.reject(ValueError("nobody looks")).then(str).tap(str),
    "coroutine": lambda: Promise(failed(ValueError("nobody looks"))).then(str),
    "all": lambda: Promise.all(never(), Promise.reject(ValueError("nobody looks"))),
    "kept": lambda: setattr(g, "kept", Promise(failed(ValueError("nobody looks")))),
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("case", UNSEEN)
def test_it_is_logged_by_the_app_at_the_end_of_the_request(
    case: str, colour: str, records: list[logging.LogRecord]
) -> None:
    def make() -> str:
        promise = UNSEEN[case]()
        if colour == "sync" and case in {"coroutine", "kept"}:
            # Its task is on another thread; it has ended when another one after it has.
            Promise(asyncio.sleep(0.01)).result()
        del promise
        return "done"

    app = make_app(make, colour)
    with Live(app) as live:
        assert live.get("/").body == b"done"
        eventually(lambda: records, what="the error is logged")
    assert [record.name for record in records] == [app.logger.name]
    assert records[0].getMessage().startswith("A promise failed, and nobody awaited it")
    assert f"made at {__file__}:" in records[0].getMessage()
    assert records[0].exc_info is not None
    assert str(records[0].exc_info[1]) == "nobody looks"


@pytest.mark.parametrize("colour", COLOURS)
def test_who_looks_is_not_told(colour: str, records: list[logging.LogRecord]) -> None:
    def make() -> str:
        for promise in (Promise.reject(ValueError()), Promise(failed(ValueError()))):
            promise.catch(str)
            promise.then(None, str)
            promise.settle(str)
            promise.or_else(1)
        Promise.all_settled(Promise.reject(ValueError()), failed(ValueError()))
        Promise.reject(ValueError()).peek()
        never().cancel()
        return "done"

    with Live(make_app(make, colour)) as live:
        assert live.get("/").body == b"done"
    gc.collect()
    assert records == []


@pytest.mark.parametrize("setting", ["TESTING", "DEBUG"])
@pytest.mark.parametrize("colour", COLOURS)
def test_under_test_and_in_debug_mode_the_request_fails(colour: str, setting: str) -> None:
    def make() -> str:
        Promise.resolve(1).then(fail) if colour != "sync" else Promise.reject(ValueError("unseen"))
        return "done"

    app = make_app(make, colour, **{setting: True})
    client = app.test_client()
    with pytest.raises(ValueError, match=r"nobody looks|unseen") as caught:
        client.get("/")
    notes = "\n".join(caught.value.__notes__)
    assert "Nobody awaited the promise, took its result or caught its error." in notes


@pytest.mark.parametrize("colour", COLOURS)
def test_a_server_answers_with_an_error_in_debug_mode(
    colour: str, records: list[logging.LogRecord]
) -> None:
    def make() -> str:
        Promise.reject(ValueError("first"))
        Promise.reject(KeyError("second"))
        return "done"

    app = make_app(make, colour, DEBUG=True, PROPAGATE_EXCEPTIONS=False)
    with Live(app) as live:
        assert live.get("/").status == 500
    text = "\n".join(str(record.exc_info[1]) for record in records if record.exc_info)
    assert "first" in text
    assert "second" in text


@pytest.mark.parametrize("setting", ["DEBUG", "none"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_fails_in_an_endless_stream_is_logged_before_its_end(
    colour: str, setting: str, records: list[logging.LogRecord]
) -> None:
    app = Flask(__name__)
    app.config.update({setting: True})

    @app.get("/sync")
    def sync_view() -> Any:
        def stream() -> Iterator[str]:
            while True:
                Promise.reject(ValueError("nobody looks"))
                yield "piece"

        return stream()

    @app.get("/async")
    async def async_view() -> Any:
        async def stream() -> Any:
            while True:
                Promise(failed(ValueError("nobody looks")))
                yield "piece"
                await asyncio.sleep(0)

        return stream()

    with Live(app) as live:
        connection = live.connect()
        connection.send(f"GET /{colour} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        eventually(lambda: records, what="the error is logged while the stream goes on")
        connection.close()
    assert {str(record.exc_info[1]) for record in records if record.exc_info} == {"nobody looks"}


def test_outside_of_requests_it_is_logged_when_the_promise_is_gone(
    records: list[logging.LogRecord],
) -> None:
    Promise.reject(ValueError("nobody looks"))
    assert [record.name for record in records] == ["carboy"]
    assert "reject, made at" in records[0].getMessage()


def test_after_a_request_without_a_server_it_is_not_that_requests(
    records: list[logging.LogRecord],
) -> None:
    app = Flask(__name__)
    kept = []

    @app.get("/")
    def view() -> str:
        kept.append(request_context())
        return str(Promise.resolve("done").result())

    assert app.test_client().get("/").text == "done"
    Promise.reject(ValueError("nobody looks"))
    assert [record.name for record in records] == ["carboy"]


def request_context() -> Any:
    """Return Flask's context of this request, which is what keeps the request's scope."""
    variable = getattr(flask_globals, "_cv_request", None) or flask_globals._cv_app
    return variable.get()


def test_what_ends_a_program_or_a_task_is_no_error(records: list[logging.LogRecord]) -> None:
    Promise.reject(asyncio.CancelledError())
    Promise.reject(KeyboardInterrupt())
    assert records == []


# The end of a request.


@pytest.mark.parametrize("colour", COLOURS)
def test_handlers_of_what_is_unfinished_are_passed_by_and_it_is_cleaned_up(colour: str) -> None:
    seen: list[Any] = []

    def make() -> str:
        promise = Promise(for_ever())
        promise.then(seen.append, seen.append).finally_(lambda: seen.append(request.path))
        return "done"

    with Live(make_app(make, colour)) as live:
        assert live.get("/").body == b"done"
        eventually(lambda: seen, what="it is cleaned up")
    assert seen == ["/"]


@pytest.mark.parametrize("colour", COLOURS)
def test_what_cleans_up_after_the_request_is_not_cancelled_with_it(colour: str) -> None:
    seen: list[str] = []

    async def clean_up() -> None:
        await asyncio.sleep(0)
        seen.append(await Promise(asyncio.sleep(0, "cleaned up")))

    def make() -> str:
        Promise(for_ever()).finally_(clean_up)
        return "done"

    with Live(make_app(make, colour)) as live:
        assert live.get("/").body == b"done"
        eventually(lambda: seen, what="it is cleaned up")
    assert seen == ["cleaned up"]


def test_in_sync_code_a_handler_whose_turn_has_come_runs_at_the_end() -> None:
    seen: list[Any] = []

    def make() -> str:
        thread = threading.get_ident()
        Promise.resolve(1).then(lambda value: seen.append((value, threading.get_ident() == thread)))
        assert seen == []
        return "done"

    with Live(make_app(make, "sync")) as live:
        assert live.get("/").body == b"done"
        eventually(lambda: seen, what="the handler runs")
    assert seen == [(1, True)]


@pytest.mark.parametrize("colour", COLOURS)
def test_coroutines_that_handlers_return_belong_to_the_request_too(colour: str) -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        ended.append(f"{name} begins")
        try:
            await for_ever()
        finally:
            ended.append(f"{name} ends")

    async def outer() -> None:
        Promise(work("inner"))
        await work("outer")

    def make() -> str:
        promise = Promise.resolve(1).then(lambda _: outer())
        if colour == "sync":
            with pytest.raises(TimeoutError):
                promise.result(timeout=0.1)
        return "done"

    with Live(make_app(make, colour)) as live:
        assert live.get("/").body == b"done"
        eventually(lambda: len(ended) == 4, what="the work is ended")
    assert set(ended) == {"inner begins", "inner ends", "outer begins", "outer ends"}


@pytest.mark.parametrize("colour", COLOURS)
def test_what_comes_after_the_end_is_given_up_at_once(colour: str) -> None:
    kept: list[Any] = []

    def make() -> str:
        import contextvars

        kept.append(contextvars.copy_context())
        Promise.resolve(1)
        return "done"

    with Live(make_app(make, colour)) as live:
        assert live.get("/").body == b"done"
        coroutine = for_ever()

        def is_refused() -> bool:
            return kept[0].run(Promise, asyncio.sleep(0.1)).cancelled()

        eventually(is_refused, what="the request has ended")
        promise = kept[0].run(Promise, coroutine)
    with pytest.raises(asyncio.CancelledError, match=r"the request .* has ended"):
        promise.result()
    assert coroutine.cr_frame is None


@pytest.mark.parametrize("colour", COLOURS)
def test_one_request_does_not_end_what_belongs_to_another(colour: str) -> None:
    shared: list[Promise[Any]] = []
    gates: list[Any] = []

    def make() -> Any:
        if not shared:
            source, resolve, _ = Promise.with_resolvers()
            gates.append(resolve)
            # For all requests: it belongs to none.
            shared.append(source.shield())
            return "first"
        promise = shared[0].then(lambda value: Promise(asyncio.sleep(0.001, value + 1)))
        gates[0](1)
        return {"a": promise}

    with Live(make_app(make, colour)) as live:
        assert live.get("/").body == b"first"
        assert live.get("/").body.replace(b" ", b"").strip() == b'{"a":2}'


# Detached work.


def detached_app(begin: Callable[[], Any], colour: str) -> Flask:
    def make() -> str:
        with deadline(0.2):
            begin()
        return "done"

    return make_app(make, colour)


@pytest.mark.parametrize("colour", COLOURS)
def test_detached_work_goes_on_with_all_that_it_does(colour: str) -> None:
    steps: list[Any] = []
    may_go_on = threading.Event()

    async def audit() -> str:
        early = Promise(asyncio.sleep(0.001, "early"))
        while not may_go_on.is_set():
            await asyncio.sleep(0.001)
        steps.extend([await early, await Promise(asyncio.sleep(0.001, "late"))])
        steps.append(remaining_seconds())
        return request.path

    def begin() -> None:
        promise = Promise(audit())
        if colour == "sync":
            Promise(asyncio.sleep(0.01)).result()
        chain = promise.then(lambda path: Promise(asyncio.sleep(0.001, path))).tap(steps.append)
        chain.detach("the audit")

    with Live(detached_app(begin, colour)) as live:
        assert live.get("/").body == b"done"
        # The deadline passes, too.
        Promise(asyncio.sleep(0.3)).result()
        may_go_on.set()
        eventually(lambda: len(steps) == 4, what="the work and its handlers are done")
    assert steps == ["early", "late", None, "/"]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_failure_of_detached_work_is_logged_with_its_name(
    colour: str, records: list[logging.LogRecord]
) -> None:
    def begin() -> None:
        async def fail() -> None:
            await asyncio.sleep(0.001)
            raise ValueError("lost")

        Promise(fail()).detach("the audit")

    with Live(detached_app(begin, colour)) as live:
        assert live.get("/").body == b"done"
        eventually(lambda: records, what="the failure is logged")
    assert "the audit failed (" in records[0].getMessage()
    assert records[0].exc_info is not None
    assert str(records[0].exc_info[1]) == "lost"


def test_detach_returns_the_same_promise() -> None:
    promise = Promise.resolve(1)
    assert promise.detach("it") is promise


def test_who_shares_a_promise_with_a_request_that_has_ended_is_told_what_to_do(
    records: list[logging.LogRecord],
) -> None:
    shared: list[Promise[Any]] = []

    def make() -> Any:
        if shared:
            return shared[0]
        shared.append(Promise(for_ever()))
        return "first"

    with Live(make_app(make, "sync")) as live:
        assert live.get("/").body == b"first"
        assert live.get("/").status == 500
    assert [record.getMessage() for record in records] == ["Exception while serving GET '/'"]
    error = records[0].exc_info and records[0].exc_info[1]
    assert re.search(r"has ended; detach\(\) lets .* \(made at .*test_ownership.py:", str(error))
