"""The first step of a request's task is taken at once, and nothing else is taken for it."""

import asyncio
import threading
from typing import Any

import pytest
from flask import Flask, has_request_context
from support.live import Live


@pytest.mark.parametrize("count", [1, 3])
def test_a_callback_that_is_added_while_the_task_is_made_runs_by_itself(count: int) -> None:
    app = Flask(__name__)
    order: list[Any] = []
    handles: list[Any] = []
    all_have_run = threading.Event()

    def callback() -> None:
        order.append(("callback", has_request_context()))
        if len(order) > count:
            all_have_run.set()

    class Endpoint(str):
        """Runs code when it is made the name of a task.

        The code stands for a finalizer, which the interpreter may run in any place: here
        within the task's constructor, before that has scheduled the first step.
        """

        __slots__ = ()

        def __str__(self) -> str:
            loop = asyncio.get_running_loop()
            handles.extend(loop.call_soon(callback) for _ in range(count))
            return str.__str__(self)

    async def view() -> str:
        order.append("view")
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    app.add_url_rule("/", endpoint=Endpoint("name"), view_func=view)

    with Live(app) as live:
        assert live.get().text == "name"
        assert all_have_run.wait(5)
        assert live.paths_taken() == {"loop": 1}

    assert len(handles) == count
    assert all(handle.cancelled() is False for handle in handles)
    assert order == ["view"] + [("callback", False)] * count
