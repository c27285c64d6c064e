"""Mixed work on one event loop for some time, and what is left of it.

``python tests/stress/soak.py SECONDS`` prints the figures as JSON; ``make soak`` judges them
(``test_soak.py``). The work: connections by streams and by protocols, over TCP, unix sockets
and TLS, orderly ones and ones that break; timers, cancelled tasks, errors in callbacks and
tasks, child processes, threads in both directions, signals, async generators that nobody
finishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme

import carboy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

#: Of the whole time, what is not judged: memory is taken up the first time of everything.
WARM_UP_SHARE = 0.3
SAMPLES = 100

chance = random.Random(5)
done: Counter[str] = Counter()
problems: Counter[str] = Counter()


class Address:
    """Where the servers listen, and by what clients trust them."""

    plain: tuple[str, int]
    tls: tuple[str, int]
    unix: str
    trust: ssl.SSLContext


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off as a process that is killed does."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        done["connections that broke at the server"] += 1
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def talk(connect: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    reader, writer = await connect
    try:
        for _ in range(chance.randrange(1, 5)):
            content = b"x" * chance.choice([1, 100, 5_000, 200_000])
            writer.write(content)
            ending = chance.random()
            if ending < 0.1:
                reset(writer)
                return
            if ending < 0.2:
                return
            assert await reader.readexactly(len(content)) == content
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def tcp(address: Address) -> None:
    await talk(asyncio.open_connection(*address.plain))


async def unix(address: Address) -> None:
    await talk(asyncio.open_unix_connection(address.unix))


async def tls(address: Address) -> None:
    await talk(
        asyncio.open_connection(*address.tls, ssl=address.trust, server_hostname="localhost")
    )


class Impatient(asyncio.Protocol):
    """Goes after the first answer."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(b"x" * chance.choice([1, 50_000]))

    def data_received(self, _data: bytes) -> None:
        (self.transport.close if chance.random() < 0.5 else self.transport.abort)()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


async def protocol(address: Address) -> None:
    loop = asyncio.get_running_loop()
    _, impatient = await loop.create_connection(Impatient, *address.plain)
    await impatient.lost


async def refused(_address: Address) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with contextlib.suppress(ConnectionRefusedError):
            await asyncio.open_connection(*unused.getsockname())


async def cancelled(address: Address) -> None:
    work: Callable[[Address], Awaitable[None]] = chance.choice([tcp, tls, protocol, unix, threads])
    task = asyncio.ensure_future(work(address))
    await asyncio.sleep(chance.random() * 0.003)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
        await task


async def timed_out(address: Address) -> None:
    with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(chance.random() * 0.004):
            await tls(address)


async def timers(_address: Address) -> None:
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(chance.random() * 20, int) for _ in range(100)]
    fired = loop.create_future()
    loop.call_later(0.001, fired.set_result, None)
    await fired
    for handle in handles:
        handle.cancel()


async def errors(_address: Address) -> None:
    loop = asyncio.get_running_loop()

    def fail() -> None:
        raise ValueError("meant to")

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise ValueError("meant to")

    loop.call_soon(fail)
    task = asyncio.ensure_future(fail_later())
    await asyncio.sleep(0.001)
    # Nobody asks it for its error.
    del task
    outcomes = await asyncio.gather(fail_later(), fail_later(), return_exceptions=True)
    assert all(isinstance(outcome, ValueError) for outcome in outcomes)


async def processes(_address: Address) -> None:
    kind = chance.randrange(3)
    if kind == 0:
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        return
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    if kind == 1:
        content = b"y" * 100_000
        output, _ = await process.communicate(content)
        assert output == content
    else:
        process.kill()
        await process.communicate()


async def threads(_address: Address) -> None:
    loop = asyncio.get_running_loop()

    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    def ask() -> int:
        return asyncio.run_coroutine_threadsafe(answer(), loop).result(20)

    assert await asyncio.to_thread(ask) == 7
    over = asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(over.set,))
    thread.start()
    await over.wait()
    thread.join()


