"""`bluejay-ws demo`: a whole simulated call on this machine."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from websockets.asyncio.server import serve

from bluejay_ws import Bluejay, record
from bluejay_ws.cli import demo_agent
from bluejay_ws.cli.demo import AGENT, run
from bluejay_ws.cli.terminal import Problem, Terminal
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.testing.virtual_time import VirtualTimeLoop
from tests import nursery

PACE = 0.2  # faster still, a machine that stands still for a moment makes the agent's turn look over
# Agents that misbehave: each is a program that gets the demo's environment and says where it listens.
SERVE = """
import asyncio, json, os, sys, urllib.request
from websockets.asyncio.server import serve

def report(identity):
    body = json.dumps({"simulation_result_id": identity, "tool_calls": [{"name": "t", "start_offset_ms": 1}]}).encode()
    headers = {"X-API-Key": os.environ["BLUEJAY_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["BLUEJAY_API_URL"] + "/v1/update-simulation-result"
    urllib.request.urlopen(urllib.request.Request(url, body, headers)).close()

async def main(handler):
    async with serve(handler, "127.0.0.1", 0, max_queue=10_000) as server:  # what it never reads is in nobody's way
        print(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await asyncio.to_thread(sys.stdin.read)

def identity(websocket):
    return websocket.request.headers["X-Simulation-Result-Id"]
"""
REPORTS_TWICE = (
    SERVE
    + """
async def agent(websocket):
    await websocket.recv()
    await websocket.close(1000)
    report(identity(websocket))
    report(identity(websocket))
asyncio.run(main(agent))
"""
)
BREAKS = (
    SERVE
    + """
async def agent(websocket):
    await websocket.recv()
    report(identity(websocket))
    raise RuntimeError("broken")
asyncio.run(main(agent))
"""
)
DEAF = (
    SERVE
    + """
async def agent(websocket):
    await websocket.recv()
    await websocket.send(b"\\x10\\x10" * 3200)
    await websocket.close(1000)
    report(identity(websocket))
    import time; time.sleep(60)
asyncio.run(main(agent))
"""
)


# Not the agent's last sentence: in a hurry the caller may hang up before it would have been heard. See the next test.
SHOWN = (
    "takes the report",
    "caller  speaks",
    "agent   speaks",
    "hangs up with 1000 (normal)",
    "caller  Hi, I lost my card. It ends in 4242.",
    "caller  Yes, please freeze it.",
    "agent   Good morning, this is the bank. How can I help?",
    "agent   I found your card ending in 4242.",
    "tool    lookup_card",
    "tool    freeze_card",
    'parameters  {"last4": "4242"}',
    '"status": "frozen"',
    "event   Card frozen #card",
    "event   Connection closed",
    "2 tool calls, ",
    "The platform accepted exactly one report for call",
)


def demo(*agent: str, stop_seconds: float = 15.0) -> tuple[int, str]:
    """Run the demo in this process; return its exit code and what it printed."""
    out = io.StringIO()
    greeting = 0.0 if agent else 10.0
    page = {"html": None, "audio": False, "live": False}
    args = argparse.Namespace(pace=PACE, greeting=greeting, agent=agent or AGENT, stop_seconds=stop_seconds, **page)
    code = run(args, Terminal(out, width=80))
    return code, out.getvalue()


def children_of(pid: int) -> list[int]:
    """Return the processes whose parent is ``pid``."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process still runs; one that waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("measured_children")
def test_the_demo_shows_a_call_and_its_accepted_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sentences, both tools, what both sides said, the events, the verdict; and nothing is left behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = children_of(os.getpid())
    code, printed = demo()
    assert code == 0
    assert [words for words in SHOWN if words not in printed] == []
    assert max(map(len, printed.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []
    assert children_of(os.getpid()) == before


def test_all_that_the_demo_agent_says_and_understands_is_in_its_report(tmp_path: Path) -> None:
    """At the pace of life, in virtual time: five utterances in the order in which they were heard."""

    async def main(bluejay: Bluejay) -> None:
        bluejay.clock = asyncio.get_running_loop().clock_ns  # type: ignore[attr-defined]
        async with serve(record(demo_agent.agent, client=bluejay), "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            await DigitalHuman(f"ws://127.0.0.1:{port}").call(greeting=10.0)

    with FakePlatform() as platform:
        bluejay = Bluejay(platform.api_key, base_url=platform.url, spool=tmp_path)
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(main(bluejay))
        bluejay.close()
        (accepted,) = platform.accepted
    assert [(said["speaker"], said["utterance"]) for said in accepted.transcript] == [
        ("AGENT", "Good morning, this is the bank. How can I help?"),
        ("USER", "Hi, I lost my card. It ends in 4242."),
        ("AGENT", "I found your card ending in 4242. Shall I freeze it, or order a new one?"),
        ("USER", "Yes, please freeze it."),
        ("AGENT", "Done. Your card is frozen, and a new one is coming."),
    ]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit('no port is free')", "no port is free"),
        ("print('ready')", "it said nothing about it"),
        ("", "it said nothing about it"),
    ],
)
def test_an_agent_that_does_not_start_is_told_with_its_last_words(program: str, words: str) -> None:
    """What the agent wrote last on standard error is what a person gets to see."""
    with pytest.raises(Problem, match="agent did not start") as caught:
        demo("-c", program)
    assert words in caught.value.remedy


def test_a_second_report_for_the_call_is_a_failure() -> None:
    """Exactly one report is the promise; two are not shown as success."""
    with pytest.raises(Problem, match="exactly one report: 2 accepted, 0 rejected, 0 errors"):
        demo("-c", REPORTS_TWICE)


def test_a_call_that_the_agent_broke_exits_with_one() -> None:
    """The report came, but the call was no good."""
    code, printed = demo("-c", BREAKS)
    assert code == 1
    assert "CALL_DROPPED" in printed


def test_an_agent_that_does_not_stop_is_killed() -> None:
    """An agent that ignores the end of its input does not keep the demo, nor outlives it."""
    before = children_of(os.getpid())
    code, _ = demo("-c", DEAF, stop_seconds=0.1)
    assert code == 0
    assert children_of(os.getpid()) == before


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_agent_outlives_the_demo(end: signal.Signals, root: Path, tmp_path: Path) -> None:
    """However the demo ends, its agent ends with it; Ctrl-C ends it without a traceback."""
    command = [sys.executable, "-m", "bluejay_ws", "demo"]
    pipe = subprocess.PIPE
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # where the one that is killed leaves its spool
    with nursery.start(command, cwd=root, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdout is not None
        while "agent   speaks" not in process.stdout.readline():
            pass
        (agent,) = children_of(process.pid)
        process.send_signal(end)
        _, problems = process.communicate(timeout=30)
    if end == signal.SIGINT:
        assert (process.returncode, problems) == (130, "\nstopped\n")
    deadline = time.monotonic() + 20
    while is_alive(agent):
        assert time.monotonic() < deadline
        time.sleep(0.02)
