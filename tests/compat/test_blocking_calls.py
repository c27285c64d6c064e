"""Where blocking calls are made, and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
from compat_servers import answer
from flask import Flask
from support.live import Live

import carboy

if TYPE_CHECKING:
    from compat_servers import Received, Upstream


def test_def_views_that_wait_for_a_call_share_a_thread(upstream: Upstream) -> None:
    together = threading.Barrier(8)

    def meet(request: Received, file: Any) -> None:
        together.wait(10)
        file.write(answer(body=b"met"))

    upstream.answers["/"] = meet
    app = Flask("views")
    session, client = requests.Session(), httpx.Client(trust_env=False)

    @app.get("/requests")
    def by_requests() -> str:
        return session.get(upstream.url).text

    @app.get("/httpx")
    def by_httpx() -> str:
        return client.get(upstream.url).text

    with Live(app, threads=1) as live, ThreadPoolExecutor(8) as pool:
        targets = ["/requests", "/httpx"] * 4
        answers = list(pool.map(lambda target: live.get(target).text, targets))
    assert answers == ["met"] * 8
    session.close()
    client.close()


def test_large_content_reaches_def_views_whole_or_not_at_all(upstream: Upstream) -> None:
    large = bytes(range(256)) * 4096

    def break_off(_: Received, file: Any) -> bool:
        file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + large)
        return True

    upstream.answers["/whole"] = answer(body=large)
    upstream.answers["/broken"] = break_off
    app = Flask("views")

    @app.get("/<name>")
    def by_requests(name: str) -> str:
        try:
            return str(requests.get(f"{upstream.url}/{name}").content == large)
        except requests.exceptions.ChunkedEncodingError as error:
            return str(error)

    with Live(app, threads=1) as live:
        assert live.get("/whole").text == "True"
        assert "1048576 bytes read, 951424 more expected" in live.get("/broken").text


def test_a_deadline_ends_a_call(upstream: Upstream) -> None:
    gone = threading.Event()
    upstream.answers["/never"] = lambda request, file: gone.wait(10)
    try:
        with carboy.deadline(0.05), pytest.raises(requests.ReadTimeout):
            requests.get(f"{upstream.url}/never")
        with carboy.deadline(0.05), pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{upstream.url}/never", trust_env=False)
    finally:
        gone.set()


def test_an_interrupt_ends_a_call(upstream: Upstream) -> None:
    gone = threading.Event()

    def interrupt(request: Received, file: Any) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return gone.wait(10)

    upstream.answers["/never"] = interrupt
    try:
        with requests.Session() as session:
            with pytest.raises(KeyboardInterrupt):
                session.get(f"{upstream.url}/never")
            assert session.get(upstream.url).text == "ok"
    finally:
        gone.set()


FORKING = """
import os, sys
import carboy
carboy.install("requests")
import requests

session = requests.Session()
print(session.get(sys.argv[1]).text, flush=True)
child = os.fork()
if child == 0:
    print(session.get(sys.argv[1]).text, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(session.get(sys.argv[1]).text, flush=True)
"""


def test_a_session_is_used_on_both_sides_of_a_fork(upstream: Upstream) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORKING, upstream.url], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.split() == ["ok"] * 3, run.stderr
    first, of_child, last = (received.connection for received in upstream.received)
    assert first == last != of_child
