"""Requests of asyncio programs, for many at once."""

import asyncio


async def fetch_text(address: tuple[str, int], target: str) -> str:
    """Make one request of HTTP/1.0, whose answer has no chunks, and return the body."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"GET {target} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"200", head
    return body.decode()
