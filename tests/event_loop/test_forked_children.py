"""Children that are forked by code of a running loop, as those of a process pool are."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
import concurrent.futures
import multiprocessing
import socket
import sys

import carboy
import carboy.http


async def work():
    # Timers, descriptors and other threads, as in any loop.
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"x")
        near.setblocking(False)
        received = await loop.sock_recv(near, 1)
        await asyncio.sleep(0.001)
        ran = await asyncio.to_thread(lambda: "on a thread")
    return type(loop).__name__, received, ran


def run_in_child():
    return carboy.run(work())


def call_in_child():
    async def call():
        await carboy.http.get("http://127.0.0.1:1/")

    try:
        carboy.run(call())
    except RuntimeError as error:
        return str(error)


async def main(function):
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, function)


print(carboy.run(main(globals()[sys.argv[1]])))
"""


def run_program(function: str) -> str:
    # CPython 3.12 and newer warn of forks beside threads, which this is about.
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, function]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


def test_a_forked_child_runs_a_loop_of_its_own() -> None:
    assert run_program("run_in_child") == "('EventLoop', b'x', 'on a thread')"


def test_a_forked_child_is_told_that_the_http_client_cannot_work_there() -> None:
    assert "forkserver" in run_program("call_in_child")
