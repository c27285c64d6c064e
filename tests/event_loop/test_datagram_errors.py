"""What goes wrong with datagrams, who is told, and what is left in the end."""

import asyncio
import errno
import gc
import logging
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
from support.bounded_run import run
from support.datagrams import Echo, Recorder, close, endpoint


def test_a_refused_datagram_is_an_error_and_not_the_end() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            address = closed.getsockname()
        protocol = Recorder()
        transport = await endpoint(protocol, remote_addr=address)
        for count in (1, 2):
            transport.sendto(b"x")
            await protocol.wait_for(lambda count=count: len(protocol.errors) == count)
        assert all(isinstance(error, ConnectionRefusedError) for error in protocol.errors)
        assert not transport.is_closing()
        transport.sendto(b"x" * 70_000)
        assert protocol.errors[-1].errno in {errno.EMSGSIZE, errno.ECONNREFUSED}
        await close(protocol)

    run(main)


def test_a_datagram_that_is_too_long_is_an_error_and_not_the_end() -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        address = (await endpoint(server, local_addr=("127.0.0.1", 0))).get_extra_info("sockname")
        transport = await endpoint(client, remote_addr=address)
        transport.sendto(b"x" * 70_000)
        assert [error.errno for error in client.errors] == [errno.EMSGSIZE]
        transport.sendto(b"y")
        await server.wait_for(lambda: server.received)
        assert server.received[0][0] == b"y"
        await close(server, client)

    run(main)


def test_datagrams_after_the_end_are_logged_from_the_fifth_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with_peer, free = Recorder(), Recorder()
        server = Recorder()
        address = (await endpoint(server, local_addr=("127.0.0.1", 0))).get_extra_info("sockname")
        one = await endpoint(with_peer, remote_addr=address)
        other = await endpoint(free, local_addr=("127.0.0.1", 0))
        await close(with_peer, free, server)
        with caplog.at_level(logging.WARNING, logger="asyncio"):
            for transport in (one, other):
                caplog.clear()
                for _ in range(7):
                    transport.sendto(b"x", address)
                messages = [record.message for record in caplog.records]
                assert messages == ["socket.send() raised exception."] * 3

    run(main)


def test_what_a_protocol_raises_goes_to_the_exception_handler() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, details: reported.append(details)
        )

        class Failing(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                raise ZeroDivisionError(data)

        server, client = Failing(), Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        transport = await endpoint(client, remote_addr=receiver.get_extra_info("sockname"))
        transport.sendto(b"1")
        transport.sendto(b"2")
        await server.wait_for(lambda: len(server.received) == 2)
        await asyncio.sleep(0)
        assert [str(details["exception"]) for details in reported] == ["b'1'", "b'2'"]
        assert not receiver.is_closing()
        await close(server, client)

    run(main)


def test_debug_mode_writes_down_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        protocol = Recorder()
        transport = await endpoint(protocol, local_addr=("127.0.0.1", 0))
        transport.pause_reading()
        transport.resume_reading()
        await close(protocol)

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        run(main, debug=True)
    assert "pauses reading" in caplog.text
    assert "resumes reading" in caplog.text


def test_an_unclosed_transport_warns_and_closes_its_socket() -> None:
    numbers: list[int] = []

    async def main() -> None:
        protocol = Recorder()
        transport = await endpoint(protocol, local_addr=("127.0.0.1", 0))
        numbers.append(transport.get_extra_info("socket").fileno())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main)
        gc.collect()
    assert any("unclosed transport <DatagramTransport" in str(each.message) for each in caught)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(numbers[0])


def test_nothing_is_left_of_many_endpoints() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def once() -> None:
            server, client = Echo(), Recorder()
            receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
            address = receiver.get_extra_info("sockname")
            transport = await endpoint(client, remote_addr=address)
            transport.sendto(b"x")
            await client.wait_for(lambda: client.received)
            await close(server, client)

        await once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            await once()
        assert len(os.listdir("/proc/self/fd")) == before
        assert len(asyncio.all_tasks(loop)) == 1

    run(main)
