"""What is asked of every server: four workloads, and how their answers are checked."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass


class WrongAnswerError(Exception):
    """A server does not answer as the workload says; its figures would mean nothing."""


@dataclass(frozen=True)
class Question:
    """A request target, and the body that must come back: text for HTML, else JSON."""

    target: str
    answer: str | dict[str, object]


@dataclass(frozen=True)
class Workload:
    """One kind of work. The first question is the one that is timed.

    `fixed_rate` is the requests per second of the latency measurement. It is one that
    every peer can bear, so that their latencies can be compared.
    """

    name: str
    title: str
    questions: tuple[Question, ...]
    fixed_rate: int
    needs_upstream: bool = False


WORKLOADS = (
    Workload(
        name="async-hello",
        title="async hello: an `async def` view returns a string",
        questions=(Question("/hello", "Hello, World!"),),
        fixed_rate=500,
    ),
    Workload(
        name="json",
        title="JSON: `/user/<int:id>?q=` returns a dict of both",
        questions=(
            Question("/user/42?q=abc", {"id": 42, "q": "abc"}),
            Question("/user/7?q=two%20words", {"id": 7, "q": "two words"}),
            Question("/user/7", {"id": 7, "q": None}),
        ),
        fixed_rate=500,
    ),
    Workload(
        name="sync-hello",
        title="sync hello: a `def` view returns a string",
        questions=(Question("/sync/hello", "Hello, World!"),),
        fixed_rate=500,
    ),
    Workload(
        name="fan-out",
        title="fan-out: a view makes three calls of 10 ms at the same time",
        questions=(Question("/fan-out", {"names": ["a", "b", "c"]}),),
        fixed_rate=100,
        needs_upstream=True,
    ),
)


def check(port: int, workload: Workload, prefix: str) -> int:
    """Ask every question twice on one connection, and return the timed body's length.

    Twice, because the second answer shows that the connection is kept alive.
    """
    lengths = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for question in workload.questions:
            lengths += [_ask(connection, question, prefix) for _ in range(2)]
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WrongAnswerError(f"{workload.name}: {error!r}") from error
    finally:
        connection.close()
    return lengths[0]


def _ask(connection: http.client.HTTPConnection, question: Question, prefix: str) -> int:
    target = prefix + question.target
    connection.request("GET", target)
    response = connection.getresponse()
    body = response.read()
    content_type = response.headers.get_content_type()
    if isinstance(question.answer, str):
        expected_type = "text/html"
        equal = body == question.answer.encode()
    else:
        expected_type = "application/json"
        equal = response.status == 200 and json.loads(body) == question.answer
    if (response.status, content_type, equal) != (200, expected_type, True):
        found = f"{response.status} {content_type} {body[:200]!r}"
        expected = f"200 {expected_type} {question.answer!r}"
        raise WrongAnswerError(f"GET {target}: expected {expected}, got {found}")
    if response.will_close:
        raise WrongAnswerError(f"GET {target}: the server closes the connection")
    return len(body)
