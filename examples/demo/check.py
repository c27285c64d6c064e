"""Calls every view of the running demo and judges its answers and times: `--once`."""

import asyncio
import statistics
import time
from dataclasses import dataclass

import aiohttp
from services import CRITICAL_PATH_MS, DASHBOARD, SERVICES, SUM_MS

ROUNDS = 5
CROWD = 20
CROWD_ROUNDS = 3

# Between the critical path and the sum of the delays, nearer to the former: more than a busy
# machine adds to one visit, less than what calls that wait for each other take.
CONCURRENT_LIMIT_MS = CRITICAL_PATH_MS * 1.5
# On average, this many visitors of a crowd must be served at any time. This is judged instead of
# the time, of which a busy machine spends more on the client library than on waiting.
CROWD_IN_FLIGHT = CROWD / 2
# A timer may fire this much early, because clocks tick.
TIMER_TOLERANCE_MS = 5


@dataclass(frozen=True)
class Expectation:
    """What must be true of one view."""

    view: str
    concurrent: bool
    one_thread: bool
    # Whether the picture is the client's own, with phases and dependencies.
    has_kept_timeline: bool = False

    def __str__(self) -> str:
        if self.concurrent:
            return f"{CRITICAL_PATH_MS} to {CONCURRENT_LIMIT_MS:.0f} ms"
        return f"{SUM_MS} ms or more"


EXPECTATIONS = (
    Expectation("sequential", concurrent=False, one_thread=False),
    Expectation("thread_pool", concurrent=True, one_thread=False),
    Expectation("asyncio_run", concurrent=True, one_thread=False),
    Expectation("shared_aiohttp", concurrent=True, one_thread=True),
    Expectation("shared_httpx", concurrent=True, one_thread=True),
    Expectation("carboy_def", concurrent=True, one_thread=False, has_kept_timeline=True),
    Expectation("carboy_returned", concurrent=True, one_thread=False, has_kept_timeline=True),
    Expectation("carboy_async", concurrent=True, one_thread=True, has_kept_timeline=True),
)


@dataclass(frozen=True)
class Outcome:
    """What was measured of one view, and the reasons why it is wrong, if it is."""

    expectation: Expectation
    median_ms: float | None
    crowd_median_ms: float | None
    crowd_slowest_ms: float | None
    threads: int | None
    faults: list[str]


@dataclass(frozen=True)
class Visit:
    """One request to a view, as its client saw it."""

    duration_ms: float
    answer: dict


class ViewError(Exception):
    """A view did not answer as it should."""


async def visit(session: aiohttp.ClientSession, view: str) -> Visit:
    """Call a view once and check what it returns."""
    started = time.perf_counter()
    async with session.get(f"/{view}/ada") as response:
        body = await response.read()
        duration_ms = (time.perf_counter() - started) * 1000
        if response.status != 200:
            raise ViewError(f"answered {response.status}")
        answer = await response.json()
    if answer["dashboard"] != DASHBOARD:
        raise ViewError(f"answered wrong data: {body[:200]!r}")
    if sorted(call["service"] for call in answer["calls"]) != sorted(s.name for s in SERVICES):
        raise ViewError(f"did not measure three calls: {answer['calls']}")
    return Visit(duration_ms, answer)


def overlap_fault(expectation: Expectation, answer: dict) -> str | None:
    """Say what is wrong with the order of a request's calls, whatever time they took."""
    calls = {call["service"]: call for call in answer["calls"]}
    profile, orders = calls["profile"], calls["orders"]
    if calls["recommendations"]["start_ms"] < profile["end_ms"]:
        return "recommendations were asked for before the profile was there"
    overlapped = orders["start_ms"] < profile["end_ms"] and profile["start_ms"] < orders["end_ms"]
    if overlapped != expectation.concurrent:
        return "profile and orders " + ("overlapped" if overlapped else "did not overlap")
    return None


def kept_timeline_fault(answer: dict) -> str | None:
    """Say what is wrong with the phases and dependencies that the client has kept."""
    needs = {call["service"]: call["depends_on"] for call in answer["calls"]}
    if needs != {service.name: [service.needs] if service.needs else [] for service in SERVICES}:
        return f"the timeline does not know what each call needed: {needs}"
    for call in answer["calls"]:
        names = [name for name, _, _ in call["phases"]]
        if "head" not in names:
            return f"the timeline knows nothing of the first byte of {call['service']}"
        times = [time for _, *times in call["phases"] for time in times]
        if times != sorted(times) or not call["start_ms"] <= times[0] <= times[-1]:
            return f"the phases of {call['service']} are out of order: {call['phases']}"
    return None


