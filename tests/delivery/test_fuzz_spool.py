"""A spool in which anything may lie: a start is never stopped, what is sound is delivered once, the rest is counted."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.cli import new_argument_parser
from bluejay_ws.cli.terminal import Problem, Terminal
from bluejay_ws.delivery import admin
from bluejay_ws.delivery.files import HELD, LIVE, PARKED, READY, SENDING, SENT, GoneError, LockedFile, Name
from bluejay_ws.exceptions import BluejayError
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.kit import Script, adopted, attempts, spool_at
from tests.testing.published import problems
from tests.wire.journals import CRAFTED, JSON, KEYS, LINES, mutated

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = ("720488", "720489", "-")
REPORTS = tuple(letter * 32 for letter in "012af")
STEPS = 40
MOST = 8

DEAD = "0123456789abcdef"
NAMES = st.one_of(
    st.builds(
        lambda *parts: str(Name(*parts)),
        st.sampled_from(IDS),
        st.sampled_from(REPORTS),
        st.sampled_from([READY, SENDING, SENT, HELD, PARKED]),
    ),
    st.builds(
        lambda identity, report_id, token: str(Name(identity, report_id, LIVE, token)),
        st.sampled_from(IDS),
        st.sampled_from(REPORTS),
        st.sampled_from(["", DEAD]),
    ),
)
HOSTILE_NAMES = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
        lambda text: text not in {".", ".."} and len(text.encode()) < 200
    ),
    st.sampled_from(
        [
            *(
                f"720488.{'0' * 32}.ready.new",
                f"720488.{'A' * 32}.ready",
                f"720488.{'0' * 31}.ready",
                ".try-1",
                "a.new",
            ),
            *(f"720488.{'0' * 32}.READY", f"720488.{'0' * 32}.", f"..{'0' * 32}.ready", f"7204\n88.{'0' * 32}.ready"),
            *(f"720488.{'0' * 32}.ready ", "-rf", "*", "\x1b[2J", f"{'7' * 64}.{'f' * 32}.sending", "quarantine"),
        ]
    ),
)
NOTES = st.dictionaries(KEYS, JSON, max_size=4).map(
    lambda known: journal.line(b'["delivery",' + json.dumps(known, separators=(",", ":")).encode())
)
CONTENTS = st.one_of(
    mutated().map(lambda pair: pair[1]),
    st.builds(lambda pair, note: b"".join(pair[0]) + note, mutated(), NOTES),
    CRAFTED.map(journal.line),
    st.just(b"".join(LINES)),
    st.binary(max_size=40),
)
FILES = st.lists(st.tuples(NAMES, CONTENTS), max_size=5, unique_by=lambda file: file[0].split(".")[1]).map(dict)


def _listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # a socket's path must be short
        sock.bind(path.name)


ODD: dict[str, Callable[[Path], object]] = {
    "directory": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a file of another": lambda path: path.symlink_to("/etc/hostname"),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to the directory": lambda path: path.symlink_to("."),
    "socket": _listen,
    "empty": lambda path: path.touch(),
}


def lay(directory: Path, files: dict[str, bytes], odd: dict[str, str]) -> None:
    """Put files into a spool, and beside them, under names that are free, what is no file."""
    for name, data in files.items():
        (directory / name).write_bytes(data)
    for name, kind in odd.items():
        path = directory / name
        if not os.path.lexists(path):
            ODD[kind](path)


def deliver(directory: Path, counters: Counters) -> Script:
    """Do what a start does, until nothing is left to do; return what the platform saw."""
    spool, script = spool_at(directory, counters), Script()
    work = attempts(spool, counters)
    for _ in range(2):
        for identity in sorted({one.simulation_result_id for one in spool.recover()}):
            delivery, steps = adopted(spool, identity), 0
            while (decision := work.attempt(delivery, script)).wait is not None and steps < STEPS:
                assert 0.0 <= decision.wait <= 900.0
                steps += 1
    spool.tidy()
    return script


def left(directory: Path) -> list[Name]:
    """Return the names of the plain files of ours."""
    paths = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return [name for name in (Name.parse(path.name) for path in paths) if name is not None]


@given(FILES, st.dictionaries(NAMES | HOSTILE_NAMES, st.sampled_from(sorted(ODD)), max_size=3))
def test_whatever_lies_in_a_spool_a_start_delivers_what_is_sound(files: dict[str, bytes], odd: dict[str, str]) -> None:
    """Nothing raises; each call goes out at most once, as a valid report; no report vanishes; strangers stay."""
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        lay(
            directory,
            files,
            odd := {name: kind for name, kind in odd.items() if not (kind == "empty" and Name.parse(name))},
        )
        before = {name for name in map(Name.parse, files) if name is not None}
        strangers = {name for name in odd if name not in files and not _renamed(name, before)}
        script = deliver(directory, Counters())
        reports = [json.loads(body) for body in script.posted]
        assert [problem for report in reports for problem in problems(report)] == []
        assert max(Counter(report["simulation_result_id"] for report in reports).values(), default=1) == 1
        after = {(name.report_id, name.state) for name in left(directory)}
        for name in before:
            assert any(report_id == name.report_id for report_id, _ in after)
        assert strangers <= {path.name for path in directory.iterdir()}
        _check_that_nothing_is_new(reports, files)


def _renamed(text: str, files: set[Name]) -> bool:
    """Return whether one of the files may get this name in time."""
    name = Name.parse(text)
    return name is not None and name.report_id in {file.report_id for file in files}


def _check_that_nothing_is_new(reports: list[dict[str, Any]], files: dict[str, bytes]) -> None:
    bodies = [body for data in files.values() for body in journal.parse(data).bodies]
    known = journal.assemble([[body] for body in bodies], simulation_result_id="1")
    titles = {event["title"] for event in json.loads(known).get("events", [])} | {"Connection closed", "Reconnected"}
    calls = [call for body in bodies for call in json.loads(_alone(body))["tool_calls"]]
    for report in reports:
        assert all(call in calls for call in report["tool_calls"])
        assert {event["title"] for event in report.get("events", [])} <= titles


def _alone(body: bytes) -> bytes:
    return journal.assemble([[body]], simulation_result_id="1")


@given(st.lists(CONTENTS, min_size=1, max_size=3))
def test_each_sound_item_of_a_waiting_call_is_posted(contents: list[bytes]) -> None:
    """However damaged the files of one call are: what is sound in them, and no more, is in its one report."""
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        for number, data in enumerate(contents):
            note = journal.line(journal.delivery({"outcome": "process_lost"}))  # no earlier note counts
            (directory / f"720488.{number:032x}.ready").write_bytes(data + b"\n" + note)
        script = deliver(directory, Counters())
        (report,) = map(json.loads, script.posted)
        counts: Counter[str] = Counter()
        for data in contents:
            counts.update(journal.facts(journal.parse(data + b"\n").bodies).counts)
        assert len(report["tool_calls"]) == counts["tool_calls"]
        assert len(report.get("recorded_transcript", [])) == counts["recorded_transcript"]
        assert {name.state for name in left(directory)} == {SENT}


@given(NAMES | HOSTILE_NAMES, CONTENTS)
def test_any_file_can_be_claimed_or_is_refused(text: str, data: bytes) -> None:
    """A claim reads what is sound, mends the file, and reads the same the next time."""
    name = Name.parse(text)
    if name is None or name.state == LIVE:
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, text)
        path.write_bytes(data)
        counters = Counters()
        with LockedFile(directory, name, counters=counters) as file:
            bodies, noted, identity = file.bodies, file.noted, file.name.identity
            assert file.note(outcome="retry")
        parsed = journal.parse(data)
        assert bodies[-len(parsed.bodies) :] == parsed.bodies or not parsed.bodies
        assert len(bodies) - len(parsed.bodies) in {0, 1}
        assert identity
        assert isinstance(noted, dict)
        assert counters.snapshot().get("spool.damaged_lines", 0) == len(parsed.damaged)
        with LockedFile(directory, name, counters=counters) as file:
            assert file.noted == {"outcome": "retry"}
            assert file.bodies[-1 - len(parsed.bodies) : -1] == parsed.bodies
        with pytest.raises(GoneError):
            LockedFile(directory, name.become(PARKED if name.state != PARKED else HELD), counters=counters)


@given(FILES)
def test_no_word_out_of_a_file_gets_into_a_log_line(files: dict[str, bytes]) -> None:
    """Lines of the log are one line each, whatever a file says of itself or of its delivery."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("bluejay_ws")
    logger.addHandler(handler)
    try:
        with tempfile.TemporaryDirectory() as text:
            lay(Path(text), files, {})
            deliver(Path(text), Counters())
    finally:
        logger.removeHandler(handler)
    assert all(line.isprintable() and line.isascii() for line in said)
    ours = re.compile(r"\b[0-9a-f]{32}\b|" + re.escape(text))  # ids and the directory: at random they hold the digits
    assert not [line for line in said if "Good morning" in line or "4242" in ours.sub("", line)]
    assert len(said) <= MOST * max(1, len(files))


