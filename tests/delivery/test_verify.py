"""``verify=True``: one look, after the platform's evaluation, whether what was sent is there."""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.client import Bluejay
from bluejay_ws.delivery.outcomes import Answer, Failure, Phase, result_of
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.delivery.store import Report
from bluejay_ws.delivery.verify import LARGEST, MOST, MOST_AT_ONCE, PACE, Verifier, differences, facts_of
from bluejay_ws.exceptions import ConfigurationError
from bluejay_ws.results import STATUSES
from bluejay_ws.stats import Counters
from bluejay_ws.testing.platform import Answer as Plan
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.wire.platform import IN_PROGRESS
from tests.delivery.kit import Script, bodies, settings
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOON = 0.02


def tool(name: str = "freeze_card", at: int | None = 5, **parameters: object) -> dict[str, Any]:
    """Return a tool call as it is sent."""
    return {"name": name, "start_offset_ms": at, "parameters": parameters, "output": {"ok": 1.5}}


def sent(*tools: dict[str, Any], events: int = 1, traces: tuple[str, ...] = ("t1",)) -> bytes:
    """Return a report's body."""
    titles = [{"title": f"event {number}", "start_offset_ms": number} for number in range(events)]
    return json.dumps({"tool_calls": tools, "events": titles, "trace_ids": traces}).encode()


def result(*tools: dict[str, Any], events: int = 1, traces: object = ("t1",), **more: object) -> dict[str, Any]:
    """Return a result as it is read back."""
    groups = [{"name": each["name"], "expected": [], "actual": [each]} for each in tools]
    shown = json.loads(sent(events=events))["events"]
    return {"tool_calls": groups, "events": shown, "trace_ids": json.loads(json.dumps(traces)), **more}


def answer(found: dict[str, Any], status: int = 200) -> Answer:
    """Return the answer to a GET."""
    return Answer(status, json.dumps({"status": "200", "simulation_result": found}).encode())


class Results(Script):
    """A client that answers each look with the next of these, the last one for ever."""

    def __init__(self, *answers: Answer | Failure | Exception) -> None:
        super().__init__()
        self.answers = list(answers)

    def look(self, simulation_result_id: str) -> Answer | Failure:
        self.looked.append(simulation_result_id)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


def looked(results: Results, *bodies: bytes) -> dict[str, int]:
    """Have calls looked at, all that are due at once, and return the counts."""
    counters = Counters()
    verifier = Verifier(counters, after=0.0)
    for number, body in enumerate(bodies):
        verifier.expect(str(number), body)
    while verifier.look(results):
        pass
    assert verifier.waiting == 0
    return counters.snapshot()


# -- what a difference is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (result(tool(last4="1", number=2), tool("look_up")), {}),
        (result(tool(last4="1", number=2.0), tool("look_up"), tool("from_a_trace"), events=7), {}),
        (result(tool(at=None, last4="1", number=2), tool("look_up")), {}),
        (result(tool(last4="1", number=2), tool("look_up"), traces=None), {}),
        (result(tool(last4="1", number=2)), {"tool_calls_missing": 1}),
        (result(tool(last4="1", number=2), tool("look_up", at=7)), {"tool_calls_missing": 1}),
        (result(tool(last4="9", number=2), tool("look_up")), {"tool_calls_changed": 1}),
        (result(tool(at=None, last4="9"), tool("look_up")), {"tool_calls_changed": 1}),
        (result(*[tool(last4="1", number=2)] * 2, tool("look_up")), {"tool_calls_doubled": 1}),
        (result(tool(last4="1", number=2), tool("look_up"), events=0), {"events_missing": 1}),
        (result(tool(last4="1", number=2), tool("look_up"), traces=[]), {"trace_ids_missing": 1}),
        ({}, {"tool_calls_missing": 2, "events_missing": 1}),
        ({"tool_calls": [7, {"actual": 8}], "events": [9]}, {"tool_calls_missing": 2, "events_missing": 1}),
    ],
)
def test_what_was_sent_is_compared_with_what_is_shown(shown: dict[str, Any], expected: dict[str, int]) -> None:
    """By name, time and content; what the platform adds is no difference, a report that is there twice is one."""
    facts = facts_of(sent(tool(last4="1", number=2), tool("look_up")))
    read = result_of(answer(shown))
    assert read is not None
    assert differences(facts, read) == expected


