"""Shows what carboy is for: `python examples/demo`.

Starts three HTTP services with stated delays, then serves the Flask app of this directory as its
author would, with `carboy run app:app`, and prints the address to open. With `--once`, calls every
view instead, prints a table of their times, and exits with 0 only if all of them are right.
"""

import argparse
import asyncio
import re
import signal
import socket
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from background import BackgroundProcess, DemoError
from check import ViewError, check, format_table
from services import SERVICES

DIRECTORY = str(Path(__file__).resolve().parent)
DEFAULT_PORT = 8000
START_TIMEOUT_SECONDS = 10.0
CHECK_TIMEOUT_SECONDS = 55.0
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ADDRESS = re.compile(r"http://127\.0\.0\.1:[1-9]\d*")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="examples/demo",
        description="One dashboard, three HTTP services, eight ways to fetch them from Flask.",
    )
    parser.add_argument(
        "--once", action="store_true", help="call every view, print the table of times, and exit"
    )
    parser.add_argument(
        "--port", type=int, help=f"port of the page (default: {DEFAULT_PORT}, or a free one)"
    )
    parser.add_argument(
        "--server",
        choices=("carboy", "flask"),
        default="carboy",
        help="flask: serve the same app with `flask run`, to compare (needs `flask[async]`)",
    )
    return parser.parse_args()


def choose_port(arguments: argparse.Namespace) -> int:
    """Return the port to ask the server for; 0 lets it take any free one."""
    if arguments.port is not None:
        return arguments.port
    if arguments.once:
        return 0
    with socket.socket() as probe:
        # Servers set this too, so that a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            print(f"Port {DEFAULT_PORT} is in use: taking a free one.", flush=True)
            return 0
    return DEFAULT_PORT


def start_upstreams() -> tuple[BackgroundProcess, dict[str, str]]:
    """Start the three services, and return them with the variables that say where they are."""
    upstreams = BackgroundProcess(
        "the upstream services",
        [sys.executable, "upstreams.py", "--until-stdin-closes"],
        environment={},
        directory=DIRECTORY,
    )
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    addresses: dict[str, str] = {}
    try:
        for service in SERVICES:
            variable, separator, address = upstreams.read_line(deadline).strip().partition("=")
            if not separator:
                raise DemoError("The upstream services printed something other than addresses.")
            addresses[variable] = address
            print(f"  {service.name:<16}{address}  answers after {service.delay_ms} ms", flush=True)
    except DemoError:
        print_log(upstreams)
        upstreams.stop()
        raise
    return upstreams, addresses


def server_command(arguments: argparse.Namespace, port: int) -> list[str]:
    """Return the command that serves the app, from the scripts of this environment."""
    server = arguments.server
    script = Path(sysconfig.get_path("scripts")) / server
    if not script.exists():
        raise DemoError(
            f"There is no `{server}` command in {script.parent}. Run `make demo`, or install it "
            f"into this environment with `{sys.executable} -m pip install .`."
        )
    if server == "flask":
        return [str(script), "--app", "app:app", "run", "--port", str(port)]
    # The log of a check is shown only if something is wrong; what matters would drown in requests.
    quiet = ["--no-access-log"] if arguments.once else []
    return [str(script), "run", "app:app", "--port", str(port), *quiet]


def wait_for_address(server: BackgroundProcess) -> str:
    """Return the address that the server printed, once the page answers there."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    match = None
    while match is None:
        match = ADDRESS.search(server.read_line(deadline))
    address = match[0]
    # The proxy that the environment may name has no way to this machine's loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(address, timeout=5):
                return address
        except urllib.error.HTTPError as error:
            error.close()
            raise DemoError(f"{address} answers {error.code} {error.reason}.") from error
        except OSError as error:
            if server.exit_code is not None or time.monotonic() > deadline:
                raise DemoError(f"{address} does not answer: {error}") from error
            time.sleep(0.05)


def print_log(process: BackgroundProcess) -> None:
    """Print what a process printed, to say why something went wrong."""
    print(f"\nOutput of {process.name}:")
    print(process.log or "(nothing)")
    print(flush=True)


@contextmanager
def running(arguments: argparse.Namespace) -> Iterator[tuple[BackgroundProcess, str]]:
    """Run the services and the app, and stop both at the end; an unclean stop is an error."""
    port = choose_port(arguments)
    command = server_command(arguments, port)
    print("Starting three upstream services:", flush=True)
    upstreams, addresses = start_upstreams()
    processes = [upstreams]
    try:
        print(f"Starting the app: {arguments.server} {' '.join(command[1:])}", flush=True)
        server = BackgroundProcess(
            arguments.server,
            command,
            environment={
                **addresses,
                "CARBOY_HTTP_TIMELINE": "1",
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
            },
            directory=DIRECTORY,
            echo=not arguments.once,
        )
        processes.insert(0, server)
        yield server, wait_for_address(server)
    except (DemoError, ViewError):
        # The first failure is the one to report, not what it makes of the rest.
        stop_all(processes)
        if not processes[0].echo:
            print_log(processes[0])
        raise
    except BaseException:
        stop_all(processes)
        raise
    faults = stop_all(processes)
    if faults:
        print_log(server)
        raise DemoError(" ".join(faults))
    print("Everything is shut down.", flush=True)


def stop_all(processes: list[BackgroundProcess]) -> list[str]:
    """Stop the processes in this order, and return what went wrong with it."""
    # This is bounded in time, and must not be left half done.
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    faults = []
    for process in processes:
        try:
            code = process.stop()
        except DemoError as error:
            faults.append(str(error))
        else:
            # `flask run` has no answer to SIGTERM: that it dies of it is its clean end.
            if code not in (0, -signal.SIGTERM if process.name == "flask" else 0):
                faults.append(f"{process.name} stopped with exit code {code}.")
    return faults


def run_once(arguments: argparse.Namespace) -> bool:
    """Check every view, and return whether all of them are right."""
    with running(arguments) as (server, address):
        print(f"The app answers at {address}.", flush=True)
        try:
            outcomes = asyncio.run(asyncio.wait_for(check(address), CHECK_TIMEOUT_SECONDS))
        except TimeoutError:
            message = f"The views were not all checked within {CHECK_TIMEOUT_SECONDS:.0f} s."
            raise DemoError(message) from None
        print(f"\n{format_table(outcomes)}\n")
        faults = [f"{o.expectation.view}: {fault}." for o in outcomes for fault in o.faults]
        if faults:
            print_log(server)
            print("\n".join(faults), flush=True)
    return not faults


def run_until_stopped(arguments: argparse.Namespace) -> bool:
    """Serve the page until SIGINT, SIGTERM or SIGHUP."""
    with running(arguments) as (server, address):
        print(f"\nOpen {address} (Ctrl-C stops everything).", flush=True)
        try:
            while True:
                server.read_line()
        except KeyboardInterrupt:
            print("\nStopping.", flush=True)
    return True


def interrupt(*_: object) -> None:
    """End the demo as Ctrl-C does, so that whatever it started is stopped."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo, and return the exit code of the process."""
    arguments = parse_arguments()
    # SIGINT too, because shells start background jobs with SIGINT ignored.
    for number in INTERRUPTS:
        signal.signal(number, interrupt)
    try:
        right = run_once(arguments) if arguments.once else run_until_stopped(arguments)
    except (DemoError, ViewError) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped before the end.", file=sys.stderr)
        return 130
    if arguments.once:
        print("All views are right." if right else "Not all views are right.", flush=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