PARSER = new_argument_parser()


def outbox_command(directory: Path, *words: str) -> str:
    """Run a command on a spool; return what it wrote."""
    out = io.StringIO()
    action, *rest = words
    args = PARSER.parse_args(["outbox", action, "--spool", str(directory), *rest])
    try:
        assert args.run(args, Terminal(out)) == 0
    except (Problem, BluejayError) as problem:  # every command ends with these in one line
        out.write(problem.message if isinstance(problem, Problem) else str(problem))
    return out.getvalue()


@given(FILES, st.dictionaries(NAMES | HOSTILE_NAMES, st.sampled_from(sorted(ODD)), max_size=2))
def test_a_person_can_look_into_any_spool(files: dict[str, bytes], odd: dict[str, str]) -> None:
    """The command line lists and shows what is there, never stops with a traceback, and steers no terminal."""
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        lay(directory, files, odd)
        shown = outbox_command(directory, "list", "--all") + outbox_command(directory, "list")
        for name in left(directory):
            shown += outbox_command(directory, "show", name.report_id)
            shown += outbox_command(directory, "show", "--text", name.report_id)
            report = outbox_command(directory, "export", "--", str(name))
            assert problems(json.loads(report)) == []
        for entry in admin.entries(directory, states=(HELD, PARKED)):
            shown += outbox_command(directory, "retry", "--", str(entry.name))
        for name in left(directory):
            assert name.state not in {HELD, PARKED} or odd  # where something stands in the way of the new name
            shown += outbox_command(directory, "delete", "--yes", "--", str(name))
        assert all(line.isprintable() for line in shown.split("\n"))
        assert [name for name in left(directory) if name.state != LIVE] == []  # the next start takes these
