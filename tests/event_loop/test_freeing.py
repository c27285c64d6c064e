"""A loop that nobody needs any more leaves nothing behind."""

import asyncio
import gc
import socket
import weakref
from pathlib import Path

import pytest

import carboy


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_loop_that_was_closed_is_freed_with_its_descriptors() -> None:
    carboy.run(asyncio.sleep(0))
    gc.collect()
    before = open_descriptors()
    loops = []
    for _ in range(20):
        loop = carboy.new_event_loop()
        loop.call_later(1000, print)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        loops.append(weakref.ref(loop))
    del loop
    gc.collect()

    assert open_descriptors() <= before
    assert [reference() for reference in loops] == [None] * 20


def test_close_closes_the_descriptors_of_a_loop_that_is_kept() -> None:
    carboy.run(asyncio.sleep(0))
    gc.collect()
    before = open_descriptors()
    loop = carboy.new_event_loop()
    reading, writing = socket.socketpair()
    with reading, writing:
        loop.add_reader(reading, print)
        loop.run_until_complete(asyncio.sleep(0))
        assert open_descriptors() > before + 2
        loop.close()
        assert open_descriptors() == before + 2
        # What comes too late is refused, as on asyncio's own loop.
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.call_soon_threadsafe(print)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.add_reader(reading, print)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.run_forever()
        assert not loop.remove_reader(reading)
        loop.stop()
        loop.close()


@pytest.mark.filterwarnings("ignore:unclosed event loop")
@pytest.mark.filterwarnings("ignore:unclosed <socket")
def test_a_loop_that_was_never_closed_is_freed_with_its_descriptors() -> None:
    gc.collect()
    before = open_descriptors()
    loop = carboy.new_event_loop()
    loop.call_soon(loop.stop)
    loop.call_later(1000, loop.stop)
    reference = weakref.ref(loop)
    del loop
    gc.collect()

    assert reference() is None
    assert open_descriptors() <= before
