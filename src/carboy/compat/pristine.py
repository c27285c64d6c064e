"""Whether a library is as its authors made it below the point where carboy takes over.

Mocks, recorders and recipes replace parts of a library or of ``socket``: to let no real call out,
to pin an address, to count bytes. A call that does not pass through those parts would pass by
all of them. So as long as any part is replaced, the library makes its calls itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carboy._carboy import OriginalParts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class _Missing:
    """Stands for a part that is not its author's: nothing is identical to it."""


def watch(parts: Iterable[tuple[Any, str, str]]) -> Callable[[], bool]:
    """Return a function that says whether these parts are still the original ones.

    Args:
        parts: An owner, the name of its attribute, and the module that the original is of.
    """
    originals = []
    for owner, name, module in parts:
        if not hasattr(owner, name):
            # Another version of the library: it has no such part.
            continue
        value = getattr(owner, name)
        is_original = getattr(value, "__module__", None) == module
        originals.append((owner, name, value if is_original else _Missing()))

    return OriginalParts(originals).are_in_place


def watch_current(parts: Iterable[tuple[Any, str]]) -> Callable[[], bool]:
    """Return a function that says whether these parts are still what they are now.

    Args:
        parts: An owner, and the name of its attribute.
    """
    return OriginalParts(
        [(owner, name, getattr(owner, name)) for owner, name in parts]
    ).are_in_place
