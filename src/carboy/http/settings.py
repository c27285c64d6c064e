"""How long a call may take, how often it is made again, how many connections there are."""

from __future__ import annotations

from dataclasses import dataclass


def _check_seconds(name: str, seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is to be a number of seconds, not {seconds!r}")
    # Not a number is neither.
    if not seconds >= 0:
        raise ValueError(f"{name} is to be 0 seconds or more, not {seconds}")


def check_count(name: str, count: object, least: int, most: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what is not such a number."""
    if not isinstance(count, int):
        raise TypeError(f"{name} is to be a whole number, not {count!r}")
    if not least <= count <= most:
        bound = f"{least} or more" if count < least else f"{most} or less"
        raise ValueError(f"{name} is to be {bound}, not {count}")


@dataclass(frozen=True, slots=True)
class Timeout:
    """How many seconds each part of a call may take; ``None`` and infinity are for ever.

    A single number as ``timeout=`` is the limit of the whole call; the other limits stay.

    Attributes:
        connect: Name look-up, TCP, proxy and TLS together.
        read: From the end of the request to the end of the response's head, and from one piece
            of content to the next.
        write: From one piece of the request that the server takes to the next.
        pool: The wait for a connection while all are in use, or for a stream (HTTP/2).
        total: The whole call with its redirects and retries, and its content unless that is
            streamed.
    """

    connect: float | None = 3.0
    read: float | None = 10.0
    write: float | None = 10.0
    pool: float | None = 3.0
    total: float | None = 30.0

    def __post_init__(self) -> None:
        for name in ("connect", "read", "write", "pool", "total"):
            seconds = getattr(self, name)
            if seconds is not None:
                _check_seconds(name, seconds)

    def as_tuple(
        self,
    ) -> tuple[float | None, float | None, float | None, float | None, float | None]:
        """Return the five limits in the order of the attributes."""
        return (self.connect, self.read, self.write, self.pool, self.total)


#: ``timeout=``: a number is for the whole call, a pair for connecting and reading.
TimeoutTypes = Timeout | float | tuple[float | None, float | None] | None


def timeout_of(value: TimeoutTypes, default: Timeout) -> Timeout:
    """Return the limits that a ``timeout=`` means.

    Args:
        value: Limits; a number of seconds for the whole call; a pair for connecting and for
            reading, as in requests; ``None`` for no limit at all.
        default: What else is limited.
    """
    if isinstance(value, Timeout):
        return value
    if value is None:
        return Timeout(None, None, None, None, None)
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(
                f"timeout={value!r}: a pair is for connecting and reading; further limits have "
                "names: Timeout(connect=1, read=5, write=5, pool=1, total=10)"
            )
        connect, read = value
        return Timeout(connect, read, default.write, default.pool, None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"timeout is to be a number of seconds or a Timeout, not {value!r}")
    if not value > 0:
        raise ValueError(f"timeout is to be more than 0 seconds, not {value}")
    # A longer time for the whole call is meant for a slow service: it may think as long.
    read = default.read if default.read is None else max(default.read, value)
    return Timeout(default.connect, read, default.write, default.pool, value)


@dataclass(frozen=True, slots=True)
class Retries:
    """When a call is made again.

    Without being asked for, a call is repeated only on a connection that the server had closed
    before: if nothing of the request was sent; or if its method is idempotent, and the server was
    closing the connection when it was sent.

    Attributes:
        attempts: Further attempts after the first one.
        statuses: Statuses that are worth another attempt.
        backoff: Seconds to wait at most before the first further attempt; doubled for each.
            The actual wait is anywhere between nothing and that, after what the server asks for
            by ``Retry-After``.
        longest_wait: The longest wait in seconds. A server that asks for a longer one by
            ``Retry-After`` is not asked again.
        any_method: Whether methods that are not idempotent (POST, PATCH) are repeated too.
        stale_connections: Whether an idempotent call is repeated, once, when the kept connection
            that it was sent on turns out to be closed. ``Retries(0, stale_connections=False)``
            repeats nothing that was sent.
    """

    attempts: int = 2
    statuses: tuple[int, ...] = (429, 502, 503, 504)
    backoff: float = 0.1
    longest_wait: float = 10.0
    any_method: bool = False
    stale_connections: bool = True

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts, 0, 2**31 - 1)
        for status in self.statuses:
            check_count("a status", status, 100, 999)
        _check_seconds("backoff", self.backoff)
        _check_seconds("longest_wait", self.longest_wait)

    def as_tuple(self) -> tuple[int, list[int], float, float, bool]:
        """Return the values for the native client, in the order of the attributes."""
        statuses = list(self.statuses)
        return (self.attempts, statuses, self.backoff, self.longest_wait, self.any_method)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections a session has per event loop, and how large a response may be.

    Attributes:
        connections: Connections in all.
        connections_per_host: Connections to one host.
        idle_timeout: How many seconds an unused connection is kept.
        content_bytes: The largest content, after decoding, that is kept in memory.
    """

    connections: int = 500
    connections_per_host: int = 100
    idle_timeout: float = 15.0
    content_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        check_count("connections", self.connections, 1, 2**31 - 1)
        check_count("connections_per_host", self.connections_per_host, 1, 2**31 - 1)
        _check_seconds("idle_timeout", self.idle_timeout)
        check_count("content_bytes", self.content_bytes, 0, 2**63 - 1)
