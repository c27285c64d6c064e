"""Mistakes that type checkers find. Checked, not run: each comment is used by the checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carboy import Promise


def take(promise: Promise[str]) -> None: ...


def wrong(promise: Promise[int], function: None) -> None:
    take(promise)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    promise.upper()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    promise.then(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    promise.and_then(str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    promise.then(print, on="pool")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    promise.finally_(function)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    promise + 1  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    promise.result(timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
