"""Installs the servers that the smokes need, from Debian's packages, unless they are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from database_servers import NotInstalledError, find_program, postgresql_folders


def missing_packages() -> list[str]:
    """Return the packages whose programs are not here."""
    missing = []
    wanted = (("postgres", "postgresql"), ("redis-server", "redis-server"))
    for program, package in wanted:
        try:
            find_program(program, package, *postgresql_folders())
        except NotInstalledError:
            missing.append(package)
    return missing


def main() -> int:
    """Install what is missing and return the exit status."""
    packages = missing_packages()
    if not packages:
        return 0
    names = " ".join(packages)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print(
            f"smokes: install {names} by your system's package manager;"
            " with Debian's, and as root, this is done here",
            file=sys.stderr,
        )
        return 1
    print(f"smokes: installing Debian's packages {names}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "--quiet", "--yes"]
    subprocess.run([*apt, "update"], check=True, env=environment, timeout=300)
    install = [*apt, "install", "--no-install-recommends", *packages]
    subprocess.run(install, check=True, env=environment, timeout=600)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
