"""The ``carboy`` command."""

from __future__ import annotations

import errno
import logging
import math
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carboy.application import add_working_directory, load_application
from carboy.server import Limits, ServerConfig, serve

if TYPE_CHECKING:
    from carboy.server import Address


class _Seconds(click.FloatRange):
    """A time that is a number and not negative. ``inf`` stands for ever."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds


_CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CARBOY"}


@click.group(context_settings=_CONTEXT)
@click.version_option(version("carboy"), message="carboy %(version)s")
def main() -> None:
    """Serve Flask apps natively on asyncio."""


@main.command(short_help="Serve an application.")
@click.argument("app", required=False, metavar="[APP]")
@click.option(
    "-a", "--app", "app_option", metavar="APP", help="The same as the argument, as in Flask."
)
@click.option(
    "-h", "--host", default="127.0.0.1", show_default=True, help="Address or name to listen on."
)
@click.option(
    "-p", "--port", default=8000, show_default=True, type=click.IntRange(0, 65535),
    help="Port to listen on; 0 for any free one.",
)  # fmt: skip
@click.option("--unix-socket", metavar="PATH", help="Listen on a Unix socket instead.")
@click.option(
    "-t", "--threads", default=200, show_default=True, type=click.IntRange(1),
    help="Most worker threads for sync code; started as needed.",
)  # fmt: skip
@click.option(
    "--share-threads/--no-share-threads", default=True, show_default=True,
    help="Whether beyond that a thread whose request waits for async code may serve another"
    " request meanwhile.",
)  # fmt: skip
@click.option(
    "--access-log/--no-access-log", default=True, show_default=True, help="Log each request."
)
@click.option("--debug/--no-debug", default=None, help="Flask's debug mode.")
@click.option(
    "--limit-request-line", metavar="BYTES", type=click.IntRange(1),
    help="Longest request line, else 414.  [default: 16384]",
)  # fmt: skip
@click.option(
    "--limit-headers", metavar="BYTES", type=click.IntRange(1),
    help="Longest header section, else 431.  [default: 65536]",
)  # fmt: skip
@click.option(
    "--limit-body", metavar="BYTES", type=click.IntRange(0),
    help="Largest request body, else 413; 0 for no limit.  [default: 1073741824]",
)  # fmt: skip
@click.option(
    "--limit-connections", metavar="COUNT", type=click.IntRange(1),
    help="Most connections at once; more wait.  [default: as many as descriptors]",
)  # fmt: skip
@click.option(
    "--limit-requests", metavar="COUNT", type=click.IntRange(1),
    help="Most requests in progress at once; more are answered with 503 at once."
    "  [default: no limit]",
)  # fmt: skip
@click.option(
    "--keep-alive-timeout", metavar="SECONDS", type=_Seconds(),
    help="How long a connection may be idle.  [default: 75]",
)  # fmt: skip
@click.option(
    "--shutdown-timeout", metavar="SECONDS", type=_Seconds(),
    help="How long requests may finish at a stop.  [default: 30]",
)  # fmt: skip
@click.option(
    "--blocking-threshold", metavar="SECONDS", type=_Seconds(),
    help="How long an async view may hold the event loop before the log says so, and where;"
    " 0 for ever.  [default: 1, in debug mode 0.1]",
)  # fmt: skip
def run(app: str | None, app_option: str | None, **options: Any) -> None:
    """Serve APP until Ctrl-C or SIGTERM.

    APP is a module and a name in it (hello:app), a factory (hello:create_app()), or a
    module or file alone, where the app is looked for as `flask run` does. Without APP,
    FLASK_APP is used, else wsgi.py or app.py in the current directory.

    Every option can be set in the environment: CARBOY_RUN_PORT=8080 for --port.
    """
    if app is not None and app_option is not None:
        raise click.UsageError("APP is given twice, as an argument and with --app.")
    _configure_logging()
    add_working_directory()
    if options["debug"] is not None:
        import os

        os.environ["FLASK_DEBUG"] = "1" if options["debug"] else "0"
    application, found_as = load_application(app or app_option)
    config = ServerConfig(
        host=options["host"],
        port=options["port"],
        unix_socket=options["unix_socket"],
        threads=options["threads"],
        share_threads=options["share_threads"],
        access_log=options["access_log"],
        blocking_threshold_seconds=options["blocking_threshold"],
        limits=Limits(
            request_line_bytes=options["limit_request_line"],
            header_bytes=options["limit_headers"],
            body_bytes=options["limit_body"],
            connection_limit=options["limit_connections"],
            request_limit=options["limit_requests"],
            keep_alive_timeout=options["keep_alive_timeout"],
            drain_timeout=options["shutdown_timeout"],
        ),
    )

    def announce(addresses: list[Address]) -> None:
        _announce(application, found_as, addresses, config)

    try:
        serve(application, config, on_ready=announce)
    except OSError as error:
        raise click.ClickException(_explain(error, config)) from error
    except RuntimeError as error:
        raise click.ClickException(f"Can't serve here: {error}.") from error


def _configure_logging() -> None:
    """Print what the server logs, unless the application configures that logger itself."""
    logger = logging.getLogger("carboy")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _announce(
    application: Any, found_as: str, addresses: list[Address], config: ServerConfig
) -> None:
    kind = type(application).__name__
    name = getattr(application, "import_name", None)
    described = f"{kind} {name!r}" if name else kind
    mode = "debug mode" if getattr(application, "debug", False) else "production mode"
    click.echo(f"carboy {version('carboy')} serves {found_as} ({described}) in {mode}")
    click.echo(f"async views on one event loop, sync views on up to {config.threads} threads")
    for address in addresses:
        click.echo(f"Listening on {address.url} (Ctrl-C to stop)")
    sys.stdout.flush()


def _explain(error: OSError, config: ServerConfig) -> str:
    where = config.unix_socket or f"{config.host}:{config.port}"
    if error.errno == errno.EADDRINUSE or "in use" in str(error):
        return (
            f"Can't listen on {where}: another program does already.\n"
            "Stop that one, or choose another port with --port (0 for any free one)."
        )
    if error.errno == errno.EACCES or isinstance(error, PermissionError):
        return (
            f"Can't listen on {where}: permission denied. Ports below 1024 need a privilege;"
            " choose another with --port."
        )
    if config.unix_socket is not None and not Path(config.unix_socket).parent.is_dir():
        return f"Can't listen on {where}: there is no such directory."
    return f"Can't listen on {where}: {error}"


if __name__ == "__main__":
    main()
