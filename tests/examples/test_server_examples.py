"""The examples for other server families, run by their one command and called as Bluejay, or a carrier, calls."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import DigitalHuman
from tests.examples.test_examples import Example, running
from tests.servers.behaviours import HAS_TRIO

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.testing.platform import AcceptedReport


def called(example: Example, path: str) -> AcceptedReport:
    """Call an example twice, as production and as a simulation, stop it, and return the one report."""
    example.calls(path=path, says=[300])
    example.process.send_signal(signal.SIGTERM)
    _, problems = example.process.communicate(timeout=30)
    assert problems == ""
    assert example.process.returncode in {0, -signal.SIGTERM}  # uvicorn raises the signal again
    (report,) = example.platform.accepted
    assert report.simulation_result_id == "720488"
    assert next(event for event in report.events if event["title"] == "Connection closed")
    return report


@pytest.mark.parametrize(
    ("name", "path", "tool", "parameters", "output", "words"),
    [
        ("fastapi_agent.py", "/agent/Bonn", "opening_hours", {"branch": "Bonn"}, "Bonn: nine to five", "Bonn: nine"),
        ("asgi_agent.py", "", "greet", {"politely": True}, "Good day!", "Good day!"),
        ("aiohttp_agent.py", "/agent", "balance", {"account": "DE42"}, 4, "You have 4 euros."),
        pytest.param(
            *("trio_agent.py", "", "weather", {"city": "Lisbon"}, "sunny in Lisbon", "sunny in Lisbon"),
            marks=pytest.mark.skipif(not HAS_TRIO, reason="this release of websockets has no trio server"),
        ),
    ],
)
def test_the_example_of_a_server_family_reports_its_call(
    name: str, path: str, tool: str, parameters: object, output: object, words: str, root: Path, tmp_path: Path
) -> None:
    """One command serves it; a simulated call ends in one report with the tool call and what was said."""
    with running(root, tmp_path, name) as example:
        report = called(example, path)
    assert [(call["name"], call["parameters"], call["output"]) for call in report.tool_calls] == [
        (tool, parameters, output)
    ]
    assert any(said["utterance"].startswith(words) for said in report.transcript)


@pytest.mark.parametrize(
    "framework",
    ["litestar", "quart", "sanic", "channels"],
)
def test_the_example_of_a_framework_reports_its_call(framework: str, root: Path, tmp_path: Path) -> None:
    """With the real framework; it comes with the extra `frameworks`."""
    pytest.importorskip(framework)
    with running(root, tmp_path, f"{framework}_agent.py") as example:
        report = called(example, "/agent")
    assert [(call["name"], call["parameters"]) for call in report.tool_calls] == [("table", {"guests": 2})]
    assert [said["utterance"] for said in report.transcript] == ["A table for 2 is yours."]


async def _stream(port: int) -> None:
    start = {"callSid": "CA123", "customParameters": {"X-Simulation-Result-Id": "720488"}}
    messages = (
        {"event": "connected"},
        {"event": "start", "streamSid": "MZ1", "start": start},
        {"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": "1"}},
        {"event": "stop", "streamSid": "MZ1"},
    )
    async with connect(f"ws://localhost:{port}") as carrier:
        for message in messages:
            await carrier.send(json.dumps(message))
        await carrier.wait_closed()


def test_the_telephony_example_takes_the_id_from_the_carriers_messages(root: Path, tmp_path: Path) -> None:
    """Without the header, the id in `start.customParameters` names the call."""
    with running(root, tmp_path, "telephony_agent.py") as example:
        asyncio.run(_stream(example.port))
        report = example.report()
    assert report.simulation_result_id == "720488"
    assert [call["output"] for call in report.tool_calls] == ["Cards is on the line"]
    assert [said["utterance"] for said in report.transcript if said["speaker"] == "USER"] == ["pressed 1"]


async def _press_a_key(port: int) -> None:
    human = DigitalHuman(f"ws://localhost:{port}", "local-1", protocol="twilio", pace=0.2)
    async with human.dial() as line:
        assert await line.listen(patience=10.0)  # the greeting
        heard = line.log.frames_received
        await line.press("1", tone(100))
        while line.log.frames_received == heard:  # what it says to the key: it would fail to say it to nobody
            await asyncio.sleep(0.01)


def test_the_telephony_example_is_heard(root: Path, tmp_path: Path) -> None:
    """It greets a caller, and answers a key, in mu-law inside JSON."""
    with running(root, tmp_path, "telephony_agent.py") as example:
        asyncio.run(_press_a_key(example.port))
        report = example.report()
    assert report.transcript[0]["utterance"].startswith("Welcome.")  # a hurried caller hears less of it
    assert [call["output"] for call in report.tool_calls] == ["Cards is on the line"]
