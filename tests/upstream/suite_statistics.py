"""A pytest plugin that counts, for the runner, what a suite did.

Each test's number of requests goes to the JUnit file as the property
`client_requests`. The totals, and the counts of carboy's takeover if that
plugin is active, go to the file named by `--suite-statistics`.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import werkzeug.test

if TYPE_CHECKING:
    from collections.abc import Generator

TAKEOVER = "carboy.testing.takeover"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite-statistics", type=Path, required=True, metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RequestCounter(config.getoption("--suite-statistics")))


class RequestCounter:
    """Counts the requests that test clients send.

    The client's method is wrapped rather than the function below it, because
    that function is the seam which the plugins under test replace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.total = 0
        original = werkzeug.test.Client.run_wsgi_app

        @functools.wraps(original)
        def run_wsgi_app(client: Any, *args: Any, **kwargs: Any) -> Any:
            self.total += 1
            return original(client, *args, **kwargs)

        werkzeug.test.Client.run_wsgi_app = run_wsgi_app  # type: ignore[method-assign, assignment]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        before = self.total
        try:
            return (yield)
        finally:
            item.user_properties.append(("client_requests", self.total - before))

    def pytest_sessionfinish(self) -> None:
        statistics = {"client_requests": self.total}
        if TAKEOVER in sys.modules:
            statistics |= sys.modules[TAKEOVER].statistics
        self.path.write_text(json.dumps(statistics))
