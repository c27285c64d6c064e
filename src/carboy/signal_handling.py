"""Signals and the event loop: their handlers, and the descriptor that ends the loop's wait."""

from __future__ import annotations

import errno
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SignalWakeup", "install", "uninstall"]


def install(number: int, handler: Callable[[int, Any], None]) -> None:
    """Let Python call ``handler`` for a signal.

    Raises:
        RuntimeError: If this is not the main thread, or if the signal can't be caught.
    """
    try:
        signal.signal(number, handler)
        # System calls go on after the signal, as far as the system lets them.
        signal.siginterrupt(number, False)  # noqa: FBT003 - Python's signature.
    except ValueError as error:
        raise RuntimeError(str(error)) from None
    except OSError as error:
        raise _explained(error, number) from None


def uninstall(number: int) -> None:
    """Give a signal its default handler again.

    Raises:
        RuntimeError: If the signal can't be caught.
    """
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    try:
        signal.signal(number, default)
    except OSError as error:
        raise _explained(error, number) from None


def _explained(error: OSError, number: int) -> Exception:
    if error.errno == errno.EINVAL:
        return RuntimeError(f"sig {number} cannot be caught")
    return error


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
