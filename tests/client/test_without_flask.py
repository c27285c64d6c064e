"""Programs without a Flask app, with whichever event loop or with none."""

from __future__ import annotations

import pytest
from support.programs import output_of

SYNC = """
from carboy import http
first, second = http.get(url), http.get(url)
print(first.result().text, second.result().text)
"""
ASYNCIO = """
import asyncio
from carboy import http
async def main():
    first, second = http.get(url), http.get(url)
    print((await first).text, (await second).text)
asyncio.run(main())
"""
UVLOOP = ASYNCIO.replace("asyncio.run(", "import uvloop; uvloop.run(")
CARBOY = ASYNCIO.replace("asyncio.run(", "import carboy; carboy.run(")
ANYIO = """
import anyio
from carboy import http
async def call(found):
    found.append((await http.get(url)).text)
async def main():
    found = []
    async with anyio.create_task_group() as group:
        group.start_soon(call, found)
        group.start_soon(call, found)
    print(*found)
anyio.run(main)
"""
PROGRAMS = {
    "sync": SYNC, "asyncio": ASYNCIO, "uvloop": UVLOOP, "carboy": CARBOY, "anyio": ANYIO,
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program(program: str) -> None:
    assert output_of(program) == "fine fine"


def test_a_program_does_not_import_flask() -> None:
    program = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"flask", "werkzeug", "click", "jinja2"}:
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refused())
import carboy
from carboy import Promise, deadline, http
async def main():
    with deadline(30):
        return (await http.get(url).then(lambda response: response.text)) + " fine"
print(carboy.run(main()))
try:
    carboy.serve
except ImportError as error:
    print(error)
"""
    assert output_of(program) == "fine fine\nflask was imported"
