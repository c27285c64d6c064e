"""The virtual environment that the suites run in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suites.project import BUILD, HERE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from suites.project import Project

CONSTRAINTS = HERE / "constraints.txt"


def create_environment(projects: Iterable[Project], flask_source: Path | None) -> Path:
    """Return the interpreter of an environment with the projects installed.

    The environment is made once and reused until a pin changes. A Flask from
    a checkout gets an environment of its own, and is installed anew each time
    because a checkout changes without telling.
    """
    requirements = [project.requirement for project in projects]
    requirements += [need for project in projects for need in project.needs]
    requirements += ["pytest", *carboy_requirements()]
    if flask_source is not None:
        requirements = [r for r in requirements if not r.lower().startswith("flask==")]
    version = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
    suffix = "" if flask_source is None else "-flask-source"
    environment = BUILD / f"venv-{version}{suffix}"
    interpreter = install_requirements(environment, requirements, CONSTRAINTS)
    if flask_source is not None:
        print(f"upstream: installing Flask from {flask_source}", flush=True)
        install(interpreter, ["--force-reinstall", "--no-deps", str(flask_source)])
    link_carboy(environment)
    return interpreter


def install_requirements(environment: Path, requirements: list[str], constraints: Path) -> Path:
    """Make a virtual environment, unless it is there with these very versions.

    Returns its interpreter.
    """
    interpreter = environment / "bin" / "python"
    stamp = environment / "installed.sha256"
    wanted = hashlib.sha256("\n".join([*requirements, constraints.read_text()]).encode())
    if not (stamp.is_file() and stamp.read_text() == wanted.hexdigest()):
        label = environment.parent.name
        print(f"{label}: creating {environment} and installing the suites' needs", flush=True)
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
        install(interpreter, requirements, constraints)
        stamp.write_text(wanted.hexdigest())
    return interpreter


def install(interpreter: Path, arguments: list[str], constraints: Path = CONSTRAINTS) -> None:
    """Run pip for the given environment, with the pins in force."""
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "-c", str(constraints)]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*command, *arguments], check=True, timeout=600, env=environment)


def carboy_requirements() -> list[str]:
    """Return what carboy itself needs at run time, without its extras."""
    try:
        requirements = importlib.metadata.requires("carboy") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [requirement for requirement in requirements if "extra ==" not in requirement]


def carboy_is_installed() -> bool:
    """Say whether the running interpreter can import carboy."""
    return importlib.util.find_spec("carboy") is not None


def link_carboy(environment: Path) -> None:
    """Make the running interpreter's carboy importable in the environment.

    Two symbolic links, to the package and to its metadata, do it: nothing is
    built a second time, the suites judge the very extension module that the
    developer has just built, and no other package of the running interpreter
    (pytest plugins above all) becomes visible to the suites.
    """
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    for old in site_packages.glob("carboy*"):
        old.unlink()
    spec = importlib.util.find_spec("carboy")
    if spec is None or spec.origin is None:
        return
    (site_packages / "carboy").symlink_to(Path(spec.origin).resolve().parent)
    try:
        distribution = importlib.metadata.distribution("carboy")
    except importlib.metadata.PackageNotFoundError:
        # A carboy that is merely on `sys.path` has no metadata to link.
        return
    metadata = Path(str(distribution.locate_file(f"carboy-{distribution.version}.dist-info")))
    if metadata.is_dir():
        (site_packages / metadata.name).symlink_to(metadata)
