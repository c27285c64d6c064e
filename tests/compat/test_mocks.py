"""Tools that stand in for the network stay in force: none of their calls goes out."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpx
import httpx2
import pytest
import requests
import requests_mock
import responses
import respx
import urllib3
import vcr
from urllib3.util import connection as urllib3_connection

import carboy

if TYPE_CHECKING:
    from pathlib import Path

    from compat_servers import Upstream
    from pytest_httpx import HTTPXMock


def test_responses(upstream: Upstream) -> None:
    with responses.RequestsMock() as mocked:
        mocked.get(upstream.url, body="mocked")
        assert requests.get(upstream.url).text == "mocked"
        with pytest.raises(requests.ConnectionError, match="Connection refused by Responses"):
            requests.get(f"{upstream.url}/other")
    assert upstream.received == []


def test_requests_mock(upstream: Upstream) -> None:
    with requests_mock.Mocker() as mocked:
        mocked.get(upstream.url, text="mocked")
        assert requests.get(upstream.url).text == "mocked"
        with pytest.raises(requests_mock.NoMockAddress):
            requests.get(f"{upstream.url}/other")
    assert upstream.received == []


async def get_by_httpx(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).text


@pytest.mark.parametrize("run", [asyncio.run, carboy.run])
def test_respx(upstream: Upstream, run: Any) -> None:
    with respx.mock(assert_all_called=False) as mocked:
        mocked.get(upstream.url).respond(text="mocked")
        assert httpx.get(upstream.url, trust_env=False).text == "mocked"
        assert run(get_by_httpx(upstream.url)) == "mocked"
    assert upstream.received == []
    assert httpx.get(upstream.url, trust_env=False).text == "ok"


@pytest.mark.parametrize("run", [asyncio.run, carboy.run])
def test_pytest_httpx(upstream: Upstream, httpx_mock: HTTPXMock, run: Any) -> None:
    httpx_mock.add_response(text="mocked", is_reusable=True)
    assert httpx.get(upstream.url, trust_env=False).text == "mocked"
    assert run(get_by_httpx(upstream.url)) == "mocked"
    assert upstream.received == []


def test_vcrpy_records_and_replays(upstream: Upstream, tmp_path: Path) -> None:
    cassette = str(tmp_path / "cassette.yaml")
    texts = []
    for _ in range(2):
        with vcr.use_cassette(cassette):
            texts.append(requests.get(f"{upstream.url}/1").text)
            texts.append(httpx.get(f"{upstream.url}/2", trust_env=False).text)
            texts.append(asyncio.run(get_by_httpx(f"{upstream.url}/3")))
    assert texts == ["ok"] * 6
    assert [received.line.split(" ")[1] for received in upstream.received] == ["/1", "/2", "/3"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (socket, "socket"),
        (socket, "getaddrinfo"),
        (urllib3_connection, "create_connection"),
        (urllib3.connectionpool.HTTPConnectionPool, "_make_request"),
        (urllib3.connectionpool.HTTPConnectionPool, "ConnectionCls"),
    ],
)
def test_what_forbids_the_network_to_requests(upstream: Upstream, owner: Any, name: str) -> None:
    with (
        mock.patch.object(owner, name, side_effect=PermissionError("no network in tests")) as patch,
        pytest.raises((PermissionError, requests.ConnectionError)),
    ):
        requests.get(upstream.url)
    assert patch.called
    assert upstream.received == []


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("name", ["socket", "create_connection", "getaddrinfo"])
def test_what_forbids_the_network_to_httpx(upstream: Upstream, library: Any, name: str) -> None:
    with (
        mock.patch.object(
            socket, name, side_effect=PermissionError("no network in tests")
        ) as patch,
        pytest.raises((PermissionError, library.ConnectError)),
    ):
        library.get(upstream.url, trust_env=False)
    assert patch.called
    assert upstream.received == []


def test_a_tracer_around_send_sees_every_call(upstream: Upstream) -> None:
    seen = []
    send = requests.Session.send
    handle = httpx.HTTPTransport.handle_request

    def traced_send(self: requests.Session, request: Any, **options: Any) -> requests.Response:
        seen.append(request.url)
        return send(self, request, **options)

    def traced_handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return handle(self, request)

    with (
        mock.patch.object(requests.Session, "send", traced_send),
        mock.patch.object(httpx.HTTPTransport, "handle_request", traced_handle),
    ):
        requests.get(f"{upstream.url}/1")
        httpx.get(f"{upstream.url}/2", trust_env=False)
    assert seen == [f"{upstream.url}/1", f"{upstream.url}/2"]
    assert len(upstream.received) == 2
