"""The rows of the comparison, and who takes part in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measurement.

    ``way`` is ``plain``, ``tls`` (HTTP/1.1 by TLS) or ``http2`` (by TLS). ``concurrency`` is how
    many callers there are at once, each of which makes its next call when it has the answer.
    ``fan_out`` is how many calls a caller makes at the same time.
    """

    name: str
    path: str
    concurrency: int
    way: str = "plain"
    fan_out: int = 1


ROWS = (
    Row("small JSON, 1 at once", "/json", 1),
    Row("small JSON, 10 at once", "/json", 10),
    Row("small JSON, 100 at once", "/json", 100),
    Row("small JSON, 1000 at once", "/json", 1000),
    Row("three calls side by side, by 16 callers", "/json", 16, fan_out=3),
    Row("10 KB, 10 at once", "/10k", 10),
    Row("1 MB, 10 at once", "/1m", 10),
    Row("small JSON by TLS, 100 at once", "/json", 100, way="tls"),
    Row("small JSON by HTTP/2, 100 at once", "/json", 100, way="http2"),
)


@dataclass(frozen=True)
class Peer:
    """A client as it is measured.

    ``kind`` is the class in ``callers.py``. ``loop`` is ``carboy``, ``uvloop``, or ``threads``
    for a client that blocks. ``installed`` names what ``carboy.install`` takes over.
    """

    name: str
    kind: str
    loop: str
    package: str
    installed: str | None = None
    speaks_http2: bool = True
    environment: str = "peers"


PEERS = (
    Peer("carboy.http", "Carboy", "carboy", "carboy"),
    Peer("carboy.http on uvloop", "Carboy", "uvloop", "carboy"),
    Peer("aiohttp", "Aiohttp", "uvloop", "aiohttp", speaks_http2=False),
    Peer("httpx", "Httpx", "uvloop", "httpx"),
    Peer("httpx, installed", "Httpx", "carboy", "httpx", installed="httpx"),
    Peer("httpx2", "Httpx2", "uvloop", "httpx2"),
    Peer("httpx2, installed", "Httpx2", "carboy", "httpx2", installed="httpx2"),
    Peer("niquests", "NiquestsAsync", "uvloop", "niquests", environment="niquests"),
    Peer("pyreqwest", "Pyreqwest", "uvloop", "pyreqwest"),
    Peer("pyqwest", "Pyqwest", "uvloop", "pyqwest"),
    Peer("carboy.http, sync", "CarboySync", "threads", "carboy"),
    Peer("requests", "Requests", "threads", "requests", speaks_http2=False),
    Peer(
        "requests, installed",
        "Requests",
        "threads",
        "requests",
        installed="requests",
        speaks_http2=False,
    ),
    Peer("niquests, sync", "Niquests", "threads", "niquests", environment="niquests"),
)

#: Threads of which there are a thousand measure the scheduler of the system.
MOST_THREADS = 100


def takes_part(peer: Peer, row: Row) -> bool:
    """Whether a client can do what a row asks for."""
    if row.way == "http2" and not peer.speaks_http2:
        return False
    return peer.loop != "threads" or row.concurrency * row.fan_out <= MOST_THREADS
