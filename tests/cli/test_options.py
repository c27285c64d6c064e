"""Options of `carboy run`: what they refuse, and how they get to the server."""

import math
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.raw_http import Connection
from support.server_process import ServerProcess

from carboy import Limits, ServerConfig, cli

APP = """
import threading, time
from flask import Flask

app = Flask(__name__)

@app.get("/")
async def hold():
    time.sleep(0.5)
    return "held"

@app.get("/wait")
def wait():
    print("waits", flush=True)
    threading.Event().wait(20)
    return ""
"""


def configured(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, **environment: str
) -> ServerConfig:
    """What `carboy run` would serve with."""
    seen: list[ServerConfig] = []
    # The loggers are those of this process, which tests of others look at.
    monkeypatch.setattr(cli, "_configure_logging", lambda: None)
    monkeypatch.setattr(cli, "load_application", lambda name: (print, name))
    monkeypatch.setattr(cli, "serve", lambda _app, config, **_: seen.append(config))
    result = CliRunner().invoke(cli.main, ["run", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    return seen[0]


@pytest.mark.parametrize(
    "option", ["--keep-alive-timeout", "--shutdown-timeout", "--blocking-threshold"]
)
@pytest.mark.parametrize("value", ["nan", "-1", "-inf", "NaN", "soon", ""])
def test_a_time_that_is_none_is_refused_with_the_name_of_the_option(
    option: str, value: str
) -> None:
    result = CliRunner().invoke(cli.main, ["run", option, value, "app:app"])

    assert result.exit_code == click.UsageError.exit_code
    assert f"Invalid value for '{option}'" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "option",
    [
        "--limit-request-line",
        "--limit-headers",
        "--limit-body",
        "--limit-connections",
        "--limit-requests",
        "--threads",
    ],
)
@pytest.mark.parametrize("value", ["-1", "nan", "1.5", "many"])
def test_a_number_that_is_none_is_refused_with_the_name_of_the_option(
    option: str, value: str
) -> None:
    result = CliRunner().invoke(cli.main, ["run", option, value, "app:app"])

    assert result.exit_code == click.UsageError.exit_code
    assert f"Invalid value for '{option}'" in result.output or (
        f"Invalid value for '-t' / '{option}'" in result.output
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep_alive_timeout", math.nan),
        ("keep_alive_timeout", -1),
        ("header_read_timeout", -0.5),
        ("drain_linger", -math.inf),
        ("request_line_bytes", 0),
        ("body_bytes", -1),
        ("connection_limit", 0),
        ("request_limit", 0),
    ],
)
def test_limits_refuse_the_same_from_python(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}: it must be .*at least"):
        Limits(**{name: value})


def test_options_and_environment_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(monkeypatch)
    assert config.blocking_threshold_seconds is None
    assert config.limits.request_limit is None

    config = configured(
        monkeypatch, "--limit-requests", "7", "--keep-alive-timeout", "inf", "app:app"
    )
    assert config.limits.request_limit == 7
    assert config.limits.keep_alive_timeout == math.inf

    config = configured(
        monkeypatch, CARBOY_RUN_BLOCKING_THRESHOLD="0.25", CARBOY_RUN_LIMIT_REQUESTS="9"
    )
    assert config.blocking_threshold_seconds == 0.25
    assert config.limits.request_limit == 9


def test_the_server_says_which_view_holds_the_loop(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with ServerProcess(tmp_path, "--blocking-threshold", "0.1") as server:
        assert server.get("/").text == "held"
        said = server.wait_for_line(r"WARNING The event loop has been blocked.*")[0]
        assert "by coroutine hold() in view 'hold' (GET /), at " in said
        assert "time.sleep(0.5)" in said
        assert "in all" in server.wait_for_line(r"The event loop was blocked.*")[0]


def test_a_request_over_the_limit_is_told_to_try_again(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with ServerProcess(tmp_path, "--limit-requests", "1") as server:
        with Connection(server.address) as first:
            first.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            server.wait_for_line("waits")
            refused = server.get("/")
            assert refused.status == 503
            assert refused.header("retry-after") == "1"
            assert "Try again" in refused.text
        # Its client has gone, its view has not.
        assert server.get("/").status == 503
        server.kill()
