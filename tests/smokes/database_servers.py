"""PostgreSQL and Redis in processes of their own, with data that ends with them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.server_process import ServerProcess

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

START_TIMEOUT_SECONDS = 60
UNPRIVILEGED_USERS = ("postgres", "nobody")


class NotInstalledError(Exception):
    """A server is not to be had here; the text says which and whence."""


def find_program(name: str, package: str, *folders: Path) -> Path:
    """Return the path of a server's program.

    Raises:
        NotInstalledError: If it is neither on the path nor in one of the folders.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    found = shutil.which(name)
    if found is None:
        raise NotInstalledError(
            f"there is no {name} here: `make smokes` installs Debian's package {package}"
            " if it runs as root; elsewhere, put the program on the path"
        )
    return Path(found)


def postgresql_folders() -> list[Path]:
    """Return where Debian puts the programs of PostgreSQL, the newest version first."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)


def unprivileged_user() -> str | None:
    """Return whose rights PostgreSQL gets, which refuses to run with those of root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NotInstalledError(
        f"PostgreSQL does not run as root, and there is no user of {UNPRIVILEGED_USERS}"
    )


@contextmanager
def private_folder(user: str | None) -> Iterator[Path]:
    """Make a folder that a server keeps its data in. Its path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="smoke-", ignore_cleanup_errors=True) as name:
        if user is not None:
            shutil.chown(name, user)
        yield Path(name)


@contextmanager
def run_server(command: list[str], ready: str, folder: Path) -> Iterator[re.Match[str]]:
    """Run a server from the line that says it is ready to the end of the block."""
    server = ServerProcess(folder, command=command)
    try:
        yield server.wait_for_line(ready, timeout=START_TIMEOUT_SECONDS)
    finally:
        # With SIGTERM, PostgreSQL would wait for clients whose test has failed.
        server.send_signal(signal.SIGINT)
        server.wait()
        server.__exit__()


@contextmanager
def run_postgresql() -> Iterator[str]:
    """Run a PostgreSQL server; gives the address of a database on a unix socket.

    Raises:
        NotInstalledError: If there is none here.
    """
    initialize = find_program("initdb", "postgresql", *postgresql_folders())
    serve = find_program("postgres", "postgresql", *postgresql_folders())
    user = unprivileged_user()
    as_user = [] if user is None else ["setpriv", f"--reuid={user}", "--clear-groups"]
    with private_folder(user) as folder:
        data = folder / "data"
        arguments = ["--username=carboy", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(
            [*as_user, str(initialize), *arguments, f"--pgdata={data}"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=START_TIMEOUT_SECONDS,
        )
        command = [*as_user, str(serve), "-D", str(data), "-k", str(folder), "-F"]
        command += ["-c", "listen_addresses="]
        with run_server(command, "database system is ready to accept connections", folder):
            yield f"postgresql://carboy@/postgres?host={folder}"


@contextmanager
def run_redis() -> Iterator[str]:
    """Run a Redis server; gives its address on a unix socket.

    Raises:
        NotInstalledError: If there is none here.
    """
    serve = find_program("redis-server", "redis-server")
    with private_folder(None) as folder:
        socket = folder / "redis.sock"
        command = [str(serve), "--port", "0", "--unixsocket", str(socket), "--save", ""]
        command += ["--appendonly", "no", "--dir", str(folder)]
        with run_server(command, "eady to accept connections", folder):
            yield f"unix://{socket}"
