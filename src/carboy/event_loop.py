"""The event loop, and running a coroutine on it.

The loop is asyncio's own interface in full. What happens once per event is native
(``carboy._carboy.NativeEventLoop``): scheduling, timers, descriptors, the transports of sockets,
datagrams and pipes, ``sock_recv`` and its kin, the ends of child processes, signals. What happens
once per connection or process comes from CPython's base classes on top of that, and so does TLS.
"""

from __future__ import annotations

import asyncio
import asyncio.unix_events
import functools
import socket
import ssl
import weakref
from asyncio import SelectorEventLoop
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from carboy import name_resolution, signal_handling
from carboy._carboy import NativeEventLoop, TlsProtocol
from carboy.child_process import SubprocessTransport, has_child_watcher_of_its_own
from carboy.event_loop_server import with_clients
from carboy.watchdog import (
    DEBUG_THRESHOLD_SECONDS,
    BlockingStatistics,
    RunWatch,
    checked_threshold,
    threshold_of_environment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from carboy._carboy import StreamTransport

__all__ = ["EventLoop", "new_event_loop", "run"]

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")


class _NoSelector:
    """Stands where the base class keeps its selector: the native loop watches descriptors."""

    def close(self) -> None:
        """Has nothing to close."""

    def get_map(self) -> dict[int, Any]:
        """Return an empty map: nothing is registered here."""
        return {}

    def get_key(self, fileobj: object) -> Any:
        """Raise ``KeyError``: nothing is registered here."""
        raise KeyError(fileobj)


class EventLoop(NativeEventLoop, SelectorEventLoop):
    """An asyncio event loop whose core is native.

    It may be made on one thread and run on another; it runs on one thread at a time. See
    ``asyncio.AbstractEventLoop`` for the interface.
    """

    def __init__(self) -> None:
        # Until the base class is made there is nothing to close.
        self._closed = True
        #: As it was set; 0 for never. None leaves it to the debug mode.
        self._blocking_threshold_seconds = threshold_of_environment()
        self._run_watch: RunWatch | None = None
        #: What the watchdog has said of a stall that has not ended.
        self._reported_stall: str | None = None
        self._processes: weakref.WeakSet[SubprocessTransport] = weakref.WeakSet()
        SelectorEventLoop.__init__(self, _NoSelector())  # type: ignore[arg-type]

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's signature.
        """Turn the debug mode on or off."""
        super().set_debug(enabled)
        self._set_native_debug(bool(enabled))
        self._adjust_watch()

    @property
    def blocking_threshold_seconds(self) -> float | None:
        """How long a callback may hold the loop before the log says so; ``None`` for ever.

        A callback, a step of a task, or a view that takes longer is reported on the logger
        ``carboy.watchdog`` while it lasts, with the place where it is. By default what
        ``CARBOY_BLOCKING_THRESHOLD`` says in the environment, else 0.1 in debug mode, else
        ``None``. It may be changed while the loop runs, from any thread; 0 means ``None``.
        """
        own = self._blocking_threshold_seconds
        if own is None:
            return DEBUG_THRESHOLD_SECONDS if self.get_debug() else None
        return own or None

    @blocking_threshold_seconds.setter
    def blocking_threshold_seconds(self, seconds: float | None) -> None:
        self._replace_blocking_threshold(0.0 if seconds is None else checked_threshold(seconds))

    def _replace_blocking_threshold(self, own: float | None) -> float | None:
        before, self._blocking_threshold_seconds = self._blocking_threshold_seconds, own
        self._adjust_watch()
        return before

    @property
    def has_blocking_threshold(self) -> bool:
        """Whether the threshold was set, or has a default because of the debug mode."""
        return self._blocking_threshold_seconds is not None or self.get_debug()

    def _adjust_watch(self) -> None:
        watch = self._run_watch
        if watch is not None:
            watch.adjust()

    def blocking_statistics(self) -> BlockingStatistics:
        """Return how often and how long the loop was stuck, as far as it was watched."""
        return BlockingStatistics(*self._stall_statistics())

    def run_forever(self) -> None:
        """Run the loop until it is stopped."""
        base: Any = self
        base._check_closed()
        base._check_running()
        # Around the run and not within: to wait for the watchdog is to block, which nobody may
        # do while asyncio says that a loop is running.
        with RunWatch(self):
            super().run_forever()

    def stop(self) -> None:
        """Stop the loop after the callbacks that are ready now."""
        self._stopping = True
        self._request_stop()

    def close(self) -> None:
        """Close the loop: drop what is queued and shut the default executor down.

        Raises:
            RuntimeError: If the loop is running.
        """
        already_closed = self.is_closed()
        super().close()
        if not already_closed:
            for process in list(self._processes):
                process.end_watch()
            self._close_native()

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Let the loop call ``callback`` when the process gets a signal.

        The descriptor of ``signal.set_wakeup_fd`` stays as it is.

        Raises:
            RuntimeError: If this is not the main thread, or if the signal can't be caught.
            TypeError: If the callback is a coroutine.
            ValueError: If there is no such signal.
        """
        with signal_handling.WakeupDescriptorKept(self._wakeup_number):
            super().add_signal_handler(sig, callback, *args)
            # asyncio's own handler relies on the descriptor. This one queues the callback.
            asyncio.unix_events.signal.signal(sig, self._deliver_signal)  # type: ignore[attr-defined]

    def remove_signal_handler(self, sig: int) -> bool:
        """Give a signal its default handler again; say whether it had another.

        Raises:
            RuntimeError: If the signal can't be caught.
            ValueError: If there is no such signal.
        """
        with signal_handling.WakeupDescriptorKept(self._wakeup_number):
            return super().remove_signal_handler(sig)

    def _make_self_pipe(self) -> None:
        # As the base class does it, but what arrives is thrown away natively.
        self._ssock, self._csock = socket.socketpair()
        for sock in (self._ssock, self._csock):
            sock.setblocking(False)  # noqa: FBT003 - Python's signature.
        self._internal_fds = getattr(self, "_internal_fds", 0) + 1
        self._wakeup_number = self._csock.fileno()
        self._watch_wakeup_socket(self._ssock.fileno())

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's signature.
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Look up the addresses of a host, without making the loop wait."""
        hints = {"family": family, "type": type, "proto": proto, "flags": flags}
        known = name_resolution.address_info(host, port, **hints)
        return known if known is not None else await super().getaddrinfo(host, port, **hints)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Look up the name of an address, without making the loop wait."""
        known = name_resolution.name_info(sockaddr, flags)
        return known if known is not None else await super().getnameinfo(sockaddr, flags)

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.SubprocessProtocol,
        args: Any,
        shell: bool,  # noqa: FBT001 - asyncio's signature.
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **options: Any,
    ) -> asyncio.SubprocessTransport:
        streams = (stdin, stdout, stderr)
        if has_child_watcher_of_its_own():
            make: Any = super()._make_subprocess_transport  # type: ignore[misc]
            made: asyncio.SubprocessTransport = await make(
                protocol, args, shell, *streams, bufsize, extra, **options
            )
            return made
        started: asyncio.Future[None] = self.create_future()
        transport: Any = SubprocessTransport(
            self, protocol, args, shell, *streams, bufsize, started, extra, **options
        )
        self._processes.add(transport)
        transport.watch()
        try:
            await started
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        result: asyncio.SubprocessTransport = transport
        return result

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        tls = TlsProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        # While the handshake has not begun there is one.
        transport = tls._app_transport
        assert transport is not None
        self._make_socket_transport(rawsock, tls, extra=extra, server=server)
        return transport

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Upgrade a transport to TLS, and return the one that the protocol is to use.

        Raises:
            TypeError: If the context or the transport is not fit for it.
        """
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        plain: Any = transport
        waiter: asyncio.Future[None] = self.create_future()
        tls = TlsProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        # Nothing may arrive before the handshake has begun.
        plain.pause_reading()
        plain.set_protocol(tls)
        handles = (
            self.call_soon(tls.connection_made, plain),
            self.call_soon(plain.resume_reading),
        )
        try:
            await waiter
        except BaseException:
            plain.close()
            for handle in handles:
                handle.cancel()
            raise
        return tls._app_transport

    if not TYPE_CHECKING:  # Their types are the base class's.

        @functools.wraps(SelectorEventLoop.create_server)
        async def create_server(self, *args, start_serving=True, **keywords):
            """Make a server, whose clients can be closed."""
            made = await super().create_server(*args, start_serving=False, **keywords)
            return await _started(made, start_serving=start_serving)

        @functools.wraps(SelectorEventLoop.create_unix_server)
        async def create_unix_server(self, *args, start_serving=True, **keywords):
            """Make a server, whose clients can be closed."""
            made = await super().create_unix_server(*args, start_serving=False, **keywords)
            return await _started(made, start_serving=start_serving)

    def _restart_serving(self, protocol_factory: Any, sock: socket.socket, *rest: Any) -> None:
        # The server may have been closed while its listener waited for descriptors.
        if sock.fileno() != -1:
            self._start_serving(protocol_factory, sock, *rest)

    async def _sendfile_native(
        self, transp: StreamTransport, file: Any, offset: int, count: int | None
    ) -> int:
        # As the base class does it, whose table of transports is not used here.
        number = transp._sock_fd
        self._forget_transport(number)
        was_reading = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        sock = transp._sock
        assert sock is not None
        try:
            return await self.sock_sendfile(sock, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            if was_reading:
                transp.resume_reading()
            self._remember_transport(number, transp)

    def _run_once(self) -> None:
        # The base class repeats this until the loop is to stop. Here one call lasts that
        # long; it leaves the base class's set-up and clean-up of a run as they are.
        with signal_handling.SignalWakeup(self._csock.fileno()):
            self._run_native()
        self._stopping = True


async def _started(made: asyncio.Server, *, start_serving: bool) -> asyncio.Server:
    server = with_clients(made)
    if start_serving:
        await server.start_serving()
    return server


def new_event_loop() -> EventLoop:
    """Make an event loop: ``asyncio.Runner(loop_factory=carboy.new_event_loop)``."""
    return EventLoop()


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new loop and return its result, as ``asyncio.run`` does.

    Args:
        main: The coroutine to run.
        debug: Whether asyncio's debug mode is on; ``None`` leaves it to ``PYTHONASYNCIODEBUG``.

    Raises:
        RuntimeError: If a loop is running on this thread already.
        ValueError: If ``main`` is not a coroutine.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("carboy.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
