"""In which order things happen: as ECMA-262 has it ("Promise Objects", "Jobs").

The rules one by one, each with the number of turns that it takes; and programs made at random,
which log the same on V8's promises, where node is there to run them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import carboy
from carboy import Promise
from carboy.promise import Fulfilled, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Counting turns: a chain of handlers that do nothing goes one link a turn.


class Turns:
    """Logs what happens, with the number of the turn in which it does."""

    def __init__(self, longest: int = 12) -> None:
        self.log: list[tuple[int, Any]] = []
        self.turn = 0
        self._last = Promise.resolve()
        for _ in range(longest):
            self._last = self._last.then(self._count)

    def _count(self, _: object) -> None:
        self.turn += 1

    def note(self, name: object) -> Callable[[Any], None]:
        return lambda _: self.log.append((self.turn, name))

    def settled(self, promise: Promise[Any]) -> None:
        """Log when a promise is settled: one turn before its handlers run."""
        promise.then(self.note("fulfilled"), self.note("rejected"))

    async def end(self) -> list[tuple[int, Any]]:
        await self._last
        return self.log


def turns_of(make: Callable[[], Promise[Any]]) -> list[tuple[int, Any]]:
    async def main() -> list[tuple[int, Any]]:
        turns = Turns()
        turns.settled(make())
        return await turns.end()

    on_carboy, on_asyncio = carboy.run(main()), asyncio.run(main())
    assert on_carboy == on_asyncio
    return on_carboy


def with_resolved(value: Any) -> Promise[Any]:
    promise, resolve, _ = Promise.with_resolvers()
    resolve(value)
    return promise


ERROR = ValueError("no")


@pytest.mark.parametrize(
    ("make", "turn"),
    [
        # NewPromiseReactionJob: a handler runs in the turn after the settling.
        (lambda: Promise.resolve(1), 1),
        (lambda: with_resolved(1), 1),
        (lambda: Promise.resolve(1).then(str), 2),
        (lambda: Promise.resolve(1).then(), 2),
        # NewPromiseResolveThenableJob: one turn to ask, one to be told.
        (lambda: with_resolved(Promise.resolve(1)), 3),
        (lambda: Promise.resolve(1).then(Promise.resolve), 4),
        (lambda: Promise.resolve(1).then(lambda _: Promise.resolve(2).then(str)), 4),
        # Promise.resolve of a promise is that promise.
        (lambda: Promise.resolve(Promise.resolve(1)), 1),
        # Promise.try: what the function returns resolves the promise at once.
        (lambda: Promise.call(str, 1), 1),
        # The combinators react as then does, and settle with the one that decides.
        (lambda: Promise.all([]), 1),
        (lambda: Promise.all_settled([]), 1),
        (lambda: Promise.all([1, Promise.resolve(2)]), 2),
        (lambda: Promise.all([1, Promise.resolve(2).then(str)]), 3),
        (lambda: Promise.all({"a": 1}), 2),
        (lambda: Promise.all_settled([1, Promise.reject(ERROR)]), 2),
        (lambda: Promise.any([Promise.reject(ERROR), 1]), 2),
        (lambda: Promise.race([Promise.resolve(1).then(str), 2]), 2),
    ],
)
def test_a_promise_is_fulfilled_in_this_turn(make: Callable[[], Promise[Any]], turn: int) -> None:
    assert turns_of(make) == [(turn, "fulfilled")]


@pytest.mark.parametrize(
    ("make", "turn"),
    [
        (lambda: Promise.reject(ERROR), 1),
        (lambda: Promise.reject(ERROR).then(str), 2),
        (lambda: with_resolved(Promise.reject(ERROR)), 3),
        (lambda: Promise.any([]), 1),
        (lambda: Promise.any([Promise.reject(ERROR)]), 2),
        (lambda: Promise.all([Promise.resolve(1).then(str), Promise.reject(ERROR)]), 2),
        (lambda: Promise.race([Promise.reject(ERROR)]), 2),
        # IfAbruptRejectPromise: an iterable that fails makes a promise that has failed.
        (lambda: Promise.all(item for item in failing()), 1),
    ],
)
def test_a_promise_is_rejected_in_this_turn(make: Callable[[], Promise[Any]], turn: int) -> None:
    assert turns_of(make) == [(turn, "rejected")]


def failing() -> Iterator[Any]:
    yield Promise.resolve(1)
    raise ERROR


@pytest.mark.parametrize("name", ["all", "all_settled", "any", "race"])
def test_an_iterable_that_fails_rejects_and_lets_go_what_it_had_given(name: str) -> None:
    unused = Promise.with_resolvers()[0]

    def items() -> Iterator[Any]:
        yield unused
        raise ERROR

    combined = getattr(Promise, name)(items())
    assert combined.exception() is ERROR
    assert unused.cancelled()


def test_results_come_in_the_order_of_the_promises_however_they_are_settled() -> None:
    made = [Promise.with_resolvers() for _ in range(4)]
    promises = [promise for promise, _, _ in made]
    all_of_them, settled = Promise.all(promises), Promise.all_settled(promises)
    named = Promise.all(dict(zip("wxyz", promises, strict=True)))
    for number in (2, 0, 3, 1):
        made[number][1](number)
    assert all_of_them.result() == [0, 1, 2, 3]
    assert settled.result() == [Fulfilled(number) for number in range(4)]
    assert list(named.result().items()) == [("w", 0), ("x", 1), ("y", 2), ("z", 3)]


def test_the_first_rejection_in_time_is_that_of_all() -> None:
    made = [Promise.with_resolvers() for _ in range(3)]
    errors = [KeyError(number) for number in range(3)]
    all_of_them = Promise.all([promise for promise, _, _ in made])
    for number in (1, 0, 2):
        made[number][2](errors[number])
    assert all_of_them.exception() is errors[1]


def test_of_several_that_are_settled_the_first_in_the_list_wins_a_race() -> None:
    for combine in (Promise.race, Promise.any):
        late = Promise.resolve(1).then(str)
        assert combine([late, Promise.resolve(2), Promise.resolve(3)]).result() == 2


def test_outcomes_keep_their_kinds() -> None:
    outcomes = Promise.all_settled({"a": 1, "b": Promise.reject(ERROR)}).result()
    assert outcomes == {"a": Fulfilled(1), "b": Rejected(ERROR)}


def test_a_promise_twice_in_a_list_counts_twice() -> None:
    promise = Promise.resolve(1)
    assert Promise.all([promise, promise]).result() == [1, 1]


def test_with_resolvers_settles_once_and_its_functions_need_no_promise() -> None:
    promise, resolve, reject = Promise.with_resolvers()
    first, _, _ = Promise.with_resolvers()
    resolve(first)
    resolve(1)
    reject(ERROR)
    assert not promise.done()
    assert promise.peek() is None
    first.cancel()
    assert promise.cancelled() or promise.exception() is not None


@pytest.mark.parametrize("run", [asyncio.run, carboy.run], ids=["asyncio", "carboy"])
def test_handlers_of_several_promises_run_in_the_order_of_the_settling(run: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        one, resolve_one, _ = Promise.with_resolvers()
        other, resolve_other, _ = Promise.with_resolvers()
        one.then(lambda _: log.append("one"))
        other.then(lambda _: log.append("other"))
        other.then(lambda _: log.append("other again"))
        resolve_other()
        resolve_one()
        one.then(lambda _: log.append("one, late"))
        assert log == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return log

    assert run(main()) == ["other", "other again", "one", "one, late"]


# Programs made at random.

Program = list[list[list[Any]]]

COMBINATORS = ["all", "all_settled", "any", "race"]


def make_program(seed: int) -> Program:
    """Return turns of operations; each makes a promise, or settles one."""
    chance = random.Random(seed)
    count = 0
    numbers = iter(range(1, 10_000))
    deferred: list[int] = []

    def result(below: int) -> list[Any]:
        kind = chance.choice(["value", "value", "throw", "promise"])
        if kind == "promise" and below > 0:
            return ["promise", chance.randrange(below)]
        return ["throw" if kind == "throw" else "value", next(numbers)]

    program: Program = []
    for _ in range(chance.randint(1, 4)):
        turn: list[list[Any]] = []
        for _ in range(chance.randint(1, 12)):
            kind = chance.choice(
                ["deferred", "then", "then", "catch", "both", "resolve", "several"]
            )
            if count == 0 or kind == "deferred":
                turn.append(["deferred"])
                deferred.append(count)
                count += 1
            elif kind == "several":
                sources = [chance.randrange(count) for _ in range(chance.randint(1, 3))]
                turn.append([chance.choice(COMBINATORS), sources])
                count += 1
            elif kind == "resolve":
                target = chance.choice(deferred)
                turn.append(["resolve", target, result(target)])
            else:
                turn.append([kind, chance.randrange(count), f"handler {count}", result(count)])
                count += 1
        program.append(turn)
    return program


def tell(outcome: Any) -> str:
    if isinstance(outcome, list):
        return f"[{' '.join(map(tell, outcome))}]"
    if isinstance(outcome, BaseExceptionGroup):
        return f"any({' '.join(map(tell, outcome.exceptions))})"
    if isinstance(outcome, BaseException):
        return f"!{outcome}"
    if isinstance(outcome, Fulfilled):
        return tell(outcome.value)
    return tell(outcome.error) if isinstance(outcome, Rejected) else str(outcome)


class Machine:
    """Runs a program on carboy's promises."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.promises: list[Promise[Any]] = []
        self.resolvers: dict[int, tuple[Any, Any]] = {}

    def add(self, promise: Promise[Any]) -> None:
        # ECMAScript knows no cancellation: nothing is given up here, whoever wins.
        promise.shield()
        self.promises.append(promise)

    def handler(self, name: str, result: list[Any]) -> Callable[[Any], Any]:
        kind, argument = result

        def handle(outcome: Any) -> Any:
            self.log.append(f"{name} {tell(outcome)}")
            if kind == "throw":
                raise ValueError(argument)
            return self.promises[argument] if kind == "promise" else argument

        return handle

    def run(self, name: str, *parameters: Any) -> None:
        if name == "deferred":
            promise, *resolvers = Promise.with_resolvers()
            self.resolvers[len(self.promises)] = tuple(resolvers)
            self.add(promise)
        elif name in COMBINATORS:
            (sources,) = parameters
            self.add(getattr(Promise, name)([self.promises[source] for source in sources]))
        elif name == "resolve":
            target, (kind, argument) = parameters
            resolve, reject = self.resolvers[target]
            if kind == "throw":
                reject(ValueError(argument))
            else:
                resolve(self.promises[argument] if kind == "promise" else argument)
        else:
            source, handler_name, result = parameters
            handler = self.handler(handler_name, result)
            promise = self.promises[source]
            if name == "then":
                self.add(promise.then(handler))
            elif name == "catch":
                self.add(promise.catch(handler))
            else:
                self.add(promise.then(handler, handler))


