"""Headers: names without case, several values per name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping

#: What headers can be made of.
HeaderTypes = (
    Mapping[str, str]
    | Mapping[str, str | bytes]
    | Iterable[tuple[str, str]]
    | Iterable[tuple[str, str | bytes]]
)


class Headers(MutableMapping[str, str]):
    """A mapping of header names to values.

    ``headers["Accept"]`` joins several values by commas, as RFC 9110 section 5.3 allows;
    ``get_list`` gives them one by one, which ``Set-Cookie`` needs.
    """

    __slots__ = ("_pairs", "changes")

    def __init__(self, headers: HeaderTypes | None = None) -> None:
        self._pairs: list[tuple[str, str]] = []
        #: How often they were changed.
        self.changes = 0
        if headers is not None:
            self.extend(headers)

    def extend(self, headers: HeaderTypes) -> None:
        """Add headers, beside those that are there."""
        items: Iterable[tuple[str, str | bytes]] = (
            headers.items() if isinstance(headers, Mapping) else headers
        )
        for name, value in items:
            self.add(name, value)

    def add(self, name: str, value: str | bytes) -> None:
        """Add a header, beside those of the same name."""
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(value, str):
            raise TypeError(
                f"the value of the header {name!r} is to be a str, not {type(value).__name__}"
            )
        self.changes += 1
        self._pairs.append((name, value))

    def get_list(self, name: str) -> list[str]:
        """Return the values of a name, in their order."""
        name = name.lower()
        return [value for key, value in self._pairs if key.lower() == name]

    def multi_items(self) -> list[tuple[str, str]]:
        """Return all pairs of name and value, in their order."""
        return list(self._pairs)

    def copy(self) -> Headers:
        """Return a copy."""
        return Headers(self._pairs)

    def __getitem__(self, name: str) -> str:
        values = self.get_list(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        lowered = name.lower()
        kept = [pair for pair in self._pairs if pair[0].lower() != lowered]
        self._pairs = kept
        self.add(name, value)

    def __delitem__(self, name: str) -> None:
        lowered = name.lower()
        kept = [pair for pair in self._pairs if pair[0].lower() != lowered]
        if len(kept) == len(self._pairs):
            raise KeyError(name)
        self.changes += 1
        self._pairs = kept

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._pairs})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_list(name))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Headers, Mapping)):
            return NotImplemented
        theirs = other if isinstance(other, Headers) else Headers(other)
        lowered = sorted((name.lower(), value) for name, value in self._pairs)
        return lowered == sorted((name.lower(), value) for name, value in theirs._pairs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        hidden = {"authorization", "cookie", "proxy-authorization", "set-cookie"}
        shown = [
            (name, "[secret]" if name.lower() in hidden else value) for name, value in self._pairs
        ]
        return f"Headers({shown!r})"
