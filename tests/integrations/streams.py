"""A provider's stream for tests: a call with a tap on it, and the messages both sides send, on a still clock."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Self

from tests.support import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.integrations.tap import Tap
    from bluejay_ws.recorder import Recorder
    from tests.report import Report

Said = tuple[int, int, str, str]


def pcm(ms: float, rate: int = 24_000, *, loud: bool = True) -> bytes:
    """Return audio of a length."""
    return (b"\x00\x20" if loud else b"\x00\x00") * int(ms * rate / 1_000)


def audio(ms: float, rate: int = 24_000, *, loud: bool = True) -> str:
    """Return the same as base64 text."""
    return base64.b64encode(pcm(ms, rate, loud=loud)).decode()


class Stream:
    """A call with a tap on it.

    Args:
        kind: the tap's class, or what makes one.
    """

    def __init__(self, kind: Callable[[Recorder], Tap]) -> None:
        self.call = Call()
        self.tap = kind(self.call.recorder)
        self._report: Report | None = None

    def at(self, ms: float) -> Self:
        """Go on to a time of the call."""
        self.call.clock.sleep(ms - self.call.recorder.offset_ms())
        return self

    def received(self, *messages: Any) -> Self:
        """Let the provider send messages."""
        for message in messages:
            self.tap.event(message)
        return self

    def sent(self, *messages: Any) -> Self:
        """Let the client send messages."""
        for message in messages:
            self.tap.sent(message)
        return self

    @property
    def report(self) -> Report:
        """The report that the call ends in."""
        if self._report is None:
            self._report = self.call.report()
        return self._report

    def said(self) -> list[Said]:
        """Return the transcript."""
        found = self.report.recorded_transcript or []
        return [(one.start_offset_ms, one.end_offset_ms, one.speaker, one.utterance) for one in found]

    def words(self) -> list[tuple[str, str]]:
        """Return the transcript without times."""
        return [(speaker, text) for _, _, speaker, text in self.said()]

    def tools(self) -> list[tuple[str, Any, Any]]:
        """Return the tool calls."""
        return [(one.name, one.parameters, one.output) for one in self.report.tool_calls or []]

    def events(self) -> list[str]:
        """Return the titles of all events but the closing one."""
        return [one.title for one in self.report.events or []][:-1]

    def metadata(self) -> dict[str, Any]:
        """Return the call's metadata."""
        return dict(self.report.metadata or {})
