"""httpbin, installed beside the running interpreter and served by two servers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BUILD = REPOSITORY / ".build" / "httpbin"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
"""Seconds in which a server without requests in progress has to end."""

# Every package is named here and installed without its dependencies, because
# httpbin asks for greenlet < 3 on CPython 3.11 (for gevent, which is not used),
# and carboy needs a newer one. Flask comes from the running interpreter.
PACKAGES = (
    "brotlicffi==1.2.1.0",
    "cffi==2.1.1",
    "decorator==5.3.1",
    "gunicorn==27.0.1",
    "httpbin==0.10.4",
    "packaging==26.3",
    "pycparser==3.12",
    "six==1.17.0",
)

COMMANDS = {
    "gunicorn": [
        *("-m", "gunicorn", "-k", "gthread", "--threads", "4", "--no-control-socket"),
        *("-b", "127.0.0.1:{port}", "httpbin:app"),
    ],
    "carboy": [
        *("-c", "import sys; from carboy.cli import main; sys.exit(main())"),
        *("run", "httpbin:app", "--host", "127.0.0.1", "--port", "{port}"),
    ],
}


def install_httpbin() -> Path:
    """Return a folder with httpbin and gunicorn, filled on the first call."""
    folder = BUILD / f"packages-{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
    stamp = folder / "installed.txt"
    if stamp.is_file() and stamp.read_text() == "\n".join(PACKAGES):
        return folder
    print(f"httpbin: installing {', '.join(PACKAGES)} to {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--target", str(folder), *PACKAGES]
    subprocess.run(command, check=True, timeout=300)
    stamp.write_text("\n".join(PACKAGES))
    return folder


def free_addresses(count: int) -> list[tuple[str, int]]:
    """Return different addresses that nothing listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname() for probe in probes]


class HttpbinServer:
    """httpbin, served at an address by the named server while this is entered."""

    def __init__(self, server: str, address: tuple[str, int]) -> None:
        self.address = address
        self.stopped_in_time = False
        packages = install_httpbin()
        self.command = [part.format(port=address[1]) for part in COMMANDS[server]]
        paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        self.log = BUILD / f"{server}-{address[1]}.log"

    def __enter__(self) -> Self:
        """Start the server.

        It runs in the build folder, so that no module of this repository shadows
        an installed one.
        """
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=BUILD,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_until_listening()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.log.unlink()

    def wait_until_listening(self) -> None:
        """Return as soon as the server accepts connections."""
        deadline = time.monotonic() + START_TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(self.address, timeout=1.0).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        message = f"nothing listens on {self.address} (exit code {self.process.poll()})"
        raise RuntimeError(f"{message}:\n{self.log.read_text(errors='replace')}")

    def stop(self) -> None:
        """End the server, and note whether it did so by itself."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
            self.stopped_in_time = True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
