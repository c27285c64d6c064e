"""The watchdog says what holds the loop while it is held, and is silent otherwise."""

import asyncio
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import native_stall
import pytest
from support.log_records import TIMEOUT_SECONDS, Records, records_of
from support.waiting import eventually

import carboy
from carboy import watchdog

#: Short, so that the tests are. What a busy machine does to the loop must not reach it.
THRESHOLD = 0.2

HERE = __file__


@pytest.fixture(autouse=True)
def unlimited_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = watchdog._ReportBudget(burst=1000, seconds_per_report=1.0)
    monkeypatch.setattr(watchdog, "_budget", budget)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What stuck code waits for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def records(release: threading.Event) -> Iterator[Records]:
    """What the watchdog logs. A report of something stuck releases it: it is stuck no longer
    than that, and would be for ever if there were no report."""
    with records_of("carboy.watchdog", lambda _: release.set()) as records:
        yield records


def run_stuck(
    release: threading.Event, stick: Any, threshold: float = THRESHOLD
) -> watchdog.BlockingStatistics:
    """Run something that holds the loop until it is released, and return what was counted."""
    loop = carboy.new_event_loop()
    loop.blocking_threshold_seconds = threshold
    try:
        stick(loop)
        loop.run_forever()
        assert release.is_set()
        return loop.blocking_statistics()
    finally:
        loop.close()


def hold(release: threading.Event) -> None:
    assert release.wait(TIMEOUT_SECONDS)  # This is where it is stuck.


def line_of(comment: str) -> int:
    with open(HERE) as file:
        return 1 + next(n for n, line in enumerate(file) if line.rstrip().endswith(comment))


def test_a_stuck_callback_is_named_with_its_place_while_it_is_stuck(
    records: Records, release: threading.Event
) -> None:
    def stick(loop: carboy.EventLoop) -> None:
        loop.call_soon(hold, release)
        loop.call_soon(loop.stop)

    statistics = run_stuck(release, stick)

    begin, end = records.messages
    assert "has been blocked for 0.2" in begin
    assert "by callback hold()" in begin
    # The innermost place is in the library; the stack has the one that matters.
    assert "threading.py" in begin.splitlines()[0]
    place = f'File "{HERE}", line {line_of("# This is where it is stuck.")}, in hold'
    assert place in begin
    assert "test_watchdog.py" in begin
    assert "run_forever" not in begin
    assert end.startswith("The event loop was blocked by callback hold() for 0.")
    assert end.endswith(" s in all")
    assert statistics.stalls == 1
    assert statistics.gil_waits == 0
    assert THRESHOLD <= statistics.stalled_seconds < TIMEOUT_SECONDS
    assert statistics.longest_stall_seconds == statistics.stalled_seconds


def test_a_stuck_coroutine_is_named_with_its_task(
    records: Records, release: threading.Event
) -> None:
    async def inner() -> None:
        hold(release)

    async def outer() -> None:
        await asyncio.sleep(0)
        await inner()
        asyncio.get_running_loop().stop()

    kept: list[Any] = []

    def stick(loop: carboy.EventLoop) -> None:
        kept.append(loop.create_task(outer(), name="the task's name"))

    run_stuck(release, stick)

    begin, _ = records.messages
    assert 'outer() in task "the task\'s name"' in begin.splitlines()[0]
    assert "coroutine" in begin.splitlines()[0]
    assert begin.index("in outer") < begin.index("in inner") < begin.index("in hold")


def test_code_that_computes_is_told_from_code_that_waits(
    records: Records, release: threading.Event
) -> None:
    def compute() -> None:
        while not release.is_set():
            pass

    def stick(loop: carboy.EventLoop) -> None:
        loop.call_soon(compute)
        loop.call_soon(hold, release)
        loop.call_soon(loop.stop)

    run_stuck(release, stick)
    release.clear()
    run_stuck(release, lambda loop: (loop.call_soon(hold, release), loop.call_soon(loop.stop)))

    def share(message: str) -> int:
        return int(message.partition("It computed ")[2].partition("%")[0])

    assert "in compute" in records.messages[0]
    assert share(records.messages[0]) > share(records.messages[2])
    assert share(records.messages[2]) < 30


def test_a_callback_without_a_python_frame_is_reported(
    records: Records, release: threading.Event
) -> None:
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lambda: (release.wait(TIMEOUT_SECONDS), lock.release()))
    thread.start()

    def stick(loop: carboy.EventLoop) -> None:
        loop.call_soon(lock.acquire)
        loop.call_soon(loop.stop)

    run_stuck(release, stick)
    thread.join()

    assert "by a callback in native code" in records.messages[0]


