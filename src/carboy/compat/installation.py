"""``carboy.install``: carboy's pool below the HTTP libraries of a whole program."""

from __future__ import annotations

import importlib
import threading

from carboy.compat.patching import Patches

#: The libraries, and the modules here that know them.
_MODULES = {name: f"carboy.compat.{name}" for name in ("requests", "httpx", "httpx2")}

_lock = threading.Lock()
_installed: dict[str, Patches] = {}


def install(*libraries: str) -> None:
    """Let other HTTP libraries make their calls over carboy's pool.

    Sessions and clients that exist already are included. Mocks and tracers of these libraries
    work as before: what they replace lies above. Calling it again changes nothing. Mocks that
    are active must be started after it.

    Args:
        libraries: ``requests``, ``httpx``, ``httpx2``.

    Raises:
        ValueError: If a library is unknown.
        ImportError: If one is not there, or too old.
        RuntimeError: If a mock has replaced what is to be replaced.
    """
    _check(libraries, "install")
    modules = {}
    for name in libraries:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"carboy.install({name!r}) needs {name}, which is not installed: {error}"
            ) from error
        modules[name] = importlib.import_module(_MODULES[name])
    with _lock:
        for name, module in modules.items():
            if name in _installed:
                continue
            patches = Patches()
            try:
                module.patch(patches)
            except BaseException:
                patches.restore()
                raise
            patches.is_active = True
            _installed[name] = patches


def uninstall(*libraries: str) -> None:
    """Undo ``install``, for the calls that begin from now on.

    Args:
        libraries: As for ``install``; those that were not installed are passed over.

    Raises:
        ValueError: If a library is unknown.
    """
    _check(libraries, "uninstall")
    with _lock:
        for name in libraries:
            if (patches := _installed.pop(name, None)) is not None:
                patches.restore()


def _check(libraries: tuple[str, ...], function: str) -> None:
    if not libraries:
        raise ValueError(f"carboy.{function}() needs the name of a library: {_names()}")
    for name in libraries:
        if name not in _MODULES:
            raise ValueError(f"carboy.{function}() knows {_names()}, and not {name!r}")


def _names() -> str:
    return ", ".join(repr(name) for name in _MODULES)
