"""Who has the descriptor that signals write to, and by which a parked loop wakes."""

from __future__ import annotations

import signal
import threading

__all__ = ["SignalWakeup", "WakeupDescriptorKept"]


class WakeupDescriptorKept:
    """Gives the wake-up descriptor back to who had it, after asyncio's code has set its own.

    asyncio takes it for the loop when a handler is added, and unsets it after the last one.
    """

    def __init__(self, own: int) -> None:
        self._own = own

    def __enter__(self) -> None:
        self._before = -1
        if threading.current_thread() is threading.main_thread():
            self._before = signal.set_wakeup_fd(-1)
            self._give_back()

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            self._give_back()

    def _give_back(self) -> None:
        signal.set_wakeup_fd(self._before, warn_on_full_buffer=self._before != self._own)


class SignalWakeup:
    """Lets a signal wake the parked loop, while the loop runs on the main thread.

    Without it, a signal that arrives just before the wait begins would be handled only
    after the next event. A descriptor that somebody else has set stays.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._installed = False

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        previous = signal.set_wakeup_fd(self._descriptor, warn_on_full_buffer=False)
        if previous in (-1, self._descriptor):
            self._installed = True
        else:
            signal.set_wakeup_fd(previous)

    def __exit__(self, *_: object) -> None:
        if not self._installed:
            return
        current = signal.set_wakeup_fd(-1)
        if current not in (-1, self._descriptor):
            # Somebody has set another one meanwhile.
            signal.set_wakeup_fd(current)
