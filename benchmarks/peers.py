"""The servers that are compared, and how each is started.

Every server has one worker process, no access log, and one thread or loop where that
can be said. Beyond that, each runs with its defaults, or with what its documentation
recommends for speed where that is a matter of one option (uvloop, httptools).
"""

from __future__ import annotations

from dataclasses import dataclass, field

EVERY_WORKLOAD = ("async-hello", "json", "sync-hello", "fan-out")

# Thread servers need threads for views that wait. Eight is gunicorn's common setting,
# and granian is given the same.
WSGI_THREADS = "8"

# On a thread server an `async def` view costs a new event loop per request, and nobody
# would write one without need. So there the JSON and fan-out views are `def`: that is
# to these peers' advantage. The async hello stays what its name says.
THREAD_SERVER_PREFIXES = {"json": "/sync", "fan-out": "/threads"}


@dataclass(frozen=True)
class Peer:
    """One server with its app.

    The command is run in `apps/`; `{bin}` is the scripts directory of the benchmark
    environment, `{carboy_bin}` the one that carboy is in, `{load}` the directory of
    the Rust programs, `{port}` the port to listen on.
    """

    name: str
    title: str
    command: tuple[str, ...]
    workloads: tuple[str, ...] = EVERY_WORKLOAD
    prefixes: dict[str, str] = field(default_factory=dict)
    left_out_because: str = ""

    def prefix(self, workload: str) -> str:
        """Return what goes before the workload's request target."""
        return self.prefixes.get(workload, "")


def _uvicorn(app: str) -> tuple[str, ...]:
    options = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")
    address = ("--host", "127.0.0.1", "--port", "{port}")
    return ("{bin}/uvicorn", *options, "--log-level", "warning", *address, app)


def _granian(app: str, *options: str) -> tuple[str, ...]:
    threads = ("--workers", "1", "--runtime-threads", "1")
    address = ("--host", "127.0.0.1", "--port", "{port}")
    # Its access log is off unless asked for.
    return ("{bin}/granian", *options, *threads, "--log-level", "warning", *address, app)


PEERS = (
    Peer(
        name="hyper",
        title="hyper, static answer (the ceiling)",
        command=("{load}/static_server", "127.0.0.1:{port}"),
        workloads=("async-hello", "sync-hello"),
        left_out_because="it has one static answer, which is that of both hellos",
    ),
    Peer(
        name="carboy",
        title="Flask on carboy",
        command=(
            "{carboy_bin}/carboy",
            "run",
            *("--host", "127.0.0.1", "--port", "{port}", "--no-access-log"),
            "flask_app:app",
        ),
    ),
    Peer(
        name="gunicorn",
        title="Flask on gunicorn (gthread)",
        command=(
            "{bin}/gunicorn",
            *("--worker-class", "gthread", "--workers", "1", "--threads", WSGI_THREADS),
            *("--log-level", "warning", "--bind", "127.0.0.1:{port}"),
            "flask_app:app",
        ),
        prefixes=THREAD_SERVER_PREFIXES,
    ),
    Peer(
        name="granian",
        title="Flask on granian (WSGI)",
        command=_granian(
            "flask_app:app", "--interface", "wsgi", "--blocking-threads", WSGI_THREADS
        ),
        prefixes=THREAD_SERVER_PREFIXES,
    ),
    Peer(name="quart-uvicorn", title="Quart on uvicorn", command=_uvicorn("quart_app:app")),
    Peer(
        name="quart-hypercorn",
        title="Quart on hypercorn (uvloop)",
        command=(
            "{bin}/hypercorn",
            *("--worker-class", "uvloop", "--workers", "1"),
            *("--log-level", "warning", "--bind", "127.0.0.1:{port}"),
            "quart_app:app",
        ),
    ),
    Peer(name="fastapi", title="FastAPI on uvicorn", command=_uvicorn("fastapi_app:app")),
    Peer(name="starlette", title="Starlette on uvicorn", command=_uvicorn("starlette_app:app")),
    Peer(
        name="aiohttp",
        title="aiohttp's own server (uvloop)",
        command=("{bin}/python", "aiohttp_app.py", "{port}"),
        workloads=("async-hello", "json", "fan-out"),
        left_out_because="it has no views that aren't coroutines",
    ),
    Peer(
        name="rsgi",
        title="bare RSGI app on granian",
        command=_granian("rsgi_app:app", "--interface", "rsgi", "--loop", "uvloop", "--no-ws"),
        workloads=("async-hello", "json", "fan-out"),
        left_out_because="RSGI has no views that aren't coroutines",
    ),
)
