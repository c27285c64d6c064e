"""Makes what a comparison needs: the Rust programs, the peers, and carboy itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers import Peer

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
BUILD = REPOSITORY / ".build" / "benchmarks"
VIRTUAL_ENVIRONMENT = BUILD / "venv"
STAMP = VIRTUAL_ENVIRONMENT / "benchmarks.json"
REQUIREMENTS = HERE / "requirements.txt"

# Compiling carboy with full link-time optimisation is the slow part.
STEP_SECONDS = 1800


@dataclass(frozen=True)
class Environment:
    """Where everything is, once it has been made."""

    apps: Path
    load: Path
    scripts: Path
    carboy_scripts: Path

    def command(self, peer: Peer, *, port: int) -> tuple[str, ...]:
        """Fill in the places of a peer's command."""
        places = {
            "bin": str(self.scripts),
            "carboy_bin": str(self.carboy_scripts),
            "load": str(self.load),
            "port": str(port),
        }
        return tuple(part.format_map(places) for part in peer.command)


def make_environment(*, with_carboy: bool, carboy_scripts: Path | None) -> Environment:
    """Make what is missing or out of date.

    carboy is built from this repository by `pip install`, as a user would get it, and
    not taken from the calling interpreter: a development build may be unoptimised or
    older than the source, and its environment holds other versions of its neighbours.
    `carboy_scripts` overrides that, for work on the harness itself.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    scripts = VIRTUAL_ENVIRONMENT / "bin"
    load = _build_load()
    _install_peers(scripts)
    if with_carboy and carboy_scripts is None:
        _install_carboy(scripts)
    return Environment(
        apps=HERE / "apps",
        load=load,
        scripts=scripts,
        carboy_scripts=carboy_scripts or scripts,
    )


def _build_load() -> Path:
    target = BUILD / "load"
    _run(
        "building the load generator, the upstream and the static server",
        *("cargo", "build", "--release", "--locked", "--quiet"),
        *("--manifest-path", str(HERE / "load" / "Cargo.toml"), "--target-dir", str(target)),
    )
    return target / "release"


def _install_peers(scripts: Path) -> None:
    requirements = REQUIREMENTS.read_text()
    wanted = {"python": sys.version, "requirements": requirements}
    stamp = _read_stamp()
    if {key: stamp.get(key) for key in wanted} == wanted:
        return
    directory = str(VIRTUAL_ENVIRONMENT)
    _run(f"creating {directory}", sys.executable, "-m", "venv", "--clear", directory)
    _run(
        "installing the peers",
        *(str(scripts / "python"), "-m", "pip", "install", "--quiet", "--no-input"),
        *("--disable-pip-version-check", "--requirement", str(REQUIREMENTS)),
    )
    STAMP.write_text(json.dumps(wanted))


def _install_carboy(scripts: Path) -> None:
    stamp = _read_stamp()
    fingerprint = _fingerprint(_carboy_sources())
    if stamp.get("carboy") == fingerprint:
        return
    _run(
        "building carboy (minutes, the first time)",
        *(str(scripts / "python"), "-m", "pip", "install", "--quiet", "--no-input"),
        *("--disable-pip-version-check", "--no-deps", "--force-reinstall", str(REPOSITORY)),
    )
    STAMP.write_text(json.dumps({**stamp, "carboy": fingerprint}))


def _carboy_sources() -> Iterator[Path]:
    for name in ("Cargo.lock", "Cargo.toml", "README.md", "pyproject.toml"):
        yield REPOSITORY / name
    for directory in ("crates", "src"):
        for path in sorted((REPOSITORY / directory).rglob("*")):
            if path.suffix in {".py", ".pyi", ".rs", ".toml"}:
                yield path


def _fingerprint(paths: Iterator[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _read_stamp() -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stamp


def _run(what: str, *command: str) -> None:
    print(f"{what} ...", flush=True)
    result = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=STEP_SECONDS, check=False)
    if result.returncode != 0:
        raise SystemExit(f"failed with status {result.returncode}: {' '.join(command)}")
