"""Debug mode finds what asyncio's finds, in asyncio's own words.

Each test runs on CPython's own loop too: what it asserts is what asyncio does.
"""

import asyncio
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import carboy


@pytest.fixture(params=[asyncio.new_event_loop, carboy.new_event_loop], ids=["asyncio", "carboy"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = request.param()
    loop.set_debug(True)
    yield loop
    loop.close()


def on_another_thread(function: Callable[[], object]) -> BaseException | None:
    """What a function raises on a thread of its own."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_calls_from_another_thread_are_refused_where_they_are_not_safe(
    loop: asyncio.AbstractEventLoop,
) -> None:
    near, far = socket.socketpair()
    outcomes: dict[str, BaseException | None] = {}

    def attempt() -> None:
        for name, use in {
            "call_soon": lambda: loop.call_soon(print),
            "call_later": lambda: loop.call_later(1, print),
            "call_at": lambda: loop.call_at(1, print),
            "call_soon_threadsafe": lambda: loop.call_soon_threadsafe(int),
            "add_reader": lambda: loop.add_reader(near, print),
            "add_writer": lambda: loop.add_writer(far, int),
            "remove_reader": lambda: loop.remove_reader(near),
            "remove_writer": lambda: loop.remove_writer(far),
        }.items():
            outcomes[name] = on_another_thread(use)
        loop.stop()

    # While the loop does not run, there is no thread that would be the right one.
    assert on_another_thread(lambda: loop.call_soon(attempt)) is None
    loop.run_forever()
    near.close()
    far.close()

    for name in ("call_soon", "call_later", "call_at"):
        error = outcomes.pop(name)
        assert type(error) is RuntimeError, name
        assert str(error) == (
            "Non-thread-safe operation invoked on an event loop other than the current one"
        )
    assert set(outcomes.values()) == {None}, outcomes


async def a_coroutine() -> None:
    pass


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ("call_soon", "call_soon"),
        ("call_soon_threadsafe", "call_soon_threadsafe"),
        ("call_later", "call_at"),
        ("call_at", "call_at"),
        ("run_in_executor", "run_in_executor"),
    ],
)
def test_what_can_not_be_a_callback_is_refused(
    loop: asyncio.AbstractEventLoop, method: str, named: str
) -> None:
    before = {"call_later": [1], "call_at": [1], "run_in_executor": [None]}.get(method, [])
    use = getattr(loop, method)
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {named}\(\)$"):
        use(*before, a_coroutine)
    coroutine = a_coroutine()
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {named}\(\)$"):
        use(*before, coroutine)
    coroutine.close()
    with pytest.raises(TypeError, match=rf"^a callable object was expected by {named}\(\), got 1$"):
        use(*before, 1)


def test_readers_and_writers_are_not_looked_at(loop: asyncio.AbstractEventLoop) -> None:
    near, far = socket.socketpair()
    loop.add_reader(near, a_coroutine)
    loop.add_writer(far, a_coroutine)
    loop.remove_reader(near)
    loop.remove_writer(far)
    near.close()
    far.close()


def test_a_handle_knows_where_it_was_made(loop: asyncio.AbstractEventLoop) -> None:
    def make() -> list[Any]:
        return [
            loop.call_soon(print),
            loop.call_later(1, print),
            loop.call_at(1, print),
            loop.call_soon_threadsafe(print),
        ]

    handles = make()
    first = make.__code__.co_firstlineno
    for number, handle in enumerate(handles):
        place = handle._source_traceback[-1]
        assert (place.filename, place.lineno, place.name) == (__file__, first + 2 + number, "make")
        assert f"created at {__file__}:{place.lineno}" in repr(handle)
        handle.cancel()
        # What it was is still told, for the log of slow callbacks.
        assert f"created at {__file__}:{place.lineno}" in repr(handle)
        assert re.match(r"<(Timer)?Handle cancelled (when=\S+ )?print\(\)", repr(handle))


def test_without_debug_mode_a_handle_knows_nothing(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_debug(False)
    handle = loop.call_soon(print)
    assert handle._source_traceback is None  # type: ignore[attr-defined]
    assert "created at" not in repr(handle)
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_an_error_in_a_callback_is_logged_with_where_the_callback_was_made(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("in the callback")

    loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()

    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    message = record.getMessage()
    assert message.startswith("Exception in callback ")
    assert "Object created at (most recent call last):" in message
    assert "loop.call_soon(fail)" in message
    assert record.exc_info is not None


def test_an_error_that_a_callback_reports_is_logged_with_where_that_was_made(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def report() -> None:
        loop.call_exception_handler({"message": "something went wrong"})

    loop.call_soon(report)
    loop.call_soon(loop.stop)
    loop.run_forever()

    (message,) = (
        record.getMessage() for record in caplog.records if record.levelno == logging.ERROR
    )
    assert "Handle created at (most recent call last):" in message
    assert "loop.call_soon(report)" in message


def slow_logs(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "asyncio" and record.levelno == logging.WARNING
    ]


def test_a_slow_callback_is_logged_with_its_place(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.slow_callback_duration = 0.02

    def slow(_argument: str) -> None:
        time.sleep(0.03)

    loop.call_soon(int)
    loop.call_soon(slow, "x")
    loop.call_later(0, slow, "y")
    loop.call_later(0.05, loop.stop)
    loop.run_forever()

    soon, later = slow_logs(caplog)
    here = re.escape(__file__)
    first = slow.__code__.co_firstlineno
    number = r"0\.\d{3}"
    handle = rf"test_\w+\.<locals>\.slow\('x'\) at {here}:{first} created at {here}:\d+"
    assert re.fullmatch(rf"Executing <Handle {handle}> took {number} seconds", soon), soon
    assert re.match(r"Executing <TimerHandle when=\S+ test_\w+\.<locals>\.slow\('y'\) at ", later)
    assert re.search(rf"> took {number} seconds$", later)


def test_a_slow_step_of_a_task_is_logged_with_its_task(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.slow_callback_duration = 0.02

    async def slow() -> None:
        await asyncio.sleep(0)
        time.sleep(0.03)
        await asyncio.sleep(0)

    loop.run_until_complete(loop.create_task(slow(), name="the slow one"))

    (message,) = slow_logs(caplog)
    line = slow.__code__.co_firstlineno + 3
    assert message.startswith("Executing <Task pending name='the slow one' coro=<")
    assert f"running at {__file__}:{line}>" in message
    assert f"created at {__file__}:" in message
    assert re.search(r"> took 0\.\d{3} seconds$", message)


def test_what_was_left_open_is_warned_of(loop: asyncio.AbstractEventLoop) -> None:
    async def leave_open() -> None:
        near, far = socket.socketpair()
        with far:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            del transport
            gc.collect()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(leave_open())
        # CPython's own loop keeps a transport until its socket has nothing to say.
        loop.close()
        gc.collect()
        unclosed = type(loop)()
        text = repr(unclosed)
        del unclosed
        gc.collect()

    messages = [str(w.message) for w in caught if w.category is ResourceWarning]
    assert any(message.startswith("unclosed transport <") for message in messages), messages
    assert f"unclosed event loop {text}" in messages


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_coroutines_know_where_they_were_made_while_the_loop_runs(
    loop: asyncio.AbstractEventLoop,
) -> None:
    depth_before = sys.get_coroutine_origin_tracking_depth()

    async def main() -> tuple[Any, int]:
        coroutine = a_coroutine()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del coroutine
            gc.collect()
        return caught[0].message, sys.get_coroutine_origin_tracking_depth()

    message, depth = loop.run_until_complete(main())
    assert depth > 0
    assert "Coroutine created at (most recent call last)" in str(message)
    assert "coroutine = a_coroutine()" in str(message)
    assert sys.get_coroutine_origin_tracking_depth() == depth_before


def test_debug_mode_may_be_turned_on_and_off_while_the_loop_runs(
    loop: asyncio.AbstractEventLoop,
) -> None:
    loop.set_debug(False)

    async def main() -> list[int]:
        depths = [sys.get_coroutine_origin_tracking_depth()]
        for enabled in (True, False):
            loop.set_debug(enabled)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth())
        return depths

    before, enabled, after = loop.run_until_complete(main())
    assert enabled > before == after


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, "False"),
        ([], {"PYTHONASYNCIODEBUG": "1"}, "True"),
        (["-E"], {"PYTHONASYNCIODEBUG": "1"}, "False"),
        (["-X", "dev"], {}, "True"),
        (["-X", "dev"], {"PYTHONASYNCIODEBUG": "0"}, "True"),
    ],
)
def test_the_environment_and_the_development_mode_turn_it_on(
    arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    source = "import carboy; loop = carboy.new_event_loop(); print(loop.get_debug()); loop.close()"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    done = subprocess.run(
        [sys.executable, *arguments, "-c", source],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_run_turns_it_on_for_one_program() -> None:
    async def is_debug() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert carboy.run(is_debug(), debug=True)
    assert not carboy.run(is_debug(), debug=False)


def test_the_mode_is_set_by_what_is_true_or_false() -> None:
    loop = carboy.new_event_loop()
    value: Any
    for value in (1, 0, "yes", None):
        loop.set_debug(value)
        assert loop.get_debug() is bool(value)
    loop.close()
