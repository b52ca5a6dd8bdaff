"""What really happened, written by the agents themselves to a file that survives them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.reliability.records import TOOL, values

if TYPE_CHECKING:
    from bluejay_ws import Recorder

__all__ = ["Ledger", "Notebook"]


class Ledger:
    """Append to the file, from any number of processes: one ``write`` for each line, and no line is long.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def opened(self, identity: str) -> None:
        """Note that a call with this id is being recorded."""
        os.write(self._fd, f"opened {identity}\n".encode())

    def recorded(self, identity: str) -> None:
        """Note that one more call to record something has returned."""
        os.write(self._fd, f"recorded {identity}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def counts(self) -> dict[str, int]:
        """Return how many records were made, for each call that was opened."""
        lines = [line.split() for line in self.path.read_text("utf-8").splitlines()]
        opened = dict.fromkeys((words[1] for words in lines if words[0] == "opened"), 0)
        return opened | Counter(words[1] for words in lines if words[0] == "recorded")


class Notebook:
    """Record a call's steps, one after the other, and note each in the ledger when that has returned.

    Args:
        ledger: where to note it.
        recorder: of the call; an inert one is left alone.
    """

    def __init__(self, ledger: Ledger, recorder: Recorder) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self._number = 0
        self._identity = recorder.simulation_result_id or ""
        if recorder.active:
            ledger.opened(self._identity)

    def steps(self, count: int) -> None:
        """Record so many steps; none once the call is over."""
        for _ in range(count):
            parameters, output = values(self._identity, self._number)
            self._recorder.add_tool_call(TOOL, parameters=parameters, output=output, start_offset_ms=self._number)
            if not self._recorder.active:
                return
            self._ledger.recorded(self._identity)
            self._number += 1
