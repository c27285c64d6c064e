"""One class for each client: how it is set up, and how it makes a call.

Each is set up as its documentation advises: one session for the whole process, as many connections
as there are callers, the authority of the test's certificate. ``get`` returns the status and the
content; ``get_json`` parses it with the client's own means.
"""

from __future__ import annotations

import json
import ssl
from typing import Any


class Caller:
    """What all of them know.

    ``authority`` is the path of a PEM file, ``concurrency`` the number of calls at once.
    """

    def __init__(self, authority: str, concurrency: int, *, http2: bool) -> None:
        self.authority = authority
        self.concurrency = concurrency
        self.http2 = http2

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)


class Carboy(Caller):
    async def open(self) -> None:
        self._open()

    def _open(self) -> None:
        from carboy import http

        limits = http.Limits(connections=5000, connections_per_host=5000)
        self.session = http.Session(verify=self.authority, limits=limits)

    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self.session.get(url)
        return response.status_code, response.content

    async def get_json(self, url: str) -> tuple[int, Any]:
        response = await self.session.get(url)
        return response.status_code, response.json()

    async def get_json_of_three(self, url: str) -> list[tuple[int, Any]]:
        promises = [self.session.get(url) for _ in range(3)]
        responses = [await promise for promise in promises]
        return [(response.status_code, response.json()) for response in responses]

    async def close(self) -> None:
        self.session.close()


class CarboySync(Carboy):
    def open(self) -> None:  # type: ignore[override]
        self._open()

    def get(self, url: str) -> tuple[int, bytes]:  # type: ignore[override]
        response = self.session.get(url).result()
        return response.status_code, response.content

    def get_json(self, url: str) -> tuple[int, Any]:  # type: ignore[override]
        response = self.session.get(url).result()
        return response.status_code, response.json()

    def get_json_of_three(self, url: str) -> list[tuple[int, Any]]:  # type: ignore[override]
        promises = [self.session.get(url) for _ in range(3)]
        responses = [promise.result() for promise in promises]
        return [(response.status_code, response.json()) for response in responses]

    def close(self) -> None:  # type: ignore[override]
        self.session.close()


class GatheringCaller(Caller):
    """Three calls side by side, as asyncio does them."""

    get_json: Any

    async def get_json_of_three(self, url: str) -> list[tuple[int, Any]]:
        import asyncio

        return await asyncio.gather(*(self.get_json(url) for _ in range(3)))


class Aiohttp(GatheringCaller):
    async def open(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0, ssl=self.context())
        self.session = aiohttp.ClientSession(connector=connector)

    async def get(self, url: str) -> tuple[int, bytes]:
        async with self.session.get(url) as response:
            return response.status, await response.read()

    async def get_json(self, url: str) -> tuple[int, Any]:
        async with self.session.get(url) as response:
            return response.status, await response.json()

    async def close(self) -> None:
        await self.session.close()


class Httpx(GatheringCaller):
    package = "httpx"

    async def open(self) -> None:
        import importlib

        module = importlib.import_module(self.package)
        limits = module.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = module.AsyncClient(
            verify=self.context(), http2=self.http2, limits=limits, timeout=60
        )

    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self.client.get(url)
        return response.status_code, response.content

    async def get_json(self, url: str) -> tuple[int, Any]:
        response = await self.client.get(url)
        return response.status_code, response.json()

    async def close(self) -> None:
        await self.client.aclose()


class Httpx2(Httpx):
    package = "httpx2"


class NiquestsAsync(GatheringCaller):
    async def open(self) -> None:
        import niquests

        self.session = niquests.AsyncSession(
            pool_maxsize=self.concurrency, disable_http3=True, verify=self.authority
        )

    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self.session.get(url)
        return response.status_code, response.content

    async def get_json(self, url: str) -> tuple[int, Any]:
        response = await self.session.get(url)
        return response.status_code, response.json()

    async def close(self) -> None:
        await self.session.close()


class Pyreqwest(GatheringCaller):
    async def open(self) -> None:
        from pyreqwest.client import ClientBuilder

        with open(self.authority, "rb") as file:
            authority = file.read()
        builder = ClientBuilder().add_root_certificate_pem(authority)
        self.client = builder.http2(self.http2).build()

    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self.client.get(url).build().send()
        return response.status, bytes(await response.bytes())

    async def get_json(self, url: str) -> tuple[int, Any]:
        response = await self.client.get(url).build().send()
        return response.status, await response.json()

    async def close(self) -> None:
        await self.client.close()


class Pyqwest(GatheringCaller):
    async def open(self) -> None:
        import pyqwest

        with open(self.authority, "rb") as file:
            authority = file.read()
        # Without telemetry, which the others don't have.
        self.transport = pyqwest.HTTPTransport(tls_ca_cert=authority, enable_otel=False)
        self.client = pyqwest.Client(self.transport)

    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self.client.get(url)
        return response.status, response.content

    async def get_json(self, url: str) -> tuple[int, Any]:
        response = await self.client.get(url)
        return response.status, response.json()

    async def close(self) -> None:
        await self.transport.aclose()


class Requests(Caller):
    package = "requests"

    def open(self) -> None:
        import importlib

        module = importlib.import_module(self.package)
        self.session = module.Session()
        adapter = module.adapters.HTTPAdapter(pool_maxsize=self.concurrency)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        self.session.verify = self.authority

    def get(self, url: str) -> tuple[int, bytes]:
        response = self.session.get(url)
        return response.status_code, response.content

    def get_json(self, url: str) -> tuple[int, Any]:
        response = self.session.get(url)
        return response.status_code, response.json()

    def get_json_of_three(self, url: str) -> list[tuple[int, Any]]:
        return list(self._executor().map(self.get_json, [url] * 3))

    def _executor(self) -> Any:
        if not hasattr(self, "executor"):
            from concurrent.futures import ThreadPoolExecutor

            self.executor = ThreadPoolExecutor(self.concurrency)
        return self.executor

    def close(self) -> None:
        self.session.close()


class Niquests(Requests):
    package = "niquests"


def check_json(answer: tuple[int, Any]) -> None:
    """Refuse a wrong answer, while it is timed too."""
    status, value = answer
    if status != 200 or value["id"] != 7:
        raise AssertionError(f"a wrong answer: {status} {json.dumps(value)}")


def check_size(answer: tuple[int, bytes], size: int) -> None:
    """Refuse a wrong answer, while it is timed too."""
    status, content = answer
    if status != 200 or len(content) != size:
        raise AssertionError(f"a wrong answer: {status} with {len(content)} bytes")
