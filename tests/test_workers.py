"""The workers that run this suite: what a plugin of pytest with the same task would have tests for."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from tests import nursery

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
import pytest
from tests import watchdog, workers
workers.PATIENCE = 5.0
def pytest_configure(config):
    config.pluginmanager.register(watchdog.Watchdog())
    config.pluginmanager.register(workers.Workers(3))
"""
TESTS = """
import os, pytest, signal, threading, time
run = os.getpid()
@pytest.fixture
def afterwards():
    yield
    raise ValueError("afterwards")
def test_leaves(): os._exit(0)
def test_is_killed(): os.kill(os.getpid(), signal.SIGKILL)
def test_fails():
    print("said before")
    assert 1 == 2
@pytest.mark.timeout(0.1)
def test_hangs():
    while True: pass
def test_leaves_a_thread(): threading.Thread(target=time.sleep, args=[1000], name="sleeper").start()
def test_leaves_a_process():
    if os.fork():
        os._exit(7)
    while os.path.exists(f"/proc/{run}"): time.sleep(0.02)
    os._exit(0)
def test_is_not_for_here(): pytest.skip("not here")
def test_breaks_at_its_end(afterwards): pass
@pytest.mark.parametrize("number", range(40))
def test_passes(number, tmp_path):
    assert os.getpid() != run
    (tmp_path / "file").write_text("")
"""


def test_each_test_runs_once_whatever_becomes_of_its_worker(tmp_path: Path, root: Path) -> None:
    """One that died fails its test, with its exit code, and the tests it had before it are run by others."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout_method = thread\n")
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "pytest_timeout", "-p", "no:cacheprovider"]

    def run(*options: str) -> str:
        environ = {"PYTHONPATH": str(root), "COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return nursery.run([*command, *options], cwd=tmp_path, env=environ, check=False, imported=["pytest"]).stdout

    said = run()
    assert "5 failed, 42 passed, 1 skipped, 2 errors" in said
    ends = dict(re.findall(r"_ test_(\w+) _+\n(?:\[.*\n)?.* with exit code (-?\d+)", said))
    assert ends == {"leaves": "0", "is_killed": "-9", "hangs": "1", "leaves_a_process": "7"}
    assert "said before" in said
    assert "assert 1 == 2" in said
    assert "while True: pass" in said  # where it hung
    assert "ValueError: afterwards" in said
    assert re.search(r"_ ERROR at \w+ of test_leaves_a_thread _+\n(?:.*\n){,3}?.*'sleeper' was still running", said)
    assert "1 failed" in run("-x", "-k", "fails or passes")
    (tmp_path / "test_it.py").write_text("import nothing_like_it")
    assert "No module named 'nothing_like_it'" in run()
