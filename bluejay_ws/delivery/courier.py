"""One step of one call's delivery: gather its files, ask or send once, write down what came of it.

A step makes at most one exchange with the platform. What it returns says when the next one is due; the
order of steps and their pace are the sender's.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from bluejay_ws.delivery.callfile import reason_of
from bluejay_ws.delivery.group import Group
from bluejay_ws.delivery.names import HELD, PARKED, READY, SENDING
from bluejay_ws.delivery.part import FilePart, Job, MemoryPart, Part
from bluejay_ws.delivery.readback import Sight, look
from bluejay_ws.delivery.schedule import backoff, retry_after
from bluejay_ws.delivery.spool import UNREADABLE, Spool
from bluejay_ws.delivery.verdict import Action, Answer, Failure, Verdict, judge
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bluejay_ws.delivery.notices import Notices
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

__all__ = ["Courier", "Exchange", "Signal", "Step"]

OTHERS_WAIT = 0.5
CALL_WAIT = 1.0
CUT_OUTPUT = 4096
READABLE_AGAIN = 1.0

UNSETTLED, ALREADY = "unsettled", "already_delivered"


class Exchange(Protocol):
    """What carries a request to the platform; see `bluejay_ws.delivery.http`."""

    def post(self, body: bytes) -> Answer | Failure:
        """Send a report."""
        ...

    def look(self, simulation_result_id: str) -> Answer | Failure:
        """Read a result back."""
        ...


class Signal(Enum):
    """What a step learnt about the platform as a whole."""

    NONE = "none"
    PASSED = "passed"
    READABLE = "readable"
    FAILED = "failed"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a step.

    Args:
        wait: seconds until the next one; None: the call is settled.
        pinned: whether that wait is to be kept even when the platform comes back earlier.
        signal: what was learnt about the platform.
        reason: one word, for the log.
    """

    wait: float | None
    pinned: bool = False
    signal: Signal = Signal.NONE
    reason: str = ""


