# The part of `_carboy.pyi` that is about promises: the native module itself is one.

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextvars import Context
from types import GenericAlias
from typing import Any, Generic, Literal, NoReturn, Self, TypeAlias, TypeVar, final, overload

from typing_extensions import disjoint_base

from carboy.promise import Fulfilled, Rejected

__all__ = [
    "Promise",
    "PromiseAwaiter",
    "PromiseResolver",
    "PromiseScope",
    "call_on_own_stack",
    "detached_promises",
    "find_request_scope",
    "holds_promises",
    "keep_causes",
]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_K = TypeVar("_K")
_T1 = TypeVar("_T1")
_T2 = TypeVar("_T2")
_T3 = TypeVar("_T3")
_T4 = TypeVar("_T4")
_T5 = TypeVar("_T5")
_U = TypeVar("_U")
_V = TypeVar("_V")
_E = TypeVar("_E", bound=BaseException)
_Place: TypeAlias = Literal["thread"] | None

@final
class Promise(Generic[_T_co]):
    def __new__(cls, awaitable: Awaitable[_T_co]) -> Self: ...
    @overload
    @staticmethod
    def resolve(value: Awaitable[_T]) -> Promise[_T]: ...
    @overload
    @staticmethod
    def resolve(value: _T) -> Promise[_T]: ...
    @overload
    @staticmethod
    def resolve(value: None = None) -> Promise[None]: ...
    @staticmethod
    def reject(error: BaseException | type[BaseException]) -> Promise[Any]: ...
    @staticmethod
    def with_resolvers() -> tuple[
        Promise[Any], Callable[[Any], None], Callable[[BaseException | type[BaseException]], None]
    ]: ...
    @overload
    def then(
        self,
        on_fulfilled: Callable[[_T_co], Awaitable[_U]],
        on_rejected: None = None,
        /,
        *,
        on: _Place = None,
    ) -> Promise[_U]: ...
    @overload
    def then(
        self, on_fulfilled: Callable[[_T_co], _U], on_rejected: None = None, /, *, on: _Place = None
    ) -> Promise[_U]: ...
    @overload
    def then(
        self,
        on_fulfilled: Callable[[_T_co], Awaitable[_U]],
        on_rejected: Callable[[Exception], Awaitable[_V]],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_U | _V]: ...
    @overload
    def then(
        self,
        on_fulfilled: Callable[[_T_co], Awaitable[_U]],
        on_rejected: Callable[[Exception], _V],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_U | _V]: ...
    @overload
    def then(
        self,
        on_fulfilled: Callable[[_T_co], _U],
        on_rejected: Callable[[Exception], Awaitable[_V]],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_U | _V]: ...
    @overload
    def then(
        self,
        on_fulfilled: Callable[[_T_co], _U],
        on_rejected: Callable[[Exception], _V],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_U | _V]: ...
    @overload
    def then(
        self,
        on_fulfilled: None,
        on_rejected: Callable[[Exception], Awaitable[_V]],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_T_co | _V]: ...
    @overload
    def then(
        self, on_fulfilled: None, on_rejected: Callable[[Exception], _V], /, *, on: _Place = None
    ) -> Promise[_T_co | _V]: ...
    @overload
    def then(
        self, on_fulfilled: None = None, on_rejected: None = None, /, *, on: _Place = None
    ) -> Promise[_T_co]: ...
    def and_then(self, function: Callable[[_T_co], Awaitable[_U]], /) -> Promise[_U]: ...
    @overload
    def catch(
        self,
        what: Callable[[Exception], Awaitable[_V]],
        function: None = None,
        /,
        *,
        on: _Place = None,
    ) -> Promise[_T_co | _V]: ...
    @overload
    def catch(
        self, what: Callable[[Exception], _V], function: None = None, /, *, on: _Place = None
    ) -> Promise[_T_co | _V]: ...
    @overload
    def catch(
        self,
        what: type[_E] | tuple[type[_E], ...],
        function: Callable[[_E], Awaitable[_V]],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_T_co | _V]: ...
    @overload
    def catch(
        self,
        what: type[_E] | tuple[type[_E], ...],
        function: Callable[[_E], _V],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_T_co | _V]: ...
    @overload
    def settle(
        self,
        function: Callable[[Fulfilled[_T_co] | Rejected], Awaitable[_U]],
        /,
        *,
        on: _Place = None,
    ) -> Promise[_U]: ...
    @overload
    def settle(
        self, function: Callable[[Fulfilled[_T_co] | Rejected], _U], /, *, on: _Place = None
    ) -> Promise[_U]: ...
    def finally_(self, function: Callable[[], object], /) -> Promise[_T_co]: ...
    def tap(
        self, function: Callable[[_T_co], object], /, *, on: _Place = None
    ) -> Promise[_T_co]: ...
    @overload
    def or_else(self, value: Awaitable[_V], /) -> Promise[_T_co | _V]: ...
    @overload
    def or_else(self, value: _V, /) -> Promise[_T_co | _V]: ...
    @overload
    def timeout(self, seconds: float) -> Promise[_T_co]: ...
    @overload
    def timeout(self, seconds: float, default: _V) -> Promise[_T_co | _V]: ...
    def shield(self) -> Promise[_T_co]: ...
    def cancellable(self) -> Promise[_T_co]: ...
    def detach(self, name: str) -> Promise[_T_co]: ...
    # A mapping is an iterable too, of its keys, which are never awaitables here.
    @overload
    @staticmethod
    def all(  # type: ignore[overload-overlap]
        promises: Mapping[_K, Awaitable[_T]], /
    ) -> Promise[dict[_K, _T]]: ...
    @overload
    @staticmethod
    def all(first: Awaitable[_T1], /) -> Promise[tuple[_T1]]: ...
    # mypy takes the items of a tuple for objects else, where they are promises of unlike values.
    @overload
    @staticmethod
    def all(promises: tuple[Awaitable[_T1], Awaitable[_T2]], /) -> Promise[list[_T1 | _T2]]: ...
    @overload
    @staticmethod
    def all(
        promises: tuple[Awaitable[_T1], Awaitable[_T2], Awaitable[_T3]], /
    ) -> Promise[list[_T1 | _T2 | _T3]]: ...
    @overload
    @staticmethod
    def all(promises: Iterable[Awaitable[_T]], /) -> Promise[list[_T]]: ...
    @overload
    @staticmethod
    def all(first: Awaitable[_T1], second: Awaitable[_T2], /) -> Promise[tuple[_T1, _T2]]: ...
    @overload
    @staticmethod
    def all(
        first: Awaitable[_T1], second: Awaitable[_T2], third: Awaitable[_T3], /
    ) -> Promise[tuple[_T1, _T2, _T3]]: ...
    @overload
    @staticmethod
    def all(
        first: Awaitable[_T1],
        second: Awaitable[_T2],
        third: Awaitable[_T3],
        fourth: Awaitable[_T4],
        /,
    ) -> Promise[tuple[_T1, _T2, _T3, _T4]]: ...
    @overload
    @staticmethod
    def all(
        first: Awaitable[_T1],
        second: Awaitable[_T2],
        third: Awaitable[_T3],
        fourth: Awaitable[_T4],
        fifth: Awaitable[_T5],
        /,
    ) -> Promise[tuple[_T1, _T2, _T3, _T4, _T5]]: ...
    @overload
    @staticmethod
    def all(*promises: Awaitable[_T]) -> Promise[tuple[_T, ...]]: ...
    @overload
    @staticmethod
    def all(*promises: Any) -> Promise[tuple[Any, ...]]: ...
    @overload
    @staticmethod
    def all_settled(  # type: ignore[overload-overlap]
        promises: Mapping[_K, Awaitable[_T]], /
    ) -> Promise[dict[_K, Fulfilled[_T] | Rejected]]: ...
    @overload
    @staticmethod
    def all_settled(first: Awaitable[_T], /) -> Promise[tuple[Fulfilled[_T] | Rejected]]: ...
    @overload
    @staticmethod
    def all_settled(
        promises: Iterable[Awaitable[_T]], /
    ) -> Promise[list[Fulfilled[_T] | Rejected]]: ...
    @overload
    @staticmethod
    def all_settled(
        first: Awaitable[_T1], second: Awaitable[_T2], /
    ) -> Promise[tuple[Fulfilled[_T1] | Rejected, Fulfilled[_T2] | Rejected]]: ...
    @overload
    @staticmethod
    def all_settled(
        first: Awaitable[_T1], second: Awaitable[_T2], third: Awaitable[_T3], /
    ) -> Promise[
        tuple[Fulfilled[_T1] | Rejected, Fulfilled[_T2] | Rejected, Fulfilled[_T3] | Rejected]
    ]: ...
    @overload
    @staticmethod
    def all_settled(*promises: Awaitable[_T]) -> Promise[tuple[Fulfilled[_T] | Rejected, ...]]: ...
    @overload
    @staticmethod
    def any(promises: Mapping[Any, Awaitable[_T]], /) -> Promise[_T]: ...
    @overload
    @staticmethod
    def any(first: Awaitable[_T1], second: Awaitable[_T2], /) -> Promise[_T1 | _T2]: ...
    @overload
    @staticmethod
    def any(*promises: Awaitable[_T]) -> Promise[_T]: ...
    @overload
    @staticmethod
    def any(promises: Iterable[Awaitable[_T]], /) -> Promise[_T]: ...
    @overload
    @staticmethod
    def race(promises: Mapping[Any, Awaitable[_T]], /) -> Promise[_T]: ...
    @overload
    @staticmethod
    def race(first: Awaitable[_T1], second: Awaitable[_T2], /) -> Promise[_T1 | _T2]: ...
    @overload
    @staticmethod
    def race(*promises: Awaitable[_T]) -> Promise[_T]: ...
    @overload
    @staticmethod
    def race(promises: Iterable[Awaitable[_T]], /) -> Promise[_T]: ...
    @overload
    @staticmethod
    def join(
        first: Awaitable[_T1],
        second: Awaitable[_T2],
        function: Callable[[_T1, _T2], Awaitable[_U]],
        /,
    ) -> Promise[_U]: ...
    @overload
    @staticmethod
    def join(
        first: Awaitable[_T1], second: Awaitable[_T2], function: Callable[[_T1, _T2], _U], /
    ) -> Promise[_U]: ...
    @overload
    @staticmethod
    def join(
        first: Awaitable[_T1],
        second: Awaitable[_T2],
        third: Awaitable[_T3],
        function: Callable[[_T1, _T2, _T3], Awaitable[_U]],
        /,
    ) -> Promise[_U]: ...
    @overload
    @staticmethod
    def join(
        first: Awaitable[_T1],
        second: Awaitable[_T2],
        third: Awaitable[_T3],
        function: Callable[[_T1, _T2, _T3], _U],
        /,
    ) -> Promise[_U]: ...
    @overload
    @staticmethod
    def join(*promises_and_function: Any) -> Promise[Any]: ...
    @overload
    @staticmethod
    def map(
        items: Iterable[_V], function: Callable[[_V], Awaitable[_T]], concurrency: int | None = None
    ) -> Promise[list[_T]]: ...
    @overload
    @staticmethod
    def map(
        items: Iterable[_V], function: Callable[[_V], _T], concurrency: int | None = None
    ) -> Promise[list[_T]]: ...
    @overload
    @staticmethod
    def call(
        function: Callable[..., Awaitable[_T]], /, *arguments: Any, **keywords: Any
    ) -> Promise[_T]: ...
    @overload
    @staticmethod
    def call(function: Callable[..., _T], /, *arguments: Any, **keywords: Any) -> Promise[_T]: ...
    def __getitem__(self, key: Any, /) -> Promise[Any]: ...
    def result(self, timeout: float | None = None) -> _T_co: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def peek(self) -> Fulfilled[_T_co] | Rejected | None: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def cancel(self, message: str | None = None) -> bool: ...
    def add_done_callback(
        self, fn: Callable[[Self], object], /, *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int: ...
    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __hash__(self) -> int: ...
    # These raise: a promise is not its value.
    def __bool__(self) -> NoReturn: ...
    def __len__(self) -> NoReturn: ...
    def __iter__(self) -> NoReturn: ...
    def __contains__(self, item: object, /) -> NoReturn: ...
    def __enter__(self) -> NoReturn: ...
    def __exit__(self, *_args: object) -> None: ...
    def __aenter__(self) -> NoReturn: ...
    def __aexit__(self, *_args: object) -> None: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

@final
class PromiseAwaiter:
    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Self: ...
    @property
    def _asyncio_future_blocking(self) -> bool: ...
    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value: bool) -> None: ...
    def get_loop(self) -> asyncio.AbstractEventLoop: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def result(self) -> Any: ...
    def exception(self) -> BaseException | None: ...
    def add_done_callback(
        self, fn: Callable[[Self], object], /, *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, fn: Callable[[Self], object]) -> int: ...
    def cancel(self, msg: object = None) -> bool: ...

@disjoint_base
class PromiseScope:
    def __new__(cls, scope: PromiseScope) -> Self: ...
    @staticmethod
    def within(outer: PromiseScope | None = None) -> PromiseScope: ...
    def end(self, error: BaseException | None = None) -> None: ...
    def end_after(self, seconds: float, error: BaseException) -> None: ...
    def take_unhandled(self) -> list[tuple[BaseException, str]]: ...
    def unfinished(self) -> list[str]: ...
    def is_open(self) -> bool: ...
    def is_detached(self) -> bool: ...
    def cancel_on_disconnect(self, policy: str) -> None: ...
    def answer_within(self, seconds: float) -> None: ...
    def deadline_header(self) -> str | None: ...

def call_on_own_stack(function: Callable[[_T], _U], argument: _T) -> _U: ...
def detached_promises() -> list[tuple[Promise[Any], str]]: ...
def find_request_scope() -> PromiseScope | None: ...
def holds_promises(value: object) -> bool: ...
def keep_causes() -> None: ...

@final
class PromiseResolver:
    def resolve(self, value: object = None) -> None: ...
    def reject(self, error: BaseException | type[BaseException]) -> None: ...
    def add_calls(self, calls: list[Any]) -> None: ...
