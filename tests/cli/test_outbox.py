"""`bluejay-ws outbox`: the reports that wait, in the hands of a person."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.cli import main
from bluejay_ws.cli.outbox import age_of, reason_of, without_text
from bluejay_ws.client import Bluejay
from bluejay_ws.delivery.files import HELD, PARKED, READY, SENT, Name
from bluejay_ws.testing.platform import Answer, FakePlatform
from tests.delivery.kit import finished_call, locked, open_call, path_of, spool_at

if TYPE_CHECKING:
    from pathlib import Path


def put(directory: Path, identity: str, state: str, *tools: str) -> Name:
    """Put the report of a call into a spool, in this state; return its file's name."""
    parcel = finished_call(spool_at(directory), identity, *tools)
    name = Name(identity, parcel.report_id, READY)
    path_of(spool_at(directory), name).rename(directory / str(name.become(state)))  # as earlier versions left it
    return name.become(state)


def states(directory: Path) -> dict[str, str]:
    """Return the state of each call in a spool."""
    names = [Name.parse(path.name) for path in directory.rglob("*")]
    return {name.identity: name.state for name in names if name is not None}


def outbox(directory: Path, *arguments: str) -> int:
    """Run the command on a spool."""
    action, *rest = arguments or ("list",)
    return main(["outbox", action, "--spool", str(directory), *rest])


def test_an_empty_spool_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to look after is one line; without an action the list is meant."""
    assert main(["outbox", "--spool", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Nothing waits in {tmp_path}.\n"


def test_what_waits_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """State, id, age, items and tries of each; calls that go on and tombstones only with ``--all``."""
    put(tmp_path, "720488", HELD, "freeze_card")
    put(tmp_path, "720489", READY)
    put(tmp_path, "720490", SENT)
    open_file = open_call(spool_at(tmp_path), "720491")
    assert outbox(tmp_path) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].split() == ["state", "call", "age", "items", "tries", "reason"]
    assert sorted([*line.split()[:2], *line.split()[3:6]] for line in listed[1:]) == [
        ["held", "720488", "s", "2", "0"],
        ["waiting", "720489", "s", "1", "0"],
    ]
    assert outbox(tmp_path, "list", "--all") == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 5
    (live,) = [line.split() for line in listed if line.startswith("live")]
    assert live[4] == "-"  # its file is not read while it grows: nobody says that it holds nothing
    open_file.discard()


def test_what_was_recorded_without_a_key_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that sends it: it never leaves by itself."""
    monkeypatch.delenv("BLUEJAY_API_KEY", raising=False)
    with contextlib.closing(Bluejay(spool=tmp_path)) as bluejay, bluejay.call({"X-Simulation-Result-Id": "720488"}):
        pass
    assert outbox(tmp_path) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "kept apart: recorded without an API key" in listed
    assert "To send what is kept apart: bluejay-ws outbox deliver --kept-apart" in listed


def test_a_reason_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A note in a file may have been written by anybody."""
    name = put(tmp_path, "720488", PARKED)
    with locked(spool_at(tmp_path), name) as claim:
        claim.note(outcome="http.422", detail="\x1b]0;title\x07\x9b2J")
    assert outbox(tmp_path) == 0
    shown = capsys.readouterr().out
    assert "Bluejay refused its content (422)" in shown
    assert not any(character in shown for character in "\x1b\x07\x9b")


def test_a_report_is_shown_without_its_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and times are shown; parameters, outputs and words only when asked for."""
    put(tmp_path, "720488", PARKED, "freeze_card")
    assert outbox(tmp_path, "show", "720488") == 0
    hidden = capsys.readouterr().out
    assert "tool    freeze_card" in hidden
    assert "1 tool call, 0 utterances, 1 event" in hidden
    assert not re.search(r"\b(4242|last4|frozen)\b", hidden)  # a random id may hold the digits
    assert outbox(tmp_path, "show", "720488", "--text") == 0
    assert '{"last4": "4242"}' in capsys.readouterr().out


