"""The verdict: what went wrong, in plain words, the worst first."""

from __future__ import annotations

from typing import Any

import pytest

from bluejay_ws.timeline.reading import read
from bluejay_ws.timeline.verdict import compare, findings, headline, latency_of
from tests.timeline.samples import closed, event, good, never_answers, said, slow_tool, talks_over


def texts(report: dict[str, Any], **options: Any) -> str:
    """Return everything that is found in a report, one finding for each line, with its level."""
    call = read(report, **options)
    return "\n".join(f"{one.level}: {one.text}" for one in findings(call, latency_of(call)))


def verdict(report: dict[str, Any]) -> str:
    """Return the line that stands above all others."""
    call = read(report)
    return headline(findings(call, latency_of(call)))


def test_a_good_call_has_nothing_to_say() -> None:
    """No finding, and the headline says so."""
    assert texts(good()) == ""
    assert verdict(good()) == "Nothing looks wrong in this call."


def test_the_headline_tells_the_worst_in_order_of_time() -> None:
    """A stranger reads one line and knows."""
    assert verdict(slow_tool()) == (
        "The caller waited 9.3 s for an answer, the tool book_table failed and the connection broke without a goodbye."
    )
    assert verdict(talks_over()) == "The agent talked over the caller twice."
    assert verdict(never_answers()) == (
        "The caller waited 2.5 s for an answer, there was an error (INVALID_AUDIO_FRAME)"
        " and the caller's last words were never answered."
    )


def test_a_call_with_warnings_only_went_through() -> None:
    """What may be meant so is no fault."""
    report = good()
    report["events"].append(event("Long silence", 17_000, 17_400))
    assert verdict(report) == "The call went through, with 1 thing to look at."


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"outcome": "agent_error", "code": 1011, "error": "KeyError"}, "The agent's code failed: KeyError, 18 s"),
        ({"outcome": "agent_error", "code": 1011}, "closed the call with an internal error (1011), 18 s"),
        ({"outcome": "handler_cancelled", "code": 1011}, "The agent's handler was cancelled during the call"),
        ({"outcome": "", "code": None, "incomplete": "process_lost"}, "The agent's process was lost during the call"),
        ({"outcome": "completed", "code": 1008}, "breach of policy (1008)"),
        ({"outcome": "completed", "code": 4000}, "closed with code 4000"),
        ({"outcome": "meteor"}, "The call ended with 'meteor'"),
    ],
)
def test_a_call_that_ended_badly_says_how(facts: dict[str, Any], words: str) -> None:
    """The outcome, or the close code where there is no outcome."""
    report = good()
    report["events"][-1] = closed(17_500, **facts)
    assert words in texts(report)


def test_the_end_while_somebody_speaks_is_said() -> None:
    """A break in the middle of a word is another fault than one in a pause."""
    assert "28 s into the call, while the agent was speaking" in texts(slow_tool())


def test_an_agent_that_never_spoke() -> None:
    """Nothing of the agent's was heard; words alone may be missing."""
    asked = [said("USER", 100, 2_000, "Hello?")]
    assert "bad: The agent never spoke." in texts({"recorded_transcript": asked})
    assert "bad: The agent never spoke." in texts({"events": [closed(900, agent_audio_ms=0)]})
    assert "note: The agent was heard" in texts({"events": [closed(900, agent_audio_ms=40)]})


@pytest.mark.parametrize(
    ("asked", "ends", "level"),
    [((5_000, 5_600), 30_500, ""), ((29_000, 31_000), 33_500, "warn"), ((29_000, 31_000), 36_000, "bad")],
)
def test_last_words_that_nobody_answers(asked: tuple[int, int], ends: int, level: str) -> None:
    """A caller who says "uh huh" meanwhile was not left alone, and one who says goodbye and goes is worth a look."""
    spoken = [said("AGENT", 0, 30_000, "A long story."), said("USER", *asked, "Uh huh.")]
    found = texts({"recorded_transcript": spoken, "events": [closed(ends)]})
    assert found.partition(": The caller's last words")[0] == level