@pytest.mark.parametrize("keep", ["sleep", "compute"])
def test_native_code_that_keeps_the_gil_is_placed_where_it_gives_it_back(keep: str) -> None:
    process = subprocess.run(
        [sys.executable, native_stall.__file__, keep],
        capture_output=True,
        text=True,
        timeout=2 * native_stall.TIMEOUT_SECONDS,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    printed = json.loads(process.stdout)
    *_, begin, end = printed["messages"]
    assert len(printed["messages"]) == 4
    assert "stuck_in_native_code()" in begin
    assert f"in {keep}_with_the_gil" in begin
    assert "kept the GIL for the last" in begin
    assert "in all" in end
    statistics = watchdog.BlockingStatistics(*printed["statistics"])
    assert statistics.stalls == 2
    assert statistics.longest_stall_seconds > 2 * native_stall.THRESHOLD_SECONDS


def test_native_code_that_gives_nobody_a_look_is_reported_afterwards(
    records: Records, release: threading.Event
) -> None:
    usleep = ctypes.PyDLL(None).usleep
    argument = round(3 * THRESHOLD * 1e6)

    def stick(loop: carboy.EventLoop) -> None:
        # No Python code of the callback runs after the call, in which another thread could
        # get the GIL.
        loop.call_later(THRESHOLD / 4, usleep, argument)
        loop.call_later(THRESHOLD / 4, loop.stop)
        release.set()

    statistics = run_stuck(release, stick)

    (only,) = records.messages
    assert "was blocked for 0." in only
    assert "held the GIL" in only
    assert "usleep" in only or "CFuncPtr" in only or "FuncPtr" in only
    assert statistics.stalls == 1


def test_a_wait_for_the_gil_is_not_taken_for_code_on_the_loop(
    records: Records, release: threading.Event
) -> None:
    may_begin = threading.Event()

    def keep_the_gil() -> None:
        may_begin.wait(TIMEOUT_SECONDS)
        # The loop's timer is so far away that the loop is parked by then.
        time.sleep(THRESHOLD / 10)
        native_stall.sleep_with_the_gil(4 * THRESHOLD)
        release.wait(TIMEOUT_SECONDS)

    thread = threading.Thread(target=keep_the_gil, name="keeps the GIL")

    async def main() -> watchdog.BlockingStatistics:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, carboy.EventLoop)
        loop.blocking_threshold_seconds = THRESHOLD
        thread.start()
        # The loop parks, and its timer is due while the other thread keeps the GIL.
        loop.call_soon(may_begin.set)
        await asyncio.sleep(THRESHOLD / 2)
        while not loop.blocking_statistics().gil_wait_seconds:
            await asyncio.sleep(0.001)
        return loop.blocking_statistics()

    statistics = carboy.run(main())
    thread.join()

    assert statistics.stalls == 0, records.messages
    assert statistics.gil_waits == 1
    assert statistics.gil_wait_seconds > 2 * THRESHOLD
    begin, end = records.messages
    assert "waited" in begin
    assert "for the GIL, which another thread holds" in begin
    assert "keeps the GIL, at " in begin
    assert end.startswith("The event loop waited for the GIL for 0.")


def test_an_idle_loop_and_many_short_callbacks_are_no_stall(records: Records) -> None:
    async def main() -> watchdog.BlockingStatistics:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, carboy.EventLoop)
        loop.blocking_threshold_seconds = THRESHOLD
        await asyncio.sleep(3 * THRESHOLD)
        until = loop.time() + 3 * THRESHOLD
        while loop.time() < until:
            await asyncio.sleep(0)
        return loop.blocking_statistics()

    assert carboy.run(main()) == (0, 0.0, 0.0, 0, 0.0)
    assert records.messages == []


def watching_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "carboy-watchdog"]


def test_the_watch_ends_with_the_run_and_is_off_unless_asked_for(
    loop: carboy.EventLoop,
) -> None:
    assert loop.blocking_threshold_seconds is None
    seen: list[int] = []

    def look() -> None:
        seen.append(len(watching_threads()))
        loop.stop()

    for threshold in (None, 1, 0, 2.5):
        loop.blocking_threshold_seconds = threshold
        assert loop.blocking_threshold_seconds == (threshold or None)
        loop.call_soon(look)
        loop.run_forever()
        assert watching_threads() == []

    assert seen == [0, 1, 0, 1]


