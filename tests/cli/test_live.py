"""`bluejay_ws.cli.live`: a call as it goes on."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from bluejay_ws.cli.live import FRAMES, WORDS, describe, show_event, summarise
from bluejay_ws.cli.terminal import Terminal
from bluejay_ws.testing import line
from bluejay_ws.testing.caller import CallEvent, CallLog


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        ("connected", {}, ("caller", "is connected")),
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
    assert kinds == {*WORDS, "closed"}
    assert set(WORDS) > FRAMES


def test_an_event_is_one_line_with_its_time() -> None:
    """Seconds since the handshake, who, what; text frames are dim, and can be left out."""
    out = io.StringIO()
    terminal = Terminal(out)
    show_event(CallEvent(12_345.0, "agent.heard"), terminal, frames=False)
    show_event(CallEvent(12_400.0, "mark.received", {"name": "end"}), terminal, frames=False)
    show_event(CallEvent(12_400.0, "mark.received", {"name": "end"}), terminal)
    assert out.getvalue() == "    12.35  agent   is heard\n    12.40  agent   sends mark end\n"


def test_a_call_is_summed_up() -> None:
    """Length, frames each way and how long the agent was heard."""
    log = CallLog(duration_ms=13_700, frames_sent=1_228, frames_received=347, heard_ms=6_930)
    assert summarise(log) == "13.7 s; 1,228 frames sent, 347 received; the agent was heard for 6.9 s"
