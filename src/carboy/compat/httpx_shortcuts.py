"""Functions of httpx' and httpx2's that every call passes through, made quick.

Most of a small call's time passes in these, and not on the network. Each of the quick ones gives
what the original would give and leaves everything as that would leave it; it asks the original
whenever its arguments, or httpx itself, are not what is usual. None is put in the place of a
function that is not, to the letter, the one that it was written for.
"""

from __future__ import annotations

import functools
import http.cookiejar
import time
from typing import TYPE_CHECKING, Any

from carboy.compat import pristine
from carboy.compat.httpx_known import is_known

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from carboy.compat.httpx_modules import Modules
    from carboy.compat.patching import Patches

#: URLs whose parts are kept, and how long these may be at most.
_KEPT_URLS = 512
_LONGEST_KEPT_URL = 2000


def patch_shortcuts(patches: Patches, modules: Modules) -> None:
    """Put the quick functions into a library.

    Args:
        patches: Where to note the replacements.
        modules: Those of the library.
    """
    models, client = modules.models, modules.client
    headers = models.Headers

    def replace(owner: Any, name: str, make: Callable[..., Any]) -> None:
        if is_known(owner, name):
            patches.replace(owner, name, lambda original: make(original, modules))

    replace(modules.urls, "urlparse", _make_urlparse)
    replace(models, "request_context", _make_request_context)
    replace(client, "request_context", _make_request_context)
    if is_known(headers, "encoding"):
        patches.replace_property(headers, "encoding", _make_encoding)
    replace(headers, "__init__", _make_headers)
    replace(headers, "__getitem__", _make_header)
    replace(headers, "__contains__", _make_has_header)
    replace(headers, "get_list", _make_get_list)
    replace(headers, "update", _make_update)
    replace(models.Request, "_prepare", _make_prepare)
    replace(models.Request, "read", _make_read_request)
    replace(models.Cookies, "__bool__", _make_has_cookies)
    replace(models.Cookies, "extract_cookies", _make_extract_cookies)
    replace(client.BaseClient, "_build_request_auth", _make_build_request_auth)
    if all(is_known(modules.auth.Auth, name) for name in _FLOWS):
        replace(client.Client, "_send_handling_auth", _make_send_handling_auth)
        replace(client.AsyncClient, "_send_handling_auth", _make_send_handling_auth)


# URLs.


def _make_urlparse(original: Callable[..., Any], _modules: Modules) -> Callable[..., Any]:
    known = functools.lru_cache(maxsize=_KEPT_URLS)(original)

    def urlparse(url: str = "", **parts: Any) -> Any:
        if parts or type(url) is not str or len(url) > _LONGEST_KEPT_URL:
            return original(url, **parts)
        return known(url)

    return urlparse


# Headers.


def _make_encoding(original: property) -> Callable[[Any], str]:
    get = original.__get__

    def encoding(self: Any) -> Any:
        known = self._encoding
        if known is None:
            for name, _, value in self._list:
                if not (name.isascii() and value.isascii()):
                    return get(self)
            known = self._encoding = "ascii"
        return known

    return encoding


def _make_headers(original: Callable[..., None], modules: Modules) -> Callable[..., None]:
    own = modules.models.Headers

    def __init__(self: Any, headers: Any = None, encoding: Any = None) -> None:  # noqa: N807 - That it is.
        kind = type(headers)
        if headers is None:
            self._list = []
        elif kind is own:
            self._list = headers._list.copy()
        elif kind is list:
            made = []
            for pair in headers:
                name, value = pair
                if type(name) is not bytes or type(value) is not bytes:
                    original(self, headers, encoding)
                    return
                made.append((name, name.lower(), value))
            self._list = made
        else:
            original(self, headers, encoding)
            return
        self._encoding = encoding

    return __init__


def _make_header(_original: Callable[..., str], _modules: Modules) -> Callable[..., str]:
    def __getitem__(self: Any, key: str) -> str:  # noqa: N807 - That it is.
        wanted = key.lower().encode(self.encoding)
        encoding = self.encoding
        found: list[str] | None = None
        for _, name, value in self._list:
            if name == wanted:
                if found is None:
                    found = []
                found.append(value.decode(encoding))
        if found is None:
            raise KeyError(key)
        return found[0] if len(found) == 1 else ", ".join(found)

    return __getitem__


def _make_has_header(_original: Callable[..., bool], _modules: Modules) -> Callable[..., bool]:
    def __contains__(self: Any, key: Any) -> bool:  # noqa: N807 - That it is.
        wanted = key.lower().encode(self.encoding)
        return wanted in [name for _, name, _ in self._list]

    return __contains__


def _make_get_list(original: Callable[..., Any], _modules: Modules) -> Callable[..., Any]:
    def get_list(self: Any, key: str, split_commas: bool = False) -> list[str]:  # noqa: FBT001, FBT002 - httpx' own.
        wanted = key.lower().encode(self.encoding)
        for _, name, _ in self._list:
            if name.lower() == wanted:
                found: list[str] = original(self, key, split_commas)
                return found
        return []

    return get_list


def _make_update(original: Callable[..., None], _modules: Modules) -> Callable[..., None]:
    def update(self: Any, headers: Any = None) -> None:
        if headers is not None:
            original(self, headers)

    return update


# Requests.

