"""Scenarios: read from YAML, with every fault named by its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
        ("name: x\nstep: []\nsteps: [{drop: true}]", ":2: step: there is no such setting"),
        (
            "name: x\nsteps:\n  - say: a\nexpect:\n  latency_p95: fast\n",
            ":5: expect.latency_p95: Input should be a valid number",
        ),
        ("name: x\nsteps:\n  - say: a\nexpect:\n  tools:\n    - name: ''\n", ":6: expect.tools.0"),
        ("- name: x\n  steps: [{drop: true}]\n- steps: []\n", ":3: name: Field required"),
        ("name: [", ": no YAML"),
        ("name: x\nsteps: 3\n", ":2: steps: Input should be a valid list"),
        ("name: x\nsteps: [{drop: true}]\nnetwork:\n  - loss: 1\n", ":3: network: Input should be"),
        ("name: x\nsteps:\n  - drop: true\nname: y\n", ":4: name is given twice"),
        ("- name: x\n  steps:\n    - say: a\n      say: b\n", ":4: say is given twice"),
        ("name: x\nsteps:\n  - drop: true\n  - hang_up: 1006\n", ":4: steps.1: 1006 cannot be sent as a close code"),
        (
            "name: x\nsteps: [{silence: 1}, {say: a, interrupt_after: 1}]",
            "step 2 interrupts an answer, and the step before it, silence: 1.0, has none",
        ),
        ("name: x\nsteps: [{drop: true}]\nprotocol: sip\n", ":3: protocol: Input should be 'chirp', 'twilio'"),
        ("name: x\nsteps: [{drop: true}]\ncoding: l16/8000\n", "chirp does not carry 'l16/8000'"),
        ("- ", "valid dictionary"),
        ("[]", "holds no scenario"),
        ("", ":1: "),
    ],
)
def test_every_fault_is_named_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    """An editor can jump there."""
    with pytest.raises(ScenarioError) as refused:
        load(written(tmp_path, text))
    assert fault in str(refused.value)


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