class Courier:
    """Take steps. Thread-safe as long as no two threads work on the same job.

    Args:
        settings: retry bounds.
        spool: where the files are; None: reports are in memory only.
        counters: where everything is counted.
        notices: what is said about it.
        clock: monotonic seconds.
        wall: Unix time, in seconds.
        random: returns a float in [0, 1).
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool | None,
        *,
        counters: Counters,
        notices: Notices,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._retry = settings.retry
        self._spool = spool
        self._counters = counters
        self._notices = notices
        self._clock = clock
        self._wall = wall
        self._random = random

    def step(self, job: Job, exchange: Exchange) -> Step:
        """Bring one call's report one step further."""
        self._store(job)
        group = self._gather(job)
        if group is None:
            return Step(max(OTHERS_WAIT, backoff(5, self._retry, self._random)))
        if group.going_on or group.busy:
            return Step(CALL_WAIT if group.going_on else OTHERS_WAIT, pinned=True)
        try:
            step = self._step(job, group, exchange)
            if step.wait is None:
                self._remove_shadows(job, group)
            return step
        finally:
            group.release()

    def _gather(self, job: Job) -> Group | None:
        """Return the call's files; None where the directory cannot be worked with and memory does not hold all."""
        try:
            return self._spool.gather(job.identity) if self._spool else Group()
        except OSError as error:
            self._counters.add(f"spool.gather_{reason_of(error)}")
        in_memory = [parcel.bodies is not None for parcel in job.parcels.values()]
        return Group() if in_memory and all(in_memory) else None

    def _store(self, job: Job) -> None:
        """Try to give a file to what is in memory only, unless it may have been delivered from there."""
        if self._spool is None or job.uncertain:
            return
        for report_id, parcel in job.parcels.items():
            if parcel.bodies is not None and self._spool.store(parcel):
                job.parcels[report_id] = type(parcel)(report_id, parcel.simulation_result_id, None, parcel.sealed_at)

    def _remove_shadows(self, job: Job, group: Group) -> None:
        """Remove the broken files of reports that were settled from memory."""
        for claim in group.parts:
            parcel = job.parcels.get(claim.name.report_id)
            if parcel is not None and parcel.bodies is not None:
                claim.remove()

    def _parts(self, job: Job, group: Group) -> list[Part]:
        memory = {key: parcel for key, parcel in job.parcels.items() if parcel.bodies is not None}
        parts: list[Part] = [MemoryPart(parcel, job, self._spool) for parcel in memory.values()]
        # What is in memory is whole; a file of the same report that could not be removed is not.
        parts += [FilePart(claim) for claim in group.parts if claim.name.report_id not in memory]
        parts.sort(key=lambda part: (part.facts.started_at, part.report_id))
        if not job.restored:
            job.restored = True
            for part in parts:
                job.restore(part.facts.delivery or {})
        return parts

    def _step(self, job: Job, group: Group, exchange: Exchange) -> Step:
        parts = self._parts(job, group)
        if not parts:
            return self._elsewhere(job, group)
        late = self._late(job, group, parts)
        if late is not None:
            return late
        asked = self._asked_before(job, parts)
        if asked is not None:
            return asked
        uncertain = [part for part in parts if part.state in {SENDING, HELD}]
        if uncertain or job.look_first:
            return self._look(job, parts, uncertain, exchange)
        return self._post(job, parts, exchange)

    def _elsewhere(self, job: Job, group: Group) -> Step:
        """Settle a call whose files another process has dealt with, or somebody has removed."""
        known = {name.report_id for name in (*group.delivered, *group.parked)}
        for report_id in job.parcels.keys() - known:
            self._counters.add("dropped.file_removed")
            text = f"report {report_id} is lost: its file was removed from the spool"
            self._notices.trouble(logging.ERROR, "file_removed", job.identity, text)
        return Step(None, reason="elsewhere")

    # -- one id, one report -------------------------------------------------------------------------------------

    def _late(self, job: Job, group: Group, parts: list[Part]) -> Step | None:
        """Put away what may not be sent, because the id is used up or waits for a person; None if all may go."""
        stuck = next((part.reason for part in parts if part.state == HELD and part.reason != UNREADABLE), None)
        if stuck is not None:
            self._hold(job, [part for part in parts if part.state != HELD], stuck)
            return Step(None, reason=stuck)
        if not group.delivered or all(part.released for part in parts):
            return None
        together = {name.report_id for name in group.delivered}
        for name in group.delivered:
            listed = self._spool.tombstone(name).get("report_ids") if self._spool else None
            together |= set(map(str, listed)) if isinstance(listed, list) else set()
        for part in parts:
            if part.report_id in together:  # the process died between two marks of one delivery
                part.entomb({"outcome": "delivered", "report_ids": [part.report_id]})
        self._hold(job, [part for part in parts if part.report_id not in together], ALREADY)
        return Step(None, reason=ALREADY)

    def _hold(self, job: Job, parts: Sequence[Part], reason: str) -> None:
        for part in parts:
            part.note(outcome=reason, at=self._wall(), **job.notes())
            self._put_away(job, part, HELD, reason)

    def _put_away(self, job: Job, part: Part, state: str, reason: str, detail: str = "") -> None:
        kept = part.put_away(state)
        self._counters.add(state if kept else f"dropped.{state}_without_spool")
        where = "the spool keeps it, see `bluejay-ws outbox`" if kept else "there is no spool, it is lost"
        text = f"report {state} ({f'{reason} {detail}'.rstrip()}): {where}"
        self._notices.trouble(logging.ERROR, f"{state}.{reason}", job.identity, text)

    # -- sending ------------------------------------------------------------------------------------------------

    def _post(self, job: Job, parts: list[Part], exchange: Exchange) -> Step:
        bodies = [part.bodies for part in parts]
        limit = CUT_OUTPUT if job.cut else None
        body = journal.assemble(bodies, simulation_result_id=job.identity, output_limit=limit)
        job.attempts += 1
        job.looks = 0
        if job.attempts > 1:
            self._counters.add("retried")
        for part in parts:
            part.note(outcome="sending", at=self._wall(), pid=os.getpid(), **job.notes())
            part.move(SENDING)
        outcome = exchange.post(body)
        self._count(outcome)
        if isinstance(outcome, Answer) and outcome.status == 404:
            job.not_found += 1
        verdict = judge(outcome, attempts=job.not_found, cut=job.cut)
        return self._after_post(job, parts, verdict)

    def _count(self, outcome: Answer | Failure) -> None:
        word = f"http.{outcome.status}" if isinstance(outcome, Answer) else f"transport.{outcome.reason}"
        self._counters.add(word)

    def _after_post(self, job: Job, parts: list[Part], verdict: Verdict) -> Step:
        if verdict.action is Action.DELIVERED:
            self._delivered(job, parts, "delivered")
            return Step(None, signal=Signal.PASSED)
        if verdict.action is Action.PARK:
            for part in parts:
                part.note(outcome=verdict.reason, detail=verdict.detail, at=self._wall(), **job.notes())
                self._put_away(job, part, PARKED, verdict.reason, verdict.detail)
            return Step(None, signal=Signal.PASSED, reason=verdict.reason)
        asked = self._asked(verdict)
        if verdict.action is Action.READ_BACK:
            wait = max(self._retry.read_back[0], asked or 0.0)
            step = Step(wait, pinned=True, signal=Signal.FAILED, reason=verdict.reason)
            return self._postpone(job, parts, SENDING, step, asked)
        return self._postpone(job, parts, READY, self._again(job, verdict, asked), asked)

    def _again(self, job: Job, verdict: Verdict, asked: float | None) -> Step:
        if verdict.action is Action.HOLD_ALL:
            return Step(0.0, signal=Signal.HOLD, reason=f"{verdict.reason} {verdict.detail}".rstrip())
        if verdict.action is Action.CUT:
            job.cut = True
            self._counters.add("cut.after_413")
            return Step(0.0, signal=Signal.PASSED, reason=verdict.reason)
        wait = backoff(job.attempts, self._retry, self._random) if asked is None else asked
        signal = Signal.PASSED if verdict.reason == "http.404" else Signal.FAILED
        return Step(wait, pinned=asked is not None, signal=signal, reason=verdict.reason)

    def _asked(self, verdict: Verdict) -> float | None:
        return retry_after(verdict.retry_after, now=self._wall(), ceiling=self._retry.retry_after_ceiling)

    def _asked_before(self, job: Job, parts: Sequence[Part]) -> Step | None:
        """Keep to the wait that the platform asked of another process, or of an earlier one; once, if clocks jump."""
        noted = ((part.facts.delivery or {}).get("next_at") for part in parts)
        until = max((float(at) for at in noted if isinstance(at, int | float)), default=0.0)
        if until <= job.asked_until:
            return None
        job.asked_until = until
        wait = min(until - self._wall(), self._retry.retry_after_ceiling)
        return Step(wait, pinned=True, reason="retry_after") if wait > 0.0 else None

    def _postpone(self, job: Job, parts: Sequence[Part], state: str, step: Step, asked: float | None) -> Step:
        now = self._wall()
        until: dict[str, object] = {}
        if asked and step.pinned and step.wait:  # ordinary backoff need not survive this process
            job.asked_until = now + step.wait
            until["next_at"] = job.asked_until
        for part in parts:
            part.note(outcome=step.reason, at=now, **until, **job.notes())
            part.move(state)
            if step.wait:
                part.settle_down()
        if step.signal is not Signal.HOLD:  # said once for all by the sender
            text = f"report not delivered yet ({step.reason}), trying again"
            self._notices.trouble(logging.WARNING, f"again.{step.reason}", job.identity, text)
        return step

    def _delivered(self, job: Job, parts: Sequence[Part], how: str) -> None:
        facts = {"outcome": how, "at": self._wall(), "report_ids": [part.report_id for part in parts], **job.notes()}
        for part in parts:
            part.entomb(facts)
        self._counters.add("delivered", len(parts))
        self._notices.settled(job.identity, f"report delivered ({self._contents(parts)}), {self._since(job, parts)}")

    def _contents(self, parts: Sequence[Part]) -> str:
        def count(kind: str, word: str) -> str:
            number = sum(part.facts.counts.get(kind, 0) for part in parts)
            return f"{number} {word}{'' if number == 1 else 's'}"

        kinds = (("tool_calls", "tool call"), ("recorded_transcript", "utterance"), ("events", "event"))
        return ", ".join(count(kind, word) for kind, word in kinds)

    def _since(self, job: Job, parts: Sequence[Part]) -> str:
        together = f"{len(parts)} connections in one report, " if len(parts) > 1 else ""
        if not job.parcels:
            return f"{together}left by a process that ended"
        sealed_at = max(parcel.sealed_at for parcel in job.parcels.values())
        return f"{together}{max(0.0, self._clock() - sealed_at) * 1e3:.0f} ms after the close"

    # -- reading back -------------------------------------------------------------------------------------------

    def _look(self, job: Job, parts: list[Part], uncertain: list[Part], exchange: Exchange) -> Step:
        asked = uncertain or parts
        sent = journal.assemble([part.bodies for part in asked], simulation_result_id=job.identity)
        outcome = exchange.look(job.identity)
        sight = look(outcome, report_ids=[part.report_id for part in asked], sent=sent)
        self._counters.add(f"read_back.{sight.value}")
        if sight is Sight.FOUND:
            self._delivered(job, asked, "read_back")
            rest = len(asked) < len(parts)
            return Step(0.0 if rest else None, signal=Signal.READABLE, reason="read_back")
        if sight is Sight.REFUSED:
            self._count(outcome)
            return Step(0.0, signal=Signal.HOLD, reason="read_back_refused")
        if sight is Sight.UNREADABLE:
            return self._unreadable(job, uncertain, outcome)
        if job.look_first and not uncertain:
            job.look_first = False
            return Step(0.0, signal=Signal.READABLE)
        return self._not_found(job, uncertain, sight)

    def _unreadable(self, job: Job, uncertain: list[Part], outcome: Answer | Failure) -> Step:
        self._count(outcome)
        down = isinstance(outcome, Failure) or outcome.status >= 500 or outcome.status in {408, 425, 429}
        signal = Signal.FAILED if down else Signal.READABLE
        if not uncertain and not down:
            job.look_first = False
            return Step(0.0, signal=signal)
        job.unreadable += 1
        if job.unreadable >= len(self._retry.read_back):
            for part in uncertain:
                part.note(outcome=UNREADABLE, at=self._wall(), **job.notes())
                part.move(HELD)
        wait = max(READABLE_AGAIN, backoff(job.unreadable + 2, self._retry, self._random))
        return Step(wait, signal=signal, reason=UNREADABLE)

    def _not_found(self, job: Job, uncertain: list[Part], sight: Sight) -> Step:
        job.looks += 1
        if job.looks < len(self._retry.read_back):
            earlier, later = self._retry.read_back[job.looks - 1 : job.looks + 1]
            return Step(max(0.0, later - earlier), pinned=True, signal=Signal.READABLE, reason="read_back")
        if sight is Sight.UNCLEAR or job.resends >= self._retry.resends:
            self._hold(job, uncertain, UNSETTLED)
            return Step(None, signal=Signal.READABLE, reason=UNSETTLED)
        job.resends += 1
        job.looks = 0
        for part in uncertain:
            part.note(outcome="not_found", at=self._wall(), **job.notes())
            part.move(READY)
        return Step(0.0, signal=Signal.READABLE, reason="not_found")
