"""`bluejay-ws result` and `results`: what the platform shows, for a person and for CI."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.cli import main
from bluejay_ws.client import Bluejay
from bluejay_ws.testing.platform import Answer, FakePlatform
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPECTED: dict[str, list[dict[str, Any]]] = {
    "freeze_card": [{"parameters": {"last4": "4321"}, "output": "ok"}],
    "send_sms": [{"parameters": None, "output": None}],
}
METRIC = {"name": "tone", "description": "", "response_type": "text", "response_value": "calm", "reasoning": "slow"}
EVALUATION = {
    "goal_success": True,
    "goal_reasoning": "the card is frozen",
    "call_summary": "a lost card",
    "custom_metrics": [METRIC, "odd"],
    "latency": {"p95_agent_latency": 1.5},
}


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlatform]:
    """Return a platform, which the environment names, with one reported call."""
    with FakePlatform() as platform:
        monkeypatch.setenv("BLUEJAY_API_KEY", platform.api_key)
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        platform.read_back.evaluation = EVALUATION
        headers, bluejay = {"X-Simulation-Result-Id": "720488"}, Bluejay(spool=False)
        with bluejay, bluejay.call(headers) as recorder, recorder.tool_call("freeze_card", {"last4": "1234"}) as call:
            call.output = "done"
        platform.wait_for(1)
        yield platform


def test_a_call_is_shown_side_by_side(platform: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    """Status in words, expected and actual call, what differs, and what the judge said."""
    platform.read_back.expected_tools = EXPECTED
    assert main(["result", "720488"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "call 720488: COMPLETED, the call took place and was evaluated",
        'expected  {"last4": "4321"}',
        'actual    {"last4": "1234"}',
        'differs   last4: expected "4321", was "1234"',
        'output    expected "ok", was "done"',
        "missing      send_sms",
        "latency       p95 1.5",
        "true: the card is frozen",
        "a lost card",
        "calm: slow",
    ):
        assert words in shown
    assert main(["result", "720488", "--check"]) == 1


def test_a_call_without_tools_or_times_says_so(platform: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there is not invented; what to do about a status is."""
    platform.read_back.status = "NO_ANSWER"
    assert main(["result", "720999"]) == 0
    shown = capsys.readouterr().out
    assert "no tool calls, expected or actual" in shown
    assert "see whether the handler fails at its start" in shown
    assert "started" not in shown


