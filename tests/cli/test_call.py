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
YES = "--yes"


def test_a_call_without_a_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It dials with id and credentials, says what is in the file, prints what happens, and exits 0."""
    agent = AnsweringAgent()
    write_wav(tmp_path / "said.wav", tone(100) + silence(800) + tone(200))
    with agent_thread(agent) as url:
        arguments = ("--id", "42", "--user", "bluejay", "--password", "p", "--wav", str(tmp_path / "said.wav"))
        assert main(["call", url, YES, *QUICK, *arguments]) == 0
    assert agent.values("X-Simulation-Result-Id") == ["42"]
    assert agent.values("Authorization") == ["Basic Ymx1ZWpheTpw"]
    assert sum(any(frame) for frame in agent.received if isinstance(frame, bytes)) == 15
    printed = capsys.readouterr()
    assert "The call 42" in printed.out
    assert printed.out.count("caller  speaks") == 2
    assert printed.err == ""


def test_barging_in(capsys: pytest.CaptureFixture[str]) -> None:
    """`--barge-in` interrupts the first answer; what was sent of it is heard all the same, and the last one out."""
    with agent_thread(AnsweringAgent(answer_ms=10_000)) as url:  # long: the moment after a second must not be missed
        assert main(["call", url, YES, "--pace", "0.04", "--greeting", "0", "--barge-in"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("caller  interrupts;") == 1
    assert "the agent spoke for 20.0 s" in printed


def test_hanging_up_early(capsys: pytest.CaptureFixture[str]) -> None:
    """`--seconds` ends a call in order, whatever has been said by then."""
    with agent_thread(silent_agent) as url:
        assert main(["call", url, YES, "--greeting", "0", "--seconds", "0.1"]) == 1
    printed = capsys.readouterr().out
    assert "caller  hangs up with 1000 (normal)" in printed
    assert "not well  The agent never spoke" in printed


def test_an_agent_that_fails_is_not_a_good_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the platform's word for it when the agent's handler raises."""

    async def failing(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(1011, "oh")

    with agent_thread(failing) as url:  # not at pace 0: what it never reads would stand before our part of the close
        assert main(["call", url, YES, "--greeting", "0"]) == 1
    assert "agent   hangs up with 1011 (internal error): oh" in capsys.readouterr().out


def test_refusals_are_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """A 401 is one sentence and what to do, on standard error, with its own exit code."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(401, "no")

    with agent_thread(AnsweringAgent(), process_request=refuse) as url:
        assert main(["call", url, YES]) == 4
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
        codes.append(
            main(["call", url, *QUICK, "--id", "42", "--platform", "--platform-port", str(platform_port), YES])
        )

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
        assert main(["call", "ws://localhost:1", "--platform", "--platform-port", port]) == 1
    problem = capsys.readouterr().err
    assert port in problem
    assert "--platform-port" in problem


AGENT = """
import asyncio, sys
from websockets.asyncio.server import serve
from bluejay_ws import current_recorder, record, record_tool

@record_tool
async def freeze_card(last4: str) -> str:
    return f"card {last4} frozen"

async def agent(websocket):
    current_recorder().agent_said("Hello")
    await websocket.send(b"\\x00\\x10" * 16000)
    await freeze_card("4242")
    async for message in websocket:
        if "speech.completed" in str(message):
            break

async def forgets_await(websocket):
    current_recorder().agent_said("Hello")
    await websocket.send(b"\\x00\\x10" * 16000)
    async for message in websocket:
        if "speech.completed" in str(message):
            freeze_card("4242")
            break

async def crash(websocket):
    await websocket.send(b"\\x00\\x10" * 16000)
    raise RuntimeError("broken")

async def main(handler):
    port = int(sys.argv[1]) if sys.argv[1:] else 0
    async with serve(handler, "localhost", port, max_queue=10_000):  # what it never reads is in nobody's way
        print("up", file=sys.stderr)
        await asyncio.get_running_loop().create_future()
"""


def agent_file(path: Path, handler: str) -> str:
    """Write an agent that serves this handler; return the command that starts it."""
    script = path / "agent.py"
    script.write_text(f"{AGENT}\nasyncio.run(main({handler}))\n")
    return f"python {script}"


@pytest.fixture
def real_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the spool of the user, who has a real key too."""
    monkeypatch.setenv("BLUEJAY_SPOOL", str(tmp_path / "real"))
    monkeypatch.setenv("BLUEJAY_API_KEY", "real-key")
    return tmp_path / "real"


def test_one_command_starts_calls_shows_and_stops(
    tmp_path: Path, real_spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an agent's file to its report: its port is found, its spool is its own, and it is gone afterwards."""
    assert main(["call", "--run", agent_file(tmp_path, "record(agent)"), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "calling    ws://127.0.0.1:" in printed
    assert "The report of call local-" in printed
    assert "tool    freeze_card" in printed
    assert not real_spool.exists()


def test_a_script_gets_lines_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Events as they come, the report, and a summary last; nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = str(one.getsockname()[1])
    command = f"{agent_file(tmp_path, 'record(agent)')} {port}"
    assert main(["call", "--json", "--port", port, "--run", command, *QUICK]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [line["type"] for line in lines]
    assert kinds == ["event"] * (len(lines) - 2) + ["report", "summary"]
    assert lines[0]["kind"] == "connected"
    assert lines[-2]["report"]["tool_calls"][0]["name"] == "freeze_card"
    assert lines[-1]["well"] is True


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("agent", "is not under @record"),
        ("crash", "the agent's handler crashed, and no report came"),
    ],
)
def test_an_agent_without_record_is_told_so(
    tmp_path: Path,
    handler: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash is told from a handler that nobody records; the last lines of the agent are shown."""
    monkeypatch.setattr("bluejay_ws.cli.call.REPORT_SECONDS", 0.2)
    assert main(["call", "--run", agent_file(tmp_path, handler), *QUICK]) == 1
    printed = capsys.readouterr()
    assert words in " ".join(printed.err.split())
    assert "The last lines of the agent" in printed.out
    assert ("RuntimeError: broken" in printed.out) is (handler == "crash")


def test_a_handler_that_crashes_under_record_is_told_by_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report comes, and says what the handler ended with."""
    assert main(["call", "--run", agent_file(tmp_path, "record(crash)"), *QUICK]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "The agent's handler ended with RuntimeError" in printed
    assert "CALL_DROPPED" in printed


def test_a_tool_that_did_not_run_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The call went well, and the report lacks the tool: only the agent's log knows that it was to be called."""
    assert main(["call", "--run", agent_file(tmp_path, "record(forgets_await)"), *QUICK]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "RuntimeWarning: coroutine 'freeze_card' was never awaited" in printed
    assert "ended without a tool call although 1 tool is decorated with @record_tool" in printed


def test_a_path_that_is_not_there_is_told_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An agent that refuses the upgrade at "/" listens at a path."""
    script = tmp_path / "agent.py"
    script.write_text(
        "import asyncio\nfrom websockets.asyncio.server import serve\n"
        "async def main():\n"
        "    async with serve(None, '127.0.0.1', 0, process_request=lambda c, r: c.respond(404, 'no')):\n"
        "        await asyncio.sleep(60)\nasyncio.run(main())\n"
    )
    assert main(["call", "--run", f"python {script}"]) == 4
    assert "--path /media" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--run", "python -c 'raise SystemExit(7)'"], 3, "ended before it listened (exit code 7)"),
        (["--run", "no-such-program-here"], 2, "cannot start 'no-such-program-here'"),
        (["--run", "python 'unclosed"], 2, "cannot start"),
        (["ws://localhost:1", "--port", "2"], 2, "both a URL and --port are given"),
        (["ws://localhost:1", "--path", "/a"], 2, "both a URL and --path are given"),
        (["--run", "python -c 'raise SystemExit(7)'", "--html", "/none/page.html"], 2, "cannot write"),
        (["--run", "python -c 'raise SystemExit(7)'", "--html", "/"], 2, "cannot write"),
        ([], 2, "which agent?"),
    ],
)
def test_what_cannot_begin_is_told(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent that ends at once, a command that is none, a contradiction, nothing at all."""
    assert main(["call", *arguments]) == code
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("port", [True, False])
def test_an_agent_at_a_path_is_called_there(
    port: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its port is given or found."""
    monkeypatch.setattr("bluejay_ws.cli.call.REPORT_SECONDS", 0.0)  # it sends none
    script = tmp_path / "agent.py"
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    script.write_text(
        "import asyncio, os\nfrom websockets.asyncio.server import serve\n"
        "def refuse(connection, request):\n"
        "    return None if request.path == '/media' else connection.respond(404, 'no')\n"
        "async def agent(websocket):\n    await websocket.recv()\n"
        "async def main():\n"
        "    async with serve(agent, '127.0.0.1', int(os.environ.get('PORT', 0)), process_request=refuse):\n"
        "        await asyncio.sleep(60)\nasyncio.run(main())\n"
    )
    more = ["--port", str(number)] if port else []
    main(["call", "--run", f"python {script}", "--path", "media", *more, *QUICK, "--seconds", "0"])
    assert "/media" in capsys.readouterr().out


def test_a_port_that_is_taken_already_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else another agent would be called in place of the one that was to be started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["call", "--run", agent_file(tmp_path, "agent"), "--port", port]) == 3
    assert f"something listens at port {port} already" in capsys.readouterr().err


def test_an_agent_that_may_have_a_real_key_is_not_called_by_accident(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes nobody is dialled: what would happen is said, and the ways out."""
    agent = AnsweringAgent()
    with agent_thread(agent) as url:
        assert main(["call", url, *QUICK]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "real API key" in said
    assert "say --yes" in said
    assert agent.headers == []


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 2), ("no", 2)])
def test_a_person_is_asked(
    answer: str, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal a question takes the place of --yes; the answer that does nothing is the default."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    with agent_thread(AnsweringAgent()) as url:
        assert main(["call", url, *QUICK]) == code
    assert "real API key" in " ".join(capsys.readouterr().out.split())


def test_an_agent_that_reports_to_this_machine_is_called_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its process shows that its reports stay here: no question."""
    monkeypatch.setattr("bluejay_ws.cli.call.environment_of", lambda _: {"BLUEJAY_API_URL": "http://127.0.0.1:8766"})
    with agent_thread(AnsweringAgent()) as url:
        assert main(["call", url, *QUICK]) == 0
    assert "hangs up with 1000" in capsys.readouterr().out


def test_a_platform_does_not_call_an_agent_that_reports_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """The agent of this process was started without the variables: that is said before anybody dials."""
    agent = AnsweringAgent()
    with agent_thread(agent) as url:
        assert main(["call", url, *QUICK, "--platform", "--platform-port", "0"]) == 2
    assert "was not started with BLUEJAY_API_URL=" in " ".join(capsys.readouterr().err.split())
    assert agent.headers == []


def test_many_calls_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with one row for each, and one sentence for all of them."""
    command = agent_file(tmp_path, "record(agent)")
    assert main(["call", "--run", command, "-n", "5", *QUICK, "--id", "local-7"]) == 0
    printed = capsys.readouterr().out
    assert sum(line.startswith("local-7-") for line in printed.splitlines()) == 5
    assert "5 of 5 calls went well" in printed


def test_of_many_calls_each_fault_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """With how often it happened; the exit code says that not all went well; scripts get a total."""
    with agent_thread(silent_agent) as url:
        assert main(["call", url, YES, "-n", "3", *QUICK, "--seconds", "0.1"]) == 1
    assert "3 x  The agent never spoke" in " ".join(capsys.readouterr().out.split(" ")).replace("   ", " ").replace(
        "  3 x", "3 x"
    )
    assert main(["call", url, YES, "--json", "-n", "2", *QUICK]) == 1
    *_, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert total == {"type": "total", "calls": 2, "well": 0, "latencies_ms": []}
