"""Promises of threads and loops: settled anywhere, waited for anywhere, handled at home."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, request
from support.live import Live

import carboy
from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNERS = {"asyncio": asyncio.run, "carboy": carboy.run}


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Any:
    return RUNNERS[request.param]


def thread_name(_: object = None) -> str:
    return threading.current_thread().name


# on="thread"

ON_THREAD: dict[str, Callable[[], Promise[Any]]] = {
    "then": lambda: Promise.resolve(1).then(thread_name, on="thread"),
    "then for an error": lambda: Promise.reject(KeyError()).then(None, thread_name, on="thread"),
    "catch": lambda: Promise.reject(KeyError()).catch(thread_name, on="thread"),
    "catch of a class": lambda: Promise.reject(KeyError()).catch(
        LookupError, thread_name, on="thread"
    ),
    "settle": lambda: Promise.resolve(1).settle(thread_name, on="thread"),
}


@pytest.mark.parametrize("case", ON_THREAD)
def test_a_handler_may_run_on_a_thread_of_its_own(case: str, run: Any) -> None:
    async def main() -> str:
        return await ON_THREAD[case]()

    here = threading.current_thread().name
    assert ON_THREAD[case]().result() != here
    assert run(main()) != here


def test_a_thread_that_blocks_does_not_hold_the_loop_up(run: Any) -> None:
    async def main() -> list[str]:
        gate = threading.Event()
        blocked = Promise.resolve(1).tap(lambda _: gate.wait(10), on="thread")
        order = [await Promise.call(asyncio.sleep, 0, "loop")]
        gate.set()
        order.append(str(await blocked))
        return order

    assert run(main()) == ["loop", "1"]


def test_a_handler_on_a_thread_has_the_context_of_then() -> None:
    app = Flask(__name__)

    @app.get("/<name>")
    def view(name: str) -> Any:
        return {"path": Promise.resolve(1).then(lambda _: request.path, on="thread")}

    @app.get("/async/<name>")
    async def async_view(name: str) -> Any:
        return {"path": await Promise.resolve(1).then(lambda _: request.path, on="thread")}

    with Live(app) as live:
        assert b'"/a"' in live.get("/a").body
        assert b'"/async/b"' in live.get("/async/b").body


def test_a_handler_on_a_thread_may_fail_and_may_return_a_coroutine() -> None:
    async def later() -> int:
        return 2

    def fail(_: object) -> Any:
        raise KeyError("on a thread")

    assert Promise.resolve(1).then(lambda _: later(), on="thread").result() == 2
    with pytest.raises(KeyError, match="on a thread"):
        Promise.resolve(1).then(fail, on="thread").result()


# Any loop, no loop, several loops


@pytest.mark.parametrize("made_in", ["thread", "asyncio", "carboy"])
@pytest.mark.parametrize("awaited_in", ["thread", "asyncio", "carboy"])
def test_a_promise_of_one_place_is_waited_for_in_another(made_in: str, awaited_in: str) -> None:
    """The maker stays at work until the one who waits has the value."""
    made: list[Promise[Any]] = []
    is_made, is_done = threading.Event(), threading.Event()

    async def make_on_loop() -> None:
        made.append(Promise(asyncio.sleep(0.001, 1)).then(lambda value: (value, thread_name())))
        is_made.set()
        while not is_done.is_set():
            await asyncio.sleep(0.001)

    def make() -> None:
        if made_in == "thread":
            made.append(Promise(asyncio.sleep(0.001, 1)).then(lambda value: (value, thread_name())))
            is_made.set()
            made[0].result()
        else:
            RUNNERS[made_in](make_on_loop())

    async def wait() -> Any:
        return await asyncio.wait_for(asyncio.ensure_future(awaited()), 10)

    async def awaited() -> Any:
        return await made[0]

    maker = threading.Thread(target=make, name="maker")
    maker.start()
    assert is_made.wait(10)
    try:
        value = (
            made[0].result(timeout=10) if awaited_in == "thread" else RUNNERS[awaited_in](wait())
        )
    finally:
        is_done.set()
        maker.join(10)
    # Two threads that wait for sync code's handlers may both run them.
    home = {"maker"} if made_in != "thread" else {"maker", thread_name()}
    assert value[0] == 1
    assert value[1] in home


def test_a_handler_runs_on_the_loop_that_it_was_added_on() -> None:
    source, resolve, _ = Promise.with_resolvers()
    names: list[tuple[str, str]] = []
    barrier = threading.Barrier(4)

    def on_loop(run: Any) -> None:
        async def main() -> None:
            promise = source.then(lambda _: names.append((thread_name(), expected)))
            await asyncio.to_thread(barrier.wait, 10)
            await promise

        expected = thread_name()
        run(main())

    threads = [
        threading.Thread(target=on_loop, args=(run,), name=f"loop {number}")
        for number, run in enumerate((asyncio.run, carboy.run, asyncio.run))
    ]
    for thread in threads:
        thread.start()
    barrier.wait(10)
    resolve()
    for thread in threads:
        thread.join(10)
    assert len(names) == 3
    assert all(name == expected for name, expected in names)


def test_a_promise_of_a_loop_that_has_ended_has_kept_its_outcome() -> None:
    async def main() -> Promise[int]:
        promise = Promise(asyncio.sleep(0, 1))
        await promise
        return promise

    assert asyncio.run(main()).result() == 1
    promise = carboy.run(main())

    async def again() -> int:
        return await promise.then(lambda value: value + 1)

    assert asyncio.run(again()) == 2


HANDLERS: dict[str, Callable[[Promise[Any]], Promise[Any]]] = {
    "then": lambda promise: promise.then(str),
    "chain": lambda promise: promise.then(str).then(str).or_else(None),
    "then of all": lambda promise: Promise.all(promise, promise).then(str),
    "finally_": lambda promise: promise.finally_(list),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_handlers_of_a_loop_that_has_ended_are_given_up(run: Any, name: str) -> None:
    source, resolve, _ = Promise.with_resolvers()

    async def main() -> Promise[Any]:
        return HANDLERS[name](source)

    promise = run(main())
    gc.collect()
    resolve(1)
    if name == "chain":
        assert promise.result(timeout=10) is None
        return
    with pytest.raises(RuntimeError, match="the event loop that was to run this handler has ended"):
        promise.result(timeout=10)


def test_handlers_that_are_queued_when_their_loop_is_closed_are_given_up() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> Promise[Any]:
        return Promise.resolve(1).then(str).then(str)

    promise = Promise.resolve(loop.run_until_complete(main())).then(str)
    source, resolve, _ = Promise.with_resolvers()

    async def again() -> Promise[Any]:
        return source.then(str)

    late = loop.run_until_complete(again())
    resolve(1)  # Its handler is called soon, by a loop that does not run any more.
    loop.close()
    with pytest.raises(RuntimeError, match="has ended"):
        late.result(timeout=10)
    del promise


def test_asyncio_takes_promises_where_it_takes_awaitables(run: Any) -> None:
    async def main() -> list[Any]:
        async def value_of(promise: Promise[Any]) -> Any:
            return await promise

        gathered = await asyncio.gather(Promise.resolve(1), Promise(asyncio.sleep(0, 2)))
        in_time = await asyncio.wait_for(Promise.resolve(3), 10)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(value_of(Promise.resolve(4)))
        never = Promise.with_resolvers()[0]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(never, 0.001)
        assert never.cancelled()
        shielded = Promise.with_resolvers()[0]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(value_of(shielded.shield()), 0.001)
        assert not shielded.done()
        return [*gathered, in_time, task.result()]

    assert run(main()) == [1, 2, 3, 4]


def test_promises_take_what_asyncio_and_threads_promise(run: Any) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon(future.set_result, 1)
        task = asyncio.create_task(asyncio.sleep(0, 2))
        with ThreadPoolExecutor(1) as pool:
            wrapped = asyncio.wrap_future(pool.submit(int, "3"))
            return await Promise.all([future, task, wrapped, asyncio.to_thread(int, "4")])

    assert run(main()) == [1, 2, 3, 4]


def test_context_variables_are_those_of_then(run: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def read(_: object) -> str:
        await asyncio.sleep(0)
        return variable.get()

    def chains() -> Promise[Any]:
        source, resolve, _ = Promise.with_resolvers()
        variable.set("first")
        first = source.then(lambda _: variable.get())
        variable.set("second")
        second = source.then(read)
        variable.set("third")
        resolve()
        return Promise.all(first, second)

    async def main() -> Any:
        return await chains()

    assert run(main()) == ("first", "second")
    assert contextvars.copy_context().run(lambda: chains().result()) == ("first", "second")


# At the same time


def test_threads_that_settle_at_once_settle_once() -> None:
    for _ in range(200):
        promise, resolve, reject = Promise.with_resolvers()
        seen: list[Any] = []
        handled = promise.settle(seen.append)
        barrier = threading.Barrier(3)

        def settle(action: Callable[[], object], barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            action()

        actions = [
            lambda resolve=resolve: resolve(1),
            lambda reject=reject: reject(ValueError()),
            lambda resolve=resolve: resolve(Promise.resolve(2)),
        ]
        threads = [threading.Thread(target=settle, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        handled.result(timeout=10)
        assert seen == [promise.peek()]


def test_threads_that_do_everything_at_once_lose_nothing() -> None:
    """Each thread adds handlers to shared promises, settles some, cancels its own and waits."""
    rounds, width = 30, 4
    errors: list[BaseException] = []

    def work(
        number: int, made: list[Any], ran: list[list[int]], barrier: threading.Barrier
    ) -> None:
        chance = random.Random(number)
        try:
            barrier.wait(10)
            order = list(range(width))
            chance.shuffle(order)
            waiting = []
            for index in order:
                promise, resolve, _ = made[index]
                if chance.random() < 0.3:
                    resolve(index)
                waiting.append(promise.then(lambda value: ran[number].append(value) or value))
                promise.then(print).cancel()
            for index in order:
                made[index][1](index)
            together = Promise.all(waiting)
            # Two ways to wait: in this thread, or on a loop of its own.
            if number % 2:
                values = together.result(timeout=20)
            else:

                async def wait() -> Any:
                    return await together

                values = asyncio.run(wait())
            assert sorted(values) == list(range(width))
        except BaseException as error:
            errors.append(error)

    for _ in range(rounds):
        made = [Promise.with_resolvers() for _ in range(width)]
        for promise, _, _ in made:
            promise.shield()
        ran: list[list[int]] = [[] for _ in range(4)]
        barrier = threading.Barrier(4)
        threads = [
            threading.Thread(target=work, args=(number, made, ran, barrier)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert [sorted(values) for values in ran] == [list(range(width))] * 4


def test_cancelling_from_another_thread_ends_the_work(run: Any) -> None:
    async def main() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        promise = Promise(work())
        await began.wait()
        await asyncio.to_thread(promise.cancel)
        await asyncio.wait_for(ended.wait(), 10)
        assert promise.cancelled()

    run(main())


# After a fork

FORK = """
import asyncio, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from carboy import Promise, deadline

before = Promise.resolve(1).then(str)
assert Promise(asyncio.sleep(0, 2)).result() == 2
child = os.fork()
if child == 0:
    assert before.result() == "1"
    assert Promise(asyncio.sleep(0, 3)).result(timeout=10) == 3
    assert Promise.resolve(4).then(str, on="thread").result(timeout=10) == "4"
    try:
        with deadline(0.01):
            Promise(asyncio.sleep(60)).result()
    except TimeoutError:
        os._exit(0)
    os._exit(1)
_, status = os.waitpid(child, 0)
assert Promise(asyncio.sleep(0, 5)).result() == 5
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_process_has_promises_of_its_own() -> None:
    command = [sys.executable, "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
