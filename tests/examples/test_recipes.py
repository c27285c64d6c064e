"""Each recipe, served by carboy, answers a crowd of 50 while another view answers at once."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

CROWD = 50
PROBES = 5
LATENCY_LIMIT_MS = 50
TIMEOUT_SECONDS = 15


def named(number: int) -> dict:
    """What the upstream service says of a user."""
    return {"name": f"user {number}", "team": number + 1}


def team(number: int) -> dict:
    return {"name": f"team {number}", "city": number + 1}


@dataclass(frozen=True)
class Recipe:
    """A recipe that asks the upstream service for a user in every request."""

    name: str
    expected: Callable[[int], object] = named
    path: str = "/users/{number}"
    method: str = "GET"
    request: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)


AUTHORIZATION = {"headers": {"Authorization": "Bearer secret"}}
RECIPES = [
    Recipe("asyncio_run"),
    Recipe("own_event_loop"),
    Recipe("background_loop"),
    Recipe(
        "run_async",
        path="/users/{number}?language=l{number}",
        expected=lambda number: {
            **named(number),
            "path": f"/users/{number}",
            "language": f"l{number}",
        },
    ),
    Recipe("thread_pool", lambda number: {"user": named(number), "team": team(number)}),
    Recipe("generator_coroutine", lambda number: {**named(number), "path": f"/users/{number}"}),
    Recipe("client_timeout", lambda number: {**named(number), "advertisement": None}),
    Recipe("shared_session"),
    Recipe(
        "chain",
        lambda number: {
            "steps": [f"user {number}", f"team {number + 1}"],
            "city": f"city {number + 2}",
        },
    ),
    Recipe(
        "gather",
        lambda number: [
            {"path": f"/users/{number}", **named(number)},
            {"path": f"/users/{number}", **team(number)},
            {"path": f"/users/{number}", "name": f"city {number}"},
            "ContentTypeError",
        ],
    ),
    Recipe(
        "task_group",
        lambda number: {"user": named(number), "team": team(number), "advertisement": None},
    ),
    Recipe(
        "login_required", lambda number: {**named(number), "login": "ada"}, request=AUTHORIZATION
    ),
    Recipe(
        "login_required",
        lambda number: {**named(number), "login": "ada"},
        path="/private/{number}",
        request=AUTHORIZATION,
        headers={"Cache-Control": "no-store"},
    ),
    Recipe("method_view"),
    Recipe(
        "method_view",
        lambda number: {**named(number), "name": "Ada"},
        method="PATCH",
        request={"json": {"name": "Ada"}},
    ),
    Recipe("async_hooks", headers={"X-Session-Closed": "False"}),
]


async def check_other_view(session: aiohttp.ClientSession) -> None:
    """Check that another view answers within 50 ms, now that a crowd is known to be in flight.

    Every one of the requests must be answered in time. If one is not, they are made once more,
    because other programs on the machine may take more than that from a request; a server that
    is held up by the crowd fails both times.
    """
    latencies_ms = await measure_other_view(session)
    if max(latencies_ms) > LATENCY_LIMIT_MS:
        again_ms = await measure_other_view(session)
        assert max(again_ms) <= LATENCY_LIMIT_MS, (latencies_ms, again_ms)


async def measure_other_view(session: aiohttp.ClientSession) -> list[float]:
    latencies_ms = []
    for _ in range(PROBES):
        began = time.perf_counter()
        async with session.get("/ping") as response:
            assert await response.text() == "pong"
        latencies_ms.append((time.perf_counter() - began) * 1000)
    return latencies_ms


async def gather_when(
    condition: Awaitable[object], visits: list[asyncio.Task], *, then: Callable[[], Awaitable[None]]
) -> list:
    """Wait until the condition holds for visits that are under way, act, and await the visits."""
    waiter = asyncio.ensure_future(condition)
    await asyncio.wait([waiter, *visits], return_when=asyncio.FIRST_COMPLETED)
    if not waiter.done():
        waiter.cancel()
        await asyncio.gather(*visits)
        raise AssertionError("visits were answered before the upstream service answered them")
    assert not any(visit.done() for visit in visits)
    await then()
    return await asyncio.gather(*visits)


def open_session(address: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        address,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
    )


async def poll(session: aiohttp.ClientSession, path: str, until: Callable[[dict], bool]) -> None:
    """Ask a view again and again until its answer is as wanted."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            async with session.get(path) as response:
                if until(await response.json()):
                    return


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.name}-{r.method}{r.path}")
def test_crowd_is_answered_while_another_view_answers(recipe, serve, upstream):
    async def visit(session: aiohttp.ClientSession, number: int) -> None:
        path = recipe.path.format(number=number)
        async with session.request(recipe.method, path, **recipe.request) as response:
            body = await response.text()
            assert response.status == 200, (number, body)
            assert json.loads(body) == recipe.expected(number)
            assert {name: response.headers[name] for name in recipe.headers} == recipe.headers

    async def check() -> None:
        service = upstream(CROWD)
        async with service.serve():
            with serve(recipe.name, service.url) as address:
                async with open_session(address) as session:

                    async def probe_and_open() -> None:
                        await check_other_view(session)
                        service.opened.set()

                    visits = [asyncio.create_task(visit(session, n)) for n in range(CROWD)]
                    await gather_when(service.all_held.wait(), visits, then=probe_and_open)
                    # What a request leaves behind, later ones find: loops, sessions, contexts.
                    await asyncio.gather(*(visit(session, n) for n in range(CROWD)))

    asyncio.run(check())


