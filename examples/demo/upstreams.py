"""Serves the three services of the dashboard on free ports of the loopback interface.

`python upstreams.py` prints one `NAME_URL=http://127.0.0.1:PORT` line for each of them, as the
app expects them in its environment, and serves until SIGINT or SIGTERM.
"""

import argparse
import asyncio
import signal
import sys

from aiohttp import web
from services import SERVICES, Service


def build_app(service: Service) -> web.Application:
    """Return the web application of one service."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(service.delay_ms / 1000)
        key = request.match_info["key"]
        if key not in service.answers:
            raise web.HTTPNotFound(text=f"{service.name} knows nothing of {key!r}")
        return web.json_response(service.answers[key])

    app = web.Application()
    app.router.add_get("/{key}", answer)
    return app


async def serve(*, until_stdin_closes: bool) -> None:
    """Serve all services, print where, and return when told to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        # Standard input is a pipe that nobody writes to: it becomes readable when the process at
        # the other end is gone, in whatever way it went.
        loop.add_reader(sys.stdin, stop.set)

    runners = []
    for service in SERVICES:
        runner = web.AppRunner(build_app(service), access_log=None)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        host, port = runner.addresses[0]
        print(f"{service.variable}=http://{host}:{port}", flush=True)
    await stop.wait()
    for runner in runners:
        await runner.cleanup()


def main() -> None:
    """Run the services from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when the process that holds the other end of standard input ends",
    )
    arguments = parser.parse_args()
    asyncio.run(serve(until_stdin_closes=arguments.until_stdin_closes))


if __name__ == "__main__":
    main()
