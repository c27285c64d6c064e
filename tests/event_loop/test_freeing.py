"""A loop that nobody needs any more leaves nothing behind."""

import asyncio
import gc
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
