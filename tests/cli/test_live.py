"""`bluejay_ws.cli.conversation`: a call as it continues."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from bluejay_ws.cli.conversation import FRAMES, WORDS, LiveView, describe, summarise
from bluejay_ws.cli.terminal import Terminal
from bluejay_ws.testing import line
from bluejay_ws.testing.caller import CallEvent, CallLog


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        ("connected", {}, ("caller", "connects")),
        ("mark.echoed", {"name": "m\x1b"}, ("caller", "echoes mark m\ufffd")),
        ("barge_in", {"queued_ms": 812.4}, ("caller", "interrupts; 812 ms of the agent are still to be heard")),
        ("error.sent", {"code": "X", "message": "no"}, ("caller", "sends session.error X: no")),
        ("closed", {"code": 1000, "reason": "", "by": "caller"}, ("caller", "hangs up with 1000 (normal)")),
        (
            "closed",
            {"code": 4007, "reason": "by\ne", "by": "agent"},
            ("agent", "hangs up with 4007 (its own code): by e"),
        ),
        (
            "closed",
            {"code": 1006, "reason": "", "by": "nobody"},
            ("agent", "is gone: the connection broke without a close frame"),
        ),
    ],
)
def test_an_event_reads_as_somebody_doing_something(kind: str, detail: dict[str, Any], words: tuple[str, str]) -> None:
    """Each kind has its words, with what else is known in them, and nothing that could steer the terminal."""
    assert describe(CallEvent(0.0, kind, detail)) == words


def test_every_kind_of_event_has_words() -> None:
    """What the caller's documentation lists can be shown."""
    kinds = set(re.findall(r"``([a-z_.]+)``", (line.CallEvent.__doc__ or "").partition("detail:")[0]))
    assert kinds - {"closed"} <= set(WORDS)
    assert set(WORDS) > FRAMES


def test_an_event_is_one_line_with_its_time() -> None:
    """Seconds since the handshake, who, what; text frames can be left out."""
    out = io.StringIO()
    view = LiveView(Terminal(out), "7", frames=False)
    view.show(CallEvent(12_345.0, "agent.heard"))
    view.show(CallEvent(12_400.0, "mark.received", {"name": "end"}))
    LiveView(Terminal(out), "7").show(CallEvent(12_400.0, "mark.received", {"name": "end"}))
    assert out.getvalue() == "    12.35  agent   speaks\n    12.40  agent   sends mark end\n"


def test_what_repeats_is_one_line_with_a_count() -> None:
    """A hundred equal errors are two lines, also at the end of the call."""
    out = io.StringIO()
    view = LiveView(Terminal(out), "7")
    error = {"code": "INVALID_AUDIO_FRAME", "message": "odd"}
    for _ in range(100):
        view.show(CallEvent(1_000.0, "error.received", error))
    view.show(CallEvent(2_000.0, "agent.heard"))
    view.show(CallEvent(2_100.0, "agent.heard"))
    view.flush()
    assert [line.split(maxsplit=1)[1].strip() for line in out.getvalue().splitlines()] == [
        "agent   sends session.error INVALID_AUDIO_FRAME: odd",
        "99 more times",
        "agent   speaks",
        "1 more time",
    ]


def test_a_script_gets_each_event_as_a_line_of_json() -> None:
    """Repeats and frames too: scripts count for themselves."""
    out = io.StringIO()
    view = LiveView(Terminal(out, json_only=True), "7", frames=False)
    for _ in range(2):
        view.show(CallEvent(12_400.04, "mark.received", {"name": "end"}))
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (
        first
        == second
        == {
            "type": "event",
            "call": "7",
            "at_ms": 12_400.0,
            "kind": "mark.received",
            "detail": {"name": "end"},
        }
    )


def test_a_call_is_summed_up() -> None:
    """Length, frames each way and how long the agent was heard."""
    log = CallLog(duration_ms=13_700, frames_sent=1_228, frames_received=347, heard_ms=6_930)
    assert summarise(log) == "13.7 s; 1,228 frames sent, 347 received; the agent spoke for 6.9 s"
