"""When datagrams wait, and when nobody takes them."""

import asyncio
import itertools
import socket
from pathlib import Path
from typing import Any

import pytest
from support.bounded_run import run
from support.datagrams import SENDS_EMPTY, Recorder, close, endpoint, fill
from support.loop_turns import everything_was_looked_at


async def connected_pair(protocol: Recorder, directory: Path) -> tuple[Any, socket.socket]:
    """Give a transport and the blocking peer that its datagrams wait for."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(str(directory / "peer"))
    transport = await endpoint(protocol, family=socket.AF_UNIX, remote_addr=str(directory / "peer"))
    return transport, peer


def test_flow_control(tmp_path: Path) -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, peer = await connected_pair(protocol, tmp_path)
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=3000, low=1000)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        sent = fill(transport.get_extra_info("socket")._sock, 1000)
        header = 8 if SENDS_EMPTY else 0
        changing = bytearray(b"0" * 1000)
        for number in range(4):
            changing[:1] = b"%d" % number
            transport.sendto(changing)
            assert transport.get_write_buffer_size() == (number + 1) * (1000 + header)
        assert protocol.events == ["made", "pause"]
        assert "write=<polling" in repr(transport)
        for _ in range(sent):
            assert peer.recv(2000) == b"x" * 1000
        await protocol.wait_for(lambda: "resume" in protocol.events)
        assert protocol.events == ["made", "pause", "resume"]
        for number in range(4):
            data = await asyncio.get_running_loop().run_in_executor(None, peer.recv, 2000)
            assert data == b"%d" % number + b"0" * 999
        assert transport.get_write_buffer_size() == 0
        assert "write=<idle" in repr(transport)
        await close(protocol)
        peer.close()

    run(main)


def test_close_sends_what_waits_and_abort_drops_it(tmp_path: Path) -> None:
    async def main() -> None:
        for end in ("close", "abort"):
            directory = tmp_path / end
            directory.mkdir()
            protocol = Recorder()
            transport, peer = await connected_pair(protocol, directory)
            sent = fill(transport.get_extra_info("socket")._sock, 1000)
            transport.sendto(b"last")
            getattr(transport, end)()
            assert transport.is_closing()
            assert not transport.is_reading()
            transport.close()
            peer.settimeout(10)
            for _ in range(sent):
                assert peer.recv(2000) == b"x" * 1000
            await protocol.wait_for(protocol.is_lost)
            assert protocol.events == ["made", ("lost", None)]
            peer.setblocking(False)
            if end == "close":
                assert peer.recv(2000) == b"last"
            with pytest.raises(BlockingIOError):
                peer.recv(2000)
            peer.close()

    run(main)


def test_pausing_and_resuming_what_is_received() -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        transport = await endpoint(client, remote_addr=receiver.get_extra_info("sockname"))
        receiver.pause_reading()
        receiver.pause_reading()
        assert not receiver.is_reading()
        transport.sendto(b"x")
        await everything_was_looked_at()
        assert not server.received
        receiver.resume_reading()
        assert receiver.is_reading()
        await server.wait_for(lambda: server.received)
        await close(server, client)

    run(main)


def test_a_protocol_that_pauses_gets_no_more_datagrams_of_the_same_turn() -> None:
    async def main() -> None:
        class OneAtATime(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                self.transport.pause_reading()

        server, client = OneAtATime(), Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        transport = await endpoint(client, remote_addr=receiver.get_extra_info("sockname"))
        receiver.pause_reading()
        for number in range(5):
            transport.sendto(b"%d" % number)
        for count in range(1, 6):
            receiver.resume_reading()
            await server.wait_for(lambda count=count: len(server.received) == count)
            assert not receiver.is_reading()
        assert [data for data, _ in server.received] == [b"0", b"1", b"2", b"3", b"4"]
        await close(server, client)

    run(main)


def test_a_flood_of_datagrams_does_not_starve_other_callbacks() -> None:
    async def main() -> None:
        server = Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        address = receiver.get_extra_info("sockname")
        receiver.pause_reading()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(100):
                sock.sendto(b"x", address)
        receiver.resume_reading()
        seen = []
        while len(server.received) < 100:
            seen.append(len(server.received))
            await asyncio.sleep(0)
        steps = [after - before for before, after in itertools.pairwise(seen)]
        assert max(steps) <= 16
        await close(server)

    run(main)
