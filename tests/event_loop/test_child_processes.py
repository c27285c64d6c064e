"""Child processes: their pipes, their ends, signals to them, and what is left of them."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import carboy
from carboy import child_process

PIPE = asyncio.subprocess.PIPE
SLEEP = (sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)")


def run(main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await main()

    return carboy.run(bounded(), debug=debug)


def children() -> set[int]:
    """Give the processes that this one has started and not waited for yet."""
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        found.update(int(pid) for pid in (thread / "children").read_text().split())
    return found


def state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


async def ended(code: int) -> Any:
    """Give a process that has ended, of which the loop has not had the time to notice it."""
    process = await asyncio.create_subprocess_shell(f"read line; exit {code}", stdin=PIPE)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    deadline = time.monotonic() + 10
    while state_of(process.pid) != "Z":
        assert time.monotonic() < deadline
    return process


def test_a_process_is_noticed_without_watchers_threads_or_handlers() -> None:
    async def main() -> None:
        threads = threading.active_count()
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
        assert await process.wait() == 7
        assert process.returncode == 7
        assert threading.active_count() == threads
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
        assert state_of(process.pid) is None

    policy = getattr(asyncio.events, "_event_loop_policy", None)
    before = getattr(policy, "_watcher", None)
    run(main)
    assert getattr(policy, "_watcher", None) is before


def test_what_a_process_says_and_is_told() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c"),
            "import sys; data = sys.stdin.read(); print(data.upper(), end='');"
            "print(len(data), file=sys.stderr)",
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        text = b"some text\n" * 100_000
        out, err = await process.communicate(text)
        assert out == text.upper()
        assert err == b"%d\n" % len(text)
        assert process.returncode == 0

    run(main)


def test_streams_of_a_process_are_pipes() -> None:
    async def main() -> None:
        # A socket could not be opened by these names.
        process = await asyncio.create_subprocess_shell(
            "cat /proc/self/fd/0 > /proc/self/fd/1; echo err > /dev/stderr",
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        assert await process.communicate(b"text") == (b"text", b"err\n")

    run(main)


def test_a_process_inherits_what_is_not_redirected() -> None:
    program = """
import asyncio, carboy

async def main():
    process = await asyncio.create_subprocess_shell("cat; echo to-stderr >&2")
    assert process.stdin is None and process.stdout is None
    await process.wait()

carboy.run(main())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], input=b"text", capture_output=True, timeout=20, check=True
    )
    assert result.stdout == b"text"
    assert result.stderr == b"to-stderr\n"


def test_a_reader_that_is_slow_slows_the_process() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "print('x' * 10_000_000)"), stdout=PIPE
        )
        assert process.stdout is not None
        transport = process._transport.get_pipe_transport(1)
        while transport.is_reading():
            await asyncio.sleep(0)
        assert len(process.stdout._buffer) < 1_000_000
        assert len(await process.stdout.read()) == 10_000_001
        assert await process.wait() == 0

    run(main)


@pytest.mark.parametrize(
    ("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)]
)
def test_ending_a_process(method: str, number: int) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        getattr(process, method)()
        assert await process.wait() == -number
        # It has ended: there is nobody to be sent a signal.
        for again in (process.terminate, process.kill):
            try:
                again()
            except ProcessLookupError:
                assert sys.version_info < (3, 13) or process._transport._proc is None

    run(main)


def test_a_signal_to_a_process_whose_end_is_not_noticed_yet() -> None:
    async def main() -> None:
        for method in ("terminate", "kill"):
            process = await ended(3)
            getattr(process, method)()
            assert await process.wait() == 3

    run(main)


def test_other_signals() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c"),
            "import signal, sys\n"
            "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))\n"
            "print('ready', flush=True)\n"
            "signal.pause()",
            stdout=PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGUSR1)
        assert await process.wait() == 9

    run(main)


def test_many_waiters_of_many_processes() -> None:
    async def main() -> None:
        processes = [
            await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}")
            for number in range(20)
        ]
        waits = [process.wait() for process in processes for _ in range(3)]
        codes = await asyncio.gather(*waits)
        assert codes == [number for number in range(20) for _ in range(3)]

    run(main)


def test_a_program_that_does_not_exist_leaves_nothing() -> None:
    async def main() -> None:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main)


def test_cancelling_the_start_ends_the_process() -> None:
    async def main() -> None:
        before = children()
        task = asyncio.create_task(asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE))
        while children() == before:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            process = task.result()
            process.kill()
            await process.wait()
        assert children() == before

    run(main)


def test_on_a_loop_of_another_thread() -> None:
    outcome: list[Any] = []

    async def main() -> bytes:
        process = await asyncio.create_subprocess_exec("sh", "-c", "echo $((1 + 1))", stdout=PIPE)
        out, _ = await process.communicate()
        return out

    thread = threading.Thread(target=lambda: outcome.append(run(main)))
    thread.start()
    thread.join(20)
    assert outcome == [b"2\n"]


