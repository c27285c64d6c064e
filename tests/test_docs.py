"""The code in the pages of docs does what the pages say."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, request
from support.live import Live
from support.waiting import eventually

from carboy import Promise, deadline
from carboy.promise import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).resolve().parent.parent / "docs"
#: Where the services of the examples are.
SERVICES = "http://127.0.0.1:9000"


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[str, list[Any]]]:
    """Serve what the examples call, and return the address, and what was sent to it."""
    app = Flask("services")
    received: list[Any] = []

    @app.get("/users/<int:number>")
    def users(number: int) -> Any:
        return {"account": number * 10}

    @app.get("/prefs/<int:number>")
    def prefs(number: int) -> Any:
        return ({"by": "age"}, 200) if number == 1 else ("none", 404)

    @app.get("/orders")
    def orders() -> Any:
        account = int(request.args["account"])
        return [{"price": account, "age": 1}, {"price": 1, "age": account}]

    @app.post("/audit")
    def audit() -> str:
        received.append(request.get_json())
        return ""

    with Live(app) as live:
        yield live.url, received


def blocks(page: str) -> list[str]:
    """Return the Python code of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run(block: str, page: str, url: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.replace(SERVICES, url), str(DOCS / page), "exec"), names)
    return names


@pytest.mark.parametrize("number", range(len(blocks("promises.md"))))
def test_code_on_promises_runs(number: int, services: tuple[str, list[Any]]) -> None:
    url, received = services
    names = run(blocks("promises.md")[number], "promises.md", url)
    if "app" in names:
        with Live(names["app"]) as live:
            for path in ("/start/1", "/async/1"):
                body = live.get(path).body
                assert b'"account":10' in body.replace(b" ", b"")
                assert body.index(b'"age":1,') < body.index(b'"age":10')
            # Without preferences it is the other order.
            body = live.get("/start/2").body
            assert body.index(b'"price":1}') < body.index(b'"price":20}')
    if "audited" in names:
        with Live(names["audited"]) as live:
            assert live.post("/pay", b"").body == b"thanks"
            eventually(lambda: received == [{"paid": 1}], what="the audit arrives")


def table_rows() -> list[tuple[str, list[str]]]:
    """Return the rows of the table of promises: what is to be done, and the code for it."""
    rows = []
    for line in (DOCS / "promises.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and "`" in cells[1]:
            rows.append((cells[0], re.findall(r"`([^`]+)`", cells[1])))
    return rows


async def coroutine() -> int:
    return 1


def add(first: int, second: int) -> int:
    return first + second


@pytest.mark.parametrize("row", table_rows(), ids=lambda row: row[0])
def test_each_row_of_the_table_of_promises_is_code_that_runs(row: tuple[str, list[str]]) -> None:
    _, codes = row
    for code in codes:

        async def main(code: str = code) -> object:
            names = {
                "Promise": Promise,
                "deadline": deadline,
                "a": Promise.resolve(1),
                "b": Promise.resolve(2),
                "p": Promise.resolve({"key": 1}),
                "v": 1,
                "f": str,
                "g": lambda _: Promise.resolve(1),
                "E": ValueError,
                "s": 10,
                "items": [1, 2],
                "add": add,
                "clean_up": lambda: None,
                "coroutine": None,
            }
            if "coroutine" in code:
                names["coroutine"] = coroutine()
            if code.startswith("await "):
                return await eval(code.removeprefix("await "), names)
            made = eval(code, names)
            if not isinstance(made, Promise):
                return made
            return await made.settle(lambda made: made)

        outcome = asyncio.run(main())
        if code == "Promise.reject(E())":
            assert isinstance(outcome, Rejected)
        else:
            assert not isinstance(outcome, Rejected)


def test_the_table_has_a_row_for_each_method() -> None:
    text = " ".join(code for _, codes in table_rows() for code in codes)
    methods = {name for name in vars(Promise) if not name.startswith("_")}
    assert {name for name in methods if f".{name}(" not in text} == set()