def test_hiding_leaves_names_and_times() -> None:
    """What people said becomes its length; tags, metadata and descriptions go too."""
    report = {
        "recorded_transcript": [
            {"start_offset_ms": 1, "end_offset_ms": 2, "speaker": "USER", "utterance": "my secret"},
        ],
        "tool_calls": [{"start_offset_ms": 3, "name": "f", "parameters": {"a": 1}, "output": 2, "description": "d"}],
        "events": [{"start_offset_ms": 4, "end_offset_ms": 5, "title": "t", "description": "d", "metadata": {"m": 1}}],
        "tags": ["vip"],
        "metadata": {"name": "Ann"},
    }
    assert without_text(report) == {
        "recorded_transcript": [
            {"start_offset_ms": 1, "end_offset_ms": 2, "speaker": "USER", "utterance": "(9 characters)"},
        ],
        "tool_calls": [{"start_offset_ms": 3, "name": "f"}],
        "events": [{"start_offset_ms": 4, "end_offset_ms": 5, "title": "t"}],
    }


def test_a_report_is_exported_as_the_platform_would_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON document for one report; with several the report id decides."""
    put(tmp_path, "720488", HELD, "freeze_card")
    assert outbox(tmp_path, "export", "720488") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["simulation_result_id"], report["tool_calls"][0]["name"]) == ("720488", "freeze_card")
    other = put(tmp_path, "720488", HELD, "other_tool")
    assert outbox(tmp_path, "export", "720488") == 1
    assert "give a report id" in capsys.readouterr().err
    assert outbox(tmp_path, "export", other.report_id) == 0
    assert "other_tool" in capsys.readouterr().out


def test_a_delivered_report_is_not_shown_as_one_whose_process_died(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the mark is left of it: nothing is made up in its place."""
    put(tmp_path, "720490", SENT)
    assert outbox(tmp_path, "show", "720490") == 0
    shown = capsys.readouterr().out
    assert "its text is gone" in shown
    assert "Connection closed" not in shown
    assert outbox(tmp_path, "export", "720490") == 1
    assert "bluejay-ws result 720490" in capsys.readouterr().err


def test_held_and_parked_reports_are_retried_and_released(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By id, or all of a state; what waits anyway is left alone."""
    put(tmp_path, "1", PARKED)
    put(tmp_path, "2", HELD)
    put(tmp_path, "3", HELD)
    assert outbox(tmp_path, "retry", "1") == 0
    assert outbox(tmp_path, "release", "--state", "held") == 0
    assert states(tmp_path) == {"1": READY, "2": READY, "3": READY}
    printed = capsys.readouterr().out
    assert "call 1: will be looked for, then sent" in printed
    assert "call 2: will be sent" in printed
    assert outbox(tmp_path, "retry", "1") == 1
    assert "call 1 is ready" in capsys.readouterr().err


def test_deleting_wants_to_be_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without ``--yes`` nothing is removed."""
    put(tmp_path, "1", PARKED)
    put(tmp_path, "2", HELD)
    assert outbox(tmp_path, "delete", "1") == 1
    assert "say --yes" in capsys.readouterr().err
    assert states(tmp_path) == {"1": PARKED, "2": HELD}
    assert outbox(tmp_path, "delete", "1", "--yes") == 0
    assert states(tmp_path) == {"2": HELD}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("retry",), 2, "of which call or report?"),
        (("show", "999"), 1, "holds no call or report '999'"),
    ],
)
def test_what_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    """A missing id is wrong usage, an unknown one is not."""
    assert outbox(tmp_path, *arguments) == code
    assert words in " ".join(capsys.readouterr().err.split())


def test_the_spool_of_the_environment_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the agent's reports are is where they are looked for."""
    put(tmp_path, "720488", HELD)
    monkeypatch.setenv("BLUEJAY_SPOOL", str(tmp_path))
    assert main(["outbox"]) == 0
    assert "720488" in capsys.readouterr().out


