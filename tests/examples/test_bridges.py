"""The bridges to providers: each with a real caller in front and a provider on this machine behind; and their lines."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
from typing import TYPE_CHECKING

import bridge
import pytest
from websockets.asyncio.server import serve

from bluejay_ws import Bluejay, client
from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.testing.providers import FakeProvider
from bluejay_ws.testing.virtual_time import VirtualTimeLoop
from tests.examples.test_examples import running
from tests.support import report_of

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.testing.caller import CallLog

PROVIDERS = ("openai", "gemini", "elevenlabs", "deepgram")
FROZEN = [("freeze_card", {"last4": "4242"}, {"last4": "4242", "status": "frozen"})]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_bridge_reports_what_both_sides_said(provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge's loop says nothing to us: texts, the tool with its output and the order come from what passes by."""
    agent = importlib.import_module(f"{provider}_bridge").agent

    async def main(bluejay: Bluejay) -> CallLog:
        bluejay.clock = asyncio.get_running_loop().clock_ns  # type: ignore[attr-defined]
        async with FakeProvider(provider, bridge.SCRIPT) as fake, serve(agent, "127.0.0.1", 0) as server:
            monkeypatch.setattr(bridge, "address", fake.url)
            human = DigitalHuman(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
            return await human.call([tone(500), tone(300)])

    with FakePlatform() as platform, Bluejay(platform.api_key, base_url=platform.url, spool=tmp_path) as bluejay:
        monkeypatch.setattr(client, "_default", bluejay)
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            log = runner.run(main(bluejay))
        report = report_of(platform)
    assert log.heard_ms > 1_000
    said = sorted(report.transcript, key=lambda one: one["start_offset_ms"])
    assert [one["utterance"] for one in said] == [
        "Hi, I lost my card.",
        "I am sorry to hear that. Shall I freeze it?",
        "Yes, please.",
        "Your card is frozen. Goodbye!",
    ]
    assert [(tool["name"], tool["parameters"], tool["output"]) for tool in report.tool_calls] == FROZEN


def test_a_bridge_serves_until_it_is_told_to_end(root: Path, tmp_path: Path) -> None:
    """As its first lines say it is started: with a provider of its own."""
    with running(root, tmp_path, "gemini_bridge.py") as example:
        assert example.call().heard_ms > 1_000
        report = example.report()
    assert [(tool["name"], tool["parameters"], tool["output"]) for tool in report.tool_calls] == FROZEN


def lines_of_ours(path: Path) -> set[int]:
    """Return which lines at the call site use anything of bluejay_ws; imports are not at the call site."""
    tree = ast.parse(path.read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {
        one.asname or one.name for node in imports if (node.module or "").startswith("bluejay_ws") for one in node.names
    }
    return {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in ours}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_table_in_the_docs_counts_the_lines_of_the_examples(provider: str, pytestconfig: pytest.Config) -> None:
    """At most three lines for each provider, and the page says how many."""
    path = pytestconfig.rootpath / "examples" / f"{provider}_bridge.py"
    lines, text = lines_of_ours(path), path.read_text("utf-8").splitlines()
    assert {number for number, line in enumerate(text, 1) if "# <--" in line and "import" not in line} == lines
    page = (pytestconfig.rootpath / "docs" / "providers.md").read_text("utf-8")
    row = re.search(rf"^\| .*\| \[examples/{provider}_bridge.py\]\(.*\) \| (\d+) \|$", page, re.MULTILINE)
    assert row is not None
    assert len(lines) == int(row[1]) <= 3
