"""Scenarios: read from YAML, with every fault named by its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bluejay_ws.testing.scenarios import Scenario, ScenarioError, from_report, load
from tests.timeline.samples import good, talks_over

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
- name: Books a table
  steps:
    - say: A table, please.
    - say: At seven.
      interrupt_after: 0.8
    - dtmf: "12#"
      at: 30
  expect:
    tools: [book_table, {name: send_sms, times: 2}]
- name: Says nothing
  steps: [{silence: 3}]
"""


def written(tmp_path: Path, text: str) -> Path:
    """Return a file with this text."""
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return path


def test_a_file_holds_one_scenario_or_several(tmp_path: Path) -> None:
    """With everything that is not said at its default."""
    books, nothing = load(written(tmp_path, GOOD))
    assert [step.speaks for step in books.steps] == [True, True, True]
    assert [(tool.name, tool.times) for tool in books.expect.wanted] == [("book_table", None), ("send_sms", 2)]
    assert nothing.expect.errors == 0
    (one,) = load(written(tmp_path, "name: One\nsteps: [{drop: true}]"))
    assert one.protocol == "chirp"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: x\nsteps:\n  - say: a\n    play: b\n", ":3: steps.0: a step does exactly one of"),
        ("name: x\nsteps:\n  - at: 3\n", ":3: steps.0: a step does exactly one of"),
        ("name: x\nsteps:\n  - say: a\n    at: 1\n    interrupt_after: 2\n", "not both"),
        ("name: x\nstep: []\nsteps: [{drop: true}]", ":2: step: there is no such setting: did you mean steps?"),
        (
            "name: x\nsteps:\n  - say: a\nexpect:\n  latency_p95: fast\n",
            ":5: expect.latency_p95: it must be a number, without a unit",
        ),
        ("name: x\nsteps:\n  - say: a\nexpect:\n  tools:\n    - name: ''\n", ":6: expect.tools.0"),
        ("name: x\nsteps: [{say: a}]\nexpect: {latency_p95: 1500}", "it must be less than or equal to 120 seconds"),
        (
            "name: x\nsteps: [{say: a}]\nexpect: {tools: [{nam: b}]}",
            "expect.tools.0.nam: there is no such setting: did you",
        ),
        ("name: x\nsteps: [{say: a}]\nnetwork: {speed: 1}", "no such setting: give loss, delay_ms or jitter_ms"),
        ("name: 5\nsteps: [{dtmf: 1x}]", "steps.0.dtmf: it must be keys: 0 to 9"),
        ("name: 5\nsteps: [{drop: true}]", ":1: name: it must be text: write it in quotes"),
        ("name: x\nsteps: [{drop: true}]\n---\n", "several scenarios in a file are one list"),
        ("name: x\n\tsteps: []", "indent with spaces"),
        (
            "name: x\nsteps: [{say: Are you there?}]",
            ":2: no YAML: expected ',' or '}', but got '?': put text in quotes",
        ),
        ("- name: x\n  steps: [{drop: true}]\n- steps: []\n", ":3: name: it is missing"),
        ("name: [", ": no YAML"),
        ("name: x\nsteps: 3\n", ":2: steps: it must be a list"),
        ("name: x\nsteps: [{drop: true}]\nnetwork:\n  - loss: 1\n", ":3: network: it must be"),
        ("name: x\nsteps:\n  - drop: true\nname: y\n", ":4: name is given twice"),
        ("- name: x\n  steps:\n    - say: a\n      say: b\n", ":4: say is given twice"),
        ("name: x\nsteps:\n  - drop: true\n  - hang_up: 1006\n", ":4: steps.1: 1006 cannot be sent as a close code"),
        (
            "name: x\nsteps: [{silence: 1}, {say: a, interrupt_after: 1}]",
            "step 2 interrupts an answer, and the step before it, silence: 1.0, has none",
        ),
        ("name: x\nsteps: [{drop: true}]\nprotocol: sip\n", ":3: protocol: it must be 'chirp', 'twilio'"),
        ("name: x\nsteps: [{drop: true}]\ncoding: l16/8000\n", "chirp does not carry 'l16/8000'"),
        ("- ", "it must be settings"),
        ("[]", ":1: holds no scenario"),
        ("name: x\nsteps: &s\n  - *s\n", ":2: this holds itself"),
        ("name: x\nsteps:\n  - silence: 1\ntrue: 1\n", ":4: YAML does not take true for a word"),
        ("name: x\nsteps: [{drop: true}]\nexpect: {agent_says: ['']}", "expect.agent_says.0: "),
        ("? [a]\n: b\n", ":1: a key is a word"),
        ("name: x\nseconds: 2020-13-45\n", ":2: seconds: it must be a number"),
        ("name: x\n# \x07\n", ":2: no YAML: the character U+0007"),
        ("name: x\n\n- y: {{", ":3: no YAML"),
        ("name: x\nsteps:\n  - silence: 1\n    at: .inf\n", ":4: steps.0.at: it must be less than"),
        ("name: x\nsteps:\n  - silence: 1\n  - say: a\n    interrupt_after: 1\n", ":5: step 2 interrupts an answer"),
        ("name: x\nsteps: [{drop: true}]\nprotocol: twilio\ncoding: opus\n", ":4: twilio does not carry 'opus'"),
        ("name: x\nsteps: [{drop: true}]\nexpect:\n  tools:\n    - 5\n", ":5: expect.tools.0: give a tool's name"),
        (
            "name: x\nsteps: [{drop: true}]\nexpect:\n  tools:\n    - a: 5\n      name: b\n",
            ":5: expect.tools.0.a: there",
        ),
        ("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", ":1: name: it is missing"),
        ("[" * 1_000, ":1: no YAML: it is nested too deeply"),
        ("", ":1: "),
    ],
)
def test_every_fault_is_named_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    """An editor can jump there."""
    with pytest.raises(ScenarioError) as refused:
        load(written(tmp_path, text))
    assert fault in str(refused.value)