def test_a_script_gets_json(platform: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole result, with the reasons to fail."""
    assert main(["result", "720488", "--json", "--wait", "--seconds", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["failures"]) == ("COMPLETED", [])
    assert found["tool_calls"][0]["actual"]["parameters"] == {"last4": "1234"}


def test_a_run_has_a_verdict(platform: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    """Each call in a line, the reasons below, and the exit code for CI."""
    platform.read_back.runs["9"] = ["720488"]
    assert main(["results", "9"]) == 0
    assert capsys.readouterr().out == "passed  call 720488: COMPLETED\n1 of 1 calls passed\n"
    platform.read_back.runs["9"] += ["720489"]
    assert main(["results", "9"]) == 1
    shown = capsys.readouterr().out
    assert "failed  call 720489: EVALUATING" in shown
    assert "1 of 2 calls passed; the platform is not done yet" in shown


def test_a_strict_verdict_is_the_same_everywhere(platform: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    """In the exit code, in each call's line, in the count and in the document."""
    platform.read_back.runs["9"] = ["720488"]
    platform.read_back.evaluation = {**EVALUATION, "hallucination": True}
    assert main(["results", "9"]) == 0
    capsys.readouterr()
    assert main(["results", "9", "--strict"]) == 1
    shown = capsys.readouterr().out
    assert "failed  call 720488" in shown
    assert "0 of 1 calls passed" in shown
    for command in (["result", "720488"], ["results", "9"]):
        assert main([*command, "--strict", "--json"]) == 1
        assert "hallucination" in str(json.loads(capsys.readouterr().out)["failures"])


def test_calls_can_be_named_where_the_platform_has_no_runs(
    platform: FakePlatform, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file or from the input, one id on each line."""
    (tmp_path / "ids").write_text("720488\n# none\n")
    assert main(["results", "--calls", str(tmp_path / "ids")]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("720488\n720489\n"))
    assert main(["results", "--calls", "-", "--json"]) == 1
    shown = capsys.readouterr().out
    assert [call["status"] for call in json.loads(shown[shown.index("{") :])["calls"]] == ["COMPLETED", "EVALUATING"]


def test_what_cannot_be_done_ends_with_a_reason(
    platform: FakePlatform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wrong arguments are 2; a platform that says no is 1."""
    (tmp_path / "empty").write_text("\n")
    assert main(["results"]) == main(["results", ""]) == main(["result", " "]) == 2
    assert main(["results", "9", "--calls", "x"]) == 2
    assert main(["results", "--calls", str(tmp_path / "none")]) == 2
    assert main(["results", "--calls", str(tmp_path / "empty")]) == 2
    platform.plan_reads(Answer(status=401))
    assert main(["result", "720488"]) == 1
    assert "refuses the key" in capsys.readouterr().err
    monkeypatch.delenv("BLUEJAY_API_KEY")
    with caplog.at_level(logging.DEBUG, "bluejay_ws"):
        assert main(["result", "720488"]) == 2
    assert caplog.records == []  # the library has nothing to add
    monkeypatch.setenv("BLUEJAY_API_URL", "ftp://x")
    assert main(["result", "720488"]) == 2


def test_what_the_platform_says_cannot_steer_the_terminal(
    platform: FakePlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, reasons and ids are shown without control characters."""
    platform.read_back.status = "\x1b[31mODD"
    platform.read_back.expected_tools = {"\x1b]0;x\x07": [{"parameters": {"\x9b": 1}, "output": None}]}
    platform.read_back.evaluation = {"custom_metrics": [{"name": "\x1b[31m"}]}
    assert main(["result", "720488"]) == 0
    assert not any(character in capsys.readouterr().out for character in "\x1b\x07\x9b")


# -- on the timeline page -------------------------------------------------------------------------------------------


def test_the_page_of_a_call_holds_what_the_platform_shows(
    platform: FakePlatform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tools side by side, evaluations, trace ids: in one HTML file."""
    platform.read_back.expected_tools = EXPECTED
    page = tmp_path / "page.html"
    assert main(["result", "720488", "--html", str(page)]) == 0
    assert str(page) in "".join(capsys.readouterr().out.split())
    text = page.read_text("utf-8")
    for words in ("What the platform shows", "the card is frozen", "never called", "wrong parameters"):
        assert words in text
    assert "The tool send_sms was expected and never called." in text


@pytest.fixture
def report(platform: FakePlatform, tmp_path: Path) -> Path:
    """Return the file of the report that was sent."""
    path = tmp_path / "report.json"
    path.write_bytes(platform.accepted[0].body)
    return path


@pytest.mark.parametrize("kind", ["asked", "document", "answer"])
def test_a_report_is_shown_with_its_result(
    platform: FakePlatform, tmp_path: Path, report: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the platform, from what `result --json` wrote, or from the platform's own answer in a file."""
    platform.read_back.expected_tools = EXPECTED
    assert main(["result", "720488", "--json"]) == 0
    result, page = tmp_path / "result.json", tmp_path / "page.html"
    result.write_text(capsys.readouterr().out)
    if kind == "answer":
        result.write_text(json.dumps({"simulation_result": Bluejay(spool=False).result("720488").raw}))
    before = len(platform.requests)
    options = ["--result"] if kind == "asked" else ["--result", str(result)]
    assert main(["show", str(report), "--html", str(page), *options]) == 0
    assert len(platform.requests) == before + (kind == "asked")
    assert "The tool send_sms was expected and never called." in " ".join(capsys.readouterr().out.split())
    assert "the card is frozen" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read (FileNotFoundError)"),
        ("{", "cannot be read (JSONDecodeError)"),
        ("[]", "holds no result"),
        ("{}", "holds no result"),
        ('{"status": "COMPLETED", "simulation_result_id": "7"}', "is about another call"),
    ],
)
def test_a_file_that_holds_no_result_is_named(
    tmp_path: Path, report: Path, text: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the reason, and what to give."""
    result = tmp_path / "result.json"
    if text is not None:
        result.write_text(text)
    assert main(["show", str(report), "--result", str(result)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "bluejay-ws result ID --json" in said


def test_a_report_of_the_outbox_is_shown_with_its_result(platform: FakePlatform, tmp_path: Path) -> None:
    """One that waits while the platform already shows something of its call."""
    spool, page = str(tmp_path / "spool"), tmp_path / "page.html"
    platform.otherwise(Answer(status=429, headers={"Retry-After": "60"}))
    before = len(platform.requests)
    with (
        Bluejay(spool=spool, flush_timeout=0) as bluejay,
        bluejay.call({"X-Simulation-Result-Id": "720488"}) as recorder,
    ):
        recorder.agent_said("hello")
    eventually(lambda: len(platform.requests) > before and [*(tmp_path / "spool").rglob("*.ready")])  # tried once
    assert main(["outbox", "show", "720488", "--spool", spool, "--html", str(page), "--result"]) == 0
    assert "the card is frozen" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "socks5://ada:secret@localhost:1"),
        ("all_proxy", "://ada:secret@"),
        ("SSL_CERT_FILE", "/none"),
    ],
)
def test_an_unusable_variable_of_the_environment_is_named(
    variable: str,
    value: str,
    platform: FakePlatform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line and in the document, without its value; not in a traceback."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("BLUEJAY_API_URL", "https://localhost:1")
    monkeypatch.setenv(variable, value)
    assert main(["result", "720488", "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"].startswith(f"{variable} cannot be used")
    assert f"{variable} cannot be used" in printed.err
    assert "secret" not in printed.out + printed.err
