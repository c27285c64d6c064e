"""Addresses that are numbers, which nobody needs to be asked about."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["address_info", "name_info"]


def _is_number(host: object) -> bool:
    if not isinstance(host, str):
        return False
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _is_port_number(port: object) -> bool:
    if isinstance(port, (str, bytes)):
        return port.isdigit()
    return port is None or isinstance(port, int)


def address_info(host: Any, port: Any, **hints: int) -> list[Any] | None:
    """Answer as ``socket.getaddrinfo`` if that needs nobody else; ``None`` if it does.

    Raises:
        OSError: If the number does not fit the hints.
    """
    if not (_is_number(host) and _is_port_number(port)):
        return None
    flags = hints.pop("flags", 0) | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return socket.getaddrinfo(host, port, flags=flags, **hints)


def name_info(address: Any, flags: int) -> tuple[str, str] | None:
    """Answer as ``socket.getnameinfo`` if only numbers are asked for, else ``None``.

    Raises:
        OSError: If the address is none.
    """
    numbers = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    if flags & numbers != numbers or not (address and _is_number(address[0])):
        return None
    return socket.getnameinfo(address, flags)