def test_what_a_person_takes_for_text_is_text(tmp_path: Path) -> None:
    """A time, a date, digits that begin with 0, a yes: an agent's parameters have them as text."""
    text = "{time: 19:00, date: 2026-11-28, card: 0042, reply: yes, people: 4, vip: true, tip: 0.1, note: null}"
    (one,) = load(
        written(tmp_path, f"name: x\nsteps: [{{say: a}}]\nexpect: {{tools: [{{name: t, parameters: {text}}}]}}")
    )
    wanted = {"time": "19:00", "date": "2026-11-28", "card": "0042", "reply": "yes"}
    numbers = {"people": 4, "vip": True, "tip": 0.1, "note": None}
    assert one.expect.wanted[0].parameters == wanted | numbers


def test_a_file_in_another_coding_is_refused_with_its_line(tmp_path: Path) -> None:
    """An editor wrote it so; a byte order mark is no fault."""
    path = tmp_path / "latin.yaml"
    path.write_bytes("# x\nname: é\n".encode("latin-1"))
    with pytest.raises(ScenarioError, match=r"latin\.yaml:2: is not UTF-8"):
        load(path)
    path.write_bytes("\ufeffname: é\nsteps: [{silence: 1}]".encode())
    assert [one.name for one in load(path)] == ["é"]


@pytest.mark.parametrize("offset", [None, "5", float("nan"), float("inf"), -5, 10**400, [], True])
def test_a_report_whose_times_have_no_sense_becomes_a_scenario_all_the_same(offset: Any) -> None:
    """A person has written it, or another tool."""
    lines = [
        {"speaker": "USER", "utterance": "Hi", "start_offset_ms": offset, "end_offset_ms": offset},
        {"speaker": "AGENT", "utterance": "Hello", "start_offset_ms": 1, "end_offset_ms": offset},
    ]
    made = from_report({"recorded_transcript": lines})
    assert made["steps"] == [{"say": "Hi"}]
    Scenario.model_validate(made)


def test_a_caller_who_left_with_the_last_word_does_so_again() -> None:
    """Nobody has to answer a goodbye; what the caller waited for in vain is to be answered."""

    def steps(closed_at: int, by: str = "caller", words: str = "Bye") -> list[dict[str, Any]]:
        said = [{"speaker": "USER", "utterance": words, "start_offset_ms": 500, "end_offset_ms": 1_000}]
        facts = {"closed_by": by}
        end = {"title": "Connection closed", "start_offset_ms": closed_at, "metadata": {"bluejay_ws": facts}}
        odd = [{"title": "x", "metadata": 5}, {"title": "y", "metadata": {"bluejay_ws": 5}}]
        made = from_report({"recorded_transcript": said, "events": [*odd, end]})
        Scenario.model_validate(made)
        return list(made["steps"])

    assert steps(2_000) == [{"say": "Bye"}, {"hang_up": 1000}]
    assert steps(9_000) == steps(2_000, by="agent") == [{"say": "Bye"}]
    assert steps(2_000, words=" ") == [{"listen": 5}]


def test_a_report_of_anything_becomes_a_scenario(tmp_path: Path) -> None:
    """What cannot be said, called or compared is left out; a long call has the time that it takes."""
    lines = [{"speaker": "USER", "utterance": f"a\x00 \ud800 {n}", "start_offset_ms": n * 1_000} for n in range(300)]
    lines.append({"speaker": "AGENT", "utterance": "Bye", "start_offset_ms": 1, "end_offset_ms": 300_000})
    calls = [{"name": None}, {"name": "f", "parameters": [1]}, 5, {"name": "g", "parameters": {1: {"x": float("nan")}}}]
    report = {"simulation_result_id": "x" * 400, "recorded_transcript": lines, "tool_calls": calls}
    made = from_report(report)
    path = tmp_path / "made.yaml"
    path.write_text(yaml.safe_dump(made, allow_unicode=True), "utf-8")
    (scenario,) = load(path)
    assert scenario == Scenario.model_validate(made)
    assert (len(scenario.steps), scenario.steps[0].say, scenario.seconds) == (200, "a ? 0", 510)
    assert made["expect"]["tools"] == [{"name": "f"}, {"name": "g", "parameters": {"1": {}}}]


def test_a_report_becomes_a_scenario() -> None:
    """The caller says the same again, over the agent's words where it did; the tools are expected."""
    made = from_report(talks_over())
    Scenario.model_validate(made)
    assert made["steps"] == [
        {"say": "Hi, I would like a table for tonight, for four people, and"},
        {"say": "No, for four. At seven.", "interrupt_after": 3.7},
        {"say": "My name is Rossi, and my number"},
    ]
    assert [tool["name"] for tool in made["expect"]["tools"]] == ["book_table", "book_table"]
    assert from_report({"recorded_transcript": [{"speaker": "USER", "utterance": " "}]})["steps"] == [{"listen": 5}]
    assert len(from_report(good())["steps"]) == 2
