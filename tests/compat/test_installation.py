"""`carboy.install` and `carboy.uninstall`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from unittest import mock

import httpcore
import httpx
import pytest
import requests

import carboy
from carboy.compat.urllib3_response import Response

if TYPE_CHECKING:
    from compat_servers import Upstream


def test_unknown_names_and_none_are_refused() -> None:
    with pytest.raises(ValueError, match="knows 'requests', 'httpx', 'httpx2', and not 'urllib4'"):
        carboy.install("urllib4")
    with pytest.raises(ValueError, match="needs the name of a library"):
        carboy.install()
    with pytest.raises(ValueError, match=r"uninstall\(\) knows"):
        carboy.uninstall("urllib4")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    carboy.uninstall("httpx2")
    with pytest.raises(ImportError, match="needs httpx2, which is not installed"):
        carboy.install("httpx2")


def test_installing_again_changes_nothing_and_uninstalling_undoes_it(upstream: Upstream) -> None:
    method = "get_connection_with_tls_context"
    ours = getattr(requests.adapters.HTTPAdapter, method)
    carboy.install("requests", "httpx")
    assert getattr(requests.adapters.HTTPAdapter, method) is ours
    carboy.uninstall("requests", "httpx", "httpx")
    assert getattr(requests.adapters.HTTPAdapter, method) is ours.__wrapped__
    assert not isinstance(requests.get(upstream.url, stream=True).raw, Response)
    assert "_carboy" not in str(httpx.get(upstream.url).extensions["network_stream"])


def test_sessions_that_exist_are_included(upstream: Upstream) -> None:
    carboy.uninstall("requests", "httpx")
    with requests.Session() as session, httpx.Client() as client:
        assert not isinstance(session.get(upstream.url).raw, Response)
        client.get(upstream.url)
        carboy.install("requests", "httpx")
        assert isinstance(session.get(upstream.url).raw, Response)
        network = client.get(upstream.url).extensions["network_stream"]
        assert type(network).__module__ == "carboy.compat.httpcore_message"


def test_a_mock_that_is_active_already_is_not_passed_by() -> None:
    carboy.uninstall("httpx")
    with (
        mock.patch.object(httpcore.ConnectionPool, "handle_request"),
        pytest.raises(RuntimeError, match=r"has to come before mocks and tracers: .*handle_req"),
    ):
        carboy.install("httpx")
    carboy.install("httpx")


@pytest.mark.parametrize("order", ["before", "after"])
def test_it_works_before_and_after_the_library_is_imported(order: str, upstream: Upstream) -> None:
    lines = ["import requests", "carboy.install('requests')"]
    if order == "before":
        lines.reverse()
    program = "\n".join(
        [
            "import carboy",
            *lines,
            "import requests",
            f"raw = requests.get({upstream.url!r}, stream=True).raw",
            "print(type(raw).__module__)",
        ]
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == "carboy.compat.urllib3_response", run.stderr
    assert run.stderr == ""
