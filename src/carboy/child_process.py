"""Child processes: asyncio's transport of one, whose end the loop notices natively.

The process is started by ``subprocess.Popen``, as asyncio does it, with real pipes. Its end is
an event of the loop's own, by a descriptor of the process: no child watcher, no thread and no
handler of ``SIGCHLD`` takes part.
"""

from __future__ import annotations

import asyncio
import asyncio.base_subprocess
import asyncio.events
import asyncio.unix_events
import contextlib
import os
import signal
import subprocess
import threading
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carboy._carboy import NativeEventLoop

__all__ = ["SubprocessTransport", "has_child_watcher_of_its_own"]

#: The return code where somebody else has taken the exit status, as in asyncio.
UNKNOWN_RETURN_CODE = 255

#: How long a loop that is closed waits for the end of a process that was killed, in seconds.
KILL_TIMEOUT_SECONDS = 1.0

#: asyncio's own choices, which do nothing but notice the end of processes.
_DEFAULT_WATCHERS = {"ThreadedChildWatcher", "PidfdChildWatcher"}


def has_child_watcher_of_its_own() -> bool:
    """Whether the program has installed a child watcher, which asyncio before 3.14 lets it.

    That one then takes the exit status of every child, so that nobody else may.
    """
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    watcher = getattr(policy, "_watcher", None)
    if watcher is None:
        return False
    kind = type(watcher)
    return kind.__module__ != "asyncio.unix_events" or kind.__name__ not in _DEFAULT_WATCHERS


_Base: Any = asyncio.unix_events._UnixSubprocessTransport  # type: ignore[attr-defined]


class SubprocessTransport(_Base):  # type: ignore[misc]
    """A child process; an ``asyncio.SubprocessTransport``."""

    _loop: NativeEventLoop
    _proc: subprocess.Popen[bytes] | None
    #: What waits for the end; ``None`` when that was noticed.
    _watch: Any = None

    def watch(self) -> None:
        """Begin to wait for the end of the process."""
        pid = self.get_pid()
        try:
            self._watch = self._loop._watch_child(pid, self._reaped)
        except ProcessLookupError:
            # It has ended already, and somebody else has taken its exit status.
            self._reaped(None)
        except OSError as error:
            # No descriptor is left, or this system has none for processes.
            logger.warning("child process pid %d is waited for by a thread: %s", pid, error)
            threading.Thread(
                target=_wait_for, args=(self._loop, pid, self._reaped), daemon=True
            ).start()

    def _reaped(self, returncode: int | None) -> None:
        self._watch = None
        process = self._proc
        if returncode is None and process is not None:
            # Popen may have been asked, and knows then.
            returncode = process.returncode
        if returncode is None:
            returncode = UNKNOWN_RETURN_CODE
            logger.warning(
                "child process pid %d exit status already read:  will report returncode 255",
                self.get_pid(),
            )
        if process is not None and process.returncode is None:
            # Nobody must wait for the process or send it a signal by its number any more.
            process.returncode = returncode
        if self._loop is not None:
            self._loop.call_soon(self._process_exited, returncode)

    def send_signal(self, signal_number: int) -> None:
        """Send a signal to the process, unless it has ended.

        Raises:
            ProcessLookupError: If the transport is closed.
        """
        self._check_proc()
        watch = self._watch
        if watch is None:
            super().send_signal(signal_number)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(watch.fileno(), signal_number)

    def terminate(self) -> None:
        """Send ``SIGTERM`` to the process, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send ``SIGKILL`` to the process, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def end_watch(self) -> None:
        """Leave no zombie of what has ended or was killed: the loop is closed."""
        watch, self._watch = self._watch, None
        if watch is None:
            return
        watch.close()
        process = self._proc
        if process is None:
            return
        if self.is_closing():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILL_TIMEOUT_SECONDS)
        else:
            process.poll()


def _wait_for(loop: NativeEventLoop, pid: int, reaped: Any) -> None:
    try:
        _, status = os.waitpid(pid, 0)
        returncode: int | None = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        returncode = None
    # The loop may have been closed.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(reaped, returncode)
