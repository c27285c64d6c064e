"""Serving a WSGI application, as a rule a Flask app, on one event loop.

``serve`` is for scripts and blocks; ``Server`` is for programs that have a loop of their
own to run it on.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from carboy._carboy import (
    NativeServer,
    WorkerPool,
    add_home_loop,
    detached_promises,
    raise_descriptor_limit,
    remove_home_loop,
)
from carboy.cancellation import settings_of
from carboy.event_loop import EventLoop, new_event_loop
from carboy.flask import patch
from carboy.log import logger
from carboy.watchdog import DEBUG_THRESHOLD_SECONDS, checked_threshold

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from _typeshed.wsgi import WSGIApplication

__all__ = ["Address", "Limits", "Server", "ServerConfig", "serve"]

#: Connections that the kernel keeps while the server is busy.
BACKLOG = 2048

#: How long the end of the server may take to notice that all is done, in seconds.
_IDLE_CHECK_INTERVAL = 0.05

#: How long an async view may hold the loop before the log says so, in seconds. In debug mode
#: it is asyncio's 0.1; in production every machine is busy for longer now and then.
BLOCKING_THRESHOLD = 1.0

#: How long background tasks and detached promises may go on after the last request, in seconds.
BACKGROUND_TASKS_TIMEOUT = 5.0


class Address(NamedTuple):
    """Where a server listens: a host and a port, or a path and no port."""

    host: str
    port: int | None

    @property
    def url(self) -> str:
        """The address as people open it."""
        if self.port is None:
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a peer may cost the server. ``None`` stands for the server's default.

    Attributes:
        request_line_bytes: Longest request line; above it, 414. Default 16 KiB.
        header_bytes: Longest header section; above it, 431. Default 64 KiB.
        header_count: Most headers; above it, 431. Default 100.
        body_bytes: Largest request body; above it, 413. 0 for no limit. Default 1 GiB; an
            app's own ``MAX_CONTENT_LENGTH`` applies besides.
        header_read_timeout: Seconds for a request's head. Default 30.
        keep_alive_timeout: Seconds that a connection may be idle. Default 75.
        body_read_timeout: Seconds without a byte of a body that is waited for. Default 60.
        write_timeout: Seconds in which a client takes nothing of a response. Default 60.
        drain_timeout: Seconds for requests to finish when the server stops. Default 30.
        drain_linger: Seconds for which idle connections, and handshakes, may still bring a
            request when the server stops. Default 1.
        connection_limit: Most connections at once; more wait in the kernel. Default: as many
            as there are descriptors.
        request_limit: Most requests in progress at once, those included whose client has gone
            while their view goes on; more are answered at once with 503 and ``Retry-After``.
            Idle connections don't count. Default: no limit.

    Raises:
        ValueError: If one of them is not a number, or too small; the message names it.
    """

    request_line_bytes: int | None = None
    header_bytes: int | None = None
    header_count: int | None = None
    body_bytes: int | None = None
    header_read_timeout: float | None = None
    keep_alive_timeout: float | None = None
    body_read_timeout: float | None = None
    write_timeout: float | None = None
    drain_timeout: float | None = None
    drain_linger: float | None = None
    connection_limit: int | None = None
    request_limit: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            # Not a number is neither smaller nor larger.
            if value is not None and not value >= least:
                unit = "seconds" if isinstance(least, float) else "a number"
                raise ValueError(f"{name}={value}: it must be {unit}, at least {least:g}")


#: The least value of each limit; those with a fraction are times in seconds.
_LEAST: dict[str, float | int] = {
    "request_line_bytes": 1,
    "header_bytes": 1,
    "header_count": 1,
    "body_bytes": 0,
    "header_read_timeout": 0.0,
    "keep_alive_timeout": 0.0,
    "body_read_timeout": 0.0,
    "write_timeout": 0.0,
    "drain_timeout": 0.0,
    "drain_linger": 0.0,
    "connection_limit": 1,
    "request_limit": 1,
}


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How a server listens and runs.

    Attributes:
        host: The name or address to listen on.
        port: The port; 0 for any free one.
        unix_socket: Listen on this path instead of a host and a port.
        threads: The most worker threads, for ``def`` code. They are started as needed.
        share_threads: Whether, once there are that many, a thread whose request waits for
            async code may serve another meanwhile. ``threading.local`` data is then shared
            by the requests of a thread.
        access_log: Whether each request is logged on standard output.
        blocking_threshold_seconds: How long an async view may hold the loop before the log
            says so, while it does, and where; 0 for ever. ``None``: as it is set for the loop,
            else 0.1 in debug mode, else 1. See ``EventLoop.blocking_threshold_seconds``.
        limits: See ``Limits``.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    unix_socket: str | None = None
    threads: int = 200
    share_threads: bool = True
    access_log: bool = False
    blocking_threshold_seconds: float | None = None
    limits: Limits = field(default_factory=Limits)


