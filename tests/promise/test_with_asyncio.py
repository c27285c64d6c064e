"""What asyncio's functions do with futures, they do with promises."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import carboy
from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

RUNNERS = {"asyncio": asyncio.run, "carboy": carboy.run}
Settler = tuple[Promise[Any], "Callable[[Any], None]", "Callable[[Any], None]"]


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Any:
    """Return a function that runs a coroutine, for ten seconds at most."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        return RUNNERS[request.param](asyncio.wait_for(main, 10))

    return run


async def waits(promises: list[Promise[Any]]) -> Any:
    done, pending = await asyncio.wait(promises)  # type: ignore[type-var]
    assert pending == set()
    assert done == set(promises)
    return sorted(promise.result() for promise in done)


async def completes(promises: list[Promise[Any]]) -> Any:
    return sorted([await promise for promise in asyncio.as_completed(promises)])


async def gathers(promises: list[Promise[Any]]) -> Any:
    return await asyncio.gather(*promises)


async def waits_for(promises: list[Promise[Any]]) -> Any:
    return [await asyncio.wait_for(promise, 10) for promise in promises]


async def shields(promises: list[Promise[Any]]) -> Any:
    return [await asyncio.shield(promise) for promise in promises]


async def ensures(promises: list[Promise[Any]]) -> Any:
    return [await asyncio.ensure_future(promise) for promise in promises]


async def bounds(promises: list[Promise[Any]]) -> Any:
    async with asyncio.timeout(10):
        return [await promise for promise in promises]


async def groups(promises: list[Promise[Any]]) -> Any:
    async def value_of(promise: Promise[Any]) -> Any:
        return await promise

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(value_of(promise)) for promise in promises]
    return [task.result() for task in tasks]


FUNCTIONS = [waits, completes, gathers, waits_for, shields, ensures, bounds, groups]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_come_out(function: Any, run: Any) -> None:
    async def main() -> Any:
        late, resolve, _ = Promise.with_resolvers()
        promises = [Promise.resolve(1), Promise(asyncio.sleep(0.001, 2)), late]
        asyncio.get_running_loop().call_soon(resolve, 3)
        return await function(promises)

    assert run(main()) == [1, 2, 3]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_errors_come_out(function: Any, run: Any) -> None:
    async def main() -> None:
        late, _, reject = Promise.with_resolvers()
        asyncio.get_running_loop().call_soon(reject, KeyError("no"))
        await function([late])

    error: type[BaseException] = ExceptionGroup if function is groups else KeyError
    with pytest.raises(error):
        run(main())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_thread_may_settle_them(function: Any, run: Any) -> None:
    async def main() -> Any:
        late, resolve, _ = Promise.with_resolvers()
        thread = threading.Thread(target=resolve, args=(1,))
        asyncio.get_running_loop().call_soon(thread.start)
        result = await function([late])
        thread.join()
        return result

    assert run(main()) == [1]


def test_wait_says_what_is_done_and_what_is_not(run: Any) -> None:
    async def main() -> None:
        pending, resolve, _ = Promise.with_resolvers()
        failed = Promise(asyncio.sleep(0)).then(lambda _: 1 / 0)
        for when in (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION):
            done, left = await asyncio.wait({failed, pending}, return_when=when)  # type: ignore[type-var]
            assert (done, left) == ({failed}, {pending})
        done, left = await asyncio.wait([pending], timeout=0)  # type: ignore[type-var]
        assert (done, left) == (set(), {pending})
        assert not pending.done(), "who only looks gives nothing up"
        resolve(1)
        assert await pending == 1

    run(main())


def test_giving_up_a_wait_gives_the_promise_up(run: Any) -> None:
    async def main() -> list[bool]:
        promises = [Promise(asyncio.sleep(60)) for _ in range(3)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(promises[0], 0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await promises[1]
        gathering = asyncio.gather(promises[2], Promise(asyncio.sleep(60)))
        await asyncio.sleep(0)
        gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering
        shielded = Promise(asyncio.sleep(0.001, 1))
        shield = asyncio.shield(shielded)
        shield.cancel()
        assert await shielded == 1
        return [promise.cancelled() for promise in promises]

    assert run(main()) == [True] * 3


def test_callbacks_are_those_of_a_future(run: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[Any] = []

    def see(promise: Promise[Any]) -> None:
        seen.append((promise.peek(), variable.get(), threading.current_thread().name))

    async def main() -> None:
        promise, resolve, _ = Promise.with_resolvers()
        variable.set("of who adds")
        promise.add_done_callback(see)
        given = contextvars.copy_context()
        given.run(variable.set, "given")
        promise.add_done_callback(see, context=given)
        removed = seen.append
        promise.add_done_callback(removed)
        promise.add_done_callback(removed)
        assert promise.remove_done_callback(removed) == 2
        assert promise.remove_done_callback(removed) == 0
        resolve(1)
        assert seen == [], "never within the call that settles"
        await asyncio.sleep(0)
        promise.add_done_callback(see)
        assert len(seen) == 2
        await asyncio.sleep(0)

    run(main())
    here = threading.current_thread().name
    expected = [("of who adds", here), ("given", here), ("of who adds", here)]
    assert [entry[1:] for entry in seen] == expected
    assert {repr(entry[0]) for entry in seen} == {"Fulfilled(value=1)"}


def test_who_adds_a_callback_has_not_seen_the_error(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        failed = Promise(asyncio.sleep(0)).then(lambda _: 1 / 0)
        await asyncio.wait([failed])  # type: ignore[type-var]

    with caplog.at_level(logging.ERROR, "carboy"):
        run(main())
        gc.collect()
    assert "nobody awaited it" in caplog.text


def test_a_callback_in_sync_code_is_refused() -> None:
    with pytest.raises(RuntimeError, match="use settle\\(\\) or finally_\\(\\) in sync code"):
        Promise.resolve(1).add_done_callback(print)


def test_a_callback_that_holds_its_promise_is_collected() -> None:
    class Held:
        pass

    async def main() -> weakref.ref[Held]:
        held = Held()
        promise = Promise.with_resolvers()[0]
        promise.add_done_callback(lambda _: (held, promise))
        return weakref.ref(held)

    reference = asyncio.run(main())
    gc.collect()
    assert reference() is None


def test_what_takes_coroutines_only_says_so(run: Any) -> None:
    async def main() -> None:
        promise = Promise.resolve(1)
        with pytest.raises(
            TypeError, match=r"a coroutine was expected|await it, or use asyncio"
        ) as caught:
            asyncio.create_task(promise)  # type: ignore[arg-type]  # noqa: RUF006 - None is made.
        assert f"made at {__file__}" in str(caught.value)
        with pytest.raises(TypeError, match="coroutine"):
            asyncio.run_coroutine_threadsafe(promise, asyncio.get_running_loop())  # type: ignore[arg-type]

    run(main())


def test_carboys_loop_says_what_to_write_instead_of_a_task() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"await it, or use asyncio.ensure_future\(\)"):
            asyncio.create_task(Promise.resolve(1), name="named")  # type: ignore[arg-type]  # noqa: RUF006 - None is made.
        with pytest.raises(TypeError, match=r"await it, or use asyncio.ensure_future\(\)"):
            asyncio.get_running_loop().create_task(Promise.resolve(1))  # type: ignore[arg-type]

    carboy.run(main())
