"""`bluejay-ws check`: an agent that gets worse fails the build, and one that does not passes."""

from __future__ import annotations

import json
import socket
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from websockets.sync.server import serve

from bluejay_ws import Bluejay
from bluejay_ws.cli import check, main
from bluejay_ws.cli.check import Run, junit, verdict_of, worse
from bluejay_ws.testing.audio import voice, write_wav
from bluejay_ws.testing.scenarios import Scenario
from tests.support import eventually
from tests.testing import scenario_agent

AGENT = Path(__file__).parents[1] / "testing" / "scenario_agent.py"
SCENARIO = """\
name: Books a table
steps:
  - play: order.wav
expect:
  tools: [{name: book_table, parameters: {people: 4}}]
  agent_says: [booked]
  outcome: completed
caller: {greeting: 20, patience: 20}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Return the file of a scenario that needs no espeak-ng."""
    write_wav(tmp_path / "order.wav", voice(800))
    path = tmp_path / "books.yaml"
    path.write_text(SCENARIO)
    return path


def command(manner: str) -> str:
    """Return the command that starts the agent."""
    return f"{sys.executable} {AGENT} {manner}"


def test_an_agent_that_books_passes_and_leaves_its_results(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages and JUnit."""
    xml, pages = tmp_path / "junit.xml", tmp_path / "pages"
    files = ["--junit", str(xml), "--html", str(pages)]
    assert main(["check", str(scenario), "--run", command("good"), "-n", "2", "--repeat", "2", *files]) == 0
    assert "2 calls, 0 failed." in capsys.readouterr().out
    assert [page.name[:20] for page in pages.iterdir()] == ["books-a-table-local-"] * 2
    assert ET.parse(xml).getroot().attrib["failures"] == "0"


def test_an_agent_whose_process_ends_in_a_call_has_failed(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It could be called, so it is not unusable: each call says why it failed, and the results are written."""
    xml = tmp_path / "junit.xml"
    assert main(["check", str(scenario), "--run", command("dying"), "--repeat", "2", "--junit", str(xml)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("the agent's process ended (exit code 3); it said: no memory is left") == 2
    root = ET.parse(xml).getroot()
    assert (root.attrib["failures"], root.attrib["skipped"], root.attrib["errors"]) == ("2", "0", "0")


def in_process(monkeypatch: pytest.MonkeyPatch, manner: str) -> list[str]:
    """Return the arguments for the same agent in this process, in virtual time."""
    monkeypatch.setattr(scenario_agent, "MANNER", manner)
    return ["--app", "tests.testing.scenario_agent:agent"]


WORSE = {
    "forgetful": "book_table was not called (called: no tool)",
    "failing": "there was 1 error: book_table failed with TimeoutError",
    "slow": "the answers took 2.",
}


def test_an_agent_that_has_become_worse_fails_every_time(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, and the reason; as JSON for scripts. In virtual time no call of many is different."""
    scenario.write_text(SCENARIO.replace("outcome: completed", "outcome: completed\n  latency_p95: 2"))
    often = ["--repeat", "2", "-n", "2", "--json"]
    assert main(["check", str(scenario), *in_process(monkeypatch, "good"), *often]) == 0
    for manner, fault in WORSE.items():
        assert main(["check", str(scenario), *in_process(monkeypatch, manner), *often]) == 1
        runs = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
        assert [fault in run["faults"][0] for run in runs] == [True] * 2


def test_an_agent_slower_than_last_time_fails(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the baseline that it left; what is not in that baseline is named."""
    saved = tmp_path / "last.json"
    assert main(["check", str(scenario), *in_process(monkeypatch, "good"), "--save", str(saved)]) == 0
    against = ["--baseline", str(saved)]
    assert main(["check", str(scenario), *in_process(monkeypatch, "good"), *against]) == 0
    assert main(["check", str(scenario), *in_process(monkeypatch, "slow"), *against]) == 1
    assert "slower" in capsys.readouterr().out
    scenario.write_text(SCENARIO.replace("Books a table", "Another"))
    assert main(["check", str(scenario), *in_process(monkeypatch, "slow"), *against]) == 0
    assert "not in the baseline, so not compared: Another" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1"])
def test_a_baseline_that_nothing_can_be_worse_than_is_refused(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    """It would pass every agent."""
    saved = tmp_path / "last.json"
    saved.write_text(f'{{"latency_p95_ms": {{"Books a table": {value}}}}}')
    assert main(["check", str(scenario), "--app", "x:y", "--baseline", str(saved)]) == 2
    assert "no length of time" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("form", ["{one}", "- name: other\n  steps: [silence: 1]\n- {many}"])
def test_a_sound_that_cannot_be_used_is_named_with_its_line(
    scenario: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """An editor can jump there."""
    text = "name: x\nsteps:\n  - silence: 1\n  - play: nowhere.wav\n"
    scenario.write_text(form.format(one=text, many=text.replace("\n", "\n  ")))
    assert main(["check", str(scenario), "--app", "x:y"]) == 2
    line = 4 if form == "{one}" else 6
    assert f":{line}: cannot play 'nowhere.wav'" in "".join(capsys.readouterr().err.split("\n"))


def test_an_agent_that_reports_nothing_says_what_to_do(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A carrier's id stands elsewhere than in the header, and so the advice differs."""
    monkeypatch.setattr(check, "REPORT_SECONDS", 0.01)
    short = "name: x\nsteps: [silence: 0.3]\ncaller: {greeting: 0}\n"
    scenario.write_text(short)
    silent = ["--app", "tests.testing.scenario_agent:unrecorded"]
    assert main(["check", str(scenario), *silent]) == 1
    assert "is the agent's handler under @record?" in capsys.readouterr().out
    scenario.write_text(short + "protocol: twilio")
    assert main(["check", str(scenario), *silent]) == 1
    assert 'id_from=("header", "message")' in " ".join(capsys.readouterr().out.split())


def test_what_this_machine_could_not_measure_is_unclear(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3: skipped in JUnit, and kept out of the next baseline."""
    scenario.write_text(SCENARIO.replace("outcome: completed", "outcome: completed\n  silence: 0.01"))
    monkeypatch.setattr("bluejay_ws.cli.check.TRUSTED_MS", -1.0)
    saved, xml = tmp_path / "last.json", tmp_path / "junit.xml"
    files = ["--save", str(saved), "--junit", str(xml)]
    assert main(["check", str(scenario), *in_process(monkeypatch, "good"), *files]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "unclear" in said
    assert "this machine was too slow to measure" in said
    assert json.loads(saved.read_text()) == {"latency_p95_ms": {}}
    assert (ET.parse(xml).getroot().attrib["failures"], len(list(ET.parse(xml).iter("skipped")))) == ("0", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which scenarios?"),
        (["{scenario}"], "which agent?"),
        (["{scenario}", "--url", "ws://x", "--run", "y"], "which agent?"),
        (["none.yaml", "--run", "y"], "cannot read a scenario"),
        (["{bad}", "--run", "y"], "bad.yaml:1: "),
        (["{scenario}", "{scenario}", "--run", "y"], "two scenarios are called 'Books a table'"),
        (["{scenario}", "--run", "{python} -c pass"], "the agent ended before it listened"),
        (["{scenario}", "--url", "ws://127.0.0.1:9", "--platform-port", "{taken}"], "no platform on port"),
        (["{scenario}", "--run", "y", "--baseline", "{bad}"], "no baseline in"),
        (["{scenario}", "--run", "/none/agent"], ""),
        (["{scenario}", "--url", "ws://127.0.0.1:9", "--platform-port", "0"], "nobody listens at"),
    ],
)
def test_what_cannot_be_used_is_exit_code_two(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """A scenario, an agent or a baseline that is unusable is no failure of the agent."""
    (tmp_path / "bad.yaml").write_text("nothing: here")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words_for = {"taken": listener.getsockname()[1], "python": sys.executable}
        given = [word.format(scenario=scenario, bad=tmp_path / "bad.yaml", **words_for) for word in arguments]
        assert main(["check", *given]) == 2
    assert words in " ".join(capsys.readouterr().err.split()).replace("bad.yaml: 1", "bad.yaml:1")


def test_a_running_agent_is_called_at_its_url(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must report to the platform whose variables are printed; one that does not is said to report nothing."""
    monkeypatch.setattr(check, "REPORT_SECONDS", 0.01)
    scenario.write_text("{name: x, steps: [silence: 0.05], caller: {greeting: 0}}")

    def silent(connection: Any) -> None:
        for _ in connection:
            pass

    with serve(silent, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        assert main(["check", str(scenario), "--url", url, "--platform-port", "0"]) == 1
        server.shutdown()
        thread.join()
    said = capsys.readouterr().out
    assert "The agent must have BLUEJAY_API_URL=http://127.0.0.1:" in said
    assert "no report came" in said


def test_results_that_cannot_be_written_are_said(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a call without a report has a page of what the caller noticed; scripts are given its name."""
    for place in (["--junit", str(tmp_path / "no" / "junit.xml")], ["--html", str(scenario)]):
        assert main(["check", str(scenario), "--app", "not:tried", *place]) == 2  # before any call is made
        assert "cannot write" in capsys.readouterr().err
    monkeypatch.setattr(check, "REPORT_SECONDS", 0.01)
    short = "name: x\nsteps: [silence: 0.3]\ncaller: {greeting: 0}\n"
    scenario.write_text(short)
    silent = ["--app", "tests.testing.scenario_agent:unrecorded"]
    assert main(["check", str(scenario), *silent, "--html", str(tmp_path / "pages"), "--json"]) == 1
    page = Path(json.loads(capsys.readouterr().out)["runs"][0]["page"])
    assert "not received" in page.read_text("utf-8")


def test_yaml_is_an_extra(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is missing both commands say how to get it."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["check", str(scenario), "--run", "x"]) == 2
    assert main(["scenario", "from-report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("pip install 'bluejay_ws[check]'") == 2


def test_the_schema_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """For editors: it takes what the model takes."""
    assert main(["check", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"name": "x", "steps": [{"say": "a"}], "expect": {"tools": ["a", {"name": "b"}]}}, schema)


def made(*faults: str, trusted: bool = True, timed: bool = False, latencies: tuple[float, ...] = ()) -> Run:
    """Return a run with this outcome."""
    scenario = Scenario.model_validate(
        {"name": "x", "steps": [{"drop": True}], "caller": {"voices": ["a", "b"], "seeds": [1, 2]}}
    )
    run = Run(scenario, Path("x.yaml"), "a", 1, 1, "local-1", {})
    run.faults, run.trusted, run.timed_only, run.latencies = list(faults), trusted, timed, list(latencies)
    return run


@pytest.mark.parametrize(
    ("runs", "slower", "code"),
    [
        ([made()], [], 0),
        ([made("a")], [], 1),
        ([made("late", timed=True)], [], 1),
        ([made("late", timed=True, trusted=False)], [], 3),
        ([made("late", "tool", trusted=False)], [], 1),
        ([made(trusted=False)], [], 0),
        ([made()], ["slower"], 1),
        ([made(trusted=False)], ["slower"], 3),
    ],
)
def test_the_exit_code_says_whose_fault_it_is(runs: list[Run], slower: list[str], code: int) -> None:
    """1 for the agent, 3 where only this machine's slowness speaks."""
    assert verdict_of(runs, slower) == code


def test_a_baseline_has_a_floor_of_noise() -> None:
    """Worse is more than a quarter and more than 150 ms, by the median of the repetitions."""
    name = "x (a, seed 1)"
    runs: list[Any] = [made(latencies=(value,)) for value in (900.0, 1_000.0, 5_000.0)]
    assert worse(runs, {name: 850.0}) == []
    assert worse(runs, {name: 700.0}) == [f"{name}: answers take 1000 ms (p95); in the baseline 700 ms"]
    assert worse([made()], {name: 1.0}) == [f"{name}: no answer was timed; in the baseline 1 ms (p95)"]
    assert worse([made()], {"another": 1.0}) == []


def test_junit_has_a_case_for_each_call() -> None:
    """Failures with their sentences, in XML whatever they hold."""
    root = ET.fromstring(junit([made(), made("bad \x00\ud800 <b>")], ["x: slower"]))
    assert (root.attrib["tests"], root.attrib["failures"]) == ("3", "2")
    assert len(root.findall("testcase/failure")) == 2


def test_a_report_becomes_a_scenario_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file; an id that the spool does not hold is named."""
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"simulation_result_id": "7", "tool_calls": [{"name": "a", "start_offset_ms": 1}]}))
    assert main(["scenario", "from-report", str(report)]) == 0
    assert "name: Call 7 again" in capsys.readouterr().out
    assert main(["scenario", "from-report", "999", "--spool", str(tmp_path)]) == 1


def test_a_report_in_the_spool_becomes_a_scenario_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its id, while it waits there."""
    client = Bluejay("key", base_url="http://127.0.0.1:9", spool=tmp_path, flush_timeout=0.01)
    with client.call({"X-Simulation-Result-Id": "local-5"}) as recorder:
        recorder.add_tool_call("book_table", parameters={"people": 4})
    client.close()
    eventually(lambda: main(["scenario", "from-report", "local-5", "--spool", str(tmp_path)]) == 0)
    assert "name: Call local-5 again" in capsys.readouterr().out
