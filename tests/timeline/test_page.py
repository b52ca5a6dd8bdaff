"""The page as a file: one, self-contained, small, and safe whatever a report says. How it behaves: test_browser.py."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from array import array
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from bluejay_ws.timeline.page import MODULES, render, view, write_page
from bluejay_ws.timeline.sound import Sound, join
from tests.timeline.samples import HOSTILE, good, long, slow_tool

if TYPE_CHECKING:
    from pathlib import Path

TONE = array("h", [8_000, -8_000] * 160).tobytes()  # 20 ms


class Scripts(HTMLParser):
    """Collect a page's scripts, styles and policy as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.policy = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert "src" not in given, f"{tag} loads something"
        assert "href" not in given, f"{tag} leads somewhere"
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self._inside = f"{tag} {given.get('type', '')}".strip() if tag in ("script", "style") else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append((self._inside, data))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def data_of(page: str) -> Any:
    """Return the data that a page holds."""
    (text,) = [text for kind, text in Scripts(page).found if kind == "script application/json"]
    return json.loads(text)


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    """No source, no link; the policy names the checksums of the one script and the one style."""
    scripts = Scripts(render(slow_tool()))
    assert [kind for kind, _ in scripts.found] == ["style", "script application/json", "script"]
    for kind, text in scripts.found:
        checksum = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert (f"sha256-{checksum}" in scripts.policy) == (kind != "script application/json")
    assert "default-src 'none'" in scripts.policy
    assert "connect-src 'none'" in scripts.policy
    assert "http:" not in scripts.policy


def test_nothing_in_a_report_can_leave_its_place() -> None:
    """Markup in names, texts, outputs and ids stays text; what has no UTF-8 does not stop the page."""
    report = slow_tool() | {"simulation_result_id": HOSTILE, "tags": [HOSTILE]}
    report["tool_calls"][0] |= {"name": HOSTILE, "output": {HOSTILE: HOSTILE + "\u2028\ud800"}}
    page = render(report)
    assert len(Scripts(page).found) == 3
    assert "<img" not in page
    assert data_of(page)["call"]["id"] == HOSTILE
    assert "{{" not in render({"simulation_result_id": "x"}).split("<script")[0]
    assert data_of(render({"simulation_result_id": "{{script}}"}))["call"]["id"] == "{{script}}"


def test_a_call_of_five_hundred_items_stays_under_300_kb() -> None:
    """The page itself is about 60 kB; what is said and done comes on top."""
    assert len(render({}).encode()) < 80_000
    assert len(render(long(500)).encode()) < 300_000


def test_the_page_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    """A file, as UTF-8, that replaces what was there."""
    expected = {"book_table": [{"parameters": {"table": 9}}]}
    path = write_page(good(), tmp_path / "page.html", against=slow_tool(), expected=expected)
    assert path.read_text("utf-8").startswith("<!doctype html>")
    call = data_of(path.read_text("utf-8"))["call"]
    assert call["against"]["id"] == "720488"
    assert call["tools"] == [
        {"name": "book_table", "expected": 1, "actual": 1, "differs": True},
        {"name": "find_table", "expected": 0, "actual": 1, "differs": False},
    ]
    assert [one["level"] for one in call["differences"]] == []


def test_the_page_s_data_says_what_the_report_says() -> None:
    """Items, figures, waits, what belongs to the call, and the report's own way."""
    shown = view(slow_tool(), delivery={"state": "delivered"}, threshold_ms=500)
    assert shown["level"] == "bad"
    assert shown["delivery"] == {"state": "delivered"}
    assert dict(shown["figures"]) == {
        "Length": "28 s",
        "Answers, p50": "0.8 s",
        "Answers, p95": "9.3 s",
        "Interruptions": "0",
        "Tool calls": "2, 1 failed",
        "Errors": "0",
    }
    assert shown["latency"]["threshold"] == 500
    assert shown["about"]["tags"] == ["v2.3"]
    assert [item["p"] for item in shown["items"] if "p" in item] == ["failed: TimeoutError: no answer in 8 s"]
    assert dict(view({})["figures"])["Answers, p50"] == "-"


def test_every_module_of_the_script_is_in_the_page() -> None:
    """No import is left over, and what a module uses of another is exported there."""
    (script,) = [text for kind, text in Scripts(render({})).found if kind == "script"]
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    for name in MODULES:
        (exports,) = re.findall(
            rf"modules\.{name} = \(\(\) => .*?\nreturn \{{ (.*?) \}};\n\}}\)\(\);", script, re.DOTALL
        )
        used = re.findall(rf"const \{{([^}}]*)\}} = modules\.{name};", script)
        wanted = {word.strip() for words in used for word in words.split(",") if word.strip()}
        assert wanted <= set(exports.split(", "))


def test_sound_is_kept_only_where_it_is_asked_for() -> None:
    """Levels always; the samples, as mu-law, for a reader who wanted to listen."""
    pieces = [(100.0, TONE), (120.0, TONE), (140.0, bytes(640)), (900.0, TONE + b"\x01"), (2_000.0, b"")]
    quiet = view(good(), sound=Sound(caller=pieces, agent=[]))["sound"]
    first, second = quiet["caller"]
    assert (first["start"], second["start"]) == (100.0, 900.0)
    assert list(base64.b64decode(first["levels"])) == [62, 62]
    assert "sound" not in first
    assert quiet["agent"] == []
    loud = view(good(), sound=Sound(caller=pieces, agent=[], playable=True))["sound"]
    assert len(base64.b64decode(loud["caller"][0]["sound"])) == 640


def test_mu_law_is_what_g_711_says() -> None:
    """Known pairs of the standard's table: silence, full scale, and a value between."""
    samples = array("h", [20_000, 0, 1_000, -1_000, 32_767, -32_768])
    run = Sound(caller=[(0.0, samples.tobytes())], agent=[], playable=True).to_page()["caller"][0]
    assert list(base64.b64decode(run["sound"])) == [0x8C, 0xFF, 0xCE, 0x4E, 0x80, 0x00]


def test_pieces_that_follow_each_other_are_one_run() -> None:
    """A short pause is filled with silence, so that what follows stays in its place."""
    ((start, pcm),) = join([(60.0, TONE), (0.0, TONE)])
    assert start == 0.0
    assert pcm == TONE + bytes(40 * 32) + TONE


def test_numbers_and_letters_that_no_browser_takes_are_text() -> None:
    """JSON of a browser knows no NaN, and UTF-8 no half of a character."""
    page = render({"simulation_result_id": "\ud800", "metadata": {"x": [float("nan"), 1.5], "y": {"z": float("-inf")}}})
    page.encode()
    assert '"x":["nan",1.5],"y":{"z":"-inf"}' in page