#: Methods of requests that say nothing of their content if there is none.
_WITHOUT_CONTENT = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def _make_prepare(original: Callable[..., None], modules: Modules) -> Callable[..., None]:
    own, url_class = modules.models.Headers, modules.urls.URL

    def _prepare(self: Any, default_headers: Any) -> None:
        headers, url = self.headers, self.url
        if type(headers) is not own or type(url) is not url_class:
            original(self, default_headers)
            return
        items = headers._list
        names = {name for _, name, _ in items}
        added = []
        for key, value in default_headers.items():
            if not (key.isascii() and value.isascii()):
                original(self, default_headers)
                return
            raw = key.encode("ascii")
            name = raw.lower()
            if name in _FRAMING and not names.isdisjoint(_FRAMING):
                original(self, default_headers)
                return
            if name not in names:
                names.add(name)
                added.append((raw, name, value.encode("ascii")))
        if self.method not in _WITHOUT_CONTENT and names.isdisjoint(_FRAMING):
            original(self, default_headers)
            return
        made = object.__new__(own)
        if b"host" in names or not url.host:
            made._list = items + added
        else:
            made._list = [(b"Host", b"host", url.netloc), *items, *added]
        made._encoding = None
        self.headers = made

    return _prepare


def _make_read_request(original: Callable[..., bytes], modules: Modules) -> Callable[..., bytes]:
    kind = modules.content.ByteStream

    def read(self: Any) -> bytes:
        stream = self.stream
        if type(stream) is kind and not hasattr(self, "_content"):
            content = stream._stream
            if type(content) is bytes:
                self._content = content
                return content
        return original(self)

    return read


# Errors.


class _RequestContext:
    """Lets errors that pass know their request."""

    __slots__ = ("_kind", "_request")

    def __init__(self, kind: type[Any], request: Any) -> None:
        self._kind = kind
        self._request = request

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is not None and self._request is not None and isinstance(error, self._kind):
            error.request = self._request  # type: ignore[attr-defined]


def _make_request_context(_original: Callable[..., Any], modules: Modules) -> Callable[..., Any]:
    kind = modules.exceptions.RequestError

    def request_context(request: Any = None) -> _RequestContext:
        return _RequestContext(kind, request)

    return request_context


# Cookies.

_JAR = http.cookiejar.CookieJar
_JAR_METHODS = frozenset({"extract_cookies", "make_cookies"})
_jar_is_original = pristine.watch([(_JAR, name, "http.cookiejar") for name in _JAR_METHODS])


def _make_has_cookies(original: Callable[..., bool], modules: Modules) -> Callable[..., bool]:
    kinds = {_JAR, type(modules.models.Cookies().jar)}

    def __bool__(self: Any) -> bool:  # noqa: N807 - That it is.
        jar = self.jar
        return False if type(jar) in kinds and not jar._cookies else original(self)

    return __bool__


def _make_extract_cookies(original: Callable[..., None], modules: Modules) -> Callable[..., None]:
    own = modules.models.Headers
    policy = http.cookiejar.DefaultCookiePolicy

    def extract_cookies(self: Any, response: Any) -> None:
        jar, request, headers = self.jar, response._request, response.headers
        if (
            type(jar) is _JAR
            and type(jar._policy) is policy  # type: ignore[attr-defined]
            and request is not None
            and type(headers) is own
            and type(request.headers) is own
            and _JAR_METHODS.isdisjoint(jar.__dict__)
            and request.url.scheme in {"http", "https"}
            and not http.cookiejar.debug  # type: ignore[attr-defined]
            and _jar_is_original()
        ):
            for _, name, _ in headers._list:
                if name in {b"set-cookie", b"set-cookie2"}:
                    break
            else:
                # Whoever looks at headers decides which encoding they have from then on.
                _ = headers.encoding, request.headers.encoding
                jar._policy._now = jar._now = int(time.time())  # type: ignore[attr-defined]
                return
        original(self, response)

    return extract_cookies


# Authentication.


def _make_build_request_auth(original: Callable[..., Any], modules: Modules) -> Callable[..., Any]:
    client, nobody, url_class = modules.client, modules.auth.Auth, modules.urls.URL
    of_client = client.USE_CLIENT_DEFAULT

    def _build_request_auth(self: Any, request: Any, auth: Any = of_client) -> Any:
        if auth is of_client and self._auth is None:
            url = request.url
            if type(url) is url_class and not url._uri_reference.userinfo:
                return nobody()
        return original(self, request, auth)

    return _build_request_auth


_FLOWS = ("auth_flow", "sync_auth_flow", "async_auth_flow")


def _make_send_handling_auth(original: Callable[..., Any], modules: Modules) -> Callable[..., Any]:
    nobody = modules.auth.Auth
    has_no_flow = pristine.watch_current([(nobody, name) for name in _FLOWS])

    def _send_handling_auth(
        self: Any,
        request: Any,
        auth: Any,
        follow_redirects: Any,
        history: Any,
    ) -> Any:
        if (
            type(auth) is nobody
            and not auth.__dict__
            and not (nobody.requires_request_body or nobody.requires_response_body)
            and has_no_flow()
        ):
            # Its flow is the request, once.
            return self._send_handling_redirects(
                request, follow_redirects=follow_redirects, history=history
            )
        return original(self, request, auth, follow_redirects, history)

    return _send_handling_auth
