"""Requests of asyncio programs, for many at once."""

import asyncio


async def fetch_text(address: tuple[str, int], target: str) -> str:
    """Make one request on a connection of its own, and return the body."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return body.decode()
