"""Waiting until an event loop has looked at its descriptors."""

import asyncio
import socket


async def everything_was_looked_at() -> None:
    """Come back when the loop has passed on whatever was ready at the time of the call.

    For tests that say that nothing happens.
    """
    loop = asyncio.get_running_loop()
    for _ in range(2):
        looked = asyncio.Event()
        near, far = socket.socketpair()
        loop.add_reader(near, looked.set)
        far.send(b"x")
        await looked.wait()
        loop.remove_reader(near)
        near.close()
        far.close()
    # Callbacks that were queued then have had their turn, too.
    await asyncio.sleep(0)
