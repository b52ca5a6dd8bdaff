"""The bridges to providers: each with a real caller in front and a provider on this machine behind; and their lines."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import DigitalHuman
from tests.examples.test_examples import running

if TYPE_CHECKING:
    from pathlib import Path

PROVIDERS = ("openai", "gemini", "elevenlabs", "deepgram")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_bridge_reports_what_both_sides_said(provider: str, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """The bridge's loop says nothing to us: texts, the tool with its output and the order come from what passes by."""
    with running(pytestconfig.rootpath, tmp_path, f"{provider}_bridge.py") as example:
        human = DigitalHuman(f"ws://localhost:{example.port}", pace=1.0)  # in real time, as positions in audio are
        log = asyncio.run(human.call([tone(500), tone(300)]))
        assert log.heard_ms > 1_000
        body = json.loads(example.report().body)
    said = sorted(body["recorded_transcript"], key=lambda one: one["start_offset_ms"])
    assert [one["utterance"] for one in said] == [
        "Hi, I lost my card.",
        "I am sorry to hear that. Shall I freeze it?",
        "Yes, please.",
        "Your card is frozen. Goodbye!",
    ]
    (tool,) = body["tool_calls"]
    output = {"last4": "4242", "status": "frozen"}
    assert (tool["name"], tool["parameters"], tool["output"]) == ("freeze_card", {"last4": "4242"}, output)


def marked_lines(path: Path) -> int:
    """Return how many lines at the call site concern bluejay_ws; imports are not at the call site."""
    lines = path.read_text("utf-8").splitlines()
    return sum(line.endswith("# <--") and not line.startswith(("from", "import")) for line in lines)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_table_in_the_docs_counts_the_lines_of_the_examples(provider: str, pytestconfig: pytest.Config) -> None:
    """At most three lines for each provider, and the page says how many."""
    lines = marked_lines(pytestconfig.rootpath / "examples" / f"{provider}_bridge.py")
    page = (pytestconfig.rootpath / "docs" / "providers.md").read_text("utf-8")
    row = re.search(rf"^\| .*\| \[examples/{provider}_bridge.py\]\(.*\) \| (\d+) \|$", page, re.MULTILINE)
    assert row is not None
    assert lines == int(row[1]) <= 3
