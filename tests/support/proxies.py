"""Proxies that lead to a port of this machine, whatever they are asked for."""

from __future__ import annotations

import socket
import threading

from support.raw_upstream import Peer, RawUpstream


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until there are no more."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def tunnel(peer: Peer, port: int) -> None:
    """Connect a client with a port of this machine."""
    with socket.create_connection(("127.0.0.1", port)) as upstream:
        upstream.settimeout(10)
        back = threading.Thread(target=pump, args=(upstream, peer.socket))
        back.start()
        pump(peer.socket, upstream)
        back.join()


class ConnectProxy(RawUpstream):
    """Opens tunnels to a port of this machine, whatever it is asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(self.serve_tunnel)
        self.target = port

    def serve_tunnel(self, peer: Peer) -> None:
        self.requests.append(peer.read_request())
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        tunnel(peer, self.target)


class SocksProxy(RawUpstream):
    """SOCKS 5 (RFC 1928), with or without a password (RFC 1929)."""

    def __init__(self, port: int, credentials: tuple[bytes, bytes] | None = None) -> None:
        super().__init__(self.serve_socks)
        self.target = port
        self.credentials = credentials
        self.addresses: list[bytes] = []

    def serve_socks(self, peer: Peer) -> None:
        connection = peer.socket.makefile("rwb", buffering=0)

        def read(size: int) -> bytes:
            data = b""
            while len(data) < size:
                piece = connection.read(size - len(data))
                if not piece:
                    raise ConnectionError("the client has gone")
                data += piece
            return data

        assert read(1) == b"\x05"
        methods = read(read(1)[0])
        if self.credentials is not None:
            assert 2 in methods
            connection.write(b"\x05\x02")
            assert read(1) == b"\x01"
            user, password = read(read(1)[0]), read(read(1)[0])
            is_right = (user, password) == self.credentials
            connection.write(b"\x01\x00" if is_right else b"\x01\x01")
            if not is_right:
                return
        else:
            connection.write(b"\x05\x00")
        assert read(3) == b"\x05\x01\x00"
        kind = read(1)
        if kind == b"\x03":
            self.addresses.append(read(read(1)[0]))
        else:
            self.addresses.append(socket.inet_ntoa(read(4)).encode())
        read(2)
        connection.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        tunnel(peer, self.target)
