"""What a failed promise holds is freed with it, however the two refer to each other."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

import carboy
from carboy import Promise


class ServiceError(Exception):
    """An error whose instances are known as long as they live."""

    alive: ClassVar[weakref.WeakSet[BaseException]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


@pytest.fixture(autouse=True)
def nothing_is_alive_before() -> Iterator[None]:
    ServiceError.alive.clear()
    yield
    ServiceError.alive.clear()


async def fail() -> Any:
    raise ServiceError


def reject_from_the_frame_that_failed() -> Promise[Any]:
    promise: Promise[Any]
    promise, _, reject = Promise.with_resolvers()
    try:
        raise ServiceError
    except ServiceError as error:
        reject(error)
    return promise


def test_an_error_whose_traceback_has_its_own_resolver_is_freed() -> None:
    promise = reject_from_the_frame_that_failed()
    assert promise.catch(lambda error: len(ServiceError.alive)).result() == 1
    del promise
    gc.collect()
    assert not list(ServiceError.alive)


def test_such_an_error_that_nobody_looked_at_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        reject_from_the_frame_that_failed()
        gc.collect()
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        ServiceError
    ]


def test_an_error_of_a_coroutine_that_nobody_looked_at_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        promise = Promise(fail())
        while not promise.done():
            await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR):
        carboy.run(main())
        gc.collect()
    assert len(caplog.records) == 1


async def with_await() -> None:
    promise = Promise(fail())
    with pytest.raises(ServiceError):
        await promise


def with_result() -> None:
    promise = Promise(fail())
    with pytest.raises(ServiceError):
        promise.result()


@pytest.mark.parametrize("wait", [lambda: carboy.run(with_await()), with_result])
def test_an_error_is_freed_that_was_raised_where_the_promise_is_known(
    wait: Callable[[], None],
) -> None:
    wait()
    gc.collect()
    assert not list(ServiceError.alive)


class Held:
    """Something that a handler holds."""


def test_a_pending_promise_that_only_its_own_handlers_could_settle_is_freed() -> None:
    def make(on_fulfilled: Callable[[Any, Any], Any]) -> weakref.ref[Held]:
        promise: Promise[Any]
        promise, resolve, reject = Promise.with_resolvers()
        held = Held()
        promise.then(lambda value: (held, resolve, reject))
        on_fulfilled(promise, resolve)
        return weakref.ref(held)

    by_closure = make(lambda promise, resolve: None)
    by_method = make(lambda promise, resolve: promise.then(resolve))
    gc.collect()
    assert by_closure() is None
    assert by_method() is None


def test_a_resolver_that_was_used_has_no_effect() -> None:
    promise: Promise[int]
    promise, resolve, reject = Promise.with_resolvers()
    resolve(1)
    resolve(2)
    reject(ServiceError())
    # A coroutine that comes too late is closed: it would be warned about.
    resolve(fail())  # type: ignore[arg-type]
    gc.collect()
    assert promise.result() == 1
