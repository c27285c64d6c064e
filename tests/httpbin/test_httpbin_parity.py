"""httpbin answers under `carboy run` as it does under gunicorn."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from httpbin_cases import CASES
from httpbin_exchange import Client
from httpbin_servers import HttpbinServer, free_addresses, install_httpbin

if TYPE_CHECKING:
    from concurrent.futures import Future

    from httpbin_cases import Case
    from httpbin_exchange import Answer

NOT_COMPARED = {
    "connection": "It is about the connection; each server has its own way to manage it.",
    "date": "It is the time of the answer.",
    "keep-alive": "It is about the connection.",
    "server": "It is the server's name.",
}

RUNS = {
    "gunicorn": ("gunicorn", False),
    "carboy": ("carboy", False),
    "carboy, one connection": ("carboy", True),
}
"""Each run's server, and whether all of its requests share a connection."""

STREAM_SPREAD = 0.5
"""Seconds that lie at least between the first and the last byte of a dripped body."""


@dataclass(frozen=True)
class Run:
    """The answers of one server, as futures: a case without one fails in its own test."""

    answers: dict[str, Future[Answer]]
    stopped_in_time: bool


def send_all(server: str, address: tuple[str, int], *, keep_alive: bool) -> Run:
    """Send every case to the server, one after the other.

    httpbin draws its random bytes from one generator for all requests, so
    requests at the same time would change each other's answers.
    """
    with HttpbinServer(server, address) as running, ThreadPoolExecutor(max_workers=1) as pool:
        client = Client(address, keep_alive=keep_alive)
        answers = {case.name: pool.submit(client.send, case) for case in CASES}
        pool.submit(client.close)
    return Run(answers, running.stopped_in_time)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """All runs, made side by side."""
    install_httpbin()
    addresses = free_addresses(len(RUNS))
    with ThreadPoolExecutor() as pool:
        pending = {
            name: pool.submit(send_all, server, address, keep_alive=keep_alive)
            for (name, (server, keep_alive)), address in zip(RUNS.items(), addresses, strict=True)
        }
        return {name: run.result() for name, run in pending.items()}


def comparable(case: Case, answer: Answer) -> dict[str, object]:
    """Return what has to be equal, with the parts that vary from run to run blanked."""

    def blank(text: str) -> str:
        for volatile in case.volatile:
            text = re.sub(volatile.pattern, "*", text)
        return text

    left_out = NOT_COMPARED.keys() | ({case.defect.header} if case.defect else set())
    headers = [
        (name.lower(), blank(in_order(value) if name.lower() == "allow" else value))
        for name, value in answer.headers
        if name.lower() not in left_out
    ]
    return {
        "status": answer.status,
        "reason": answer.reason,
        "version": answer.version,
        "continued": answer.continued,
        # The order of different headers has no meaning, that of equal ones has.
        "headers": sorted(headers, key=lambda header: header[0]),
        "body": blank(answer.body.decode("latin-1")),
    }


def in_order(allowed: str) -> str:
    """Sort the methods of an `Allow` header, whose order is that of a hash set."""
    return ", ".join(sorted(allowed.split(", ")))


def test_there_are_cases_enough_and_each_has_its_own_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("run", ["carboy", "carboy, one connection"])
def test_server_stops_when_its_requests_are_answered(run: str, runs: dict[str, Run]) -> None:
    assert runs[run].stopped_in_time


@pytest.mark.parametrize("run", ["carboy", "carboy, one connection"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answer_is_the_same(case: Case, run: str, runs: dict[str, Run]) -> None:
    expected = runs["gunicorn"].answers[case.name].result()
    answer = runs[run].answers[case.name].result()
    assert comparable(case, answer) == comparable(case, expected)
    assert answer.seconds >= case.seconds
    if case.streamed:
        assert expected.spread >= STREAM_SPREAD
        assert answer.spread >= STREAM_SPREAD
    if case.defect is not None:
        assert answer.header(case.defect.header) != expected.header(case.defect.header)
    for volatile in case.volatile:
        seen = [answer.body.decode("latin-1"), *(value for _, value in answer.headers)]
        assert any(re.search(volatile.pattern, text) for text in seen), volatile.reason
