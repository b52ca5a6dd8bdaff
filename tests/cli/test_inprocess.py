"""`bluejay-ws check --app`: agents in this process, in virtual time."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bluejay_ws import client
from bluejay_ws.cli import main
from bluejay_ws.testing.audio import voice, write_wav

if TYPE_CHECKING:
    from collections.abc import Iterator

LATENCY_MS = 700
COMMON = f"""\
import asyncio, json, sys, time
from time import monotonic
import bluejay_ws
from bluejay_ws import current_recorder, record, record_tool
from bluejay_ws.testing.audio import frames, voice

VOICE = voice(2_000)

@record_tool
async def book_table(people: int) -> dict:
    return {{"booked": True}}

tasks = set()

def begin(send):
    tasks.add(asyncio.create_task(answer(send)))

async def answer(send):
    current_recorder().user_said("A table, please.")
    await asyncio.sleep(0.2 + {LATENCY_MS / 1000})  # speech.completed comes 200 ms early
    await book_table(people=4)
    current_recorder().agent_said("It is booked.")
    due = monotonic()
    for frame in frames(VOICE):
        await send(frame)
        due += 0.02
        await asyncio.sleep(due - time.monotonic())

def over(message) -> bool:
    return isinstance(message, str) and json.loads(message)["type"] == "speech.completed"
"""
AGENTS = {
    "handler": """
@record
async def agent(websocket):
    async for message in websocket:
        if over(message):
            begin(websocket.send)
""",
    "own_client": """
bluejay = bluejay_ws.Bluejay()

@record(client=bluejay)
async def agent(websocket):
    async for message in websocket:
        if over(message):
            begin(websocket.send)
""",
    "starlette": """
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

@record
async def endpoint(websocket):
    await websocket.accept()
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        if over(message.get("text")):
            begin(websocket.send_bytes)

agent = Starlette(routes=[WebSocketRoute("/media", endpoint)])
""",
    "aiohttp": """
from aiohttp import web

@record
async def endpoint(request):
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if over(message.data):
            begin(websocket.send_bytes)
    return websocket

agent = web.Application()
agent.router.add_get("/media", endpoint)
""",
}
SCENARIO = """\
name: Books {name}
steps: [{steps}]
expect:
  tools: [{{name: book_table, times: {times}}}]
  agent_says: [booked]
  latency_p95: 0.8
  close: 1000
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a working directory whose modules can be imported, and forget them afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    write_wav(tmp_path / "order.wav", voice(1_500))
    for name, text in AGENTS.items():
        (tmp_path / f"{name}_agent.py").write_text(COMMON + text)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.endswith("_agent"):
            del sys.modules[name]


def scenario(directory: Path, name: str = "a table", turns: int = 2) -> str:
    """Return the file of a scenario of so many turns."""
    path = directory / "scenario.yaml"
    steps = ", ".join(["{play: order.wav}"] * turns)
    path.write_text(SCENARIO.format(name=name, steps=steps, times=turns))
    return str(path)


