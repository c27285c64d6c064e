"""Calls and promises while a process ends: they work, or say why they can't, and never hang."""

from __future__ import annotations

import pytest
from support.programs import output_of

COMMON = """
import atexit, builtins, os, sys, threading

def attempt(call, write=os.write):
    try:
        outcome = f"value {call()}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    write(1, outcome.encode() + bytes([10]))

class Late:
    def __init__(self, call):
        self.call = call

    def __del__(self, attempt=attempt):
        attempt(self.call)
"""
IMPORTED = """
from carboy import Promise, deadline, http

async def answer():
    return 42

def with_deadline(Promise=Promise, deadline=deadline):
    with deadline(0.2):
        return Promise.with_resolvers()[0].result()

def calls(url, http=http, Promise=Promise, answer=answer, with_deadline=with_deadline):
    return {
        "get": lambda: http.get(url).result().text,
        "post": lambda: http.post(url, content=b"x").result().text,
        "session": lambda: http.Session().get(url).result().text,
        "unawaited": lambda: repr(type(http.get(url))),
        "never": lambda: Promise.with_resolvers()[0].result(),
        "bounded": lambda: Promise.with_resolvers()[0].result(timeout=60),
        "timeout": lambda: Promise.with_resolvers()[0].timeout(60).result(),
        "deadline": with_deadline,
        "handler": lambda: Promise.resolve(42).then(str).result(),
    }
"""
BOUNDED = ["bounded", "timeout", "deadline"]
CALLS = ["get", "post", "session", "unawaited", "never", *BOUNDED, "handler"]
NEEDS_NOBODY = {"handler"}


@pytest.mark.parametrize("call", CALLS)
def test_in_a_destructor_while_modules_are_torn_down(call: str) -> None:
    program = f"""{COMMON}{IMPORTED}
assert http.get(url).result().text == "fine"
builtins._late = Late(calls(url)[{call!r}])
"""
    outcome = output_of(program)
    if call in NEEDS_NOBODY:
        assert outcome == "value 42"
    else:
        assert outcome.startswith("RuntimeError: the interpreter is ending: no thread is left")


@pytest.mark.parametrize("call", ["get", "post", "session", "timeout", "handler"])
def test_registered_with_atexit_before_carboy_is_imported(call: str) -> None:
    """It runs after carboy has stopped what it does."""
    program = f"""{COMMON}
atexit.register(lambda: attempt(lambda: calls(url)[{call!r}]()))
{IMPORTED}
assert http.get(url).result().text == "fine"
"""
    outcome = output_of(program)
    if call in NEEDS_NOBODY:
        assert outcome == "value 42"
    else:
        assert outcome.startswith("RuntimeError: the process is ending: no HTTP call")


def test_registered_with_atexit_after_carboy_was_imported() -> None:
    program = f"""{COMMON}{IMPORTED}
known = calls(url)
for name in ("get", "post", "session", "handler"):
    atexit.register(attempt, known[name])
assert http.get(url).result().text == "fine"
"""
    assert output_of(program).split("\n") == ["value 42", "value fine", "value fine", "value fine"]


def test_what_is_queued_at_the_end_is_run() -> None:
    program = f"""{COMMON}{IMPORTED}
def later():
    Promise.resolve("queued at the end").then(print)
atexit.register(later)
Promise.resolve("queued before").then(print)
"""
    assert output_of(program).split("\n") == ["queued before", "queued at the end"]


@pytest.mark.parametrize("call", ["never", "bounded", "get"])
def test_daemon_threads_that_wait(call: str) -> None:
    program = f"""{COMMON}{IMPORTED}
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
silent_url = f"http://127.0.0.1:{{listener.getsockname()[1]}}/"

def wait():
    known = calls(url)
    known[{call!r}]() if {call!r} != "get" else http.get(silent_url, timeout=None).result()

def look():
    states = []
    for task in os.listdir("/proc/self/task"):
        if int(task) != threading.main_thread().native_id:
            with open(f"/proc/self/task/{{task}}/status") as status:
                states += [line for line in status if line.startswith(("State", "voluntary"))]
    return states

def all_wait():
    # Who waits for the GIL wakes up every few milliseconds. CPython does not let such a thread
    # end well before 3.14 if native code is among its callers.
    before = look()
    time.sleep(0.02)
    return before == look() and not any("R (running)" in state for state in before)

assert http.get(url).result().text == "fine"
threads = [threading.Thread(target=wait, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
if {call!r} == "get":
    for _ in threads:
        connection = listener.accept()[0]
        assert connection.recv(1000)
        # It stays open, and nobody warns of that while modules are torn down.
        connection.detach()
listener.close()
while not all_wait():
    pass
"""
    assert output_of(program) == ""
