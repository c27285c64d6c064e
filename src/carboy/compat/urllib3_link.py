"""The way from a pool of urllib3's to carboy's: where it leads, and with which settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from urllib3.poolmanager import PoolManager

from carboy._carboy import HttpClient, Transport
from carboy.compat.trust import Trust

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

#: Where a pool has its ``Link``, or ``False``.
ATTRIBUTE = "_carboy_link"

_UNLIMITED = 1_000_000_000


class Link:
    """The way from one pool of urllib3's to carboy's.

    Attributes:
        origin: Scheme, host and port.
        proxy: The URL of the proxy on the way, or nothing.
        pool_class: What urllib3 has made the pool of.
    """

    def __init__(self, pool: HTTPConnectionPool, proxy: str) -> None:
        host = pool.host
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        port = "" if pool.port is None else f":{pool.port}"
        self.origin = f"{pool.scheme}://{host}{port}"
        self.proxy = proxy
        self.pool_class = type(pool)
        #: Whether a TLS handshake has failed, so that urllib3 is to try or to say why.
        self.is_refused = False
        blocks = pool.block
        self._connections = max(pool.pool.maxsize, 1) if blocks and pool.pool else _UNLIMITED
        self._transports: dict[Trust | None, Transport] = {}

    def transport(self, pool: HTTPConnectionPool) -> Transport:
        """Return what sends the requests of the pool.

        Raises:
            OSError: If a file of the TLS settings can't be read.
            ValueError: If carboy can't use what is in it.
        """
        trust = _trust_of(pool) if pool.scheme == "https" else None
        found = self._transports.get(trust)
        if found is None:
            client = HttpClient(
                connections=self._connections,
                connections_per_host=self._connections,
                idle_timeout=60.0,
                content_bytes=0,
                http_versions="1.1",
                proxies=(None, None, ""),
                **({} if trust is None else trust.settings()),
            )
            found = self._transports[trust] = Transport(client)
        return found

    def close(self) -> None:
        """Close idle connections."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.close()


def close_links(manager: Any) -> None:
    """Close carboy's idle connections for the pools of a ``PoolManager``."""
    if not isinstance(manager, PoolManager):
        return
    pools = manager.pools
    for key in pools.keys():  # noqa: SIM118 - It is no dict, and can't be iterated over.
        pool = pools.get(key)
        link = None if pool is None else pool.__dict__.get(ATTRIBUTE)
        if link:
            link.close()


#: What a pool may say of its connections: anything else is urllib3's to do.
_KNOWN_SETTINGS = {"blocksize", "proxy", "proxy_config", "_socks_options"}

_KNOWN_CLASSES = {
    ("urllib3.connectionpool", "HTTPConnectionPool"),
    ("urllib3.connectionpool", "HTTPSConnectionPool"),
    ("urllib3.contrib.socks", "SOCKSHTTPConnectionPool"),
    ("urllib3.contrib.socks", "SOCKSHTTPSConnectionPool"),
}


def make_link(pool: HTTPConnectionPool) -> Link | bool:
    """Return the way for a pool, or ``False`` if carboy can't do what the pool is to do."""
    pool_class = type(pool)
    if (pool_class.__module__, pool_class.__name__) not in _KNOWN_CLASSES:
        return False
    settings = pool.conn_kw
    if any(settings[name] for name in settings.keys() - _KNOWN_SETTINGS):
        return False
    for name in (
        "ssl_version",
        "ssl_minimum_version",
        "ssl_maximum_version",
        "assert_hostname",
        "assert_fingerprint",
        "key_password",
    ):
        if getattr(pool, name, None) is not None:
            return False
    proxy = _proxy_of(pool)
    return False if proxy is None else Link(pool, proxy)


def _proxy_of(pool: HTTPConnectionPool) -> str | None:
    """Return the URL of the pool's proxy, nothing for none, ``None`` for one of urllib3's own."""
    socks = pool.conn_kw.get("_socks_options")
    if socks is not None:
        # PySocks numbers its kinds of proxies; 2 is SOCKS 5.
        if socks["socks_version"] != 2:
            return None
        scheme = "socks5h" if socks["rdns"] else "socks5"
        user = _credentials(socks["username"], socks["password"])
        return f"{scheme}://{user}{socks['proxy_host']}:{socks['proxy_port'] or 1080}"
    if pool.proxy is None:
        return ""
    config = pool.proxy_config
    if pool.proxy.scheme != "http" or (config is not None and any(config)):
        return None
    if any(name.lower() != "proxy-authorization" for name in pool.proxy_headers):
        return None
    auth = f"{pool.proxy.auth}@" if pool.proxy.auth else ""
    if bool(auth) != bool(pool.proxy_headers):
        return None
    return f"http://{auth}{pool.proxy.host}:{pool.proxy.port or 80}"


def _credentials(user: str | None, password: str | None) -> str:
    if not user:
        return ""
    return f"{quote(user, safe='')}:{quote(password or '', safe='')}@"


def _trust_of(pool: Any) -> Trust:
    certificate, key = pool.cert_file, pool.key_file
    if pool.cert_reqs in {"CERT_NONE", 0}:
        return Trust(None, certificate, key)
    if pool.ca_cert_dir or not pool.ca_certs or os.path.isdir(pool.ca_certs):
        raise ValueError("a folder of certificates is OpenSSL's to read")
    return Trust(os.fspath(pool.ca_certs), certificate, key)
