"""The bridges to providers: each with a real caller in front and a provider on this machine behind; and their lines."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import DigitalHuman
from tests.examples.test_examples import running

if TYPE_CHECKING:
    from pathlib import Path

PROVIDERS = ("openai", "gemini", "elevenlabs", "deepgram")


def bridged(provider: str, root: Path, spool: Path, all_listen: threading.Barrier) -> Any:
    """Return what a bridge reports of a call."""
    with running(root, spool, f"{provider}_bridge.py") as example:
        all_listen.wait(40)
        human = DigitalHuman(f"ws://localhost:{example.port}", pace=1.0)  # in real time, as positions in audio are
        log = asyncio.run(human.call([tone(500), tone(300)]))
        assert log.heard_ms > 1_000
        return json.loads(example.report().body)


def test_a_bridge_reports_what_both_sides_said(root: Path, tmp_path: Path) -> None:
    """The bridge's loop says nothing to us: texts, the tool with its output and the order come from what passes by.

    All four at once, as their calls take their time.
    """
    all_listen = threading.Barrier(len(PROVIDERS))
    with ThreadPoolExecutor(len(PROVIDERS)) as pool:
        work = {one: pool.submit(bridged, one, root, tmp_path / one, all_listen) for one in PROVIDERS}
    bodies = {provider: one.result() for provider, one in work.items()}
    output = {"last4": "4242", "status": "frozen"}
    for provider, body in bodies.items():
        said = sorted(body["recorded_transcript"], key=lambda one: one["start_offset_ms"])
        assert [one["utterance"] for one in said] == [
            "Hi, I lost my card.",
            "I am sorry to hear that. Shall I freeze it?",
            "Yes, please.",
            "Your card is frozen. Goodbye!",
        ], provider
        tools = [(tool["name"], tool["parameters"], tool["output"]) for tool in body["tool_calls"]]
        assert tools == [("freeze_card", {"last4": "4242"}, output)], provider


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
