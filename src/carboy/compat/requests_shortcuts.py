"""Functions of requests' that look something up for each call, made quick.

Most of a small call's time passes here, and not on the network. Each of these gives what the
original would give, and asks the original whenever its arguments, the environment or requests
itself are not what is usual.
"""

from __future__ import annotations

import functools
import os
import os.path
import re
import urllib.parse
import urllib.request
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import requests.adapters
import requests.cookies
import requests.models
import requests.sessions
import requests.structures
import requests.utils
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.models import PreparedRequest
from requests.structures import CaseInsensitiveDict
from urllib3._collections import HTTPHeaderDict

from carboy._carboy import names_a_proxy
from carboy.compat.urllib3_message import pairs_of_headers
from carboy.compat.urllib3_response import KEEPS_LISTS, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from carboy.compat.patching import Patches

#: URLs whose prepared forms are kept, and how long these may be at most.
_KEPT_URLS = 512
_LONGEST_KEPT_URL = 2000

_MAPPINGS = {dict, OrderedDict}

#: Names and passwords end with the first; the others may be an error of the address.
_MORE_THAN_A_HOST = re.compile(r"[@\[\]]")


def patch_shortcuts(patches: Patches) -> None:
    """Put the quick functions into requests."""
    if _keeps_pairs():
        patches.replace(requests.sessions, "merge_setting", _make_merge_setting)
        patches.replace(CaseInsensitiveDict, "__init__", _make_case_insensitive)
        pairs_of_headers[CaseInsensitiveDict] = _pairs
    patches.replace(requests.adapters, "select_proxy", _make_select_proxy)
    patches.replace(requests.models, "get_cookie_header", _make_get_cookie_header)
    patches.replace(PreparedRequest, "prepare_url", _make_prepare_url)
    patches.replace(requests.models, "get_auth_from_url", _make_get_auth_from_url)
    for module in (requests.adapters, requests.cookies, requests.sessions, requests.utils):
        if vars(module).get("urlparse") is urllib.parse.urlparse:
            patches.replace(module, "urlparse", _make_urlparse)
    patches.replace_property(requests.models.Response, "content", _make_content)
    environment = getattr(os.environ, "_data", None)
    if not isinstance(environment, dict) or not all(
        isinstance(name, bytes) for name in environment
    ):
        return
    patches.replace(requests.sessions, "get_netrc_auth", _make_get_netrc_auth)
    utils: Any = requests.utils
    if utils.getproxies is not urllib.request.getproxies_environment:
        return
    patches.replace(utils, "getproxies", _make_getproxies)
    if utils.proxy_bypass is getattr(urllib.request, "proxy_bypass_environment", None):
        patches.replace(utils, "proxy_bypass", _make_proxy_bypass)
        patches.replace(requests.sessions, "get_environ_proxies", _make_get_environ_proxies)


# Mappings.


def _keeps_pairs() -> bool:
    """Whether this version of requests keeps names and values as is expected here."""
    store = getattr(CaseInsensitiveDict({"A-b": "1"}), "_store", None)
    return type(store) is OrderedDict and store == {"a-b": ("A-b", "1")}


def _pairs(headers: CaseInsensitiveDict[Any]) -> list[tuple[Any, Any]]:
    return list(headers._store.values())


def _make_merge_setting(original: Callable[..., Any]) -> Callable[..., Any]:
    def merge_setting(
        request_setting: Any, session_setting: Any, dict_class: type = OrderedDict
    ) -> Any:
        if session_setting is None:
            return request_setting
        if request_setting is None:
            return session_setting
        if type(request_setting) not in _MAPPINGS:
            return original(request_setting, session_setting, dict_class)
        kind = type(session_setting)
        merged: Any
        if dict_class is OrderedDict and kind in _MAPPINGS:
            merged = OrderedDict(session_setting)
            merged.update(request_setting)
            return _without_nothing(merged)
        if dict_class is CaseInsensitiveDict and kind is CaseInsensitiveDict:
            merged = CaseInsensitiveDict()
            store = merged._store = session_setting._store.copy()
            for name, value in request_setting.items():
                store[name.lower()] = (name, value)
            for _, value in store.values():
                if value is None:
                    return _without_nothing(merged)
            return merged
        return original(request_setting, session_setting, dict_class)

    return merge_setting


def _without_nothing(mapping: Any) -> Any:
    if mapping:
        for name in [name for name, value in mapping.items() if value is None]:
            del mapping[name]
    return mapping


def _make_case_insensitive(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any, data: Any = None, **options: Any) -> None:  # noqa: N807 - That it is.
        if options or type(self) is not CaseInsensitiveDict:
            original(self, data, **options)
        elif data is None:
            self._store = OrderedDict()
        elif type(data) is HTTPHeaderDict and KEEPS_LISTS:
            self._store = OrderedDict(
                (key, (found[0], found[1] if len(found) == 2 else ", ".join(found[1:])))
                for key, found in data._container.items()
            )
        else:
            original(self, data)

    return __init__


# URLs and where they lead.


@functools.lru_cache(maxsize=_KEPT_URLS)
def _prepared(url: str, prepare: Callable[..., None]) -> str | None:
    request = PreparedRequest()
    prepare(request, url, None)
    return request.url


def _make_prepare_url(original: Callable[..., None]) -> Callable[..., None]:
    def prepare_url(self: Any, url: Any, params: Any) -> None:
        if (
            type(url) is str
            and not params
            and (params is None or type(params) in _MAPPINGS)
            and type(self) is PreparedRequest
            and len(url) <= _LONGEST_KEPT_URL
        ):
            self.url = _prepared(url, original)
        else:
            original(self, url, params)

    return prepare_url


