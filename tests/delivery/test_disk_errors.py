"""Agents whose disk fails under them, for real: at any system call, by any error, and without any patch.

The agent is a process with a server and callers. Whatever its disk does, the callers must see what they see without, it
must end in order, and each call must be delivered once and whole, by it or by the next process, or be counted.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.delivery.disk_stage import CALLS, DiskStage, Failing, needs_strace
from tests.delivery.faults import fill, small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.delivery.disk_stage import Run

MOST = 60
ROOM = ("ENOSPC", "EDQUOT")
TABLE = {
    "openat": ("EIO", *ROOM, "EROFS", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EINTR"),
    "write": ("EIO", *ROOM, "ENOMEM", "EINTR"),
    "rename,renameat,renameat2": ("EIO", *ROOM, "EROFS", "EACCES", "ENOMEM"),
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
    run = stage.run(directory / "spool", hold=failing)
    then = stage.run(directory / "spool", 1)
    stage.check(run, then, usual)
    return failing.struck


@needs_strace
@pytest.mark.parametrize("system_calls", TABLE)
def test_an_agent_survives_a_call_that_fails_once_or_for_ever(
    stage: DiskStage, usual: Run, tmp_path: Path, system_calls: str
) -> None:
    """The first and the third such call of each thread, and all of them."""
    error = TABLE[system_calls][0]
    struck = [survive(stage, usual, tmp_path / when, system_calls, error, when) for when in ("1", "3", "1+")]
    assert any(struck)


@needs_strace
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("system_calls", "error"), [(calls, error) for calls, errors in TABLE.items() for error in errors]
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
