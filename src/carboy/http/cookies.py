"""A session's cookies."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from carboy._carboy import CookieJar


class Cookies(MutableMapping[str, str]):
    """The cookies that a session has been given, by name.

    What servers set is kept for their hosts; ``cookies["name"] = value`` is for every host that
    the session calls. A name may have several values (for other hosts or paths): ``list``
    gives them all.
    """

    def __init__(self) -> None:
        self.jar = CookieJar()
        #: Those for every host.
        self.own: dict[str, str] = {}
        #: How often ``own`` was changed.
        self.changes = 0

    def list(self) -> list[tuple[str, str, str, str]]:
        """Return name, value, domain and path of each; both are empty for any host."""
        return [*((name, value, "", "") for name, value in self.own.items()), *self.jar.cookies()]

    def set(self, name: str, value: str, url: str) -> None:
        """Set a cookie for the host of a URL."""
        self.jar.set(name, value, url)

    def clear(self) -> None:
        """Remove all."""
        self.changes += 1
        self.own.clear()
        self.jar.clear()

    def _all(self) -> dict[str, str]:
        stored = {name: value for name, value, _, _ in self.jar.cookies()}
        return stored | self.own

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __setitem__(self, name: str, value: str) -> None:
        self.changes += 1
        self.own[name] = value

    def __delitem__(self, name: str) -> None:
        self.changes += 1
        if self.own.pop(name, None) is None and not self.jar.remove(name):
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        # Values are secrets, as a rule.
        names = [
            f"{name} for {domain}{path}" if domain else name
            for name, _, domain, path in self.list()
        ]
        return f"<Cookies: {', '.join(names) or 'none'}>"
