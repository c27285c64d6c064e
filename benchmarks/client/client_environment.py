"""Makes what the comparison needs: the clients, carboy as a user gets it, the upstream."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
BUILD = REPOSITORY / ".build" / "benchmarks" / "client"

# Compiling carboy with full link-time optimisation is the slow part.
STEP_SECONDS = 1800


@dataclass(frozen=True)
class ClientEnvironment:
    """The interpreters by the names of their environments, and the upstream's program."""

    pythons: dict[str, Path]
    upstream: Path


def make(carboy: Path | None) -> ClientEnvironment:
    """Make what is missing. With a directory for carboy, carboy is not built."""
    pythons = {
        "peers": _install("venv", HERE / "requirements.txt"),
        "niquests": _install("venv-niquests", HERE / "requirements-niquests.txt"),
    }
    if carboy is None:
        # pip compares versions, and the version of a working tree stays the same.
        print("building carboy (minutes, the first time)", flush=True)
        pip = (str(pythons["peers"]), "-m", "pip", "install", "--quiet")
        _run(*pip, "--disable-pip-version-check", "--no-deps", "--force-reinstall", str(REPOSITORY))
    print("building the upstream", flush=True)
    target = BUILD.parent / "load"
    manifest = str(HERE.parent / "load" / "Cargo.toml")
    _run(
        *("cargo", "build", "--release", "--locked", "--quiet", "--bin", "client_upstream"),
        *("--manifest-path", manifest, "--target-dir", str(target)),
    )
    return ClientEnvironment(pythons, target / "release" / "client_upstream")


def _install(name: str, requirements: Path) -> Path:
    directory = BUILD / name
    python = directory / "bin" / "python"
    stamp = directory / "requirements.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return python
    print(f"making {directory}", flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(directory))
    install = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*install, "--requirement", str(requirements))
    stamp.write_text(requirements.read_text())
    return python


def make_certificates(python: Path, directory: Path) -> tuple[Path, Path]:
    """Return an authority's certificate, and a file with a server's certificate and key."""
    authority, server = directory / "authority.pem", directory / "server.pem"
    program = (
        "import sys, trustme\n"
        "authority = trustme.CA()\n"
        "server = authority.issue_cert('127.0.0.1', 'localhost')\n"
        "authority.cert_pem.write_to_path(sys.argv[1])\n"
        "server.private_key_and_cert_chain_pem.write_to_path(sys.argv[2])\n"
    )
    _run(str(python), "-c", program, str(authority), str(server))
    return authority, server


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=STEP_SECONDS, check=True)
