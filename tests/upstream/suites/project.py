"""Which projects are run, and where their sources come from."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent.parent
BUILD = REPOSITORY / ".build" / "upstream"


@dataclass(frozen=True)
class Project:
    """A project whose suite is run, as `projects.toml` describes it."""

    name: str
    requirement: str
    sha256: str
    needs: tuple[str, ...]
    minimum_requests: int
    minimum_awaits: int
    minimum_over_sockets: int
    options: tuple[str, ...]


def load_projects() -> dict[str, Project]:
    """Read `projects.toml`, in the order of the file."""
    table = tomllib.loads((HERE / "projects.toml").read_text())
    return {
        name: Project(
            name=name,
            requirement=entry["requirement"],
            sha256=entry["sha256"],
            needs=tuple(entry["needs"]),
            minimum_requests=entry["minimum_requests"],
            minimum_awaits=entry["minimum_awaits"],
            minimum_over_sockets=entry["minimum_over_sockets"],
            options=tuple(entry.get("options", ())),
        )
        for name, entry in table.items()
    }


class SourceDistribution(Protocol):
    """What is known of a source distribution: its version, and the digest of its archive."""

    @property
    def name(self) -> str: ...
    @property
    def requirement(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def fetch_source(project: SourceDistribution, build: Path = BUILD) -> Path:
    """Return the unpacked source distribution, downloading it to `build` only once."""
    target = build / "sources" / project.requirement.replace("==", "-").lower()
    if target.is_dir():
        return target
    downloads = build / "downloads" / project.name
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    print(f"{build.name}: downloading the source distribution {project.requirement}", flush=True)
    distribution, _, _ = project.requirement.partition("==")
    requirements = downloads / "requirements.txt"
    requirements.write_text(f"{project.requirement} --hash=sha256:{project.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", distribution, "--dest", str(downloads), "-r", str(requirements)]
    subprocess.run(command, check=True, timeout=300)
    (archive,) = downloads.glob("*.tar.gz")
    unpack(archive, target)
    return target


def unpack(archive: Path, target: Path) -> None:
    """Unpack the one folder that a source distribution holds to `target`."""
    unpacked = archive.parent / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (root,) = unpacked.iterdir()
    target.parent.mkdir(parents=True, exist_ok=True)
    # The rename comes last, so that an interrupted run leaves no half folder
    # that the next run would take for a whole one.
    root.rename(target)