@pytest.mark.parametrize("name", list(AGENTS))
def test_an_agent_of_this_process_is_called_in_virtual_time(
    directory: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Whatever serves it. The latency is the agent's, to the frame, though its pacing asks `time` for the time."""
    path = ["--path", "media"] if name in {"starlette", "aiohttp"} else []
    before = dict(os.environ), client._default, client.Bluejay._seam
    assert main(["check", scenario(directory), "--app", f"{name}_agent:agent", *path, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert run["latency_p95_ms"] == pytest.approx(LATENCY_MS, abs=41)
    assert run["duration_ms"] > 8_000
    assert (dict(os.environ), client._default, client.Bluejay._seam) == before
    assert sys.modules[f"{name}_agent"].time is time


def test_an_agent_may_ask_for_credentials(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As Bluejay gives them; without them `check` says how to give them."""
    guarded = """
import base64
WANTED = b"Basic " + base64.b64encode(b"bluejay:secret")
inner = agent
async def guarded(scope, receive, send):
    if dict(scope["headers"]).get(b"authorization") == WANTED:
        return await inner(scope, receive, send)
    await receive()
    await send({"type": "websocket.close"})
async def agent(scope, receive, send):
    await (guarded if scope["type"] == "websocket" else inner)(scope, receive, send)
"""
    (directory / "guarded_agent.py").write_text(COMMON + AGENTS["starlette"] + guarded)
    arguments = ["check", scenario(directory, turns=1), "--app", "guarded_agent:agent", "--path", "media"]
    assert main([*arguments, "--user", "bluejay", "--password", "secret"]) == 0
    assert main(arguments) == 2
    assert "the agent refuses the connection (HTTP 403 at the upgrade)" in capsys.readouterr().err


def test_nobody_waits_for_long_calls(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calls at once do not wait for each other either, and one's report makes no time real for the others."""
    began = time.monotonic()
    short = Path(scenario(directory, "soon", turns=1)).rename(directory / "short.yaml")
    files = [str(short), scenario(directory, turns=3)]
    assert main(["check", *files, "--app", "handler_agent:agent", "--repeat", "2", "-n", "4", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert sum(run["duration_ms"] for run in runs) > 30_000
    assert {run["caller_late_p99_ms"] for run in runs} == {0.0}
    assert time.monotonic() - began < 30


def test_time_can_be_real(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For agents with threads that keep time themselves."""
    path = directory / "short.yaml"
    path.write_text("{name: x, steps: [silence: 0.3], caller: {greeting: 0}}")
    began = time.monotonic()
    assert main(["check", str(path), "--app", "handler_agent:agent", "--time", "real", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert time.monotonic() - began > run["duration_ms"] / 1000 >= 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--app", "handler_agent"], "--app is 'handler_agent'"),
        (["--app", "no_such_agent:agent"], "cannot import 'no_such_agent': ModuleNotFoundError"),
        (["--app", "running_agent:agent"], 'put that below: if __name__ == "__main__":'),
        (["--app", "ending_agent:agent"], "cannot import 'ending_agent': SystemExit: 3 if it runs something"),
        (["--app", "handler_agent:no.such"], "'handler_agent' has no 'no.such'"),
        (["--app", "handler_agent:VOICE"], "'handler_agent:VOICE' cannot be served"),
        (["--app", "handler_agent:json.dumps"], "'handler_agent:json.dumps' cannot be served"),
        (["--app", "handler_agent:agent", "--url", "ws://x"], "which agent?"),
        (["--app", "handler_agent:agent", "--path", "/x/"], None),
        (["--run", "x", "--time", "virtual"], "another process"),
        (["--url", "ws://x", "--path", "y"], "write the path into the URL"),
        (["--app", "broken_agent:agent"], "'broken_agent:agent' did not start: its lifespan failed"),
    ],
)
def test_what_cannot_be_hosted_is_named(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str | None
) -> None:
    """With the way out; a path is whatever the agent makes of it."""
    broken = "async def agent(scope, receive, send):\n    raise RuntimeError(scope['type'])\n"
    (directory / "running_agent.py").write_text(
        "import asyncio\nmain = asyncio.sleep(0)\ntry:\n    asyncio.run(main)\nfinally:\n    main.close()\n"
    )
    (directory / "ending_agent.py").write_text("raise SystemExit(3)\n")
    lifespan = "await receive(); await send({'type': 'lifespan.startup.failed', 'message': 'no'})"
    (directory / "broken_agent.py").write_text(broken.replace("raise RuntimeError(scope['type'])", lifespan))
    code = main(["check", scenario(directory, turns=1), *arguments])
    assert code == (2 if words else 0)
    assert (words or "") in " ".join(capsys.readouterr().err.split())


def test_an_application_without_its_server_names_it(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASGI applications need uvicorn."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["check", scenario(directory), "--app", "starlette_agent:agent"]) == 2
    assert "pip install uvicorn" in capsys.readouterr().err
