"""`bluejay_ws.cli`: the command line as a whole."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.cli import COMMANDS, main, new_argument_parser
from bluejay_ws.version import VERSION
from tests import nursery
from tests.cli.serving import agent_thread
from tests.testing.agents import silent_agent

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run the command line in a process of its own."""
    return nursery.start(
        [sys.executable, "-m", "bluejay_ws", *arguments],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the one version there is."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"bluejay-ws {VERSION}\n"


NAMES = [
    name
    for action in new_argument_parser()._actions
    if isinstance(action, argparse._SubParsersAction)
    for name in action.choices
]


# What the import of each command may bring, of what takes long to import.
HEAVY = ("asyncio", "bluejay_ws.client", "bluejay_ws.testing.schema", "httpx", "pydantic", "websockets.asyncio")
NEEDED = {
    "--version": set(),
    "--help": set(),
    "migrate": set(),
    "deliver": {"asyncio"},
    "doctor": {"asyncio", "websockets.asyncio"},
    "outbox": {"asyncio", "bluejay_ws.client"},
    "result": {"asyncio", "bluejay_ws.client"},
    "platform": {"bluejay_ws.testing.schema", "pydantic"},
}
BY_DAY = ("--help", "deliver", "platform")
"""Nothing, the standard library only, and libraries."""
IMPORTED = """
import contextlib, io, sys
before = set(sys.modules)
from bluejay_ws.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
print(len(set(sys.modules) - before), *set(sys.modules))
"""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in BY_DAY else [pytest.mark.nightly]) for name in NEEDED]
)
def test_a_command_imports_what_it_uses(name: str, root: Path) -> None:
    """`--version` and `--help` little more than Python itself; other commands no libraries but their own."""
    arguments = [name] if name.startswith("-") else [name, "--help"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    count, *modules = done.stdout.split()
    assert set(HEAVY) & set(modules) <= NEEDED[name]
    assert (int(count) < 100) == (name in {"--version", "--help"})  # of the standard library, 61 with Python 3.14


def test_the_list_of_commands_is_what_their_modules_say() -> None:
    """It is made without them."""
    assert new_argument_parser("none").format_help() == new_argument_parser().format_help()
    assert list(COMMANDS) == NAMES


@pytest.mark.parametrize("arguments", [(), *((name,) for name in NAMES)])
def test_help_fits_a_terminal(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command has help, within 60 columns."""
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(" ".join(["usage: bluejay-ws", *arguments]))
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("arguments", [[], ["hum"], ["call", "ws://a", "--pace", "-1"], ["call", "-n", "0"]])
def test_wrong_usage_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No command, an unknown one, a missing or a wrong argument."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: bluejay-ws" in capsys.readouterr().err


INTERRUPTED = """
import importlib.abc, os, signal, sys
wanted, sys.argv[1:] = sys.argv[1], ["completion", "--help"]
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from bluejay_ws.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("importing", "code", "said"),
    [("bluejay_ws.cli", -signal.SIGINT, ""), ("bluejay_ws.cli.completion", 130, "\nstopped\n")],
)
def test_ctrl_c_while_a_command_is_imported_shows_no_traceback(
    importing: str, code: int, said: str, root: Path
) -> None:
    """A person who mistyped stops it in the first moment."""
    done = nursery.run([sys.executable, "-c", INTERRUPTED, importing], check=False, cwd=root)
    assert (done.returncode, done.stderr) == (code, said)


# Each process begins as Python begins it with such streams: those that are closed are None. The imports are made once.
NOWHERE = """
import os, sys
from bluejay_ws.__main__ import main
from bluejay_ws.cli import new_argument_parser
new_argument_parser()
sys.argv[1:] = ["completion", "bash"]
streams = {0: "stdin", 1: "stdout", 2: "stderr"}
for closed, full in ((), True), ((1,), False), ((0, 1, 2), False):
    if not os.fork():
        for number in closed:
            os.close(number)
            setattr(sys, streams[number], None)
        if full:
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        sys.exit(main())
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.wait()[1])} ")
    sys.stdout.flush()
"""


def test_output_that_goes_nowhere_is_no_traceback(root: Path) -> None:
    """A full disk, and streams that are closed, as under some supervisors."""
    done = nursery.run([sys.executable, "-c", NOWHERE], cwd=root)
    assert done.stdout == "1 0 0 "
    assert done.stderr == "bluejay-ws: the output cannot be written: no space left on device\n"


@pytest.mark.parametrize("arguments", [["--json"], ["call", "--json", "-n", "0"], ["outbox", "show", "--js"]])
def test_wrong_usage_is_a_document_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads one JSON document from any command that was asked for JSON."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["exit_code"], document["error"] in printed.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "show a simulated call and its report"),
        (["demoo"], "there is no command 'demoo'; did you mean 'demo'?\n"),
        (["x-ray", "--json"], "there is no command 'x-ray'\n"),
    ],
)
def test_who_does_not_know_the_commands_is_shown_them(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing gives the whole help; a typing mistake, the command that was meant."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["scenario from-report 7", "outbox", "result 7", "results 7", "deliver", "migrate"])
def test_a_setting_that_cannot_be_used_ends_any_command_in_order(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name and the way out, as a document too; never with a traceback."""
    monkeypatch.setenv("BLUEJAY_API_URL", "ftp://nowhere")
    assert main([*command.split(), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["error"].split()[0], bool(document["remedy"])) == ("BLUEJAY_API_URL", True)


def test_ctrl_c_is_a_document_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The script that reads it knows that the command was stopped."""

    def stopped(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("bluejay_ws.cli.completion.run", stopped)
    assert main(["completion", "bash", "--json"]) == 130
    assert json.loads(capsys.readouterr().out) == {"error": "stopped", "remedy": "", "exit_code": 130}


@pytest.mark.usefixtures("measured_children")
def test_ctrl_c_ends_a_call_without_a_traceback(root: Path) -> None:
    """The call is hung up in order, one word is said, and the exit code is the usual one."""
    codes: list[int | None] = []

    async def listening(connection: ServerConnection) -> None:
        await silent_agent(connection)
        codes.append(connection.protocol.close_code)

    with agent_thread(listening) as url, start(root, "call", url, "--yes", "--greeting", "0") as process:
        assert process.stdout is not None
        while "speaks" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, problems = process.communicate(timeout=20)
    assert process.returncode == 130
    assert problems == "\nstopped\n"
    assert codes == [1000]


@pytest.mark.usefixtures("measured_children")
def test_a_terminated_command_stops_the_agent_that_it_started(root: Path, tmp_path: Path) -> None:
    """As at the end of a job's time: nothing stays behind."""
    script = tmp_path / "agent.py"
    script.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    note = tmp_path / "pid"
    command = f"sh -c 'echo $$ > {note}; exec {sys.executable} {script}'"
    with start(root, "call", "--run", command, "--port", "1", "--json") as process:
        while process.poll() is None and not (note.exists() and note.read_text()):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        lines, problems = process.communicate(timeout=20)
    assert (process.returncode, problems) == (143, "\nterminated\n")
    assert json.loads(lines) == {"error": "terminated", "remedy": "", "exit_code": 143}
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.usefixtures("measured_children")
def test_a_reader_that_leaves_ends_it_quietly(root: Path) -> None:
    """`bluejay-ws call ... | head -1` ends without a traceback."""
    with (
        agent_thread(silent_agent) as url,
        start(root, "call", url, "--yes", "--pace", "0.1", "--greeting", "0") as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=20)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_importing_the_module_entry_point_runs_nothing() -> None:
    """Tools that import every module of a package do not start a command."""
    assert callable(importlib.import_module("bluejay_ws.__main__").main)
