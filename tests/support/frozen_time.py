"""The time in signatures and session cookies stands still, so that answers can be compared."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

import flask.sessions
import pytest
from itsdangerous.timed import TimestampSigner

_SIGNED = 1_700_000_000
_NOW = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)


class _FrozenDatetime(datetime.datetime):
    """What Flask dates the end of a session by.

    Methods of Flask's classes stay: with another one a request leaves the path under test.
    """

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return _NOW


@contextmanager
def frozen_time() -> Iterator[None]:
    """Sign and date every cookie in the same second, on all threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimestampSigner, "get_timestamp", lambda self: _SIGNED)
        patch.setattr(flask.sessions, "datetime", _FrozenDatetime)
        yield
