"""What a session's ``proxy`` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carboy.http.options import ProxyTypes


def proxies_of(
    proxy: ProxyTypes | None, no_proxy: str, *, trust_env: bool
) -> tuple[str | None, str | None, str] | None:
    """Return those for ``http`` and ``https``, and who needs none; ``None``: see environment."""
    if proxy is None:
        return None if trust_env else (None, None, "")
    if isinstance(proxy, str):
        return (proxy, proxy, no_proxy)
    known = {name.removesuffix("://").lower(): url for name, url in proxy.items()}
    unknown = set(known) - {"http", "https", "all"}
    if unknown:
        raise ValueError(
            f"proxy= is by 'http', 'https' or 'all', and not by {sorted(unknown)}: what no proxy "
            "is named for goes without one"
        )
    fallback = known.get("all")
    return (known.get("http", fallback), known.get("https", fallback), no_proxy)
