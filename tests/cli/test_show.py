"""`bluejay-ws show`: a report as a page, and its verdict as lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.cli import main
from tests.timeline.samples import good, slow_tool

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Return the file of a bad call's report."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps(slow_tool()))
    return path


def test_the_verdict_is_said_and_the_page_is_written(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What went wrong, with its time; the page holds the other call too."""
    other, expected = tmp_path / "good.json", tmp_path / "expected.json"
    other.write_text(json.dumps(good()))
    expected.write_text(json.dumps({"send_sms": [{}]}))
    page = tmp_path / "out.html"
    arguments = ["--html", str(page), "--against", str(other), "--expected", str(expected), "--late", "10"]
    assert main(["show", str(report), *arguments]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "16.00 The tool book_table failed: TimeoutError: no answer in 8 s." in said
    assert "The tool send_sms was expected and never called." in said
    assert "The caller waited" not in said
    assert "in the other call" in said
    assert "720487" in page.read_text("utf-8")


def test_scripts_get_json(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict as one document."""
    assert main(["show", str(report), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["id"], found["level"]) == ("720488", "bad")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read"),
        ("{", "is no JSON"),
        ("[" * 9_999, "is no JSON"),
        ("[]", "holds no report: it is no JSON object"),
    ],
)
def test_a_file_that_holds_no_report_is_named(
    tmp_path: Path, text: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the reason in one line."""
    path = tmp_path / "odd.json"
    if text is not None:
        path.write_text(text)
    assert main(["show", str(path)]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_page_that_cannot_be_written_is_a_problem(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory that is not there."""
    assert main(["show", str(report), "--html", str(tmp_path / "none" / "page.html")]) == 2
    assert "cannot write" in capsys.readouterr().err
