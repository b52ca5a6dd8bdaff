"""Agents whose disk fails under them, for real: at any system call, by any error, and without any patch.

The agent is a process with a server and callers. Whatever its disk does, the callers must see what they see without, it
must end in order, and each call must be delivered once and whole, by it or by the next process, or be counted.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.files import READY, Name, shard_of
from tests.delivery.disk_stage import CALLS, DiskStage, Failing, needs_strace
from tests.delivery.faults import fill, small_disk
from tests.delivery.kit import Script, attempts, delivery_of, end, open_call, spool_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.delivery.disk_stage import Run

MOST = 60
ROOM = ("ENOSPC", "EDQUOT")
RENAME = "rename,renameat,renameat2"
TABLE = {
    "openat": ("EIO", *ROOM, "EROFS", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EINTR"),
    "write": ("EIO", *ROOM, "ENOMEM", "EINTR"),
    RENAME: ("EIO", *ROOM, "EROFS", "EACCES", "ENOMEM"),
    "flock": ("EIO", "ENOLCK", "ENOMEM", "EINTR"),
    "fdatasync,fsync": ("EIO", *ROOM, "EROFS", "EINTR"),
    "ftruncate": ("EIO", "EROFS", "EACCES", "EINTR"),
    "unlink,unlinkat": ("EIO", "EROFS", "EACCES", "ENOMEM"),
    "getdents64": ("EIO", "ENOMEM"),
    "fstat,newfstatat,statx": ("EIO", "EACCES", "ENOMEM"),
    "pread64": ("EIO", "ENOMEM", "EINTR"),
    "mkdir,mkdirat": ("EIO", *ROOM, "EROFS", "EACCES", "ENOMEM"),
}
"""Each system call that is made on the spool, and how it may fail."""


@pytest.fixture(scope="module")
def stage() -> Iterator[DiskStage]:
    """Give a platform and agents."""
    with DiskStage() as stage:
        yield stage


@pytest.fixture(scope="module")
def usual(stage: DiskStage, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return what is seen where the disk is sound."""
    run = stage.run(tmp_path_factory.mktemp("usual") / "spool")
    assert run.exit == 0
    assert run.loud == []
    assert run.stats["delivered"] == CALLS
    return run


def survive(stage: DiskStage, usual: Run, directory: Path, system_calls: str, error: str, when: str) -> bool:
    """Run an agent while its disk fails, and the next one after it; return whether anything failed."""
    directory.mkdir()
    failing = Failing(system_calls, error, when, directory / "strace")
    run = stage.run(directory / "spool", hold=failing, flush_timeout=1.0)
    then = stage.run(directory / "spool", 1)
    stage.check(run, then, usual)
    return failing.struck


# For the suite, so that the making of the spool, a call's file and its lines, and delivery all meet some error:
SOME = {"openat": "3+", "write": "2+", RENAME: "1+", "getdents64": "1"}


@needs_strace
@pytest.mark.parametrize("system_calls", SOME)
def test_an_agent_survives_a_call_that_fails(stage: DiskStage, usual: Run, tmp_path: Path, system_calls: str) -> None:
    """Calls on the spool, by their most usual error."""
    assert survive(stage, usual, tmp_path / "run", system_calls, TABLE[system_calls][0], SOME[system_calls])


@needs_strace
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("system_calls", "error"),
    [(calls, error) for calls, errors in TABLE.items() for error in errors],
)
def test_an_agent_survives_any_error_at_any_call(
    stage: DiskStage, usual: Run, tmp_path: Path, system_calls: str, error: str
) -> None:
    """Each call in turn fails once, and from then on; what is interrupted (EINTR) for ever is no disk but a hang."""
    for form in ("{}",) if error == "EINTR" else ("{}", "{}+"):
        number = 1
        while survive(stage, usual, tmp_path / form.format(number), system_calls, error, form.format(number)):
            number += 1
            assert number < MOST