class Server:
    """Serves an application on a running ``carboy.EventLoop``.

    States: made; bound (``bind``); serving (``start``); stopping (``begin_shutdown``);
    ended (``wait_ended`` returns).
    """

    def __init__(self, application: WSGIApplication, config: ServerConfig, loop: EventLoop) -> None:
        _refuse_gevent()
        # A setting that is wrong is told here, before anything is served.
        settings_of(application)
        self._application = application
        self._config = config
        self._loop = loop
        self._workers = WorkerPool(loop, config.threads, config.share_threads)
        self._native = NativeServer(application, loop, self._workers)
        self._native.configure(access_log=config.access_log, **asdict(config.limits))
        self._restore_threshold: Callable[[], object] | None = None
        self._ended: asyncio.Future[int] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._forced = False

    def _watch_loop(self) -> None:
        """Have the loop watched as configured, until the server ends."""
        threshold = self._config.blocking_threshold_seconds
        if threshold is None:
            if self._loop.has_blocking_threshold:
                return
            is_debug = getattr(self._application, "debug", False)
            threshold = DEBUG_THRESHOLD_SECONDS if is_debug else BLOCKING_THRESHOLD
        before = self._loop._replace_blocking_threshold(checked_threshold(threshold))
        self._restore_threshold = lambda: self._loop._replace_blocking_threshold(before)

    def bind(self) -> list[Address]:
        """Listen, and return where.

        Raises:
            OSError: If the address can't be listened on.
        """
        if self._config.unix_socket is not None:
            self._native.bind_unix(self._config.unix_socket, BACKLOG)
        else:
            self._native.bind_tcp(self._config.host, self._config.port, BACKLOG)
        return [Address(host, port) for host, port in self._native.addresses()]

    def start(self) -> None:
        """Begin to serve. Called on the loop's thread, while the loop runs."""
        self._ended = self._loop.create_future()
        supervisor = threading.Thread(
            target=self._workers.supervise, name="carboy-worker-supervisor", daemon=True
        )
        supervisor.start()
        self._watch_loop()
        patch.install()
        add_home_loop(self._loop)
        self._native.start(self._set_ended)

    def _set_ended(self, outcome: int | Exception) -> None:
        self._finishing = self._loop.create_task(self._finish(outcome))

    async def _finish(self, outcome: int | Exception) -> None:
        """End when nothing is left of any request, or the time is up."""
        drain_timeout = self._config.limits.drain_timeout
        deadline = self._loop.time() + (30.0 if drain_timeout is None else drain_timeout)
        while not self._is_idle() and not self._forced and self._loop.time() < deadline:
            # In slices, so that a second signal gets through.
            await asyncio.to_thread(self._workers.wait_idle, _IDLE_CHECK_INTERVAL)
            if self._native.requests_on_loop:
                await asyncio.sleep(_IDLE_CHECK_INTERVAL)
        if not self._workers.wait_idle(0):
            _left_behind.append(self._workers)
        self._workers.stop()
        remove_home_loop(self._loop)
        if self._restore_threshold is not None:
            self._restore_threshold()
        patch.uninstall()
        assert self._ended is not None
        if self._ended.done():
            return
        if isinstance(outcome, Exception):
            self._ended.set_exception(outcome)
        else:
            self._ended.set_result(outcome)

    def _is_idle(self) -> bool:
        # A worker may be behind its answer still, in a body's close() or a teardown; a view
        # on the loop may go on without its client.
        return self._native.requests_on_loop == 0 and self._workers.wait_idle(0)

    def begin_shutdown(self) -> None:
        """Stop accepting and let the requests that came finish. From any thread."""
        self._native.begin_shutdown()

    def force_shutdown(self) -> None:
        """Break off what is left. From any thread."""
        self._forced = True
        self._native.force_shutdown()

    @property
    def was_forced(self) -> bool:
        """Whether the stop was forced."""
        return self._forced

    async def wait_ended(self) -> int:
        """Wait for the end, and return how many connections had to be broken off."""
        assert self._ended is not None, "the server was not started"
        return await self._ended

    def statistics(self) -> dict[str, int]:
        """Counters: connections, requests, workers, and where requests were served.

        ``served_on_loop`` counts requests that ran whole on the loop's thread; each
        ``worker_because_…`` those that a worker served, by the reason. ``loop_stalls`` and
        ``loop_gil_waits`` count what ``EventLoop.blocking_statistics`` does, with how long it
        lasted in milliseconds.
        """
        statistics: dict[str, int] = dict(self._native.statistics())
        for name, count in self._native.eligibility():
            statistics["served_on_loop" if name == "on_loop" else f"worker_because_{name}"] = count
        statistics["worker_threads"] = self._workers.live_workers
        statistics["queued_requests"] = self._workers.queued_jobs
        blocking = self._loop.blocking_statistics()
        statistics["loop_stalls"] = blocking.stalls
        statistics["loop_stalled_ms"] = round(blocking.stalled_seconds * 1000)
        statistics["loop_gil_waits"] = blocking.gil_waits
        statistics["loop_gil_wait_ms"] = round(blocking.gil_wait_seconds * 1000)
        return statistics


