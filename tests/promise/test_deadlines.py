"""``carboy.deadline``: what is done in a block ends in time, whatever it is."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from support.live import Live

import carboy
from carboy import DeadlineExceeded, Promise, deadline, http, remaining_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: Long enough for a busy machine; no test waits for it.
LONG = 60.0
SHORT = 0.05


def never() -> Promise[Any]:
    return Promise.with_resolvers()[0]


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Return the address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture(params=[asyncio.run, carboy.run], ids=["asyncio", "carboy"])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_without_a_deadline_there_is_no_bound() -> None:
    assert remaining_seconds() is None


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="is not a time to wait"):
        deadline(seconds)


def test_a_deadline_can_be_entered_once_only() -> None:
    block = deadline(LONG)
    with block:
        pass
    with pytest.raises(RuntimeError, match="once only"), block:
        pass


def test_the_remaining_time_is_that_of_the_nearest_deadline() -> None:
    with deadline(LONG):
        outer = remaining_seconds()
        assert outer is not None
        assert LONG - 10 < outer <= LONG
        with deadline(LONG * 2):
            inner = remaining_seconds()
            assert inner is not None
            assert inner <= outer
        with deadline(LONG / 2):
            inner = remaining_seconds()
            assert inner is not None
            assert inner <= LONG / 2
        again = remaining_seconds()
        assert again is not None
        assert LONG / 2 < again <= outer
    assert remaining_seconds() is None


def test_a_deadline_that_is_over_leaves_no_time() -> None:
    with deadline(0):
        assert remaining_seconds() == 0.0


@pytest.mark.parametrize("make", [never, lambda: Promise(for_ever())], ids=["any", "work"])
def test_sync_code_gets_no_result_after_the_deadline(make: Any) -> None:
    with deadline(SHORT), pytest.raises(DeadlineExceeded):
        make().result()


@pytest.mark.parametrize(("outer", "inner"), [(SHORT, LONG), (LONG, SHORT)])
def test_the_nearest_of_nested_deadlines_counts_and_is_named(outer: float, inner: float) -> None:
    with deadline(outer), deadline(inner):
        promise = Promise(for_ever())
        with pytest.raises(DeadlineExceeded):
            promise.result()
    # Whoever notices first: the wait or the scope, which is named by its length.
    with pytest.raises(DeadlineExceeded, match=f"the deadline of {SHORT} seconds"):
        promise.result(LONG)


def test_a_timeout_of_its_own_may_be_shorter() -> None:
    with deadline(LONG), pytest.raises(TimeoutError) as caught:
        never().result(timeout=SHORT)
    assert not isinstance(caught.value, DeadlineExceeded)
    with deadline(LONG), pytest.raises(TimeoutError) as caught:
        never().timeout(SHORT).result()
    assert not isinstance(caught.value, DeadlineExceeded)


def test_the_deadline_cuts_longer_timeouts() -> None:
    with deadline(SHORT), pytest.raises(DeadlineExceeded):
        never().result(timeout=LONG)
    with deadline(SHORT), pytest.raises(DeadlineExceeded):
        Promise(for_ever()).timeout(LONG).result()


def test_async_code_is_interrupted_wherever_it_waits(run: Any) -> None:
    async def main() -> None:
        async with deadline(SHORT):
            await for_ever()

    with pytest.raises(DeadlineExceeded, match=f"the deadline of {SHORT} seconds has passed"):
        run(main())


def test_async_code_that_is_in_time_goes_on(run: Any) -> None:
    async def main() -> int:
        async with deadline(LONG):
            value = await Promise.call(asyncio.sleep, 0, 1)
        assert remaining_seconds() is None
        return value

    assert run(main()) == 1


def test_other_errors_pass_through(run: Any) -> None:
    async def main() -> None:
        async with deadline(LONG):
            raise KeyError(1)

    with pytest.raises(KeyError):
        run(main())
    with pytest.raises(KeyError), deadline(LONG):
        raise KeyError(1)


def test_awaited_promises_fail_in_a_sync_block_of_async_code(run: Any) -> None:
    async def main() -> None:
        with deadline(SHORT):
            await Promise(for_ever())

    with pytest.raises(DeadlineExceeded):
        run(main())


def test_the_work_is_ended_with_its_promise(run: Any) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await for_ever()
        finally:
            ended.append("work")

    async def main() -> None:
        with deadline(SHORT):
            promise = Promise(work())
        with pytest.raises(DeadlineExceeded):
            await promise
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ended == ["work"]

    run(main())


def test_what_outlives_the_block_keeps_its_deadline() -> None:
    with deadline(SHORT):
        promise = Promise(for_ever())
    with pytest.raises(DeadlineExceeded):
        promise.result(LONG)


def test_what_a_handler_begins_after_the_block_is_in_time_as_long_as_there_is_some() -> None:
    with deadline(LONG):
        promise = Promise.resolve(1).then(lambda value: Promise(asyncio.sleep(0, value + 1)))
    assert promise.result(LONG) == 2


def test_what_begins_too_late_fails_at_once() -> None:
    context = contextvars.copy_context()
    block = deadline(0)
    context.run(block.__enter__)
    ended = context.run(Promise, for_ever())
    with pytest.raises(DeadlineExceeded):
        ended.result(LONG)
    coroutine = for_ever()
    late = context.run(Promise, coroutine)
    assert late.done()
    with pytest.raises(DeadlineExceeded):
        late.result()
    # It was never begun, and nobody is warned about it.
    assert coroutine.cr_frame is None


def test_who_shares_the_failure_of_a_deadline_shares_no_traceback() -> None:
    with deadline(SHORT):
        promises = [Promise(for_ever()) for _ in range(2)]
    errors = [promise.exception(LONG) for promise in promises]
    assert all(isinstance(error, DeadlineExceeded) for error in errors)
    assert errors[0] is not errors[1]


@pytest.mark.parametrize("settings", [{}, {"timeout": LONG}, {"timeout": None}])
def test_every_timeout_of_a_client_is_cut(silent_url: str, settings: Any) -> None:
    began = time.monotonic()
    with deadline(SHORT), pytest.raises(DeadlineExceeded):
        http.get(silent_url, **settings).result()
    assert time.monotonic() - began < 2.5


def test_the_call_of_a_client_is_ended_and_its_connection_closed(silent_url: str) -> None:
    port = int(silent_url.rstrip("/").rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with deadline(SHORT):
            promise = http.get(f"http://127.0.0.1:{port}/")
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            while connection.recv(4096):
                pass
    with pytest.raises(DeadlineExceeded):
        promise.result(LONG)


def test_an_async_client_call_is_cut(silent_url: str, run: Any) -> None:
    async def main() -> None:
        async with deadline(SHORT):
            await http.get(silent_url)

    with pytest.raises(DeadlineExceeded):
        run(main())


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_view_mends_what_comes_too_late(colour: str) -> None:
    app = Flask(__name__)

    if colour == "sync":

        @app.get("/")
        def view() -> Any:
            try:
                with deadline(SHORT):
                    return {"value": Promise(for_ever()).result()}
            except DeadlineExceeded as error:
                return {"late": str(error)}

    else:

        @app.get("/")
        async def async_view() -> Any:
            try:
                async with deadline(SHORT):
                    return {"value": await Promise(for_ever())}
            except DeadlineExceeded as error:
                return {"late": str(error)}

    with Live(app) as live:
        assert b'"late"' in live.get("/").body


def test_a_view_may_return_what_has_a_deadline() -> None:
    app = Flask(__name__)

    @app.get("/")
    def view() -> Any:
        with deadline(SHORT):
            return {"a": Promise(for_ever()).catch(DeadlineExceeded, lambda _: "late")}

    with Live(app) as live:
        assert b'"late"' in live.get("/").body


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 1e15])
def test_a_deadline_may_be_as_far_away_as_one_likes(run: Any, seconds: float) -> None:
    with deadline(seconds):
        assert Promise(asyncio.sleep(0.001, 1)).result() == 1
        left = remaining_seconds()
        assert left is not None
        assert left > LONG

    async def main() -> int:
        async with deadline(seconds):
            return await Promise(asyncio.sleep(0.001, 1))

    assert run(main()) == 1


def test_a_deadline_that_is_left_in_another_context_is_left() -> None:
    def numbers() -> Iterator[int]:
        with deadline(LONG):
            yield 1

    def begin() -> Iterator[int]:
        iterator = numbers()
        assert next(iterator) == 1
        return iterator

    contextvars.copy_context().run(begin).close()  # type: ignore[attr-defined]
    assert remaining_seconds() is None


def test_a_deadline_may_go_while_an_exception_is_on_its_way() -> None:
    def wait() -> None:
        with deadline(LONG):
            # The timer of the deadline begins meanwhile, on the loop in the background.
            Promise(asyncio.sleep(0.01)).result()
            raise KeyError("on its way")

    for _ in range(5):
        with pytest.raises(KeyError, match="on its way"):
            wait()


def test_decorators_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(TypeError, match=r"not a function; as a decorator: @deadline\(0.8\)"):
        deadline(never)  # type: ignore[arg-type]

    def numbers() -> Iterator[int]:
        yield 1

    async def async_numbers() -> AsyncIterator[int]:
        yield 1

    for function in (numbers, async_numbers):
        with pytest.raises(TypeError, match=r"numbers\(\) is a generator function"):
            deadline(1)(function)


def test_the_exception_says_which_deadline_and_what_for() -> None:
    with (
        pytest.raises(DeadlineExceeded, match=r"deadline of 0.01 seconds has passed"),
        deadline(0.01),
    ):
        Promise.with_resolvers()[0].shield().result()
    with pytest.raises(DeadlineExceeded) as caught, deadline(0):
        Promise(for_ever()).result()
    assert repr(caught.value).startswith("DeadlineExceeded('the deadline of 0 seconds has passed")