def test_somebody_else_takes_the_exit_status(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        with caplog.at_level(logging.WARNING, logger="asyncio"):
            assert await process.wait() == 255
        assert "exit status already read" in caplog.text

    run(main)


def test_popen_takes_the_exit_status(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
        assert process._transport.get_extra_info("subprocess").wait(10) == 5
        with caplog.at_level(logging.WARNING, logger="asyncio"):
            assert await process.wait() == 5
        assert not caplog.records

    run(main)


@contextmanager
def child_handler(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_signal_of_children_belongs_to_the_program() -> None:
    noticed: list[int] = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
        assert await process.wait() == 4

    with child_handler(lambda number, _: noticed.append(number)):
        run(main)
    assert noticed


def test_children_that_nobody_is_to_wait_for(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
        assert await process.wait() == 255

    with child_handler(signal.SIG_IGN):
        run(main)
    assert "exit status already read" in caplog.text


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio has no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_watcher_that_the_program_has_installed_is_used() -> None:
    seen: list[int] = []

    class Watcher(asyncio.ThreadedChildWatcher):
        def add_child_handler(self, pid: int, callback: Any, *arguments: Any) -> None:
            seen.append(pid)
            super().add_child_handler(pid, callback, *arguments)

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 6")
        assert await process.wait() == 6
        assert seen == [process.pid]

    before = asyncio.get_child_watcher()
    asyncio.set_child_watcher(Watcher())
    try:
        run(main)
    finally:
        asyncio.set_child_watcher(before)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio has no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_asyncios_own_child_watcher_works_beside_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        watcher = asyncio.get_child_watcher()
        with subprocess.Popen(["sh", "-c", "exit 8"]) as popen, watcher:
            watcher.add_child_handler(
                popen.pid,
                lambda _, returncode: loop.call_soon_threadsafe(ended.set_result, returncode),
            )
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 9")
            assert await process.wait() == 9
            assert await ended == 8
            popen.returncode = 8

    run(main)


def test_a_thread_waits_where_there_is_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: object, pid: int, callback: object) -> None:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        process.kill()
        assert await process.wait() == -signal.SIGKILL

    monkeypatch.setattr(carboy.EventLoop, "_watch_child", refuse)
    run(main)
    assert "is waited for by a thread" in caplog.text


def test_an_ended_process_is_no_zombie_after_its_loop() -> None:
    before = children()

    async def main() -> None:
        process = await ended(0)
        process.stdin.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(main)
        assert children() == before
        gc.collect()


def test_a_killed_process_is_no_zombie_after_its_loop() -> None:
    before = children()

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        process._transport.close()

    run(main)
    assert children() == before


def test_a_process_outlives_a_loop_that_is_closed_without_asking() -> None:
    pids: list[int] = []

    async def main() -> None:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            asyncio.SubprocessProtocol, *SLEEP, stdin=None, stdout=None, stderr=None
        )
        pids.append(transport.get_pid())
        kept.append(transport)

    kept: list[Any] = []
    run(main)
    assert state_of(pids[0]) not in {"Z", None}
    # Then its transport ends it, as asyncio's does, and without a complaint about the loop.
    kept[0].close()
    popen = kept[0].get_extra_info("subprocess")
    assert popen.wait(10) == -signal.SIGKILL


def test_events_of_a_process_in_their_order() -> None:
    async def main() -> None:
        events: list[Any] = []
        done = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.SubprocessProtocol):
            def connection_made(self, transport: Any) -> None:
                events.append("made")

            def pipe_data_received(self, fd: int, data: bytes) -> None:
                events.append((fd, data))

            def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
                events.append((fd, exc))

            def process_exited(self) -> None:
                events.append("exited")

            def connection_lost(self, exc: Exception | None) -> None:
                done.set_result(exc)

        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            Protocol, "sh", "-c", "echo out; echo err >&2", stdin=None
        )
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert await done is None
        assert events[0] == "made"
        assert sorted(events[1:], key=repr) == sorted(
            [(1, b"out\n"), (2, b"err\n"), (1, None), (2, None), "exited"], key=repr
        )
        assert transport.get_returncode() == 0
        transport.close()

    run(main)


def test_debug_mode_writes_down_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        run(main, debug=True)
    assert "exited with return code 0" in caplog.text


def test_nothing_is_left_of_many_processes() -> None:
    async def main() -> None:
        async def once() -> None:
            process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            assert await process.communicate(b"x") == (b"x", None)

        await once()
        gc.collect()
        descriptors, processes = len(os.listdir("/proc/self/fd")), children()
        for _ in range(20):
            await once()
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert children() == processes
        assert len(asyncio.all_tasks()) == 1

    run(main)


def test_what_counts_as_a_child_watcher_of_the_programs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Policy:
        _watcher: Any = None

    policy = Policy()
    monkeypatch.setattr(asyncio.events, "_event_loop_policy", policy)
    assert not child_process.has_child_watcher_of_its_own()
    policy._watcher = object()
    assert child_process.has_child_watcher_of_its_own()
    monkeypatch.setattr(asyncio.events, "_event_loop_policy", None)
    assert not child_process.has_child_watcher_of_its_own()
