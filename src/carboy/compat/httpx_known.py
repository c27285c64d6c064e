"""The functions of httpx' and httpx2's that carboy has written quick ones for, to the letter.

A later version, or somebody who has replaced a function, may let it do something else. So its
source is compared with the sources that were read when the quick one was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import linecache
import re
from typing import Any

#: What contextlib.contextmanager makes of every function.
_MANAGER_CODE = contextlib.contextmanager(lambda: iter(())).__code__

_DEFINITION = re.compile(r"\s*(async )?def ")


def digest_of(owner: Any, name: str) -> str | None:
    """Return a digest of a function's source, or ``None`` if that is not to be had.

    Args:
        owner: Its class or module.
        name: Its name; that of a property stands for its getter.
    """
    function = inspect.getattr_static(owner, name, None)
    if isinstance(function, property):
        function = function.fget
    code = getattr(function, "__code__", None)
    if code is _MANAGER_CODE:
        code = function.__wrapped__.__code__
    if code is None:
        return None
    source = _source(linecache.getlines(code.co_filename), code.co_firstlineno - 1)
    return hashlib.sha256(source.encode()).hexdigest()[:16] if source else None


def _source(lines: list[str], start: int) -> str:
    """Return the lines of a function: up to what is not indented as its body is.

    `inspect` would look for its end with a tokenizer, which takes a hundred times as long.
    """
    if start >= len(lines):
        return ""
    margin = len(lines[start]) - len(lines[start].lstrip())
    end = start
    # Decorators come first.
    while end < len(lines) and not _DEFINITION.match(lines[end]):
        end += 1
    end += 1
    while end < len(lines):
        line = lines[end]
        text = line.lstrip()
        if text and len(line) - len(text) <= margin and not text.startswith(")"):
            break
        end += 1
    return "".join(lines[start:end]).rstrip()


def is_known(owner: Any, name: str) -> bool:
    """Whether a function is one that carboy has a quick one for.

    Args:
        owner: Its class or module.
        name: Its name.
    """
    return digest_of(owner, name) in KNOWN.get(name, ())


#: Digests of sources by names of functions: of httpx 0.28, and of httpx2 2.16 where it differs.
KNOWN: dict[str, set[str]] = {
    "__aiter__": {"f1fb6703dc46d149", "1b1d8f01375e8e13", "80b3111ef016312e", "3fe6b1cd5ec899b3"},
    "__bool__": {"83a7ea0a70f7c52e"},
    "__contains__": {"1472b2253682e67c", "7ac633c7e50c8153"},
    "__getitem__": {"9b6550dd9d37ba30"},
    "__init__": {"4e26e5ae567676fe", "d60bb14196b33ae7"},
    "__iter__": {"1e81c52af5f4c533", "a5bfdc7b3fe67b8d", "2011cfef04f95996", "335f5debb1b8f3d8"},
    "_build_request_auth": {"ecf66defbc4a4fb0", "c444a14a705a5f29"},
    "_get_content_decoder": {"68b8b29a3313ad98", "3803f460b5dbdf16"},
    "_prepare": {"f93a025422993921", "08ecae52c8e495ed"},
    "_send_handling_auth": {"657039adff1ca312", "55c331fe08532290"},
    "aclose": {
        "f4ae77ce282a7d48",
        "fe16a88c2808dc92",
        "ee11e93cf1d4d9c4",
        "ee0ffdf19098a3fc",
        "827baff71ac1876a",
    },
    "aiter_bytes": {"c5031c28820291d9", "03d97f389f9957e8"},
    "aiter_raw": {"2d7d38e73873eb28", "3e2386b7266b8caa"},
    "aread": {"682dcfb523b1c7db", "adb1a0857a4a8b6a"},
    "async_auth_flow": {"a6955c8f6287f5f1", "099af2acfd381878"},
    "auth_flow": {"ca775c0e78239152", "d834bbe2c4ef31c2"},
    "close": {
        "dd2eafd48f1256b8",
        "db8ca1d04493e7d4",
        "670fce40ca256fed",
        "f3da86ce83c93411",
        "d5e0706e85c8a768",
    },
    "encoding": {"2648dc000f40f515"},
    "extract_cookies": {"9ea167cd7bbf300d"},
    "get_list": {"6482fc38abdedc28", "ce975f84ad569959"},
    "handle_async_request": {"fc540c573fcf93ec", "82497ac75eb189fa"},
    "handle_request": {"54a0e1b289a50a8b", "fb5c2285748ef256"},
    "iter_bytes": {"3de1a8986580ab0d", "df56325c23942540"},
    "iter_raw": {"95ee195fece37de9", "43905e4b7d8a9517"},
    "read": {"478a97d5ab4e8d36", "1c2dea3fdaffe16c", "50d88baefde05357"},
    "request_context": {"20ffb78d4d6b5a7b", "669f2f0282fdd211"},
    "sync_auth_flow": {"987bf0c0413dd51f", "43bfe20ca8be17a7"},
    "update": {"859502a700db2a3b"},
    "urlparse": {"cddc3a045bf9a8cc", "851d3307419144c8"},
}
