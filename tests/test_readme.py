"""The README keeps its word: its Python runs, its commands exist, its links lead somewhere.

A block that cannot run here follows a comment that says why: ``<!-- not run: needs an account -->``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from websockets.asyncio import server

from bluejay_ws.cli import main
from bluejay_ws.cli.inprocess import hosted, served
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.platform import FakePlatform
from tests import nursery

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


class Block(NamedTuple):
    """One fenced block: the line it begins at, its language, its text, and why it is not run (if so)."""

    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"line {self.line}"


def _blocks(text: str) -> Iterator[Block]:
    pattern = re.compile(r"(?:<!-- not run: ([^>]+) -->\n+)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for found in pattern.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        yield Block(line, found[2], found[3], found[1])


BLOCKS = list(_blocks(README))
PYTHON = [block for block in BLOCKS if block.language == "python" and block.not_run is None]
COMMANDS = [
    command.strip()
    for block in BLOCKS
    if block.language in {"sh", "console"}
    for line in block.text.splitlines()
    for command in re.split(r"&&|;", line.partition(" #")[0].removeprefix("$ "))
]


def _environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "BLUEJAY_SPOOL": str(tmp_path / "spool"), **more}


RUN = """
import os, runpy, sys
for path in sys.argv[1:]:
    child = os.fork()
    if not child:
        runpy.run_path(path, run_name="readme")
        sys.exit()
    if os.waitpid(child, 0)[1]:
        sys.exit(path)
"""


def test_each_python_block_runs(tmp_path: Path) -> None:
    """Whoever pastes a block into a file gets no error and no warning; each runs in a process of its own."""
    old = not hasattr(server, "basic_auth")  # websockets before 14 has none for asyncio
    blocks = [block for block in PYTHON if not (old and "basic_auth" in block.text)]
    paths = [tmp_path / f"{block.line}.py" for block in blocks]
    for path, block in zip(paths, blocks, strict=True):
        path.write_text(block.text, "utf-8")
    command = [sys.executable, "-W", "error", "-c", RUN, *map(str, paths)]
    done = nursery.run(command, check=False, env=_environment(tmp_path, BLUEJAY_API_KEY="made-up-key"))
    assert (done.returncode, done.stderr) == (0, "")


async def _called() -> None:
    async with served("readme_agent:agent") as url:
        await DigitalHuman(url, "720488").call(greeting=2.0)


def test_the_first_block_is_an_agent_that_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first screen of the README, called by the Digital Human, ends in an accepted report with its tool call."""
    (tmp_path / "readme_agent.py").write_text(PYTHON[0].text, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with FakePlatform() as platform:
        variables = {"BLUEJAY_API_KEY": platform.api_key, "BLUEJAY_API_URL": platform.url}
        with hosted(variables, virtual=True) as runner:  # in virtual time, which no busy machine disturbs
            runner.run(_called())
            (accepted,) = platform.wait_for(1)
    del sys.modules["readme_agent"]
    report = accepted.report
    assert accepted.simulation_result_id == "720488"
    (tool_call,) = report["tool_calls"]
    assert (tool_call["name"], tool_call["parameters"]) == ("freeze_card", {"last4": "4242"})
    assert tool_call["output"] == "card 4242 frozen"
    said = [item["utterance"] for item in report["recorded_transcript"]]
    assert (said[0], said[-1]) == ("Hello, how can I help?", "Your card is frozen.")
    assert [event["title"] for event in report["events"] if "interrupt" in event["title"]] == []


def test_the_first_run_of_the_first_block_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Saved as a file and called with ``call --run``, as the README says, only faster: exit code 0 and its report."""
    script = tmp_path / "agent.py"
    script.write_text(PYTHON[0].text.replace('"localhost", 8765', '"localhost", 0'), "utf-8")
    code = main(["call", "--run", f"python {script}", "--json", "--pace", "0.2"])
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, "")
    *_, last, summary = map(json.loads, printed.out.splitlines())
    assert summary["well"] is True
    assert [tool["name"] for tool in last["report"]["tool_calls"]] == ["freeze_card"]


def test_the_first_block_comes_early() -> None:
    """The first thing to paste is on the first screen."""
    assert PYTHON[0].line <= 30


@pytest.mark.parametrize("command", [one for one in COMMANDS if re.match(r"(\S+/)?bluejay-ws ", one)])
def test_a_command_line_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each ``bluejay-ws`` command of the README has its subcommand, and each of its options is explained there."""
    _, subcommand, *words = shlex.split(command)
    with pytest.raises(SystemExit) as ended:
        main([subcommand, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [word for word in words if word.startswith("-") and word.partition("=")[0] not in shown] == []


def test_the_packages_extras_that_are_installed_exist() -> None:
    """Each ``pip install ...[extra]`` names extras that the package has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {extra for found in re.findall(r"(?:\.|bluejay[-_]ws)\[([\w, ]+)\]", README) for extra in found.split(",")}
    assert {extra.strip() for extra in named} <= set(extras)


def test_the_two_commands_are_the_ones_that_ci_runs() -> None:
    """What the README promises of a fresh machine is run from the README itself, word for word."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "README.md" in script
    assert sum("bluejay-ws demo" in one for one in COMMANDS) == 1
    assert sum("pytest" in one for one in COMMANDS if "pip" not in one) == 1


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_a_link_leads_to_a_file(target: str) -> None:
    """Relative links of the README exist."""
    assert "://" in target or (ROOT / target).exists()
