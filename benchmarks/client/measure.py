"""Measures one client at one row, in this process, and prints the figures as JSON.

``measure.py PEER ROW SECONDS AUTHORITY CORE PLAIN_PORT TLS_PORT HTTP2_PORT``. Processor time is
that of this process with all of its threads, the loop and the loop that makes the calls included.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from typing import Any

import callers
from rows import PEERS, ROWS, Peer, Row

WARM_UP_SECONDS = 0.3
SIZES = {"/10k": 10_240, "/1m": 1_048_576}
EXPECTED = {"id": 7, "name": "a small answer", "tags": ["one", "two"], "ok": True}


class Figures:
    """What was counted between the start and the end of the timed window."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.calls = 0
        self.wall = self.cpu = 0.0

    def begin(self) -> None:
        gc.collect()
        self.latencies.clear()
        self.calls = 0
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def end(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.wall
        cpu_seconds = time.process_time() - self.cpu
        latencies = sorted(self.latencies)
        return {
            "calls": self.calls,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "p50_ms": latencies[len(latencies) // 2] * 1e3,
            "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        }


def check_all(row: Row, answer: Any) -> None:
    """Check every byte of an answer, before anything is timed."""
    status, content = answer
    expected = EXPECTED if row.path == "/json" else b"x" * SIZES[row.path]
    if status != 200 or content != expected:
        raise AssertionError(f"a wrong answer: {status} {content!r:.200}")


async def measure_async(row: Row, caller: Any, url: str, seconds: float) -> dict[str, Any]:
    await caller.open()
    is_json, size = row.path == "/json", SIZES.get(row.path, 0)
    call = caller.get_json if is_json else caller.get
    check_all(row, await call(url))
    figures = Figures()
    clock = time.perf_counter

    async def make_calls(end: float) -> None:
        latencies = figures.latencies
        while (began := clock()) < end:
            answer = await call(url)
            latencies.append(clock() - began)
            if is_json:
                callers.check_json(answer)
            else:
                callers.check_size(answer, size)
            figures.calls += 1

    async def fan_out(end: float) -> None:
        latencies = figures.latencies
        while (began := clock()) < end:
            answers = await caller.get_json_of_three(url)
            latencies.append(clock() - began)
            for answer in answers:
                callers.check_json(answer)
            figures.calls += row.fan_out

    work = make_calls if row.fan_out == 1 else fan_out
    await asyncio.gather(*(work(clock() + WARM_UP_SECONDS) for _ in range(row.concurrency)))
    figures.begin()
    await asyncio.gather(*(work(clock() + seconds) for _ in range(row.concurrency)))
    result = figures.end()
    await caller.close()
    return result


def measure_in_threads(row: Row, caller: Any, url: str, seconds: float) -> dict[str, Any]:
    caller.open()
    is_json, size = row.path == "/json", SIZES.get(row.path, 0)
    call = caller.get_json if is_json else caller.get
    check_all(row, call(url))
    figures = Figures()
    clock = time.perf_counter
    failures: list[BaseException] = []
    counts: list[int] = []

    def make_calls(end: float) -> None:
        count = 0
        try:
            while (began := clock()) < end:
                answers = caller.get_json_of_three(url) if row.fan_out > 1 else [call(url)]
                figures.latencies.append(clock() - began)
                for answer in answers:
                    if is_json:
                        callers.check_json(answer)
                    else:
                        callers.check_size(answer, size)
                    count += 1
        except BaseException as error:  # noqa: BLE001 - Raised in the main thread.
            failures.append(error)
        counts.append(count)

    def run(duration: float) -> None:
        counts.clear()
        end = clock() + duration
        threads = [threading.Thread(target=make_calls, args=(end,)) for _ in range(row.concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    run(WARM_UP_SECONDS)
    figures.begin()
    run(seconds)
    figures.calls = sum(counts)
    result = figures.end()
    caller.close()
    return result


def run(peer: Peer, row: Row, caller: Any, url: str, seconds: float) -> dict[str, Any]:
    if peer.loop == "threads":
        return measure_in_threads(row, caller, url, seconds)
    if peer.loop == "carboy":
        import carboy

        factory = carboy.new_event_loop
    else:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measure_async(row, caller, url, seconds))


def main() -> None:
    peer_name, row_name, seconds, authority, core, *ports = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    peer = next(peer for peer in PEERS if peer.name == peer_name)
    row = next(row for row in ROWS if row.name == row_name)
    if peer.installed is not None:
        import carboy

        carboy.install(peer.installed)
    port = dict(zip(("plain", "tls", "http2"), ports, strict=True))[row.way]
    scheme = "http" if row.way == "plain" else "https"
    url = f"{scheme}://127.0.0.1:{port}{row.path}"
    concurrency = row.concurrency * row.fan_out
    caller = getattr(callers, peer.kind)(authority, concurrency, http2=row.way == "http2")
    json.dump(run(peer, row, caller, url, float(seconds)), sys.stdout)


if __name__ == "__main__":
    main()
