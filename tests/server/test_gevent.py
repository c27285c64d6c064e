"""A process that gevent has patched has no threads to work on, and is told so."""

from __future__ import annotations

import sys
import types

import pytest
from flask import Flask

import carboy


@pytest.mark.parametrize("is_patched", [True, False])
def test_patched_threads_are_refused(is_patched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkey = types.ModuleType("gevent.monkey")
    monkey.is_module_patched = lambda name: is_patched and name == "threading"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    loop = carboy.new_event_loop()
    try:
        if is_patched:
            with pytest.raises(RuntimeError, match="needs real threads"):
                carboy.Server(Flask(__name__), carboy.ServerConfig(port=0), loop)
        else:
            carboy.Server(Flask(__name__), carboy.ServerConfig(port=0), loop)
    finally:
        loop.close()
