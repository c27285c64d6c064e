"""The tasks and futures that a loop makes."""

import asyncio
import contextvars
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

import carboy


@pytest.fixture
def loop() -> Iterator[carboy.EventLoop]:
    loop = carboy.new_event_loop()
    yield loop
    loop.close()


async def identity(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")


def test_a_task_has_the_name_and_the_context_that_it_was_given(loop: carboy.EventLoop) -> None:
    context = contextvars.Context()
    context.run(variable.set, 7)

    async def look() -> int:
        await asyncio.sleep(0)
        return variable.get()

    task = loop.create_task(look(), name="looks", context=context)
    other = loop.create_task(identity(1), name=None, context=None)
    numbered = loop.create_task(identity(2), name=5)
    assert type(task) is asyncio.Task
    assert task.get_loop() is loop
    assert (task.get_name(), numbered.get_name()) == ("looks", "5")
    assert other.get_name().startswith("Task-")
    assert loop.run_until_complete(asyncio.gather(task, other, numbered)) == [7, 1, 2]


def test_a_task_factory_makes_the_tasks(loop: carboy.EventLoop) -> None:
    calls: list[Any] = []

    def factory(loop: Any, coroutine: Coroutine[Any, Any, Any], **settings: Any) -> Any:
        calls.append(settings)
        return asyncio.Task(coroutine, loop=loop, **settings)

    loop.set_task_factory(factory)
    context = contextvars.Context()
    first = loop.create_task(identity(1), name="first")
    second = loop.create_task(identity(2), context=context)
    assert first.get_name() == "first"
    assert loop.run_until_complete(asyncio.gather(first, second)) == [1, 2]
    assert calls[0] in ({}, {"name": "first"}, {"name": "first", "context": None})
    assert calls[1]["context"] is context
    loop.set_task_factory(None)
    assert loop.run_until_complete(identity(3)) == 3
    assert len(calls) == 2


def test_the_class_that_a_program_puts_into_asyncio_is_taken(
    loop: carboy.EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Task(asyncio.Task[Any]):
        pass

    class Future(asyncio.Future[Any]):
        pass

    monkeypatch.setattr("asyncio.tasks.Task", Task)
    monkeypatch.setattr("asyncio.futures.Future", Future)
    task = loop.create_task(identity(1))
    assert type(task) is Task
    assert type(loop.create_future()) is Future
    assert loop.run_until_complete(task) == 1


def test_debug_mode_says_where_a_task_was_made(loop: carboy.EventLoop) -> None:
    assert not loop.get_debug()
    loop.set_debug(True)
    assert loop.get_debug()
    task: Any = loop.create_task(identity(1))
    assert task._source_traceback[-1].name == "test_debug_mode_says_where_a_task_was_made"
    future: Any = loop.create_future()
    assert future._source_traceback
    loop.run_until_complete(task)
    loop.set_debug(False)
    assert not loop.get_debug()
    assert loop.create_future()._source_traceback is None  # type: ignore[attr-defined]


def test_wrong_calls_are_refused(loop: carboy.EventLoop) -> None:
    with pytest.raises(TypeError, match="coroutine was expected"):
        loop.create_task(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        loop.create_task(None, unknown=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing"):
        loop.create_task()  # type: ignore[call-arg]
    loop.close()
    coroutine = identity(1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()
