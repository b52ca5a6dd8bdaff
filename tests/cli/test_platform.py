"""`bluejay-ws platform`: a local platform that an agent of one's own reports to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from bluejay_ws.cli import main
from bluejay_ws.cli import platform as platform_command
from bluejay_ws.cli.terminal import Terminal
from bluejay_ws.testing.platform import AcceptedReport, FakePlatform
from bluejay_ws.timeline.live import LivePage
from tests import nursery

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = {"simulation_result_id": "local-1", "tool_calls": [{"name": "t", "start_offset_ms": 1}]}


class Running:
    """The command as a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """Return the next line that it writes."""
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def until(self, start: str) -> str:
        """Return the rest of the first line that begins so."""
        while not (line := self.line()).startswith(start):
            assert self.process.poll() is None
        return line.removeprefix(start).strip()

    def stop(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        return self.process.returncode


def start(*options: str) -> Running:
    """Start the command."""
    command = [sys.executable, "-m", "bluejay_ws", "platform", *options]
    return Running(nursery.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """Give the command as a process, with the test's options."""
    made = start(*getattr(request, "param", ()))
    yield made
    made.process.kill()
    made.process.communicate()


def post(url: str, key: str, body: dict[str, Any]) -> int:
    """Send a report and return the answer's status."""
    with closing(HTTPConnection(urlsplit(url).netloc)) as connection:
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        connection.request("POST", "/v1/update-simulation-result", json.dumps(body), headers)
        return connection.getresponse().status


def test_it_prints_the_variables_and_lists_reports(running: Running) -> None:
    """Also a second one for the same call, fields nobody knows, and what was refused; Ctrl-C ends it with 0."""
    url = running.until("  export BLUEJAY_API_URL=")
    key = running.until("  export BLUEJAY_API_KEY=")
    running.until("Reports are listed here")
    assert post(url, key, REPORT) == 200
    assert running.until("report     local-1") == "1 tool call, 0 utterances, 0 events"
    assert post(url, key, {**REPORT, "surprise": 1}) == 200
    assert running.until("report     local-1").startswith("1 tool call, 0 utterances, 0 events; this is report 2")
    assert running.until("unknown    ") == "surprise"
    assert post(url, "another", REPORT) == 401
    assert running.until("refused    HTTP 401") == "the agent has another API key"
    assert post(url, key, {"simulation_result_id": "local-2", "tool_calls": [{}]}) == 422
    assert "tool_calls" in running.until("refused    HTTP 422")
    assert running.stop() == 0


@pytest.mark.parametrize("running", [("--json", "--live")], indirect=True)
def test_scripts_read_a_document_for_each_report(running: Running) -> None:
    """And the page shows the call."""
    started = json.loads(running.line())
    assert started["type"] == "started"
    variables = started["variables"]
    assert post(variables["BLUEJAY_API_URL"], variables["BLUEJAY_API_KEY"], REPORT) == 200
    reported = json.loads(running.line())
    assert (reported["type"], reported["call"], reported["report"]) == ("report", "local-1", REPORT)
    with urllib.request.urlopen(started["page"]) as answer:
        assert answer.status == 200
    assert running.stop() == 0


@pytest.mark.parametrize("running", [("--live",)], indirect=True)
def test_people_get_the_pages_address(running: Running) -> None:
    """It stands below the variables."""
    assert running.until("page ").startswith("http://127.0.0.1:")
    assert running.stop() == 0


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """With the way out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert main(["platform", "--port", str(server.getsockname()[1])]) == 2
    said = capsys.readouterr().err
    assert "address already in use" in said
    assert "--port" in said


def test_reports_and_refusals_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what is wrong with it; a second look shows what came since, and the page shows each call."""
    terminal = Terminal.of(sys.stdout, {"COLUMNS": "100"})
    arrived: list[AcceptedReport] = []
    with FakePlatform(on_report=arrived.append) as platform, LivePage() as page:
        platform_command._introduce(platform, page, terminal)
        platform_command._introduce(platform, None, terminal)
        for body in (REPORT, {**REPORT, "surprise": 1}, {"simulation_result_id": "local-2", "tool_calls": [{}]}):
            post(platform.url, platform.api_key or "", body)
        refused = platform_command._show_refused(platform, 0, terminal)
        post(platform.url, "another", REPORT)
        assert platform_command._show_refused(platform, refused, terminal) == 2
        for one in arrived:
            platform_command._show(one, page, terminal)
        platform_command._show(arrived[0], None, terminal)
        assert [call["id"] for call in page.listing()["calls"]] == ["local-1"]
    said = capsys.readouterr().out
    for words in ("export BLUEJAY_API_KEY=", "page       http://127.0.0.1:", "this is report 2", "unknown    surprise"):
        assert words in said
    assert said.count("HTTP 422") == said.count("the agent has another API key") == 1


def test_it_looks_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty look shows nothing, and the end is none of failure."""
    looks: list[int] = []

    def look(_platform: Any, shown: int, _terminal: Any) -> int:
        looks.append(shown)
        if len(looks) == 3:
            raise KeyboardInterrupt
        return shown + 1

    monkeypatch.setattr(platform_command, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(platform_command, "_show_refused", look)
    assert main(["platform", "--live"]) == 0
    assert looks == [0, 1, 2]
