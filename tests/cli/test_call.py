"""`bluejay-ws call`: dialling a running agent."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.cli import main
from bluejay_ws.testing.audio import silence, tone, write_wav
from tests.cli.serving import agent_thread
from tests.testing.agents import AnsweringAgent, silent_agent

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

QUICK = ("--pace", "0", "--greeting", "0")


def test_a_call_without_a_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It dials with id and credentials, says what is in the file, prints what happens, and exits 0."""
    agent = AnsweringAgent()
    write_wav(tmp_path / "said.wav", tone(100) + silence(800) + tone(200))
    with agent_thread(agent) as url:
        arguments = ("--id", "42", "--user", "bluejay", "--password", "p", "--wav", str(tmp_path / "said.wav"))
        assert main(["call", url, *QUICK, *arguments]) == 0
    assert agent.values("X-Simulation-Result-Id") == ["42"]
    assert agent.values("Authorization") == ["Basic Ymx1ZWpheTpw"]
    assert sum(any(frame) for frame in agent.received if isinstance(frame, bytes)) == 15
    printed = capsys.readouterr()
    assert "The call 42" in printed.out
    assert printed.out.count("caller  speaks") == 2
    assert printed.err == ""


def test_barging_in(capsys: pytest.CaptureFixture[str]) -> None:
    """`--barge-in` interrupts the first answer; what was sent of it is heard all the same, and the last one out."""
    with agent_thread(AnsweringAgent(answer_ms=5_000)) as url:
        assert main(["call", url, "--pace", "0.02", "--greeting", "0", "--barge-in"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("caller  interrupts;") == 1
    assert "the agent was heard for 10.0 s" in printed


def test_hanging_up_early(capsys: pytest.CaptureFixture[str]) -> None:
    """`--seconds` ends a call in order, whatever has been said by then."""
    with agent_thread(silent_agent) as url:
        assert main(["call", url, "--greeting", "0", "--seconds", "0.1"]) == 0
    assert "caller  hangs up with 1000 (normal)" in capsys.readouterr().out


def test_an_agent_that_fails_is_not_a_good_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the platform's word for it when the agent's handler raises."""

    async def failing(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(1011, "oh")

    with agent_thread(failing) as url:  # not at pace 0: what it never reads would stand before our part of the close
        assert main(["call", url, "--greeting", "0"]) == 1
    assert "agent   hangs up with 1011 (internal error): oh" in capsys.readouterr().out


def test_refusals_are_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """A 401 is one sentence and what to do, on standard error, with its own exit code."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(401, "no")

    with agent_thread(AnsweringAgent(), process_request=refuse) as url:
        assert main(["call", url]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "HTTP 401 at the upgrade" in printed.err
    assert "give --user and --password" in printed.err


@pytest.mark.parametrize("kind", ["missing", "no WAV", "silent"])
def test_a_wav_that_cannot_be_spoken_is_wrong_usage(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, foreign and silent files are told before anybody is dialled."""
    path = tmp_path / "said.wav"
    if kind == "no WAV":
        path.write_text("words")
    if kind == "silent":
        write_wav(path, silence(100))
    assert main(["call", "ws://localhost:1", "--wav", str(path)]) == 2
    assert "said.wav" in capsys.readouterr().err


def test_a_url_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """The words of the dialling module, the exit code of wrong usage."""
    assert main(["call", "localhost:8765"]) == 2
    assert "is not a websocket URL" in capsys.readouterr().err


def report_to(port: int, identity: str) -> None:
    """Send a report to the platform on that port."""
    url = f"http://127.0.0.1:{port}/v1/update-simulation-result"
    body = {"simulation_result_id": identity, "tool_calls": [{"name": "freeze_card", "start_offset_ms": 5}]}
    headers = {"X-API-Key": "test-key", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).close()


def test_a_platform_waits_for_the_agent_and_shows_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the variables, waits until the agent is up, and after the call prints what was accepted."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        agent_port, platform_port = one.getsockname()[1], other.getsockname()[1]
    codes: list[int] = []

    def call() -> None:
        url = f"ws://127.0.0.1:{agent_port}"
        codes.append(main(["call", url, *QUICK, "--id", "42", "--platform", "--port", str(platform_port)]))

    class ReportingAgent(AnsweringAgent):
        async def __call__(self, connection: ServerConnection) -> None:
            await super().__call__(connection)
            report_to(platform_port, "42")

    command = threading.Thread(target=call)
    command.start()
    time.sleep(0.1)  # the agent comes later
    with agent_thread(ReportingAgent(), port=agent_port):
        command.join()
    printed = capsys.readouterr().out
    assert codes == [0]
    assert (
        f"    export BLUEJAY_API_URL=http://127.0.0.1:{platform_port}\n    export BLUEJAY_API_KEY=test-key" in printed
    )
    assert "The report of call 42" in printed
    assert "tool    freeze_card" in printed


def test_a_platform_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Another program on the platform's port is told, with the option that helps."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["call", "ws://localhost:1", "--platform", "--port", port]) == 1
    problem = capsys.readouterr().err
    assert port in problem
    assert "--port" in problem
