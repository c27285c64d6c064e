"""A pytest plugin that puts carboy's pool below HTTP clients, and httpbin on carboy.

`pytest -p installed_clients --install=requests` runs a suite with
`carboy.install("requests")` in force from before its first import of anything.
`--httpbin=carboy` lets pytest-httpbin's plain server be carboy's, in a process of its
own, as a server and its client are in practice.

How many requests went through carboy's pool goes to the file named by
`--client-statistics`: an installation that does nothing would pass every suite.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--install", action="append", default=[], metavar="LIBRARY")
    parser.addoption("--httpbin", choices=["carboy", "own"], default="own")
    parser.addoption("--client-statistics", type=Path, metavar="FILE")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    libraries = config.getoption("--install")
    counted = {"requests": 0}
    if libraries:
        import carboy
        from carboy.compat import exchange

        carboy.install(*libraries)
        count_calls(exchange, "_end", counted)
    if config.getoption("--httpbin") == "carboy":
        serve_httpbin_with_carboy()
    config.pluginmanager.register(Report(config.getoption("--client-statistics"), counted))


def count_calls(owner: Any, name: str, counted: dict[str, int]) -> None:
    """Count the responses that come from carboy's pool: what ends without an error."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def counting(*args: Any, **kwargs: Any) -> Any:
        counted["requests"] += "response" in kwargs
        return original(*args, **kwargs)

    setattr(owner, name, counting)


def serve_httpbin_with_carboy() -> None:
    """Replace the server of pytest-httpbin."""
    from httpbin_server import Server
    from pytest_httpbin import serve

    serve.Server = Server


class Report:
    """Writes the numbers down."""

    def __init__(self, path: Path | None, counted: dict[str, int]) -> None:
        self.path = path
        self.counted = counted

    def pytest_sessionfinish(self) -> None:
        if self.path is not None:
            self.path.write_text(json.dumps(self.counted))
