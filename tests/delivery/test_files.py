"""A sealed file that one process works on: only a plain file of this user is one."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.files import GoneError, LockedFile
from bluejay_ws.delivery.names import READY, Name
from bluejay_ws.stats import Counters

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pipe_under_a_report_s_name_is_no_report(tmp_path: Path) -> None:
    """It is not read, and whoever asks for it is told that nothing is there."""
    name = Name("1", uuid.uuid4().hex, READY)
    os.mkfifo(tmp_path / str(name))
    with pytest.raises(GoneError):
        LockedFile(str(tmp_path), name, counters=Counters())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_no_report(tmp_path: Path) -> None:
    """Whatever it holds would be sent in this user's name."""
    name = Name("1", uuid.uuid4().hex, READY)
    path = tmp_path / str(name)
    path.touch()
    os.chown(path, 65534, 65534)
    with pytest.raises(GoneError):
        LockedFile(str(tmp_path), name, counters=Counters())
