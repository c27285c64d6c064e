"""What a loop does without any descriptor: callbacks, timers, tasks, threads.

Each function runs for about ``seconds`` and returns how many operations it has counted. It
fails if an operation was lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 1000


async def call_soon(seconds: float) -> int:
    """Callbacks, a thousand in each turn."""
    loop = asyncio.get_running_loop()
    deadline = time.perf_counter() + seconds
    scheduled = ran = 0

    def count() -> None:
        nonlocal ran
        ran += 1

    while time.perf_counter() < deadline:
        for _ in range(BATCH):
            loop.call_soon(count)
        scheduled += BATCH
        await asyncio.sleep(0)
    if ran != scheduled:
        raise AssertionError(f"{ran} of {scheduled} callbacks ran")
    return ran


async def call_soon_chain(seconds: float) -> int:
    """Callbacks that each schedule the next one: one in a turn."""
    loop = asyncio.get_running_loop()
    deadline = time.perf_counter() + seconds
    done = loop.create_future()
    ran = 0

    def step() -> None:
        nonlocal ran
        ran += 1
        if ran % BATCH == 0 and time.perf_counter() >= deadline:
            done.set_result(None)
        else:
            loop.call_soon(step)

    loop.call_soon(step)
    await done
    return ran


async def call_later(seconds: float) -> int:
    """Timers that are cancelled before their time, as those of timeouts are."""
    loop = asyncio.get_running_loop()
    deadline = time.perf_counter() + seconds
    fired: list[None] = []
    made = 0
    while time.perf_counter() < deadline:
        for _ in range(BATCH):
            loop.call_later(30.0, fired.append, None).cancel()
        made += BATCH
        await asyncio.sleep(0)
    if fired:
        raise AssertionError("a cancelled timer has fired")
    return made


async def task_switch(seconds: float) -> int:
    """A hundred tasks that give way in turn."""
    deadline = time.perf_counter() + seconds

    async def give_way() -> int:
        switches = 0
        while time.perf_counter() < deadline:
            for _ in range(100):
                await asyncio.sleep(0)
            switches += 100
        return switches

    return sum(await asyncio.gather(*(give_way() for _ in range(100))))


async def gather(seconds: float) -> int:
    """A thousand tasks at once; counted by task."""
    deadline = time.perf_counter() + seconds

    async def give_back(value: int) -> int:
        return value

    expected = list(range(BATCH))
    made = 0
    while time.perf_counter() < deadline:
        if await asyncio.gather(*(give_back(value) for value in expected)) != expected:
            raise AssertionError("gather mixed its results up")
        made += BATCH
    return made


async def call_soon_threadsafe(seconds: float) -> int:
    """Callbacks from another thread, which waits for each hundred."""
    loop = asyncio.get_running_loop()
    ran = 0
    sent = 0

    def count() -> None:
        nonlocal ran
        ran += 1

    def work() -> None:
        nonlocal sent
        deadline = time.perf_counter() + seconds
        arrived = threading.Event()
        while time.perf_counter() < deadline:
            for _ in range(99):
                loop.call_soon_threadsafe(count)
            loop.call_soon_threadsafe(arrived.set)
            arrived.wait()
            arrived.clear()
            sent += 99

    await asyncio.to_thread(work)
    if ran != sent:
        raise AssertionError(f"{ran} of {sent} callbacks ran")
    return ran


async def subprocess(seconds: float) -> int:
    """Processes that are started and waited for, one after the other."""
    deadline = time.perf_counter() + seconds
    ended = 0
    while time.perf_counter() < deadline:
        process = await asyncio.create_subprocess_exec("/bin/echo", "x", stdout=-1)
        output, _ = await process.communicate()
        if output != b"x\n" or process.returncode != 0:
            raise AssertionError(f"{process.returncode}: {output!r}")
        ended += 1
    return ended


KINDS: dict[str, Callable[[float], object]] = {
    function.__name__: function
    for function in (
        call_soon,
        call_soon_chain,
        call_later,
        task_switch,
        gather,
        call_soon_threadsafe,
        subprocess,
    )
}
