"""The rows of the comparison: what is measured, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measurement.

    ``kind`` names the function that measures it. For echo rows, ``size_bytes`` is the length
    of a message and ``connections`` how many clients there are at once.
    """

    name: str
    kind: str
    size_bytes: int = 0
    connections: int = 0


SCHEDULING = (
    Row("call_soon", "call_soon"),
    Row("call_soon, one per turn", "call_soon_chain"),
    Row("call_later and cancel", "call_later"),
    Row("task switch", "task_switch"),
    Row("gather of 1000", "gather"),
    Row("call_soon_threadsafe", "call_soon_threadsafe"),
)

TCP = tuple(
    Row(f"TCP protocol, {label}, {connections} conn.", "tcp_protocol", size_bytes, connections)
    for label, size_bytes in (("1 B", 1), ("1 KB", 1024), ("100 KB", 102_400))
    for connections in (1, 10, 100)
)

OTHERS = (
    Row("TCP buffered protocol, 1 KB, 10 conn.", "tcp_buffered", 1024, 10),
    Row("TCP streams, 1 KB, 10 conn.", "tcp_streams", 1024, 10),
    Row("TCP streams, 100 KB, 10 conn.", "tcp_streams", 102_400, 10),
    Row("TCP sock_*, 1 KB, 10 conn.", "tcp_sock", 1024, 10),
    Row("TCP sock_*, 100 KB, 10 conn.", "tcp_sock", 102_400, 10),
    Row("UDP, 1 KB, 10 clients", "udp", 1024, 10),
    Row("unix protocol, 1 KB, 10 conn.", "unix_protocol", 1024, 10),
    Row("TLS protocol, 1 KB, 10 conn.", "tls_protocol", 1024, 10),
    Row("TLS protocol, 100 KB, 10 conn.", "tls_protocol", 102_400, 10),
    Row("TCP accepted connections", "accept", 1, 10),
    Row("subprocess spawn and wait", "subprocess"),
)

ROWS = SCHEDULING + TCP + OTHERS
LOOPS = ("asyncio", "uvloop", "carboy")
