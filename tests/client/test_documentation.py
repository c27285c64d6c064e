"""The code of docs/http.md does what the page says."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Response, jsonify, request
from support.live import Live

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "http.md"


def services() -> Flask:
    app = Flask("services")

    @app.get("/users/<int:uid>")
    def user(uid: int) -> Response:
        return jsonify(id=uid, name="Ada")

    @app.get("/orders")
    def orders() -> Response:
        return jsonify([f"an order of {request.args['user']}"])

    @app.post("/orders")
    def place() -> Response:
        assert request.headers["Idempotency-Key"] == "7"
        assert request.authorization is not None
        return jsonify(fields=request.form.to_dict(), files=list(request.files))

    @app.get("/orders/export")
    def export() -> Response:
        return Response(iter(["1;bicycle\n", "2;bell\n"]), mimetype="text/csv")

    @app.get("/orders/events")
    def events() -> Response:
        return Response(iter(["data: 1\n\n", "data: 2\n\n"]), mimetype="text/event-stream")

    return app


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, Any]]:
    with Live(services()) as live:
        names: dict[str, Any] = {"__name__": "page"}
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert len(blocks) == 8
        for block in blocks:
            source = block.replace("http://127.0.0.1:9000", live.url)
            # The page's code is in order, as a reader takes it.
            exec(compile(source, str(PAGE), "exec"), names)
        yield names


@pytest.mark.parametrize("path", ["/sync/7", "/async/7", "/basket/7", "/basket-by-arguments/7"])
def test_views(names: dict[str, Any], path: str) -> None:
    with Live(names["app"]) as live:
        response = http.get(live.url + path).result()
    assert response.json() == {
        "user": {"id": 7, "name": "Ada"},
        "orders": ["an order of 7"],
    }


def test_the_stream_of_events(names: dict[str, Any]) -> None:
    assert carboy.run(names["watch"]()) == [1, 2]


def test_every_default_and_exception_of_the_page(names: dict[str, Any]) -> None:
    text = PAGE.read_text()
    limits = dict(re.findall(r"\| `(\w+)` \| (\d+) s \|", text))
    default = http.Timeout()
    assert {name: float(value) for name, value in limits.items()} == {
        name: getattr(default, name) for name in ("connect", "pool", "read", "write", "total")
    }
    table = text.partition("| exception |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.+?) \|(.*?)\|", table, re.MULTILINE)
    assert len(rows) > 10
    for left, builtin in rows:
        for name in re.findall(r"`(\w+)`", left):
            error = getattr(http, name)
            assert issubclass(error, http.HTTPError)
            for base in re.findall(r"`(\w+)`", builtin):
                assert issubclass(error, getattr(builtins, base))
