"""The modules of httpx, or of httpx2."""

from __future__ import annotations

import importlib
from typing import Any


class Modules:
    """The modules of one of both, as carboy needs them.

    Attributes:
        name: ``httpx`` or ``httpx2``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.auth = self._module("_auth")
        self.client = self._module("_client")
        self.content = self._module("_content")
        self.decoders = self._module("_decoders")
        self.exceptions = self._module("_exceptions")
        self.models = self._module("_models")
        self.transports = self._module("_transports.default")
        self.urls = self._module("_urls")

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.name}.{name}")