def test_nothing_waits_for_the_watch_while_a_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools such as blockbuster let no lock be waited for then."""
    waits: list[object] = []
    join = threading.Thread.join

    def note(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "carboy-watchdog":
            waits.append(asyncio._get_running_loop())
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", note)
    carboy.run(asyncio.sleep(0), debug=True)
    assert waits
    assert set(waits) == {None}


def test_a_loop_that_runs_is_watched_on_when_it_is_run_again_from_within() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        watch = loop._run_watch
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        assert loop._run_watch is watch

    carboy.run(main(), debug=True)


def test_the_threshold_may_change_while_the_loop_runs(
    loop: carboy.EventLoop, records: Records, release: threading.Event
) -> None:
    async def main() -> list[int]:
        counts = [len(watching_threads())]
        loop.blocking_threshold_seconds = 100
        counts.append(len(watching_threads()))
        loop.blocking_threshold_seconds = THRESHOLD
        counts.append(len(watching_threads()))
        hold(release)
        loop.blocking_threshold_seconds = None
        await asyncio.to_thread(eventually, lambda: not watching_threads())
        loop.blocking_threshold_seconds = 100
        counts.append(len(watching_threads()))
        return counts

    assert loop.run_until_complete(main()) == [0, 1, 1, 1]
    assert len(records.messages) == 2


def test_debug_mode_watches_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = carboy.new_event_loop()
    loop.set_debug(True)
    assert loop.blocking_threshold_seconds == 0.1
    loop.set_debug(False)
    assert loop.blocking_threshold_seconds is None
    loop.blocking_threshold_seconds = None
    loop.set_debug(True)
    assert loop.blocking_threshold_seconds is None
    loop.close()


@pytest.mark.parametrize(("text", "threshold"), [("0.25", 0.25), ("0", None), ("", None)])
def test_the_environment_sets_the_threshold(
    monkeypatch: pytest.MonkeyPatch, text: str, threshold: float | None
) -> None:
    monkeypatch.setenv("CARBOY_BLOCKING_THRESHOLD", text)
    loop = carboy.new_event_loop()
    assert loop.blocking_threshold_seconds == threshold
    loop.close()


@pytest.mark.parametrize("text", ["nan", "-1", "soon"])
def test_a_threshold_that_is_no_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, loop: carboy.EventLoop, text: str
) -> None:
    monkeypatch.setenv("CARBOY_BLOCKING_THRESHOLD", text)
    with pytest.raises(ValueError, match=r"CARBOY_BLOCKING_THRESHOLD='.*': set it to a number"):
        carboy.new_event_loop()
    if text != "soon":
        with pytest.raises(ValueError, match="is not a time in seconds"):
            loop.blocking_threshold_seconds = float(text)


def test_reports_are_limited_and_those_left_out_are_counted(
    monkeypatch: pytest.MonkeyPatch, records: Records, release: threading.Event
) -> None:
    budget = watchdog._ReportBudget(2, 1e9)
    monkeypatch.setattr(watchdog, "_budget", budget)
    loop = carboy.new_event_loop()
    loop.blocking_threshold_seconds = 0.02
    counted: list[int] = []

    def reports() -> int:
        """Count those that were logged while something was stuck, and those left out."""
        logged = sum("has been blocked" in message for message in records.messages)
        return logged + budget._suppressed

    def stick() -> None:
        before = reports()
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while reports() == before and time.monotonic() < deadline:
            time.sleep(0.001)
        counted.append(1)
        if len(counted) < 5:
            loop.call_soon(stick)
        else:
            loop.stop()

    loop.call_soon(stick)
    loop.run_forever()
    assert loop.blocking_statistics().stalls == 5
    loop.close()

    assert sum("has been blocked" in message for message in records.messages) == 2
    assert sum("in all" in message for message in records.messages) == 2
    assert budget.take_suppressed() == " (3 more since the last report)"


def run_script(source: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_process_that_is_stopped_in_a_callback_is_no_stall() -> None:
    process = run_script("""
        import os, signal, carboy
        loop = carboy.new_event_loop()
        loop.blocking_threshold_seconds = 0.2
        loop.call_soon(os.kill, os.getpid(), signal.SIGSTOP)
        loop.call_soon(loop.stop)
        loop.run_forever()
        print(loop.blocking_statistics().stalls)
    """)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    # Time passes, which is what this is about; nothing else is waited for.
    select.select([], [], [], 1.0)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)

    assert output == "0\n"


def test_a_fork_in_a_watched_loop_hangs_neither_process() -> None:
    process = run_script("""
        import os, sys, carboy
        loop = carboy.new_event_loop()
        loop.blocking_threshold_seconds = 0.01

        def fork():
            child = os.fork()
            if child == 0:
                for _ in range(1000):
                    loop.call_soon(int)
                loop.call_later(0.05, loop.stop)
            else:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                print("child:", status, flush=True)
                loop.stop()

        loop.call_soon(fork)
        loop.run_forever()
        loop.close()
    """)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)

    assert "child: 0" in output
    assert process.returncode == 0


def test_a_watched_loop_on_a_daemon_thread_does_not_keep_the_process_from_its_end() -> None:
    process = run_script("""
        import time
        from carboy.background_loop import shared_background_loop
        background = shared_background_loop()
        background.loop.blocking_threshold_seconds = 0.001
        def busy():
            background.loop.call_later(0.0005, busy)
            time.sleep(0.002)
        background.call(busy)
        print("ends", flush=True)
    """)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)

    assert "ends" in output
    assert process.returncode == 0, output
    assert "Traceback" not in output
