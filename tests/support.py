"""What several test modules build on: a clock that stands still, and a recorder with all that is handed into it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from websockets.version import version as websockets_version

from bluejay_ws.hearing.utterances import Stretch
from bluejay_ws.hearing.voices import Segment
from bluejay_ws.recorder import Recorder
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.hearing.level import Frame
    from bluejay_ws.hearing.utterances import Utterance
    from bluejay_ws.testing.oracle import AcceptedReport
    from bluejay_ws.testing.platform import FakePlatform


# A connection of a test goes to this machine, whatever proxy the environment names; before 15, there were no proxies.
DIRECTLY: dict[str, Any] = {"proxy": None} if int(websockets_version.split(".")[0]) >= 15 else {}


def eventually(reached: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds; what takes long to ask, such as a database, is asked less often."""
    asked = time.monotonic()
    until = asked + seconds
    while not reached():
        now = time.monotonic()
        assert now < until, "it did not come to hold"
        time.sleep(min(0.1, max(0.002, 4 * (now - asked))))
        asked = time.monotonic()


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    def sleep(self, ms: float) -> None:
        self.ns += int(ms * 1_000_000)


class Owner:
    """Note what a recorder tells its owner."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def bound(self, simulation_result_id: str) -> None:
        self.told.append(("bound", simulation_result_id))

    def aliased(self, alias: str) -> None:
        self.told.append(("aliased", alias))

    def discarded(self) -> None:
        self.told.append(("discarded", ""))


class Span:
    """A span in which somebody was heard, as the observer would tell it."""

    def __init__(self, start_ms: float | None, end_ms: float | None) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms


class _SpanStretch(Stretch):
    """A stretch whose speech is a span that may still change."""

    __slots__ = ("span",)

    def __init__(self, span: Span) -> None:
        self.span = span
        super().__init__(0.0)

    @property
    def segments(self) -> list[Segment]:
        if self.span.start_ms is None:
            return []
        return [Segment(self.span.start_ms, self.span.end_ms or self.span.start_ms, 0.0, user=False)]

    @segments.setter
    def segments(self, _: list[Segment]) -> None:
        pass


class Ear:
    """An observer that answers with one prepared span for each side."""

    def __init__(self, agent: Span, user: Span) -> None:
        self.agent = _SpanStretch(agent)
        self.user = _SpanStretch(user)
        self.told: list[tuple[Any, ...]] = []

    def utterance(self, utterance: Utterance, at_ms: float) -> Stretch:
        stretch = self.user if utterance.by_user else self.agent
        stretch.add(utterance)
        return stretch

    def hears_agent(self) -> bool:
        return self.agent.span.start_ms is not None

    def interruption(self, at_ms: float, by: str, source: str) -> None:
        self.told.append((at_ms, by, source))

    def received(self, frame: Frame, at_ms: float) -> None:
        self.told.append(("user", frame, at_ms))

    def sent(self, frame: Frame, at_ms: float) -> None:
        self.told.append(("agent", frame, at_ms))


class Call:
    """A recorder with everything that is handed into it, and the report it would end in."""

    def __init__(self, *, heard: Ear | None = None, redact: Callable[[str, Any], Any] | None = None) -> None:
        self.clock = Clock()
        self.counters = Counters()
        self.owner = Owner()
        self.journal: list[bytes] = []
        self.recorder = Recorder(
            clock=self.clock,
            started_ns=self.clock(),
            started_at=1_790_000_000.0,
            report_id="0" * 32,
            simulation_result_id="720488",
            counters=self.counters,
            owner=self.owner,
            redact=redact,
        )
        self.recorder.write_to(self.journal)
        if heard is not None:
            self.recorder.hear_with(heard)

    def report(self) -> Report:
        """Close the call and return the report as the platform reads it; memory and journal must agree."""
        self.recorder.close({"close_code": 1000}, {})
        assert self.journal == self.recorder.bodies
        return self.unclosed()

    def unclosed(self) -> Report:
        """Return the report that recovery would make of the journal if the process died now."""
        return Report.from_json(journal.assemble([self.journal], simulation_result_id="720488"))


def report_of(platform: FakePlatform) -> AcceptedReport:
    """Return the one report the platform has accepted."""
    (report,) = platform.wait_for(1)
    return report
