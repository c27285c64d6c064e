"""Sockets for tests of the event loop."""

import os
import socket
from pathlib import Path


def pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


def listener(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, 0), family=family)
    sock.setblocking(False)
    return sock


def is_watched(sock: socket.socket) -> bool:
    """Look whether the loop would report the socket, in the kernel's own words."""
    for number in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" not in os.readlink(f"/proc/self/fd/{number}"):
                continue
            information = Path(f"/proc/self/fdinfo/{number}").read_text()
        except FileNotFoundError:
            continue
        for line in information.splitlines():
            if line.split()[:2] == ["tfd:", str(sock.fileno())]:
                return True
    return False