def test_a_tool_without_parameters_or_output_is_shown_with_empty_ones() -> None:
    """Left out, null and an empty object are the same."""
    bare = {"name": "hang_up", "start_offset_ms": 5}
    shown = result({**bare, "parameters": {}, "output": None})
    assert differences(facts_of(sent(bare)), shown) == {}
    assert differences(facts_of(sent({**bare, "parameters": None})), shown) == {}


def test_a_report_that_is_there_twice_is_seen() -> None:
    """Its events are doubled too."""
    shown = result(tool(), tool())
    shown["events"] *= 2
    assert differences(facts_of(sent(tool())), shown) == {"tool_calls_doubled": 1, "events_doubled": 1}


def test_the_statuses_of_calls_in_progress_are_those_that_are_not_final() -> None:
    """One list says what a status means, the other which are not the last word: they agree."""
    assert {word for word, status in STATUSES.items() if not status.final} == IN_PROGRESS


# -- one look for each call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (answer(result(tool(), status="COMPLETED")), {"verify.complete": 1}),
        (answer(result(tool(), status="EVALUATING")), {"verify.complete": 1}),
        (answer(result(status="EVALUATING")), {"verify.too_early": 1}),
        (
            answer(result(status="COMPLETED")),
            {"verify.differs": 1, "verify.tool_calls_missing": 1},
        ),
        (
            Answer(404, b'{"detail": "not found"}'),
            {"verify.differs": 1, "verify.tool_calls_missing": 1, "verify.events_missing": 1},
        ),
        (Answer(404, b"<html>"), {"verify.unreadable": 1}),
        (Answer(200, b"[]"), {"verify.unreadable": 1}),
        (Answer(200, b'{"simulation_result": 7}'), {"verify.unreadable": 1}),
        (Answer(200, answer(result()).body, complete=False), {"verify.unreadable": 1}),
        (Answer(503, b"{}"), {"verify.unreadable": 1}),
        (Answer(401, b'{"detail": "no"}'), {"verify.refused": 1}),
        (Failure(Phase.NOT_SENT, "connect_error"), {"verify.unreadable": 1}),
        (RuntimeError("odd"), {"errors.verify.RuntimeError": 1}),
    ],
)
def test_a_look_is_counted_and_never_repeated(found: Answer | Failure, counts: dict[str, int]) -> None:
    """Whatever it shows, there is one GET."""
    results = Results(found)
    assert looked(results, sent(tool())) == counts
    assert results.looked == ["0"]


def test_a_difference_is_logged_with_the_way_to_see_it(caplog: pytest.LogCaptureFixture) -> None:
    """How many of what, and the command; no word of the call."""
    with caplog.at_level("WARNING", logger="bluejay_ws"):
        looked(Results(answer(result(status="COMPLETED"))), sent(tool(last4="a secret")))
    (record,) = caplog.records
    assert "1 tool calls missing" in record.getMessage()
    assert "bluejay-ws result 0" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_every_call_gets_its_look_though_one_of_them_fails() -> None:
    """An error of one look is counted."""
    results = Results(OSError("odd"), answer(result(tool())))
    assert looked(results, *[sent(tool())] * 3) == {"errors.verify.OSError": 1, "verify.complete": 2}
    assert results.looked == ["0", "1", "2"]


def test_two_deliveries_of_one_call_share_a_look_when_its_time_has_come() -> None:
    """A second connection that is delivered by itself: one GET sees both."""
    counters, results, now = Counters(), Results(answer(result(tool(), tool("look_up"), events=1))), [0.0]
    verifier = Verifier(counters, after=60.0, clock=lambda: now[0])
    verifier.expect("7", sent(tool()))
    now[0] = 59.0
    verifier.expect("7", sent(tool("look_up"), events=0))
    assert not verifier.look(results)
    now[0] = 60.0
    assert verifier.look(results)
    assert (counters.snapshot(), results.looked) == ({"verify.complete": 1}, ["7"])


