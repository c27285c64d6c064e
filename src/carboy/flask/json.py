"""JSON as Flask's own provider writes it, with the encoder made once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask.json.provider import DefaultJSONProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

#: Attributes of a provider that this knows what to do with; a method of its own is none.
_PLAIN_SETTINGS = {"_app", "compact", "ensure_ascii", "mimetype", "sort_keys"}

_encoders: dict[tuple[Any, ...], Callable[[Any], str]] = {}


def json_encoder(app: Flask, provider: DefaultJSONProvider) -> Callable[[Any], str] | None:
    """Return a function that gives the text of ``provider.response(value)`` without its end.

    ``None`` where the provider would indent, has another media type, or has a default
    function of its own.
    """
    is_compact = provider.compact is True or (provider.compact is None and not app.debug)
    if not is_compact or provider.mimetype != "application/json":
        return None
    if not vars(provider).keys() <= _PLAIN_SETTINGS:
        return None
    default = provider.default
    if default is not DefaultJSONProvider.default:
        return None
    settings = (provider.ensure_ascii, provider.sort_keys)
    encode = _encoders.get(settings)
    if encode is None:
        encode = _encoders[settings] = json.JSONEncoder(
            default=default,
            ensure_ascii=provider.ensure_ascii,
            sort_keys=provider.sort_keys,
            separators=(",", ":"),
        ).encode
    return encode
