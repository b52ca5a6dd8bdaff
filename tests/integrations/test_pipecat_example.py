"""The Pipecat example, run by its one command and called as Bluejay calls."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import DigitalHuman
from tests.examples.test_examples import running

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'bluejay_ws[pipecat]'")


def test_the_pipecat_example_reports_its_call(root: Path, tmp_path: Path) -> None:
    """One command serves it; a simulated call ends in one report with the tool call and what was said."""
    with running(root, tmp_path, "pipecat_agent.py") as example:
        human = DigitalHuman(f"ws://localhost:{example.port}/agent", "720488", skew_ms=0)
        assert asyncio.run(human.call([tone(200)])).heard_ms > 0
        (report,) = example.platform.wait_for(1)
        example.process.send_signal(signal.SIGTERM)
        example.process.communicate(timeout=30)
    assert [(call["name"], call["output"]) for call in report.tool_calls] == [("track", "on its way")]
    assert [said["utterance"] for said in report.transcript] == ["Where is my parcel?", "Your parcel is on its way."]
