"""The time in signatures and session cookies stands still, so that answers can be compared."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask.sessions import SessionInterface
from itsdangerous.timed import TimestampSigner

_SIGNED = 1_700_000_000
_EXPIRES = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)


@contextmanager
def frozen_time() -> Iterator[None]:
    """Sign and date every cookie in the same second, on all threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimestampSigner, "get_timestamp", lambda self: _SIGNED)
        patch.setattr(
            SessionInterface,
            "get_expiration_time",
            lambda self, app, session: _EXPIRES if session.permanent else None,
        )
        yield
