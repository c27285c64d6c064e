"""Runs the cases of Promises/A+ on ``carboy.Promise``, in a process of its own.

``python adapter.py TESTS LOOP SABOTAGE [FILE…]`` prints ``{title: error}`` as JSON; the error
of a case that passes is empty. ``TESTS`` is the folder of the package's tests, ``LOOP`` is
``carboy`` or ``asyncio``, ``SABOTAGE`` is ``none`` or the name of a class below.

JavaScript runs in PythonMonkey. A thenable of JavaScript is an awaitable here: carboy adopts
it as it adopts a coroutine. A reason that JavaScript throws is an exception here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pythonmonkey

import carboy
from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

#: So many groups of cases run at the same time: most of them wait.
CONCURRENCY = 32


class Value:
    """A value of JavaScript, by its number there."""

    def __init__(self, number: float) -> None:
        self.number = int(number)


class ReasonError(Exception):
    """What JavaScript has thrown or rejected with, by its number there."""

    def __init__(self, number: float) -> None:
        super().__init__(number)
        self.number = int(number)


class Adapter:
    """The promises of the tests."""

    def __init__(self) -> None:
        self.promises: dict[int, Promise[Any]] = {}
        self.resolvers: dict[int, tuple[Callable[[Any], None], Callable[[Any], None]]] = {}
        self.script = (Path(__file__).parent / "mocha.js").read_text()
        self.javascript = pythonmonkey.eval(self.script)(
            {
                "deferred": self.deferred,
                "resolve": self.resolve,
                "reject": self.reject,
                "then": self.then,
            }
        )

    def keep(self, promise: Promise[Any]) -> int:
        number = len(self.promises)
        self.promises[number] = promise
        return number

    def deferred(self) -> int:
        promise, resolve, reject = Promise.with_resolvers()
        number = self.keep(promise)
        self.resolvers[number] = resolve, reject
        return number

    def resolve(self, promise: float, kind: str, number: float) -> None:
        self.resolvers[int(promise)][0](self.value(kind, number))

    def reject(self, promise: float, number: float) -> None:
        self.resolvers[int(promise)][1](ReasonError(number))

    def then(self, promise: float, on_fulfilled: Any, on_rejected: Any) -> int:
        source = self.promises[int(promise)]
        return self.keep(source.then(self.handler(on_fulfilled), self.handler(on_rejected)))

    def value(self, kind: str, number: float) -> Any:
        """Return what a value of JavaScript is here."""
        if kind == "promise":
            return self.promises[int(number)]
        return self.thenable(number) if kind == "object" else Value(number)

    def thenable(self, number: float) -> Any:
        return Thenable(self, number)

    def handler(self, function: Any) -> Any:
        if function is None or function is pythonmonkey.null:
            return None

        def handle(argument: Any) -> Any:
            kind, number = function(self.number_of(argument))
            if kind == "thrown":
                raise ReasonError(number)
            return self.value(kind, number)

        return handle

    def number_of(self, argument: Any) -> int:
        if isinstance(argument, TypeError):
            return int(self.javascript.typeError(str(argument)))
        return argument.number

    async def run(self, folder: Path, names: list[str]) -> dict[str, str]:
        """Run the files, or all, and return the errors."""
        paths = sorted(folder.rglob("*.js"))
        files = {path.relative_to(folder).as_posix(): path.read_text() for path in paths}
        names = names or [name for name in files if "/" not in name]
        count = int(self.javascript.load(files, names))
        groups: dict[str, list[int]] = {}
        for number in range(count):
            groups.setdefault(str(self.javascript.groupOf(number)), []).append(number)
        # Those that prepare something for all come after the others.
        alone = groups.pop("", [])
        places = asyncio.Semaphore(CONCURRENCY)
        errors: dict[str, str] = {}

        async def run_group(numbers: list[int]) -> None:
            async with places:
                for number in numbers:
                    if self.is_to_go_on(errors):
                        await self.run_one(number, errors)

        await asyncio.gather(*map(run_group, groups.values()))
        await run_group(alone)
        return errors

    async def run_one(self, number: int, errors: dict[str, str]) -> None:
        ended = asyncio.Event()

        def done(title: str, error: str) -> None:
            errors[f"{number}: {title}"] = str(error)
            ended.set()

        self.javascript.runTest(number, done, self.timeout_milliseconds)
        await ended.wait()

    #: A case that has not ended by then has failed; mocha's own limit is 200 ms.
    timeout_milliseconds = 5000

    def is_to_go_on(self, errors: dict[str, str]) -> bool:
        """Whether to run the next case."""
        return True


class Thenable(Value):
    """An object of JavaScript, which may have a ``then`` method."""

    def __init__(self, adapter: Adapter, number: float) -> None:
        super().__init__(number)
        self.adapter = adapter

    def __await__(self) -> Generator[Any, Any, Any]:
        promise, resolve, reject = Promise.with_resolvers()
        kind, number = self.adapter.javascript.callThen(
            self.number,
            lambda kind, number: resolve(self.adapter.value(kind, number)),
            lambda number: reject(ReasonError(number)),
        )
        if kind == "thrown":
            reject(ReasonError(number))
        elif kind == "value":
            resolve(Value(number))
        return promise.__await__()


# Broken promises, which the tests must find out.


class Broken(Adapter):
    """Lets many cases wait in vain; the first that finds it out is enough."""

    timeout_milliseconds = 1000

    def is_to_go_on(self, errors: dict[str, str]) -> bool:
        return not any(errors.values())


class CallsBackAtOnce(Broken):
    """Calls handlers within ``then``, if the promise is settled."""

    def then(self, promise: float, on_fulfilled: Any, on_rejected: Any) -> int:
        outcome = self.promises[int(promise)].peek()
        handler = self.handler(on_fulfilled)
        if outcome is None or handler is None or not hasattr(outcome, "value"):
            return super().then(promise, on_fulfilled, on_rejected)
        return self.keep(Promise.call(handler, outcome.value))


class LetsTheLastWin(Broken):
    """Takes the last of what a thenable says at once, instead of the first."""

    def thenable(self, number: float) -> Any:
        adapter = self

        class Overheard(Thenable):
            def __await__(self) -> Generator[Any, Any, Any]:
                promise, resolve, reject = Promise.with_resolvers()
                said: list[Callable[[], None]] = []
                kind, value = adapter.javascript.callThen(
                    self.number,
                    lambda kind, number: said.append(lambda: resolve(adapter.value(kind, number))),
                    lambda number: said.append(lambda: reject(ReasonError(number))),
                )
                if kind == "value":
                    resolve(Value(value))
                elif kind == "thrown":
                    reject(ReasonError(value))
                for say in said[-1:]:
                    say()
                return promise.__await__()

        return Overheard(self, number)


class IgnoresThenables(Broken):
    """Takes thenables for values."""

    def thenable(self, number: float) -> Any:
        return Value(number)


class SwallowsErrors(Broken):
    """Fulfils a promise whose handler throws."""

    def handler(self, function: Any) -> Any:
        handle = super().handler(function)

        def swallow(argument: Any) -> Any:
            try:
                return handle(argument)
            except ReasonError as reason:
                return Value(reason.number)

        return handle and swallow


class ForgetsRejections(Broken):
    """Never settles a promise whose source was rejected, if there is no handler for it."""

    def then(self, promise: float, on_fulfilled: Any, on_rejected: Any) -> int:
        if self.handler(on_rejected) is not None:
            return super().then(promise, on_fulfilled, on_rejected)
        made, resolve, _ = Promise.with_resolvers()
        source = self.promises[int(promise)]
        source.then(self.handler(on_fulfilled)).then(resolve, lambda _: None)
        return self.keep(made)


class WaitsForItself(Broken):
    """Does not notice that a promise is resolved with itself."""

    def number_of(self, argument: Any) -> int:
        if isinstance(argument, TypeError):
            raise asyncio.CancelledError
        return super().number_of(argument)


class ReversesHandlers(Broken):
    """Calls the handler first that came last."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, list[tuple[Any, Any, Any]]] = {}

    def then(self, promise: float, on_fulfilled: Any, on_rejected: Any) -> int:
        made, resolve, _ = Promise.with_resolvers()
        source = self.promises[int(promise)]
        handlers = self.waiting.setdefault(int(promise), [])
        handlers.append((on_fulfilled, on_rejected, resolve))

        def run(_: object) -> None:
            while handlers:
                fulfilled, rejected, settle = handlers.pop()
                settle(source.then(self.handler(fulfilled), self.handler(rejected)))

        source.then(run, run)
        return self.keep(made)


class CallsThenTwice(Broken):
    """Asks a thenable again for what it has said."""

    def thenable(self, number: float) -> Any:
        class Asked(Thenable):
            def __await__(self) -> Generator[Any, Any, Any]:
                super().__await__()
                return super().__await__()

        return Asked(self, number)


SABOTAGES = {
    made.__name__: made
    for made in (
        CallsBackAtOnce,
        LetsTheLastWin,
        IgnoresThenables,
        SwallowsErrors,
        ForgetsRejections,
        WaitsForItself,
        ReversesHandlers,
        CallsThenTwice,
    )
}


def main(folder: str, loop: str, sabotage: str, *names: str) -> None:
    # Many of the cases fail on purpose, and nobody looks at it.
    logging.getLogger("carboy").setLevel(logging.CRITICAL + 1)
    run = {"carboy": carboy.run, "asyncio": asyncio.run}[loop]

    async def run_all() -> dict[str, str]:
        adapter = SABOTAGES.get(sabotage, Adapter)()
        return await adapter.run(Path(folder), list(names))

    print(json.dumps(run(run_all())))


if __name__ == "__main__":
    main(*sys.argv[1:])
