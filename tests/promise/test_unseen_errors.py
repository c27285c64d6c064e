"""Promises that the garbage collector finds."""

import subprocess
import sys

# Each exception is in a cycle with its promise, and with another one that it was raised from.
PROGRAM = """
import gc
import logging

from carboy import Promise

logging.basicConfig()


class ServiceError(Exception):
    pass


def fail(number):
    try:
        try:
            raise KeyError(number)
        except KeyError as cause:
            cause.me = cause
            raise ServiceError("text", number) from cause
    except ServiceError as error:
        error.promise = Promise.reject(error)


for number in range(50):
    fail(number)
    gc.collect()
print("alive")
"""


def test_an_error_that_nobody_saw_is_told_when_the_collector_finds_it() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (0, "alive\n"), ran.stderr
    assert ran.stderr.count("A promise failed, and nobody awaited it") == 50
    assert "made at <string>:" in ran.stderr
    for number in range(50):
        assert f"KeyError: {number}\n" in ran.stderr
        assert f"ServiceError: ('text', {number})\n" in ran.stderr
