"""The page of a call that a command makes: ``--html``, ``--audio`` and ``--live``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.cli import main, pages
from bluejay_ws.cli.pages import Watch, watching
from bluejay_ws.cli.terminal import Problem, Terminal
from bluejay_ws.testing.caller import CallEvent
from bluejay_ws.testing.oracle import AcceptedReport
from bluejay_ws.timeline.live import LivePage
from tests.timeline.samples import good, slow_tool

if TYPE_CHECKING:
    from pathlib import Path


def accepted(report: dict[str, object]) -> AcceptedReport:
    """Return a report as the local platform passes it on."""
    return AcceptedReport(str(report["simulation_result_id"]), json.dumps(report).encode(), 0.0)


def test_the_demo_writes_a_page_with_its_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole call in real time would be slow: at another pace the page has no sound, and everything else."""
    page = tmp_path / "demo.html"
    assert main(["demo", "--pace", "0.1", "--html", str(page), "--live"]) in {0, 1}
    text = page.read_text("utf-8")
    assert "freeze_card" in text
    said = capsys.readouterr().out
    assert "page       http://127.0.0.1:" in said
    assert str(page) in said.replace("\n           ", "")


def test_a_call_without_a_report_is_shown_as_the_caller_noticed_it(tmp_path: Path) -> None:
    """No report came: the page shows the voices, and says so."""
    watch = Watch(tmp_path / "page.html", None, playable=True)
    watch.event(CallEvent(0, "agent.heard"))  # before the call is known: nothing to follow
    watch.begin("local-1")
    watch.audio("agent", 100.0, b"\x00\x40" * 320)
    for event in (
        CallEvent(100, "agent.heard"),
        CallEvent(120, "agent.quiet"),
        CallEvent(900, "closed", {"by": "agent"}),
    ):
        watch.event(event)
    (path,) = watch.write()
    text = path.read_text("utf-8")
    assert "not received" in text
    assert '"sound":"' in text


def test_several_reports_are_several_pages(tmp_path: Path) -> None:
    """Each has its call's id in its name."""
    watch = Watch(tmp_path / "page.html", None)
    watch.accepted(accepted(good()))
    watch.accepted(accepted(slow_tool()))
    assert [path.name for path in watch.write()] == ["page-720487.html", "page-720488.html"]
    assert Watch(None, None).write() == []


def test_a_live_page_shows_the_call_and_then_its_report() -> None:
    """The same page, from the first frame to the accepted report."""
    live = LivePage()
    watch = Watch(None, live)
    watch.begin("720487")
    watch.event(CallEvent(5, "closed", {"by": "agent"}))
    (call,) = live.listing()["calls"]
    assert call["live"]
    watch.accepted(accepted(good()))
    watch.event(CallEvent(6, "closed", {"by": "agent"}))
    (call,) = live.listing()["calls"]
    assert (call["live"], call["headline"]) == (False, "Nothing looks wrong in this call.")


def test_a_page_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    """The call was made, and its place is gone; the reason is said in a line."""
    terminal = Terminal(io.StringIO())
    place = tmp_path / "place"
    place.mkdir()
    args = argparse.Namespace(html=place / "page.html", live=False, audio=False)
    watcher = watching(args, terminal)
    watch = watcher.__enter__()
    assert watch is not None
    watch.accepted(accepted(good()))
    place.rmdir()  # it is empty: trying the file left none behind
    with pytest.raises(Problem, match="cannot write"):
        watcher.__exit__(None, None, None)


def test_a_live_page_stays_for_a_person_until_ctrl_c(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script does not wait."""

    class Pressed:
        """Stands for the wait that a person ends."""

        def wait(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("bluejay_ws.cli.pages.threading.Event", Pressed)
    monkeypatch.setattr(pages, "LivePage", lambda: contextlib.nullcontext(SimpleNamespace(url="http://127.0.0.1:1")))
    args = argparse.Namespace(html=None, live=True, audio=False)
    with watching(args, Terminal.of(sys.stdout, {})) as watch:
        assert watch is not None
    assert "The page stays until you press Ctrl-C." in capsys.readouterr().out
