"""Replacing methods of other libraries, and putting them back."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """Methods that are replaced together.

    A replacement that somebody has wrapped can't be taken out again: it passes its calls on
    to the original method then. So every replacement asks ``is_active``.
    """

    def __init__(self) -> None:
        self.is_active = False
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        """Replace a method or a function of a module.

        Args:
            owner: The class or the module.
            name: The attribute.
            make: Makes the replacement from the original.
        """
        original = getattr(owner, name)
        replacement = functools.wraps(original)(make(original))
        setattr(owner, name, replacement)
        self._replaced.append((owner, name, original, replacement))

    def replace_property(
        self, owner: type, name: str, make: Callable[[property], Callable[[Any], Any]]
    ) -> None:
        """Replace the getter of a property.

        Args:
            owner: The class.
            name: The property.
            make: Makes the new getter from the original property.
        """
        original = vars(owner)[name]
        replacement = property(make(original), original.fset, original.fdel, original.__doc__)
        setattr(owner, name, replacement)
        self._replaced.append((owner, name, original, replacement))

    def restore(self) -> None:
        """Put the originals back, as far as nobody has put something else there."""
        self.is_active = False
        for owner, name, original, replacement in self._replaced:
            if vars(owner).get(name) is replacement:
                setattr(owner, name, original)
        self._replaced.clear()


def demand_original(owner: Any, name: str, library: str) -> None:
    """Refuse to replace what somebody has replaced already.

    A mock that is active would be passed by, and put the original back at its end.

    Raises:
        RuntimeError: If the method is not its library's own.
    """
    found = getattr(owner, name)
    package = owner.__module__.partition(".")[0]
    if (getattr(found, "__module__", None) or "").partition(".")[0] != package:
        raise RuntimeError(
            f"carboy.install({library!r}) has to come before mocks and tracers: "
            f"{owner.__module__}.{owner.__qualname__}.{name} is replaced by {found!r}"
        )
