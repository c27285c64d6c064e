"""Measures one row on one loop, in this process, and prints the figures as JSON.

``measure.py LOOP ROW SECONDS DIRECTORY CORE CLIENT_CORE``. Processor time is that of this
process: the server's side of an echo, without its client. Each has a core of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import echo_servers
import scheduling
from rows import ROWS, Row

CLIENT = Path(__file__).with_name("echo_client.py")
WARM_UP_SECONDS = 0.3


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    if name == "carboy":
        import carboy

        return carboy.new_event_loop()
    return asyncio.SelectorEventLoop()


async def measure_scheduling(row: Row, seconds: float) -> dict[str, Any]:
    work = scheduling.KINDS[row.kind]
    await work(WARM_UP_SECONDS)
    wall, cpu = time.perf_counter(), time.process_time()
    count = await work(seconds)
    return {
        "count": count,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


async def run_client(row: Row, address: str, seconds: float, core: int) -> dict[str, Any]:
    extra = ["accept"] if row.kind == "accept" else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(CLIENT), address, str(row.size_bytes)),
        *(str(row.connections), str(seconds), str(core), *extra),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise AssertionError(f"the client failed with {process.returncode}")
    return json.loads(output)


async def measure_echo(
    row: Row, seconds: float, directory: Path, client_core: int
) -> dict[str, Any]:
    async with echo_servers.KINDS[row.kind](directory) as address:
        await run_client(row, address, WARM_UP_SECONDS, client_core)
        cpu = time.process_time()
        result = await run_client(row, address, seconds, client_core)
        return {**result, "cpu_seconds": time.process_time() - cpu}


def main() -> None:
    loop_name, row_name, seconds, directory, core, client_core = sys.argv[1:]
    # A call from another thread is measured without competition, too.
    cores = {int(core), int(client_core)} if row_name == "call_soon_threadsafe" else {int(core)}
    os.sched_setaffinity(0, cores)
    row = next(row for row in ROWS if row.name == row_name)
    with asyncio.Runner(loop_factory=lambda: new_event_loop(loop_name)) as runner:
        if row.kind in scheduling.KINDS:
            result = runner.run(measure_scheduling(row, float(seconds)))
        else:
            echo = measure_echo(row, float(seconds), Path(directory), int(client_core))
            result = runner.run(echo)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
