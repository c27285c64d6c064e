"""Calls without a session: they share connections, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from carboy.http.session import Session

if TYPE_CHECKING:
    from carboy._carboy import Promise
    from carboy.http.options import CallOptions, Dependency, StreamOptions
    from carboy.http.response import Response
    from carboy.http.streamed_call import StreamedCall

# One caller's cookies are not for the next one's calls.
_shared = Session._without_cookies()


def request(method: str, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin a call, and return the promise of its response; see ``Session.request``."""
    return _shared.request(method, url, **options)


def get(url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin a GET; see ``Session.request``."""
    return _shared.get(url, **options)


def head(url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin a HEAD; see ``Session.request``."""
    return _shared.head(url, **options)


def options(url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin an OPTIONS; see ``Session.request``."""
    return _shared.request("OPTIONS", url, **options)


def post(url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin a POST; see ``Session.request``."""
    return _shared.request("POST", url, **options)


def put(url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin a PUT; see ``Session.request``."""
    return _shared.request("PUT", url, **options)


def patch(url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin a PATCH; see ``Session.request``."""
    return _shared.request("PATCH", url, **options)


def delete(url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
    """Begin a DELETE; see ``Session.request``."""
    return _shared.delete(url, **options)


def stream(method: str, url: Dependency[str], **options: Unpack[StreamOptions]) -> StreamedCall:
    """Begin a call whose content is read piece by piece, for ``with`` or ``async with``.

    ``with http.stream("GET", url) as response: print(list(response.iter_lines()))``
    """
    return _shared.stream(method, url, **options)