def _refuse_gevent() -> None:
    """Raise ``RuntimeError`` where gevent has patched threads: there are none to work on then."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise RuntimeError(
            "gevent has patched the threading module, and carboy needs real threads: remove"
            " gevent.monkey.patch_all(), which carboy makes unnecessary"
        )


#: The workers of servers that were stopped before their requests were done.
_left_behind: list[WorkerPool] = []


@atexit.register
def _leave_busy_workers() -> None:
    """End the process at once if a worker still runs the application's code.

    Before CPython 3.14 a thread that wants the interpreter while that is being torn down is
    ended in the midst of native code, and the process aborts.
    """
    if any(not workers.wait_idle(0) for workers in _left_behind):
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(1)


class _StopSignals:
    """SIGTERM and SIGINT: the first begins to stop the server, a second forces it."""

    def __init__(self, server: Server, loop: EventLoop) -> None:
        self._server = server
        self._loop = loop
        self._received = 0
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.getsignal(number)
            # signal.signal and not the loop's method: that waits for a turn of the loop, and
            # a second signal must get through even if a view holds the loop.
            signal.signal(number, self._receive)

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._received += 1
        name = signal.Signals(number).name
        if self._received == 1:
            logger.info("%s: finishing the requests in progress", name)
            self._server.begin_shutdown()
        else:
            logger.warning("%s again: stopping at once", name)
            self._server.force_shutdown()
            # A view that holds the loop keeps it from stopping: then a third one ends the
            # process as if nothing handled it.
            for handled in self._previous:
                signal.signal(handled, signal.SIG_DFL)


async def _serve(
    application: WSGIApplication,
    config: ServerConfig,
    loop: EventLoop,
    on_ready: Callable[[list[Address]], None] | None,
) -> int:
    server = Server(application, config, loop)
    addresses = server.bind()
    signals = _StopSignals(server, loop)
    server.start()
    signals.install()
    try:
        if on_ready is not None:
            on_ready(addresses)
        broken_off = await server.wait_ended()
        if broken_off:
            logger.warning("%d connections were broken off", broken_off)
        if not server.was_forced:
            await _finish_background_work()
        return broken_off
    finally:
        signals.restore()


async def _finish_background_work() -> None:
    """Let tasks and detached promises of views finish; what is left after a while is cancelled."""
    loop = asyncio.get_running_loop()
    end = loop.time() + BACKGROUND_TASKS_TIMEOUT
    while (work := _background_work()) and (left := end - loop.time()) > 0:
        # A promise is waited for without interest in it, as a task is.
        await asyncio.wait(work, timeout=left)
    for promise, name in detached_promises():
        logger.warning("%s did not finish and is cancelled: %r", name, promise)
        promise.cancel()
    # The tasks of these promises end in a turn of their own.
    for _ in range(2):
        await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        logger.warning("%d background tasks did not finish and are cancelled", len(tasks))


def _background_work() -> set[Any]:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return tasks | {promise for promise, _ in detached_promises()}


def serve(
    application: WSGIApplication,
    config: ServerConfig | None = None,
    *,
    on_ready: Callable[[list[Address]], None] | None = None,
    loop_factory: Callable[[], EventLoop] = new_event_loop,
    **settings: Any,
) -> None:
    """Serve an application until SIGTERM or SIGINT. Blocks.

    Args:
        application: A Flask app or any WSGI callable (PEP 3333).
        config: How to serve it.
        on_ready: Called with the addresses once the server listens.
        loop_factory: Makes the event loop.
        **settings: The fields of ``ServerConfig``, instead of ``config``.

    Raises:
        OSError: If the address can't be listened on.
        RuntimeError: If gevent has patched threads.
        TypeError: If the application is not callable, or a setting is unknown.
    """
    if not callable(application):
        raise TypeError(f"a WSGI application is callable; {application!r} is not")
    if config is not None and settings:
        raise TypeError("either config or settings by name, not both")
    config = config or ServerConfig(**settings)
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, EventLoop)
        runner.run(_serve(application, config, loop, on_ready))
