"""The server that tests and the example start is never left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleet.database import Database, NoPostgresError, binaries

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
OWNER = """
import signal, subprocess, time
from fleet.database import Database
signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a job in the background of a script ignores it, and PostgreSQL does not
database = Database(durable=False)
data = database.socket_directory / "data"
data.mkdir()
server = subprocess.Popen(["sleep", "600"], start_new_session=True)
(data / "postmaster.pid").write_text(f"{server.pid}\\n")
print(database.socket_directory, server.pid, flush=True)
time.sleep(600)
"""


def eventually_gone(*paths: Path) -> None:
    """Wait until none of these is there."""
    until = time.monotonic() + 20
    while any(path.exists() and "zombie" not in _status(path) for path in paths):
        assert time.monotonic() < until, "it was left behind"
        time.sleep(0.01)


def _status(path: Path) -> str:
    status = path / "status"
    return status.read_text() if status.exists() else ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_server_and_files_go_with_the_process_that_started_them(number: int) -> None:
    """However that ends: a kill that nobody can handle, and Ctrl-C."""
    try:
        binaries()
    except NoPostgresError as error:
        pytest.skip(str(error))
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=EXAMPLES
    )
    with owner:
        assert owner.stdout is not None
        home, server = owner.stdout.readline().split()
        assert Path(home).exists()
        owner.send_signal(number)
        eventually_gone(Path(home), Path("/proc") / server)


def test_a_server_that_never_started_leaves_no_directory() -> None:
    """Closing twice is allowed."""
    try:
        database = Database(durable=False)
    except NoPostgresError as error:
        pytest.skip(str(error))
    assert database.socket_directory.exists()
    database.close()
    database.close()
    assert not database.socket_directory.exists()