def test_of_very_many_findings_the_first_are_told() -> None:
    """A page of a thousand lines says nothing: the headline counts them, and other faults keep their place."""
    errors = [event("Session error from the agent", at, code=f"E{at}") for at in range(400)]
    failed = {"start_offset_ms": 5, "output": {"status": "failed"}}
    called = [{**failed, "name": f"{at}{'t' * 30_000}", "parameters": {"n": at // 2}} for at in range(90)]
    report = {"events": [*errors, closed(900, agent_audio_ms=0)], "tool_calls": called}
    found = texts(report)
    assert found.count("\n") < 20
    assert max(map(len, found.splitlines())) < 700
    assert "There were 394 more errors: see the list." in found
    assert verdict(report) == (
        "The agent never spoke, there were 400 errors and there were 90 things wrong with tools."
    )
    twice = {"name": "a", "output": 1}
    calls = [{**twice, "start_offset_ms": at, "parameters": {"n": n}} for at, n in ((1, 0), (7, 1), (8, 1))]
    call = read({"tool_calls": calls})
    (again,) = [one for one in findings(call, latency_of(call)) if "times" in one.text]
    assert again.at == 7


def test_tools_that_failed_or_were_called_again() -> None:
    """Each failure once with its count; the same call twice is worth a look."""
    failed = {"name": "a", "start_offset_ms": 5, "output": {"status": "failed", "error": "X"}}
    found = texts({"tool_calls": [failed, {**failed, "parameters": {"n": 1}}]})
    assert "bad: The tool a failed: X (2 times)." in found
    assert "The tool book_table was called 2 times with the same parameters." in texts(talks_over())
    assert "2 times without parameters" in texts(
        {"tool_calls": [{"name": "b", "start_offset_ms": at} for at in (1, 2)]}
    )


def test_tools_are_compared_with_what_was_expected() -> None:
    """Never called, too rarely, with other parameters, and not expected at all."""
    expected = {"send_sms": [{}], "find_table": [{}, {}], "book_table": [{"parameters": {"table": 9}}]}
    found = texts(good(), expected=expected)
    call = read(never_answers(), expected={"find_table": [{}], "book_table": [{}]})
    assert headline(findings(call, latency_of(call))).endswith(
        "the caller's last words were never answered and the tools find_table, book_table were never called."
    )
    assert "bad: The tool send_sms was expected and never called." in found
    assert "warn: The tool find_table was expected 2 times and called 1 times." in found
    assert 'bad: The tool book_table was expected with {"table": 9} and called with others.' in found
    assert "warn: The tool find_table was called and not expected." in texts(good(), expected={"book_table": [{}]})


def test_waits_are_those_that_are_noted_else_those_between_the_voices() -> None:
    """A report without latency events still has voices."""
    report = slow_tool()
    noted = latency_of(read(report))
    assert (noted.values, noted.p50, noted.p95) == ((800, 9_300), 800, 9_300)
    report["events"] = []
    assert latency_of(call := read(report)).values == (800, 9_300)
    assert [one.at for one in findings(call, latency_of(call)) if "waited" in one.text] == [15_800]
    assert latency_of(read({})).p95 is None
    barging = [said("USER", 0, 100, "a"), said("AGENT", 50, 200, "b")]
    assert latency_of(read({"recorded_transcript": barging})).values == ()


def test_one_late_answer_of_many_is_a_warning() -> None:
    """Half of the answers, or one that is twice too late, is a fault."""
    call = read({"events": [event("Response latency", at * 1_000, latency_ms=400) for at in range(9)]})
    call.items[0].facts["metadata"]["latency_ms"] = 2_000
    (found,) = [one for one in findings(call, latency_of(call)) if "waited" in one.text]
    assert (found.level, found.at) == ("warn", 0)
    assert "1 of 9 answers were late" in found.text


def test_a_caller_who_cannot_interrupt_is_noticed() -> None:
    """The agent had sent 2.6 s ahead; pacing would have helped."""
    assert "warn: The caller interrupted, and had to hear 2.6 s more that the agent had sent ahead." in texts(
        talks_over()
    )
    quick = event("Caller interrupted the agent", 1, 2, queued_ms=200)
    assert "had to hear" not in texts({"events": [quick]})


def test_sentences_said_again_and_again_are_noticed() -> None:
    """An agent in a loop says the same three times."""
    loop = [said("AGENT", at * 1_000, at * 1_000 + 500, "Could you repeat that?") for at in range(4)]
    assert "warn: The agent said the same 4 times: “Could you repeat that?”." in texts({"recorded_transcript": loop})


def test_the_report_s_own_way_is_part_of_the_verdict() -> None:
    """A report that waits for a person says so."""
    call = read(good())
    latency = latency_of(call)
    assert "waits" not in headline(findings(call, latency, {"state": "delivered"}))
    (parked,) = findings(call, latency, {"state": "parked", "reason": "422"})
    assert parked.text == "The report is parked: 422. It reaches the platform only when a person helps."
    (waiting,) = findings(call, latency, {"state": "waiting"})
    assert waiting.level == "note"


def test_doubts_about_the_report_are_said() -> None:
    """Empty, unreadable in part, or of a call with broken frames."""
    assert texts({}) == "bad: The report is empty: nothing was recorded in this call."
    assert texts({"events": [closed(900)]}) == "note: Nothing tells what was said in this call."
    assert "note: 1 item of the report could not be read" in texts({"tool_calls": [1]})
    assert "warn: 3 audio frames were invalid" in texts(never_answers())
    assert "Nobody was heard for 15 s." in texts(never_answers())


def test_metadata_of_any_shape_is_borne() -> None:
    """Foreign reports put texts where numbers belong."""
    odd = [
        {"title": "Response latency", "start_offset_ms": 0, "metadata": "slow"},
        event("Response latency", 1, latency_ms="slow"),
        event("Caller interrupted the agent", 2, bluejay_ws={"queued_ms": 5_000}),
        {"title": "Session error from the agent", "start_offset_ms": 3, "metadata": [1], "description": "why"},
    ]
    found = texts({"events": odd})
    assert "had to hear 5.0 s more" in found
    assert "bad: Session error from the agent: why." in found


def test_a_worse_call_is_compared_with_a_better_one() -> None:
    """What is missing, what took longer, and what came more often."""
    now, then = read(slow_tool()), read(good())
    found = "\n".join(one.text for one in compare(now, then, latency_of(now), latency_of(then)))
    assert "Answers took up to 9.3 s; in the other call 0.8 s (p95)." in found
    assert "More long silences than in the other call: 1 instead of 0." in found
    now = read(never_answers())
    found = "\n".join(one.text for one in compare(now, then, latency_of(now), latency_of(read({}))))
    assert "Unlike in the other call, find_table was not called." in found
    now = read(talks_over())
    found = "\n".join(one.text for one in compare(now, then, latency_of(now), latency_of(then)))
    assert "Unlike in the other call, book_table was called 2 instead of 1 times." in found
    found = "\n".join(one.text for one in compare(then, now, latency_of(then), latency_of(now)))
    assert "book_table was called 1 instead of 2 times" in found
    assert "find_table was called." in found


@pytest.mark.parametrize("latency", [float("nan"), 10**400, "soon", True])
def test_a_length_that_is_no_number_is_that_of_its_event(latency: object) -> None:
    """A report may say anything."""
    told = {"title": "Response latency", "start_offset_ms": 0, "end_offset_ms": 400}
    assert latency_of(read({"events": [{**told, "metadata": {"latency_ms": latency}}]})).values == (400,)


def test_one_item_that_could_not_be_read_is_one() -> None:
    """The note says how many."""
    for count, words in ((1, "1 item of the report could not be read and is not shown."), (2, "2 items of the report")):
        call = read({"events": [5] * count})
        assert any(one.text.startswith(words) for one in findings(call, latency_of(call)))
