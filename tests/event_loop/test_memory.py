"""What a busy connection reads comes to lie in memory that is there already."""

import platform
import subprocess
import sys

import pytest

# A process of its own, because the C library remembers what others have freed.
PROGRAM = """
import asyncio
import resource
import socket

import carboy

SIZE = 100_000
ECHOES = 300


async def main():
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    content = b"x" * SIZE

    async def echo():
        sending = asyncio.create_task(loop.sock_sendall(far, content))
        received = 0
        while received < SIZE:
            received += len(await reader.read(SIZE))
        await sending

    for _ in range(20):
        await echo()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ECHOES):
        await echo()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / ECHOES)
    writer.close()
    await writer.wait_closed()
    far.close()


carboy.run(main())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library has other rules for its memory"
)
def test_pages_are_not_made_anew_for_each_read() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) < 1