def test_login_is_required(serve):
    async def check() -> None:
        with serve("login_required") as address:
            async with open_session(address) as session:
                for path in ("/users/1", "/private/1"):
                    async with session.get(path) as response:
                        assert response.status == 401

    asyncio.run(check())


def test_teardown_hooks_ran_for_each_request(serve, upstream):
    async def check() -> None:
        service = upstream(CROWD)
        service.opened.set()
        async with service.serve():
            with serve("async_hooks", service.url) as address:
                async with open_session(address) as session:

                    async def visit(number: int) -> None:
                        async with session.get(f"/users/{number}") as response:
                            assert response.status == 200

                    def all_closed(sessions: dict) -> bool:
                        # All but that of the request which asks.
                        opened, closed = sessions["opened"], sessions["closed"]
                        return opened > CROWD and closed == opened - 1

                    await asyncio.gather(*(visit(number) for number in range(CROWD)))
                    # The hooks of a request may end after its answer has arrived.
                    await poll(session, "/sessions", all_closed)

    asyncio.run(check())


def test_background_tasks_outlive_their_views(serve, upstream):
    async def check() -> None:
        service = upstream(CROWD)
        async with service.serve():
            with serve("background_task", service.url) as address:
                async with open_session(address) as session:

                    async def register(number: int) -> None:
                        async with session.post(f"/users/{number}") as response:
                            assert response.status == 202
                            assert await response.json() == {"registered": number}

                    async def greet(number: int) -> None:
                        async with session.get(f"/users/{number}") as response:
                            assert await response.json() == {"greeting": f"Welcome, user {number}!"}

                    # All are answered although none of the tasks can end yet.
                    await asyncio.gather(*(register(number) for number in range(CROWD)))
                    await asyncio.wait_for(service.all_held.wait(), TIMEOUT_SECONDS)
                    await check_other_view(session)
                    service.opened.set()
                    await asyncio.gather(*(greet(number) for number in range(CROWD)))

    asyncio.run(check())


def test_event_streams_flow_while_they_are_produced(serve, upstream):
    async def check() -> None:
        service = upstream(CROWD)
        async with service.serve():
            with serve("event_stream", service.url) as address:
                async with open_session(address) as session:

                    async def listen(number: int) -> None:
                        async with session.get(f"/users/{number}") as response:
                            assert response.content_type == "text/event-stream"
                            # This part must arrive before the service answers.
                            first = await response.content.readuntil(b"\n\n")
                            assert first == f"event: started\ndata: /users/{number}\n\n".encode()
                            begun.release()
                            data = await response.content.readuntil(b"\n\n")
                            assert json.loads(data.removeprefix(b"data: ")) == named(number)
                            assert await response.content.read() == b"event: finished\ndata:\n\n"

                    async def all_begun() -> None:
                        await service.all_held.wait()
                        for _ in range(CROWD):
                            await begun.acquire()

                    async def probe_and_open() -> None:
                        await check_other_view(session)
                        service.opened.set()

                    begun = asyncio.Semaphore(0)
                    visits = [asyncio.create_task(listen(number)) for number in range(CROWD)]
                    await gather_when(all_begun(), visits, then=probe_and_open)

    asyncio.run(check())


def test_one_view_wakes_another_through_an_asyncio_queue(serve):
    async def check() -> None:
        with serve("long_poll") as address:
            async with open_session(address) as session:

                async def receive(number: int) -> None:
                    async with session.get(f"/mailboxes/m{number}") as response:
                        assert response.status == 200
                        assert await response.json() == {"name": f"m{number}", "message": number}

                async def send(number: int) -> None:
                    async with session.post(f"/mailboxes/m{number}", json=number) as response:
                        assert response.status == 204

                async def probe_and_send() -> None:
                    await check_other_view(session)
                    await asyncio.gather(*(send(number) for number in range(CROWD)))

                all_wait = poll(session, "/waiting", lambda answer: answer["waiting"] == CROWD)
                visits = [asyncio.create_task(receive(number)) for number in range(CROWD)]
                await gather_when(all_wait, visits, then=probe_and_send)

    asyncio.run(check())


def test_blocking_event_streams_hold_up_nobody(serve):
    async def check() -> None:
        with serve("message_announcer") as address:
            async with open_session(address) as session:

                async def listen() -> None:
                    async with session.get("/events") as response:
                        assert response.content_type == "text/event-stream"
                        assert await response.content.readuntil(b"\n\n") == b"data: hello\n\n"
                        received.release()
                        assert await response.content.read() == b"data: goodbye\n\n"

                async def announce(message: str) -> None:
                    async with session.post("/announcements", data=message) as response:
                        assert response.status == 204

                async def probe_and_announce() -> None:
                    await check_other_view(session)
                    await announce("hello")
                    for _ in range(CROWD):
                        await asyncio.wait_for(received.acquire(), TIMEOUT_SECONDS)
                    await check_other_view(session)
                    await announce("goodbye")
                    async with session.delete("/listeners") as response:
                        assert response.status == 204

                received = asyncio.Semaphore(0)
                all_listen = poll(
                    session, "/listeners", lambda answer: answer["listeners"] == CROWD
                )
                visits = [asyncio.create_task(listen()) for _ in range(CROWD)]
                await gather_when(all_listen, visits, then=probe_and_announce)

    asyncio.run(check())