#: Longer than any chain of the programs.
TURNS_OF_LOOP = 64


async def run_in_async_code(program: Program) -> list[str]:
    machine = Machine()
    for turn in program:
        for operation in turn:
            machine.run(*operation)
        for _ in range(TURNS_OF_LOOP):
            await asyncio.sleep(0)
        machine.log.append("--")
    return machine.log


def run_in_sync_code(program: Program) -> list[str]:
    machine = Machine()
    for turn in program:
        for operation in turn:
            machine.run(*operation)
        for _ in range(TURNS_OF_LOOP):
            Promise.resolve().then(lambda _: None).result()
        machine.log.append("--")
    return machine.log


RUNNERS: dict[str, Callable[[Program], list[str]]] = {
    "sync": run_in_sync_code,
    "asyncio": lambda program: asyncio.run(run_in_async_code(program)),
    "carboy": lambda program: carboy.run(run_in_async_code(program)),
}


def test_programs_made_at_random_log_what_they_log_on_v8(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here, whose promises are compared with")
    caplog.set_level(logging.CRITICAL + 1, "carboy")
    programs = [make_program(seed) for seed in range(300)]
    script = Path(__file__).with_name("ordering.js")
    done = subprocess.run(
        [node, "--unhandled-rejections=none", script],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    expected = json.loads(done.stdout)
    # They are of some size, or nothing is compared.
    assert sum(len(log) for log in expected) > 1500
    for seed, program in enumerate(programs):
        for name, run in RUNNERS.items():
            assert run(program) == expected[seed], f"seed {seed}, {name}"
