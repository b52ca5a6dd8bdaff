"""The reports of three examples beside what their caller measured, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from websockets.asyncio.server import serve

from bluejay_ws import Bluejay, client
from bluejay_ws.testing.audio import voice
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.testing.spans import barge_ins, latencies
from bluejay_ws.testing.virtual_time import VirtualTimeLoop
from tests.hearing_matrix.test_families import assert_near, events_of, spans_of
from tests.servers.asgi_server import uvicorn_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bluejay_ws.testing.caller import CallLog
    from bluejay_ws.testing.platform import AcceptedReport


@contextlib.asynccontextmanager
async def on_websockets(example: Any) -> AsyncIterator[str]:
    """Serve the example's handler."""
    async with serve(example.agent, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@contextlib.asynccontextmanager
async def on_uvicorn(example: Any) -> AsyncIterator[str]:
    """Serve the example's app."""
    async with uvicorn_server(example.app) as url:
        yield f"{url}/agent/Bonn"


@contextlib.asynccontextmanager
async def on_aiohttp(example: Any) -> AsyncIterator[str]:
    """Serve the example's app."""
    runner = web.AppRunner(example.app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"ws://127.0.0.1:{runner.addresses[0][1]}/agent"
    await runner.cleanup()


def heard(
    name: str, serving: Any, root: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, says: list[bytes], **options: Any
) -> tuple[CallLog, AcceptedReport]:
    """Call an example in virtual time; return what the caller saw, and the report."""
    spec = importlib.util.spec_from_file_location(name, root / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, example)
    spec.loader.exec_module(example)

    async def main(bluejay: Bluejay) -> CallLog:
        bluejay.clock = asyncio.get_running_loop().clock_ns  # type: ignore[attr-defined]
        async with serving(example) as url:
            return await DigitalHuman(url, skew_ms=0.0).call(says, **options)

    with FakePlatform() as platform:
        bluejay = Bluejay(platform.api_key, base_url=platform.url, spool=spool)
        monkeypatch.setattr(client, "_default", bluejay)
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            log = runner.run(main(bluejay))
        bluejay.close()
        (accepted,) = platform.accepted
    return log, accepted


@pytest.mark.parametrize(
    ("name", "serving", "users", "last_words"),
    [
        ("websockets_agent", on_websockets, 2, "Your card is frozen. Goodbye!"),
        ("fastapi_agent", on_uvicorn, 2, "Bonn: nine to five"),
        ("aiohttp_agent", on_aiohttp, 0, "You have 4 euros."),
    ],
)
def test_the_report_of_an_example_says_what_its_caller_measured(
    name: str, serving: Any, users: int, last_words: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was heard when, who interrupted, and how long the caller waited; one of the three hears no words."""
    log, accepted = heard(name, serving, root, tmp_path, monkeypatch, [voice(1_200), voice(800)])
    report = accepted.report
    assert accepted.transcript[-1]["utterance"].startswith(last_words)
    assert len(log.user_spans) == len(log.agent_spans) == 2
    assert_near(spans_of(report, "AGENT"), log.agent_spans, 25)
    assert_near(spans_of(report, "USER"), log.user_spans[:users], 50)
    assert_near(events_of(report, "Response latency"), latencies(log.user_spans, log.agent_spans), 50)
    assert_near(events_of(report, "Caller interrupted the agent"), barge_ins(log.user_spans, log.agent_spans), 50)


def test_the_websockets_agent_falls_silent_when_it_is_interrupted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who barges in is not spoken over: the answer breaks off. The mark of the next one comes back."""
    says = [voice(1_200), voice(800)]
    log, _ = heard("websockets_agent", on_websockets, root, tmp_path, monkeypatch, says, barge_in_ms=20)
    assert len(log.of("barge_in")) == 1
    assert len(log.of("agent.speech.started")) == 2
    assert len(log.of("agent.speech.completed")) == 1
    assert len(log.of("mark.echoed")) == 1
