"""Each example, run by its one command, called as Bluejay calls, and stopped as containers are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.platform import FakePlatform
from tests import nursery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bluejay_ws.testing.caller import CallLog
    from bluejay_ws.testing.platform import AcceptedReport


DONE = "Your card is frozen. Goodbye!"


@dataclass
class Example:
    """A running example and the platform that it reports to."""

    process: subprocess.Popen[str]
    platform: FakePlatform
    port: int

    def call(
        self,
        identity: str | None = "720488",
        *,
        path: str = "",
        says: Sequence[int] = (500, 300),
        pace: float = 0.05,
        **options: Any,
    ) -> CallLog:
        """Call it, with utterances of so many milliseconds."""
        url = f"ws://localhost:{self.port}{path}"
        human = DigitalHuman(url, identity, pace=pace, reaction=1.0 / pace)  # real seconds: agents may be held up
        return asyncio.run(human.call([tone(duration) for duration in says], **options))

    def calls(self, **options: Any) -> CallLog:
        """Call it as production does and as a simulation, both at once; return what the simulation's caller saw."""
        asyncio.run(anyio.sleep(0))  # old versions cannot be imported by two threads at once
        with ThreadPoolExecutor(2) as callers:
            logs = list(callers.map(lambda identity: self.call(identity, **options), (None, "720488")))
        assert all(log.heard_ms > 0 for log in logs)  # answered alike
        return logs[1]

    def report(self) -> AcceptedReport:
        """Return the one report of the call, after stopping the example as containers are stopped."""
        self.process.send_signal(signal.SIGTERM)
        _, problems = self.process.communicate(timeout=30)
        assert (self.process.returncode, problems) == (0, "")
        (report,) = self.platform.accepted
        return report


@contextlib.contextmanager
def running(root: Path, spool: Path, name: str) -> Iterator[Example]:
    """Run an example on a free port."""
    with FakePlatform() as platform:
        reporting = {"BLUEJAY_API_URL": platform.url, "BLUEJAY_API_KEY": platform.api_key, "BLUEJAY_SPOOL": str(spool)}
        process = nursery.start(
            [sys.executable, f"examples/{name}", "0"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), **reporting},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline().removeprefix("listening on port "))
                yield Example(process, platform, port)
            finally:
                process.kill()


def begins(said: list[str], *whole: str) -> bool:
    """Whether these sentences were said, each as far as a hurried caller lets the agent's clock know.

    What was heard of them is asserted in `test_examples_heard`, in virtual time.
    """
    return len(said) == len(whole) and all(
        text.startswith(part.removesuffix("…")) for part, text in zip(said, whole, strict=True)
    )


def said_by(speaker: str, report: AcceptedReport) -> list[str]:
    """Return what one side said, in order."""
    return [said["utterance"] for said in report.transcript if said["speaker"] == speaker]


def test_the_websockets_agent_reports_what_was_said_and_which_tools_it_called(root: Path, tmp_path: Path) -> None:
    """Two utterances give two tools with parameters and outputs, and both sides' words. A health check is no call."""
    with running(root, tmp_path, "websockets_agent.py") as example:
        with urllib.request.urlopen(f"http://localhost:{example.port}/health") as answer:
            assert answer.status == 200
        example.calls()
        report = example.report()
    assert [(call["name"], call["parameters"], call["output"]["status"]) for call in report.tool_calls] == [
        ("lookup_card", {"last4": "4242"}, "active"),
        ("freeze_card", {"last4": "4242"}, "frozen"),
    ]
    assert said_by("USER", report) == ["Hi, I lost my card. It ends in 4242.", "Yes, please freeze it."]
    assert begins(said_by("AGENT", report), "I found the card ending in 4242. Shall I freeze it?", DONE)


def test_an_existing_agent_is_recorded_without_being_touched(root: Path, tmp_path: Path) -> None:
    """The wrapping script reports the tool and the sentences of an agent that knows nothing of it."""
    with running(root, tmp_path, "wrap_existing_agent.py") as example:
        example.calls(pace=1.0)  # a machine that stands still for a moment makes a hurried call look like a real one
        report = example.report()
    assert [(call["name"], call["parameters"], call["output"]) for call in report.tool_calls] == [
        ("order_status", {"number": "7"}, "on its way")
    ]
    assert said_by("AGENT", report) == ["Your order is on its way.", "Goodbye."]
    assert "bluejay" not in (root / "examples" / "existing_agent.py").read_text().partition('"""\n\n')[2]


def test_the_existing_agent_runs_on_its_own(root: Path, tmp_path: Path) -> None:
    """What is wrapped works without the wrapping, and reports nothing."""
    with running(root, tmp_path, "existing_agent.py") as example:
        log = example.call()
        example.process.send_signal(signal.SIGINT)
        assert example.process.communicate(timeout=30)[1] == ""
        assert example.platform.requests == []
    assert log.close_code == 1000
    assert log.heard_ms > 0


def test_the_threaded_agent_reports_from_its_threads(root: Path, tmp_path: Path) -> None:
    """Tools, sentences and events recorded on a connection's thread are those of its call."""
    with running(root, tmp_path, "threaded_agent.py") as example:
        example.calls(greeting=10)
        report = example.report()
    assert [(call["name"], call["output"]["table"]) for call in report.tool_calls] == [("book_table", 10)] * 2
    assert begins(said_by("AGENT", report), "Hello!", "Table 10 is yours.", "Table 10 is yours.")
    assert "Greeting" in [event["title"] for event in report.events]