def test_no_wave_of_looks_follows_a_wave_of_reports() -> None:
    """A few at once, then one for each fifth of a second."""
    now, results = [0.0], Results(answer(result()))
    verifier = Verifier(Counters(), after=0.0, clock=lambda: now[0])
    for number in range(MOST_AT_ONCE + 4):
        verifier.expect(str(number), b"{}")
    went = []
    for _ in range(5):
        before = len(results.looked)
        while verifier.look(results):
            pass
        went.append(len(results.looked) - before)
        now[0] += PACE * 1.01
    assert went == [MOST_AT_ONCE, 1, 1, 1, 1]


def test_a_platform_that_answers_no_look_holds_up_one_thread_only() -> None:
    """The others have reports to bring away: while one looks, nothing is due. The end cuts that look off."""
    verifier = Verifier(Counters(), after=0.0)
    seen: list[object] = []

    class Hangs(Results):
        def look(self, simulation_result_id: str) -> Answer | Failure:
            seen.append((verifier.due, verifier.look(self), verifier.waiting))
            verifier.close()
            return super().look(simulation_result_id)

        def abort_if_late(self, now: float) -> None:
            seen.append(now)

    hangs = Hangs(Failure(Phase.UNKNOWN, "cut_off"))
    verifier.expect("1", b"{}")
    verifier.expect("2", b"{}")
    assert verifier.look(hangs)
    verifier.close()
    assert (hangs.looked, seen) == (["1"], [(False, False, 2), math.inf])
    assert not verifier.look(hangs)


def test_what_cannot_be_read_is_counted_and_not_looked_at() -> None:
    """Who delivered it hears nothing of that."""
    assert looked(Results(), b"no JSON") == {"errors.verify.JSONDecodeError": 1}


def test_a_long_body_is_counted_and_not_read() -> None:
    """To read several MB holds the interpreter, and with it the agent."""
    assert looked(Results(), b" " * (LARGEST + 1)) == {"verify.skipped": 1}


def test_more_calls_than_memory_is_for_are_counted() -> None:
    """The bound of what waits; the end says what was left."""
    counters = Counters()
    verifier = Verifier(counters, after=3600)
    for number in range(MOST + 1):
        verifier.expect(str(number), b"{}")
    verifier.close()
    assert counters.snapshot() == {"verify.skipped": 1, "verify.not_looked": MOST}
    assert verifier.waiting == 0


# -- with a client ----------------------------------------------------------------------------------------------------


def reads(platform: FakePlatform) -> int:
    """Return how many GETs there were."""
    return sum(request.method == "GET" for request in platform.requests)


def deliver(bluejay: Bluejay, identity: str) -> None:
    """Record and deliver one call."""
    with bluejay.call({"X-Simulation-Result-Id": identity}) as recorder:
        with recorder.tool_call("freeze_card", {"last4": "4321", "amount": 1.0}) as call:
            call.output = {"frozen": True}
        recorder.add_event("card frozen")
        recorder.add_trace_id("4bf92f3577b34da6a3ce929d0e0e4736")
    assert bluejay.flush(30.0)


@pytest.mark.parametrize("kept", [True, False])
def test_the_platform_is_read_once_for_each_call(platform: FakePlatform, tmp_path: Path, *, kept: bool) -> None:
    """With files and without; what is there is counted as complete."""
    spool = tmp_path if kept else False
    with Bluejay(platform.api_key, base_url=platform.url, spool=spool, verify=SOON) as bluejay:
        for number in range(3):
            deliver(bluejay, f"call-{number}")
        eventually(lambda: bluejay.stats().get("verify.complete") == 3)
    assert reads(platform) == 3
    assert bluejay.stats()["delivered"] == 3


def test_what_the_platform_lost_is_a_difference(platform: FakePlatform) -> None:
    """It took the report, and shows a result without it."""
    platform.read_back.lag_reads, platform.read_back.status = 5, "COMPLETED"
    with Bluejay(platform.api_key, base_url=platform.url, spool=False, verify=SOON) as bluejay:
        deliver(bluejay, "720488")
        eventually(lambda: bluejay.stats().get("verify.differs"))
        assert bluejay.stats()["verify.tool_calls_missing"] == 1
    assert reads(platform) == 1


