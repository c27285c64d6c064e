"""A client with plain blocking sockets, in a process of its own.

``echo_client.py ADDRESS SIZE_BYTES CONNECTIONS SECONDS CORE [accept]`` sends a message on every
connection, then reads the answers, again and again, and compares each with what was sent. It
prints how many there were and how long it took. With ``accept``, each message is on a new
connection.
"""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import sys
import time

TIMEOUT_SECONDS = 20
TARGET_ROUNDS_PER_LOOK = 8


def connect(address: str) -> socket.socket:
    kind, _, where = address.partition(":")
    if kind == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(where)
    else:
        family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
        connection = socket.socket(socket.AF_INET, family)
        connection.connect(("127.0.0.1", int(where)))
        if kind != "udp":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(TIMEOUT_SECONDS)
    if kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate is made anew for each run, and the peer is our own parent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    return connection


def receive(connection: socket.socket, buffer: bytearray, size_bytes: int) -> None:
    view = memoryview(buffer)
    received = 0
    while received < size_bytes:
        count = connection.recv_into(view[received:])
        if count == 0:
            raise AssertionError("the server has closed a connection")
        received += count


def echo(address: str, size_bytes: int, connections: int, seconds: float) -> tuple[int, float]:
    sockets = [connect(address) for _ in range(connections)]
    # Every connection has a message of its own, so that mixing them up is seen.
    messages = [random.Random(index).randbytes(size_bytes) for index in range(connections)]
    buffer = bytearray(size_bytes)
    for connection, message in zip(sockets, messages, strict=True):
        connection.sendall(message)
        receive(connection, buffer, size_bytes)
    pairs = list(zip(sockets, messages, strict=True))
    count = 0
    started = time.perf_counter()
    deadline = started + seconds
    while time.perf_counter() < deadline:
        for _ in range(TARGET_ROUNDS_PER_LOOK):
            for connection, message in pairs:
                connection.sendall(message)
            for connection, message in pairs:
                receive(connection, buffer, size_bytes)
                if buffer != message:
                    raise AssertionError("the echo is not what was sent")
        count += TARGET_ROUNDS_PER_LOOK * connections
    elapsed = time.perf_counter() - started
    for connection in sockets:
        connection.close()
    return count, elapsed


def accept(address: str, connections: int, seconds: float) -> tuple[int, float]:
    count = 0
    started = time.perf_counter()
    deadline = started + seconds
    buffer = bytearray(1)
    while time.perf_counter() < deadline:
        sockets = [connect(address) for _ in range(connections)]
        for connection in sockets:
            connection.sendall(b"x")
        for connection in sockets:
            receive(connection, buffer, 1)
            if buffer != b"x":
                raise AssertionError("the echo is not what was sent")
            # A reset leaves no port behind that would have to time out.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        count += connections
    return count, time.perf_counter() - started


def main() -> None:
    address, size_bytes, connections, seconds, core = sys.argv[1:6]
    os.sched_setaffinity(0, {int(core)})
    if sys.argv[6:] == ["accept"]:
        count, elapsed = accept(address, int(connections), float(seconds))
    else:
        count, elapsed = echo(address, int(size_bytes), int(connections), float(seconds))
    json.dump({"count": count, "seconds": elapsed}, sys.stdout)


if __name__ == "__main__":
    main()