async def generators(_address: Address) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)

    async for number in numbers():
        if number == 3:
            break


async def signals(_address: Address) -> None:
    loop = asyncio.get_running_loop()
    received = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, received.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await received.wait()


async def resolving(_address: Address) -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


#: What is done, and how often in comparison.
WORK: dict[Callable[[Address], Awaitable[None]], int] = {
    tcp: 10,
    unix: 5,
    tls: 5,
    protocol: 10,
    refused: 2,
    cancelled: 8,
    timed_out: 4,
    timers: 3,
    errors: 3,
    processes: 1,
    threads: 3,
    generators: 3,
    resolving: 1,
}


async def worker(address: Address, until: float) -> None:
    kinds, weights = list(WORK), list(WORK.values())
    while time.monotonic() < until:
        (work,) = chance.choices(kinds, weights)
        try:
            await work(address)
        except Exception as error:
            problems[f"{work.__name__}: {error!r}"] += 1
        done[work.__name__] += 1


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> list[str]:
    links = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{number}"))
    return links


async def sample(samples: list[tuple[float, int]], until: float, interval: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(interval)
        gc.collect()
        samples.append((time.monotonic(), resident_bytes()))


def slope_bytes_per_second(samples: list[tuple[float, int]]) -> float:
    """The slope of the line that fits best."""
    mean_time = sum(at for at, _ in samples) / len(samples)
    mean_size = sum(size for _, size in samples) / len(samples)
    spread = sum((at - mean_time) ** 2 for at, _ in samples)
    return sum((at - mean_time) * (size - mean_size) for at, size in samples) / spread


def note(_loop: object, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, ValueError) and str(error) == "meant to":
        done["errors that were reported"] += 1
    else:
        problems[f"{context['message']}: {error!r}"] += 1


async def soak(seconds: float, samples: list[tuple[float, int]], folder: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(note)
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_tls)
    address = Address()
    address.trust = ssl.create_default_context()
    authority.configure_trust(address.trust)
    address.unix = f"{folder}/socket"
    plain = await asyncio.start_server(echo, "127.0.0.1", 0)
    secure = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
    local = await asyncio.start_unix_server(echo, address.unix)
    address.plain = plain.sockets[0].getsockname()
    address.tls = secure.sockets[0].getsockname()

    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(worker(address, until))
        group.create_task(sample(samples, until, seconds / SAMPLES))
        while time.monotonic() < until:
            await signals(address)
            done["signals"] += 1
            await asyncio.sleep(0.01)
    for server in (plain, secure, local):
        server.close()
        await server.wait_closed()
    loop.remove_signal_handler(signal.SIGUSR1)
    # What still says goodbye to a client that has gone.
    deadline = time.monotonic() + 10
    while len(asyncio.all_tasks()) > 1 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    await loop.shutdown_default_executor()
    gc.collect()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        problems[f"task left: {task!r}"] += 1


def main() -> None:
    seconds = float(sys.argv[1])
    # What is made once.
    carboy.run(asyncio.sleep(0))
    gc.collect()
    before = Counter(descriptors())
    samples: list[tuple[float, int]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        carboy.run(soak(seconds, samples, folder))
    gc.collect()
    warm = [(at, size) for at, size in samples if at - began >= seconds * WARM_UP_SHARE]
    figures = {
        "seconds": round(time.monotonic() - began, 1),
        "rss_mib_after_warm_up": round(warm[0][1] / 2**20, 1),
        "rss_mib_at_the_end": round(warm[-1][1] / 2**20, 1),
        "rss_mib_most": round(max(size for _, size in warm) / 2**20, 1),
        "rss_kib_per_minute": round(slope_bytes_per_second(warm) * 60 / 1024, 1),
        "samples": len(warm),
        "descriptors_left": sorted((Counter(descriptors()) - before).elements()),
        "threads_left": sorted(
            thread.name for thread in threading.enumerate() if thread is not threading.main_thread()
        ),
        "kernel_threads_left": len(os.listdir("/proc/self/task")) - 1,
        "problems": dict(problems),
        "done": dict(done),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
