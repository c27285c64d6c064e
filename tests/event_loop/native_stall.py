"""A program with a loop that native code holds, and the GIL with it, and no other thread.

``python native_stall.py sleep_with_the_gil`` prints what the watchdog logged, and its
statistics. The program is a process of its own, since the place where native code gives the
GIL back can be seen by the watching thread alone if nobody else wants the GIL then.
"""

import ctypes
import json
import logging
import math
import sys
import threading
import time

import carboy

THRESHOLD_SECONDS = 0.2
TIMEOUT_SECONDS = 20.0


class Messages(logging.Handler):
    """Keeps what is logged, and sets an event with each message."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.logged = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self.texts.append(record.getMessage())
        self.logged.set()


def sleep_with_the_gil(seconds: float) -> None:
    """Call native code that waits so long and gives the GIL to nobody."""
    ctypes.PyDLL(None).usleep(round(seconds * 1e6))


def compute_with_the_gil(seconds: float) -> None:
    """Call native code that computes for at least so long and gives the GIL to nobody."""
    sum(range(round(NUMBERS_PER_SECOND * seconds)))


def numbers_per_second() -> float:
    """How many numbers native code sums up in a second, if nothing disturbs it."""
    quickest = math.inf
    for _ in range(5):
        began = time.perf_counter()
        sum(range(500_000))
        quickest = min(quickest, time.perf_counter() - began)
    return 500_000 / quickest


#: Measured before anything is watched.
NUMBERS_PER_SECOND = numbers_per_second()


def is_watching() -> bool:
    """Whether the watching thread is in native code that needs no GIL: nothing of its last
    report is left to run."""
    (watching,) = (thread for thread in threading.enumerate() if thread.name == "carboy-watchdog")
    assert watching.ident is not None
    frame = sys._current_frames().get(watching.ident)
    return frame is not None and frame.f_code is threading.Thread.run.__code__


def main() -> None:
    """Be stuck in Python code, so that the watch has certainly begun, and then in native code."""
    keep = {"sleep": sleep_with_the_gil, "compute": compute_with_the_gil}[sys.argv[1]]
    messages = Messages()
    logging.getLogger("carboy.watchdog").addHandler(messages)
    loop = carboy.new_event_loop()
    loop.blocking_threshold_seconds = THRESHOLD_SECONDS

    def stuck_in_python() -> None:
        assert messages.logged.wait(TIMEOUT_SECONDS)
        loop.call_soon(go_on_when_watched)

    def go_on_when_watched() -> None:
        if len(messages.texts) == 2 and is_watching():
            loop.call_soon(stuck_in_native_code)
        else:
            loop.call_later(0.001, go_on_when_watched)

    def stuck_in_native_code() -> None:
        keep(5 * THRESHOLD_SECONDS)
        loop.stop()

    loop.call_soon(stuck_in_python)
    loop.run_forever()
    print(json.dumps({"messages": messages.texts, "statistics": loop.blocking_statistics()}))
    loop.close()


if __name__ == "__main__":
    main()