def crowd_faults(crowd: list[Visit], wall_ms: float, threads: int) -> list[str]:
    """Say what is wrong with how a crowd was served by an async view."""
    faults = []
    if threads != 1:
        faults.append(f"{len(crowd)} visitors of an async view took {threads} threads")
    in_flight = sum(each.answer["duration_ms"] for each in crowd) / wall_ms
    if in_flight < CROWD_IN_FLIGHT:
        faults.append(f"only {in_flight:.1f} of {len(crowd)} visitors were served at a time")
    return faults


async def check_view(session: aiohttp.ClientSession, expectation: Expectation) -> Outcome:
    """Measure one view: by one visitor several times, then by a crowd several times."""
    faults: list[str] = []
    median_ms = crowd_median_ms = crowd_slowest_ms = threads = None
    try:
        # The first visit is not timed: it imports, connects and starts threads. It must be right.
        await visit(session, expectation.view)
        visits = [await visit(session, expectation.view) for _ in range(ROUNDS)]
        median_ms = statistics.median(each.duration_ms for each in visits)
        if expectation.concurrent and median_ms > CONCURRENT_LIMIT_MS:
            # Other programs may have been in the way: calls that do not overlap fail both times.
            visits = [await visit(session, expectation.view) for _ in range(ROUNDS)]
            median_ms = statistics.median(each.duration_ms for each in visits)
        if fault := overlap_fault(expectation, visits[-1].answer):
            faults.append(fault)
        if expectation.has_kept_timeline and (fault := kept_timeline_fault(visits[-1].answer)):
            faults.append(fault)
        least_ms = (CRITICAL_PATH_MS if expectation.concurrent else SUM_MS) - TIMER_TOLERANCE_MS
        if median_ms < least_ms:
            faults.append(f"{median_ms:.0f} ms is less than the services take")
        if expectation.concurrent and median_ms > CONCURRENT_LIMIT_MS:
            faults.append(f"{median_ms:.0f} ms is not close to the critical path")

        rounds = [
            await asyncio.gather(*(visit(session, expectation.view) for _ in range(CROWD)))
            for _ in range(CROWD_ROUNDS)
        ]
        # The median round: one that the machine disturbed says nothing about the server.
        slowest = sorted(rounds, key=lambda visits: max(each.duration_ms for each in visits))
        crowd = slowest[len(slowest) // 2]
        crowd_median_ms = statistics.median(each.duration_ms for each in crowd)
        crowd_slowest_ms = max(each.duration_ms for each in crowd)
        threads = len({call["thread"] for each in crowd for call in each.answer["calls"]})
        if expectation.one_thread:
            faults += crowd_faults(crowd, crowd_slowest_ms, threads)
    except (ViewError, aiohttp.ClientError, TimeoutError) as error:
        faults.append(str(error) or type(error).__name__)
    return Outcome(expectation, median_ms, crowd_median_ms, crowd_slowest_ms, threads, faults)


async def check_page(session: aiohttp.ClientSession) -> None:
    """Check that the index page is there, with a card for each view."""
    async with session.get("/") as response:
        page = await response.text()
    missing = [e.view for e in EXPECTATIONS if f'data-view="{e.view}"' not in page]
    if response.status != 200 or missing:
        raise ViewError(f"The index page answered {response.status}, without {missing}.")


async def check(url: str) -> list[Outcome]:
    """Check the page and each view, one after another, and print what is being done."""
    timeout = aiohttp.ClientTimeout(total=8)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        await check_page(session)
        outcomes = []
        for expectation in EXPECTATIONS:
            print(
                f"Calling /{expectation.view}/ada: {ROUNDS} visits one by one, "
                f"then {CROWD_ROUNDS} times {CROWD} at once.",
                flush=True,
            )
            outcomes.append(await check_view(session, expectation))
        return outcomes


def format_table(outcomes: list[Outcome]) -> str:
    """Return the table of times, one view a line."""

    def time_cell(milliseconds: float | None) -> str:
        return "-" if milliseconds is None else f"{milliseconds:.0f} ms"

    rows = [
        ("view", "one visitor", "expected", f"{CROWD} at once", "slowest", "threads", "verdict")
    ]
    rows += [
        (
            outcome.expectation.view,
            time_cell(outcome.median_ms),
            str(outcome.expectation),
            time_cell(outcome.crowd_median_ms),
            time_cell(outcome.crowd_slowest_ms),
            "-" if outcome.threads is None else str(outcome.threads),
            "WRONG" if outcome.faults else "right",
        )
        for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
