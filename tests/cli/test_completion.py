"""`bluejay-ws completion`: commands and options in the shell."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_knows_every_command(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shell itself finds no fault with it, and every command of the list is in it."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [name for name in ("demo", "call", "outbox", "doctor", "completion") if name not in script] == []
    if program := shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        done = subprocess.run([program, "-n", str(path)], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_script_gets_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """As every command, with ``--json``."""
    assert main(["completion", "bash", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shell"] == "bash"


def test_without_its_package_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an extra: the line that installs it is said."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "pip install 'bluejay_ws[cli]'" in capsys.readouterr().err