def test_a_call_whose_file_kept_its_name_is_not_told_twice(tmp_path: Path) -> None:
    """Where the disk refuses the new name at the end of a call, its report goes by way of memory, and only once."""
    spool, script = spool_at(tmp_path), Script()
    file = open_call(spool, "720488", "freeze_card")
    for body in end(file.report_id):
        file.append(body)
    in_the_way = tmp_path / "platform" / shard_of("720488") / str(Name("720488", file.report_id, READY)) / "x"
    in_the_way.mkdir(parents=True)  # no file can take the name of a directory
    parcel = file.seal()
    assert parcel.bodies is not None
    shutil.rmtree(in_the_way.parent)
    attempts(spool).attempt(delivery_of(parcel), script)
    (report,) = map(json.loads, script.posted)
    assert [call["name"] for call in report["tool_calls"]] == ["freeze_card"]


# -- without strace ----------------------------------------------------------------------------------------------


def with_limit(stage: DiskStage, usual: Run, directory: Path, size: int) -> None:
    """Run an agent none of whose files can grow beyond ``size`` bytes, and the next one after it."""
    run = stage.run(directory, file_size=size, flush_timeout=1.0)
    stage.check(run, stage.run(directory, 1), usual)


@pytest.mark.parametrize("size", [0, 150, 431])
def test_an_agent_survives_short_writes(stage: DiskStage, usual: Run, tmp_path: Path, size: int) -> None:
    """The kernel takes the first half of a line, and refuses the rest: no half line spoils what follows."""
    with_limit(stage, usual, tmp_path / "spool", size)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_an_agent_survives_a_short_write_at_any_byte(stage: DiskStage, usual: Run, tmp_path: Path) -> None:
    """Wherever in the file the disk ends."""
    for size in range(0, 1500, 7):
        with_limit(stage, usual, tmp_path / str(size), size)


def remove(spool: Path) -> None:
    """Remove the directory with everything in it, also what the agent puts there meanwhile."""
    while spool.exists():
        shutil.rmtree(spool, ignore_errors=True)


def empty(spool: Path) -> None:
    """Put an empty directory in the place of the spool."""
    remove(spool)
    spool.mkdir(exist_ok=True)


def move_away(spool: Path) -> None:
    """Give the directory another name, with everything in it."""
    spool.rename(spool.with_name("moved"))


def exchange_for_a_file(spool: Path) -> None:
    """Put a file in the place of the spool."""
    while not spool.is_file():
        remove(spool)
        with contextlib.suppress(IsADirectoryError):  # the agent has made it again
            spool.write_text("not a directory")


def exchange_for_a_link(spool: Path) -> None:
    """Move the directory, and put a link to it in its place."""
    spool.rename(spool.with_name("moved"))
    spool.symlink_to("moved")


CHANGES = (remove, empty, move_away, exchange_for_a_file, exchange_for_a_link)
STEPS = ("begun", "talked", "ended")
NIGHTLY_STEPS = ("before", "talked")


@pytest.mark.parametrize(
    ("change", "step"),
    [
        pytest.param(change, step, marks=[] if number % 3 == place else [pytest.mark.nightly])
        for number, change in enumerate(CHANGES)
        for place, step in enumerate(STEPS)
    ],
)
def test_an_agent_survives_what_is_done_to_its_directory(
    stage: DiskStage, usual: Run, tmp_path: Path, change: Callable[[Path], None], step: str
) -> None:
    """The directory goes, or another takes its place, at any step of a call."""
    spool = tmp_path / "spool"
    steps: list[str] = []

    def between(now: str) -> None:
        if now == step and now not in steps:
            change(spool)
        steps.append(now)

    run = stage.run(spool, between=between, flush_timeout=1.0)
    stage.check(run, stage.run(spool, 1), usual)


@pytest.mark.parametrize(
    "step", [*(pytest.param(one, marks=pytest.mark.nightly) for one in NIGHTLY_STEPS), *STEPS[::2]]
)
def test_an_agent_survives_a_full_disk(stage: DiskStage, usual: Run, step: str) -> None:
    """A small file system that somebody fills at any step of a call: what was delivered is known as delivered."""
    with small_disk(64) as disk:
        spool, steps = disk / "spool", ["before"]
        if step == "before":
            fill(disk)

        def between(now: str) -> None:
            if now == step and now not in steps:
                fill(disk)
            steps.append(now)

        run = stage.run(spool, between=between, flush_timeout=1.0)
        stage.check(run, stage.run(spool, 1), usual)
