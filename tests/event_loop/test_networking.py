"""Sockets, TLS, subprocesses and libraries on carboy's loop."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
from aiohttp import web

import carboy


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a test's coroutine, and let what serves its connections come to its end."""

    async def bounded() -> Any:
        async with asyncio.timeout(20):
            result = await main()
            await asyncio.gather(*_serving)
            _serving.clear()
            return result

    return carboy.run(bounded())


_serving: list[asyncio.Task[Any]] = []


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.current_task()
    assert task is not None
    _serving.append(task)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a small and a large message, each back in full."""
    for message in (b"small", bytes(range(256)) * 8192):
        writer.write(message)
        received, _ = await asyncio.gather(reader.readexactly(len(message)), writer.drain())
        assert received == message
    writer.close()
    await writer.wait_closed()


def test_streams_over_tcp() -> None:
    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
            await asyncio.gather(*(exchange(*stream) for stream in streams))

    run(main)


def test_streams_over_a_unix_socket(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        async with await asyncio.start_unix_server(echo, path):
            await exchange(*await asyncio.open_unix_connection(path))

    run(main)


def test_streams_over_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls) as server:
            port = server.sockets[0].getsockname()[1]
            stream = await asyncio.open_connection("localhost", port, ssl=client_tls)
            assert stream[1].get_extra_info("peercert")
            await exchange(*stream)
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("localhost", port, ssl=ssl.create_default_context())

    run(main)


def test_a_connection_is_upgraded_to_tls(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"GO\n")
        await writer.start_tls(server_tls)
        await echo(reader, writer)

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"GO\n"
            await writer.start_tls(client_tls, server_hostname="localhost")
            await exchange(reader, writer)

    run(main)


def test_datagrams() -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data, address)

    class Client(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.received: asyncio.Queue[bytes] = asyncio.Queue()

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.received.put_nowait(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, protocol = await loop.create_datagram_endpoint(Client, remote_addr=address)
        client.sendto(b"datagram")
        assert await protocol.received.get() == b"datagram"
        client.close()
        server.close()
        await asyncio.sleep(0)

    run(main)


def test_the_low_level_methods_of_sockets() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            for each in (listener, client):
                each.setblocking(False)
            accepted, _ = await asyncio.gather(
                loop.sock_accept(listener), loop.sock_connect(client, listener.getsockname())
            )
            with accepted[0] as server:
                data = bytes(range(256)) * 16384
                sending = asyncio.create_task(loop.sock_sendall(client, data))
                received = bytearray()
                while len(received) < len(data):
                    received += await loop.sock_recv(server, 1 << 20)
                await sending
                assert received == data

    run(main)


def test_readers_and_writers_of_descriptors() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        events: list[str] = []
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            done = loop.create_future()

            def readable() -> None:
                events.append(f"read {right.recv(100).decode()}")
                loop.remove_reader(right)
                done.set_result(None)

            def writable() -> None:
                loop.remove_writer(left)
                left.send(b"data")
                events.append("written")

            loop.add_reader(right, readable)
            loop.add_writer(left, writable)
            await done
            assert loop.remove_reader(right) is False
            assert loop.remove_writer(left) is False
        return events

    assert run(main) == ["written", "read data"]


def test_a_refused_connection_and_an_unknown_name() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("does-not-exist.invalid", 1)

    run(main)


def test_a_cancelled_connect_leaves_no_descriptor() -> None:
    async def main() -> int:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            address = listener.getsockname()
            before = len(list(Path("/proc/self/fd").iterdir()))
            for _ in range(5):
                task = asyncio.create_task(asyncio.open_connection(*address))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0)
            return len(list(Path("/proc/self/fd").iterdir())) - before

    assert run(main) == 0


def test_subprocesses() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; print(sys.stdin.read().upper()); sys.exit(3)",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(b"text")
        assert (out, process.returncode) == (b"TEXT\n", 3)

        sleeping = await asyncio.create_subprocess_shell("sleep 30")
        sleeping.terminate()
        assert await sleeping.wait() == -15

        many = [await asyncio.create_subprocess_exec("true") for _ in range(5)]
        assert await asyncio.gather(*(each.wait() for each in many)) == [0] * 5

    run(main)


async def upstream(handler: Callable[..., Any], **settings: Any) -> tuple[web.AppRunner, int]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, **settings)
    await site.start()
    return runner, runner.addresses[0][1]


async def answer(request: web.Request) -> web.Response:
    body = await request.read()
    return web.Response(body=b"%d bytes" % len(body))


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("library", ["aiohttp", "httpx"])
def test_http_clients(
    library: str, secure: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def main() -> list[str]:
        settings = {"ssl_context": server_tls} if secure else {}
        runner, port = await upstream(answer, **settings)
        url = f"{'https' if secure else 'http'}://localhost:{port}/path"
        content = b"x" * 300_000
        try:
            if library == "aiohttp":
                async with aiohttp.ClientSession() as session:

                    async def post() -> str:
                        async with session.post(url, data=content, ssl=client_tls) as response:
                            return await response.text()

                    return list(await asyncio.gather(*(post() for _ in range(10))))
            async with httpx.AsyncClient(verify=client_tls) as client:
                posts = (client.post(url, content=content) for _ in range(10))
                return [response.text for response in await asyncio.gather(*posts)]
        finally:
            await runner.cleanup()

    assert run(main) == ["300000 bytes"] * 10


def test_a_websocket_of_aiohttp() -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data.upper())
        return ws

    async def main() -> list[str]:
        runner, port = await upstream(handle)
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"http://127.0.0.1:{port}/") as ws,
            ):
                received = []
                for message in ("one", "two"):
                    await ws.send_str(message)
                    received.append((await ws.receive(5)).data)
                return received
        finally:
            await runner.cleanup()

    assert run(main) == ["ONE", "TWO"]


def test_anyio_on_the_loop() -> None:
    async def main() -> list[Any]:
        results: list[Any] = []
        send, receive = anyio.create_memory_object_stream[int](1)

        async def produce() -> None:
            async with send:
                for number in range(3):
                    await send.send(number)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            results.extend([number async for number in receive])
        with anyio.fail_after(5):
            results.append(await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(later)))
        process = await anyio.run_process([sys.executable, "-c", "print('process')"])
        results.append(process.stdout)
        return results

    async def later() -> str:
        await anyio.sleep(0.001)
        return "from the thread"

    assert run(main) == [0, 1, 2, "from the thread", b"process\n"]


def test_anyio_run_with_carboys_loop() -> None:
    async def main() -> Any:
        await anyio.sleep(0)
        return type(asyncio.get_running_loop())

    options = {"loop_factory": carboy.new_event_loop}
    assert anyio.run(main, backend_options=options) is carboy.EventLoop


def test_sendfile(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096)

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=left)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=right)
        with path.open("rb") as file:
            sending = asyncio.create_task(loop.sendfile(transport, file))
            received = await reader.readexactly(path.stat().st_size)
            await sending
        transport.close()
        writer.close()
        await writer.wait_closed()
        return received

    assert run(main) == path.read_bytes()