def test_a_spool_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that was spelt wrongly is not an empty outbox, and is not made."""
    assert outbox(tmp_path / "other") == 1
    assert "there is no spool at" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_scripts_get_one_document_of_each_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """List, show, export, retry, delete and deliver."""
    put(tmp_path, "1", PARKED, "freeze_card")
    put(tmp_path, "2", READY)

    def document(*arguments: str) -> dict[str, Any]:
        outbox(tmp_path, *arguments, "--json")
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert sorted((one["call"], one["state"]) for one in document("list")["reports"]) == [
        ("1", "parked"),
        ("2", "waiting"),
    ]
    assert document("show", "1")["report"]["tool_calls"] == [{"start_offset_ms": 5, "name": "freeze_card"}]
    assert document("export", "1")["simulation_result_id"] == "1"
    assert document("retry", "1") == {"changed": ["1"]}
    assert document("delete", "2", "--yes") == {"deleted": ["2"]}
    with FakePlatform() as platform:
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        monkeypatch.setenv("BLUEJAY_API_KEY", platform.api_key)
        monkeypatch.setattr("bluejay_ws.cli.outbox.Bluejay", functools.partial(Bluejay, redial_wait=0.0))
        assert document("deliver") == {"settled": 1, "waiting": 0, "held_or_parked": 0}


def test_nothing_to_change_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No empty output, and no sentence about nothing."""
    assert outbox(tmp_path, "retry", "--state", "held") == 0
    assert outbox(tmp_path, "delete", "--state", "parked") == 0
    assert capsys.readouterr().out == "No report is held.\nNo report is parked.\n"


def test_delivering_from_an_empty_spool_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that none of none was sent."""
    monkeypatch.setenv("BLUEJAY_API_KEY", "made-up-key")
    assert outbox(tmp_path, "deliver") == 0
    assert capsys.readouterr().out == f"Nothing waits in {tmp_path}.\n"


@pytest.mark.parametrize(
    ("reason", "detail", "words"),
    [
        ("http.422", "body.tags.0 string_type", "Bluejay refused its content (422): body.tags.0 string_type"),
        ("http.502", "", "the outcome is unknown (502)"),
        ("http.418", "", "not accepted (418)"),
        ("process_lost", "", "its process ended before the call did"),
        ("read_timeout", "", "the platform does not answer: the answer takes too long"),
        ("write_timeout", "", "write timeout"),
        ("http.200_unexpected_body", "", "the outcome is unknown (200)"),
        ("", "", ""),
    ],
)
def test_a_reason_is_said_in_words(reason: str, detail: str, words: str) -> None:
    """Codes that nobody has words for are read as they are."""
    assert reason_of(reason, detail) == words


def test_wrong_settings_are_told_with_their_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words of the settings, as wrong usage."""
    monkeypatch.setenv("BLUEJAY_API_URL", "ftp://platform")
    assert outbox(tmp_path) == 2
    assert "BLUEJAY_API_URL" in capsys.readouterr().err


def test_delivering_needs_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key nothing is tried."""
    assert outbox(tmp_path, "deliver") == 2
    assert "BLUEJAY_API_KEY is not set" in capsys.readouterr().err


def test_what_waits_is_delivered_from_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports that wait go out; what is refused for good is parked, listed, and the exit code says so."""
    put(tmp_path, "1", READY, "freeze_card")
    put(tmp_path, "2", READY)
    with FakePlatform() as platform:
        platform.plan(Answer(status=422))
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        monkeypatch.setenv("BLUEJAY_API_KEY", platform.api_key)
        monkeypatch.setattr("bluejay_ws.cli.outbox.Bluejay", functools.partial(Bluejay, redial_wait=0.0))
        assert outbox(tmp_path, "deliver") == 1
        assert len(platform.accepted) == 1
    printed = capsys.readouterr().out
    assert "2 reports settled.\nstate" in printed
    assert "\nparked " in printed
    assert sorted(states(tmp_path).values()) == [PARKED, SENT]


def test_delivering_ends_when_its_time_is_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform that is away is not waited for longer than asked, and nothing is lost."""
    put(tmp_path, "1", READY)
    with FakePlatform() as platform:
        platform.refuse()
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        monkeypatch.setenv("BLUEJAY_API_KEY", platform.api_key)
        assert outbox(tmp_path, "deliver", "--seconds", "0.1") == 1
    assert "0 reports settled; 1 report still waiting." in capsys.readouterr().out
    assert set(states(tmp_path)) == {"1"}


@pytest.mark.parametrize(
    ("age", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7_200, "2 h"), (9 * 86_400, "9 d")]
)
def test_ages_are_said_as_a_person_does(age: float, words: str) -> None:
    """One unit is enough."""
    assert age_of(age) == words