def _make_urlparse(original: Callable[..., Any]) -> Callable[..., Any]:
    # What is parsed can't be changed: whoever asks again may have the same.
    parsed = functools.lru_cache(maxsize=_KEPT_URLS)(original)

    def urlparse(url: Any, *arguments: Any, **options: Any) -> Any:
        if type(url) is str and not arguments and not options and len(url) <= _LONGEST_KEPT_URL:
            return parsed(url)
        return original(url, *arguments, **options)

    return urlparse


def _make_get_auth_from_url(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_auth_from_url(url: Any) -> Any:
        # Other characters than these of ASCII may stand for one of them.
        if type(url) is str and url.isascii() and not _MORE_THAN_A_HOST.search(url):
            return "", ""
        return original(url)

    return get_auth_from_url


def _make_select_proxy(original: Callable[..., Any]) -> Callable[..., Any]:
    def select_proxy(url: Any, proxies: Any) -> Any:
        return original(url, proxies) if proxies else None

    return select_proxy


_build_key = getattr(HTTPAdapter, "build_connection_pool_key_attributes", None)

#: Where an adapter keeps which pools it has had for which origins.
_POOLS = "_carboy_pools"

_MOST_POOLS = 64


def known_pool(
    original: Callable[..., Any],
    adapter: Any,
    request: Any,
    verify: Any = None,
    proxies: Any = None,
    cert: Any = None,
) -> Any:
    """Return urllib3's pool for a request, as an adapter's method does.

    Args:
        original: That method.
        adapter: The adapter.
        request: The prepared request.
        verify: As the method takes it, like the others.
        proxies: Proxies by schemes and hosts.
        cert: The client's certificate.
    """
    if proxies or _build_key is None or type(adapter) is not HTTPAdapter:
        return original(adapter, request, verify, proxies, cert)
    manager = adapter.poolmanager
    known = adapter.__dict__.get(_POOLS)
    if known is None or known[0] is not manager or known[1] != manager.connection_pool_kw:
        known = adapter.__dict__[_POOLS] = (manager, dict(manager.connection_pool_kw), {})
    origins: dict[Any, tuple[Any, Any]] = known[2]
    scheme, _, rest = request.url.partition("://")
    origin = (scheme, rest.partition("/")[0], verify, cert)
    found = origins.get(origin)
    # The look-up tells the manager that the pool is in use, too.
    if found is not None and manager.pools.get(found[0]) is found[1]:
        return found[1]
    pool = original(adapter, request, verify, proxies, cert)
    if len(origins) >= _MOST_POOLS:
        origins.clear()
    for key in manager.pools.keys():  # noqa: SIM118 - It is no dict, and can't be iterated over.
        if manager.pools.get(key) is pool:
            origins[origin] = (key, pool)
            break
    return pool


# The environment.


def _names_a_proxy() -> bool:
    data = getattr(os.environ, "_data", None)
    return names_a_proxy(data) if isinstance(data, dict) else True


def _make_getproxies(original: Callable[..., Any]) -> Callable[..., Any]:
    def getproxies() -> Any:
        return original() if _names_a_proxy() else {}

    return getproxies


def _make_proxy_bypass(original: Callable[..., Any]) -> Callable[..., Any]:
    def proxy_bypass(host: str, *arguments: Any) -> Any:
        return original(host, *arguments) if arguments or _names_a_proxy() else False

    return proxy_bypass


def _make_get_environ_proxies(original: Callable[..., Any]) -> Callable[..., Any]:
    utils: Any = requests.utils
    # What it asks. A test may put something else there.
    parts = (utils.getproxies, utils.proxy_bypass, utils.should_bypass_proxies)

    def get_environ_proxies(url: Any, no_proxy: Any = None) -> Any:
        found = (utils.getproxies, utils.proxy_bypass, utils.should_bypass_proxies)
        return original(url, no_proxy) if found != parts or _names_a_proxy() else {}

    return get_environ_proxies


@functools.lru_cache(maxsize=1)
def _netrc_paths(_home: bytes | None, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(os.path.expanduser(f"~/{name}") for name in names)


def _make_get_netrc_auth(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_netrc_auth(url: Any, raise_errors: bool = False) -> Any:  # noqa: FBT001, FBT002 - requests' own.
        environment = os.environ._data  # type: ignore[attr-defined]
        if b"NETRC" not in environment:
            paths = _netrc_paths(environment.get(b"HOME"), requests.utils.NETRC_FILES)
            if not any(map(os.path.exists, paths)):
                return None
        return original(url, raise_errors)

    return get_netrc_auth


# Cookies and content.


def _make_get_cookie_header(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_cookie_header(jar: Any, request: Any) -> Any:
        if type(jar) is RequestsCookieJar and not jar._cookies:  # type: ignore[attr-defined]
            return None
        return original(jar, request)

    return get_cookie_header


_iter_content = requests.models.Response.iter_content


def _make_content(original: property) -> Callable[[Any], Any]:
    get = original.__get__

    def content(self: Any) -> Any:
        """Content of the response, in bytes."""
        if (
            self._content is False
            and not self._content_consumed
            and type(self.raw) is Response
            and type(self).iter_content is _iter_content
            and self.status_code
            and (whole := self.raw.whole_content()) is not None
        ):
            self._content = whole
            self._content_consumed = True
            return whole
        return get(self)

    return content