def test_an_evaluation_that_takes_longer_is_not_waited_for(platform: FakePlatform) -> None:
    """The look finds it unfinished: counted as that, and not repeated."""
    platform.read_back.lag = 3600
    with Bluejay(platform.api_key, base_url=platform.url, spool=False, verify=SOON) as bluejay:
        deliver(bluejay, "720488")
        eventually(lambda: bluejay.stats().get("verify.too_early"))
    assert reads(platform) == 1


def test_a_report_that_was_cut_is_compared_with_what_was_sent(platform: FakePlatform, tmp_path: Path) -> None:
    """After a 413 the outputs are shorter: that is what the platform must show."""
    platform.plan(Plan(status=413))
    with Bluejay(platform.api_key, base_url=platform.url, spool=tmp_path, verify=SOON) as bluejay:
        with bluejay.call({"X-Simulation-Result-Id": "720488"}) as recorder, recorder.tool_call("look_up") as call:
            call.output = "long " * 5_000
        eventually(lambda: bluejay.stats().get("verify.complete"))


def test_without_verify_nothing_is_read(platform: FakePlatform) -> None:
    """It is off by default."""
    with Bluejay(platform.api_key, base_url=platform.url, spool=False) as bluejay:
        deliver(bluejay, "720488")
    assert reads(platform) == 0


def test_an_end_before_the_look_waits_for_nothing(platform: FakePlatform) -> None:
    """The exit is not held up; what was not looked at is counted, and the thread is gone."""
    bluejay = Bluejay(platform.api_key, base_url=platform.url, spool=False, verify=True)
    deliver(bluejay, "720488")
    assert bluejay.close()
    assert bluejay.stats()["verify.not_looked"] == 1
    assert reads(platform) == 0
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "bluejay_ws-verify"])


@pytest.mark.parametrize("end", [lambda sender: sender.close(30.0), Sender._see_off])
def test_a_look_that_hangs_holds_up_no_report_at_the_end(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[Sender], object]
) -> None:
    """Since Python 3.12 no second worker can be started then: the one that looks is to post."""
    looking, cut_off = threading.Event(), threading.Event()

    class Hangs(Script):
        def look(self, simulation_result_id: str) -> Answer | Failure:
            looking.set()
            cut_off.wait(60.0)
            return super().look(simulation_result_id)

        def abort_if_late(self, now: float) -> None:
            if now == math.inf:
                cut_off.set()

    sender = Sender(replace(settings(), verify=SOON), store=None, counters=Counters(), make_client=Hangs)
    sender.submit(Report("1" * 32, "1", bodies("1" * 32, "1")))
    assert looking.wait(30.0)
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError))
    sender.submit(Report("2" * 32, "2", bodies("2" * 32, "2")))
    end(sender)
    assert sender.pending() == 0
    assert sender.close(30.0)


def test_a_forked_child_looks_at_nothing_of_its_parent(platform: FakePlatform) -> None:
    """The look is the parent's."""
    with Bluejay(platform.api_key, base_url=platform.url, spool=False, verify=True) as bluejay:
        deliver(bluejay, "720488")
        bluejay.sender.reset_after_fork()
        assert bluejay.close()
    assert "verify.not_looked" not in bluejay.stats()


def test_agents_of_a_fleet_do_not_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They deliver nothing: the argument says who does. The environment may be the whole fleet's: one WARNING."""
    pytest.importorskip("psycopg")
    monkeypatch.setitem(os.environ, "BLUEJAY_SPOOL_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigurationError, match="bluejay-ws deliver --verify"):
        Bluejay(spool="postgresql://nobody@127.0.0.1:9/none", verify=True)
    Bluejay(spool="postgresql://nobody@127.0.0.1:9/none").close(0)
    assert "BLUEJAY_VERIFY" not in caplog.text
    monkeypatch.setitem(os.environ, "BLUEJAY_VERIFY", "1")
    Bluejay(spool="postgresql://nobody@127.0.0.1:9/none").close(0)
    assert caplog.text.count("BLUEJAY_VERIFY does nothing in this process") == 1
